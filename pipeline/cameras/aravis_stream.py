"""A camera's stream through libaravis: our slots as its buffers, what becomes of them as events."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from ctypes import byref, c_int, c_size_t

import numpy as np
import numpy.typing as npt

from pipeline.camera_config import AravisCamera
from pipeline.cameras.aravis_device import AravisDevice
from pipeline.cameras.aravis_library import (
    BUFFER_DONE,
    IMAGE_PAYLOADS,
    STATUS_TEXTS,
    STREAM_CALLBACK,
    SUCCESS,
    AravisError,
)
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.device_clock import device_clock
from pipeline.cameras.frame_numbers import FrameNumbers
from pipeline.cameras.pixel_codes import PIXEL_CODES, format_name
from pipeline.cameras.software_trigger import SoftwareTrigger
from pipeline.cameras.wall_arrival import WallArrival
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns
from pipeline.machine import slot_bytes
from pipeline.ring import Slot, SlotHeader

_SPARES = 2
"""Buffers of our own, for frames that come while no slot is free: without one, libaravis drops a frame unsaid."""
_GIGE_NUMBERS = 65_535
"""1 to 65,535 and then 1 again. Cameras of GigE Vision 2 count on to 64 bit, which differences of numbers do not tell."""
_USB_NUMBERS = 1 << 64
_COUNTER_VALUES = 1 << 32
_SKIPPED_MAX = 1_000
"""More at once is no camera that was busy."""


class AravisStream:
    """An open camera that is sending. ``poll``, ``queue``, ``end`` and ``close`` belong to one thread at a time.

    The library takes buffers in the order in which they were pushed, so a spare is pushed only where slots run short, and of
    the slots that come while spares are out one for each waits. A frame in a spare is copied into it: without one it is refused.
    """

    def __init__(self, config: AravisCamera) -> None:
        """Opens the camera. Raises CameraUnavailable."""
        self._config = config
        self._is_lost = False
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._on_stream = STREAM_CALLBACK(self._buffer_done)
        try:
            self._device = AravisDevice(config, self._on_stream, self._lose)
        except CameraUnavailable:
            os.close(self._signal)
            raise
        device = self._device
        self._arv = device.lib.arv
        self._clock = device_clock(device.clock_asked, device.ask_clock, self._tell)
        self._arrival = WallArrival(config.frame_retention_us * NS_PER_US)
        self._numbers = FrameNumbers(_GIGE_NUMBERS if device.is_gige else _USB_NUMBERS)
        self._parser = device.lib.arv.arv_device_create_chunk_parser(device.handle) if config.chunks else None
        self._waiting: deque[Slot] = deque()
        self._pushed: dict[int, Slot | npt.NDArray[np.uint8]] = {}
        """By address, what the library has."""
        self._spares_out = 0
        self._previous_ns = now_ns()
        self._silent_ns: int | None = None
        self._numbers_text = ""
        """Why they do not go on; empty where they do."""
        self._trigger_counter = 0
        self._counted: tuple[int, int] | None = None
        """Of the last whole frame, its number and the camera's count of triggers."""
        self._trigger = (
            SoftwareTrigger(device, config.trigger_ready_timeout_us, lambda: None, "aravis-fire")
            if config.trigger == "software"
            else None
        )
        self._hint = ""
        room = device.receive_buffer_bytes
        if room is not None and room < device.payload_bytes:
            self._hint = (
                f"; the kernel keeps {room} bytes until they are read, a frame has {device.payload_bytes}: "
                f"sysctl -w net.core.rmem_max={4 * device.payload_bytes}"
            )
        if device.payload_bytes > slot_bytes(config):
            text = f"sends {device.payload_bytes} bytes a frame, expected at most {slot_bytes(config)}"
            self._give_up()
            raise CameraUnavailable(f"camera {config.camera_id}: {text}; other chunks are switched on in the camera?")
        self._spares = [np.empty(slot_bytes(config), np.uint8) for _ in range(_SPARES)]
        self._refill()

    def start(self) -> None:
        """Raises CameraUnavailable; the camera is closed then."""
        try:
            self._device.start()
        except CameraUnavailable:
            self._give_up()
            raise
        self._hear()

    def _give_up(self) -> None:
        self.end()
        self.close()

    def fileno(self) -> int:
        return self._signal

    def due_ns(self) -> int | None:
        """When a camera that runs freely has been silent for too long."""
        return self._silent_ns

    def queue(self, slot: Slot) -> None:
        self._waiting.append(slot)
        self._refill()

    def poll(self) -> Sequence[CameraEvent]:
        """Raises CameraUnavailable."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._signal)
        is_lost = self._is_lost
        events: list[CameraEvent] = []
        while not self._why_anew and (buffer := self._arv.arv_stream_try_pop_buffer(self._device.stream)):
            events += self._events(buffer)
            self._device.lib.unref(buffer)
            self._refill()
        if events:
            self._hear()
            if self._why_anew:
                self._tell()
        elif self._why_anew:
            raise CameraUnavailable(f"camera {self._config.camera_id}: {self._why_anew}; it is opened anew")
        elif is_lost:
            where = self._config.address or f"serial {self._config.serial}"
            raise CameraUnavailable(f"camera {self._config.camera_id}: {where} no longer answers")
        elif self._silent_ns is not None and now_ns() >= self._silent_ns:
            text = f"runs freely and sent nothing for {self._config.frame_timeout_s:g} s"
            raise CameraUnavailable(f"camera {self._config.camera_id}: {text}")
        return events

    @property
    def _why_anew(self) -> str:
        """It has to be opened anew; empty where it has not."""
        return self._numbers_text or self._clock.trouble

    def packet_counts(self) -> Mapping[str, int]:
        """See ``pipeline.cameras.base.CountsPackets``."""
        if not self._device.is_gige:
            return {}
        return {name: self._device.stream_count(f"n_{name}_packets") for name in ("received", "missing", "resent")}

    def fire(self) -> bool:
        """See ``pipeline.cameras.base.Fires``."""
        if self._trigger is None:
            return False
        # Whether it took effect shows by its frame alone.
        self._trigger.fire(0)
        return True

    def end(self) -> None:
        """After this the library writes into no slot any more."""
        self._device.end_stream()

    @property
    def holds_slots(self) -> bool:
        return bool(self._waiting) or any(isinstance(each, Slot) for each in self._pushed.values())

    def unfilled(self) -> list[Slot]:
        """After ``end``: the slots that were queued and not filled, in that order; once."""
        left = [*(each for each in self._pushed.values() if isinstance(each, Slot)), *self._waiting]
        self._pushed.clear()
        self._waiting.clear()
        return left

    def close(self) -> None:
        """After ``end``. May wait seconds for a camera that is dead."""
        if self._trigger is not None:
            self._trigger.end()
        self._clock.end()
        self._device.lib.unref(self._parser)
        self._parser = None
        self._device.close()
        if self._signal >= 0:
            os.close(self._signal)
            self._signal = -1

    def _hear(self) -> None:
        if self._config.trigger == "free_running":
            self._silent_ns = now_ns() + int(self._config.frame_timeout_s * NS_PER_S)

    def _buffer_done(self, _user: int | None, kind: int, _buffer: int | None) -> None:
        """In the library's thread."""
        if kind == BUFFER_DONE:
            self._tell()

    def _lose(self) -> None:
        """In the library's thread."""
        self._is_lost = True
        self._tell()

    def _tell(self) -> None:
        """In whatever thread."""
        os.eventfd_write(self._signal, 1)

    def _refill(self) -> None:
        # Each spare that is out has a slot kept for what comes in it.
        while len(self._waiting) > self._spares_out:
            slot = self._waiting[self._spares_out]
            del self._waiting[self._spares_out]
            self._push(slot.pixels, slot)
        while len(self._pushed) < _SPARES:
            spare = self._spares.pop()
            self._spares_out += 1
            self._push(spare, spare)

    def _push(self, pixels: npt.NDArray[np.uint8], target: Slot | npt.NDArray[np.uint8]) -> None:
        address = pixels.ctypes.data
        self._pushed[address] = target
        buffer = self._arv.arv_buffer_new_full(pixels.nbytes, address, address, None)
        self._arv.arv_stream_push_buffer(self._device.stream, buffer)

    def _events(self, buffer: int) -> Iterator[CameraEvent]:
        """What a buffer that came back means."""
        target = self._pushed.pop(self._arv.arv_buffer_get_user_data(buffer))
        slot = target if isinstance(target, Slot) else None
        pixels = target.pixels if isinstance(target, Slot) else target
        if slot is None:
            self._spares_out -= 1
            self._spares.append(pixels)
        frame_id = self._arv.arv_buffer_get_frame_id(buffer)
        place = self._numbers.next(frame_id)
        exposure_ns = self._exposure_ns(buffer)
        if place is None:
            self._numbers_text = f"its frame numbers do not go on: got {frame_id}"
            self._trigger_counter += 1
            yield Triggered(self._trigger_counter, None, exposure_ns)
            yield NotGrabbed(self._trigger_counter, "BAD", self._numbers_text)
            self._give_back(slot)
            return
        number, lost = place
        trouble, encoder_count, skipped = self._trouble(buffer), None, 0
        if not trouble:
            try:
                encoder_count, skipped = self._encoder_count(buffer), self._triggers_skipped(buffer, number)
            except AravisError as error:
                # Without its count no gate finds the part.
                trouble = f"its chunks can not be read: {error}"
        trouble = trouble or self._clock.trouble
        yield from self._missed(lost, exposure_ns, "no packet of its frame came")
        yield from self._missed(skipped, exposure_ns, "the camera counted the trigger and took no frame")
        if not trouble:
            # Of an incomplete one it is when it came, which may be later than when the next one was exposed.
            self._previous_ns = exposure_ns
        self._trigger_counter += 1
        counter = self._trigger_counter
        yield Triggered(counter, encoder_count, exposure_ns)
        if trouble:
            yield NotGrabbed(counter, "BAD", trouble)
            self._give_back(slot)
            return
        header = self._header(buffer, number, encoder_count, exposure_ns)
        if slot is None:
            if not self._waiting:
                yield NotGrabbed(counter, "REFUSED", "no free slot")
                return
            slot = self._waiting.popleft()
            size = header.stride_bytes * header.height_px
            slot.pixels[:size] = pixels[:size]
        yield Grabbed(counter, exposure_ns, slot, header)

    def _missed(self, count: int, known_ns: int, text: str) -> Iterator[CameraEvent]:
        for _ in range(count):
            self._trigger_counter += 1
            # Nobody knows when it was; that it was, the next frame tells.
            yield Triggered(self._trigger_counter, None, known_ns)
            yield NotGrabbed(self._trigger_counter, "MISSED", text)

    def _triggers_skipped(self, buffer: int, number: int) -> int:
        """How many triggers since the last whole frame had no number of a frame's. Raises AravisError."""
        chunk = self._config.trigger_counter_chunk
        if chunk is None:
            return 0
        count, before = self._chunk(buffer, chunk), self._counted
        self._counted = (number, count)
        if before is None:
            return 0
        skipped = (count - before[1]) % _COUNTER_VALUES - (number - before[0])
        # A counter that was reset tells nothing.
        return skipped if 0 <= skipped < _SKIPPED_MAX else 0

    def _encoder_count(self, buffer: int) -> int | None:
        """Raises AravisError."""
        chunk = self._config.encoder_chunk
        return None if chunk is None else self._chunk(buffer, chunk)

    def _chunk(self, buffer: int, name: str) -> int:
        lib = self._device.lib
        return int(lib.checked("arv_chunk_parser_get_integer_value", self._parser, buffer, name.encode()))

    def _give_back(self, slot: Slot | None) -> None:
        if slot is not None:
            self._waiting.appendleft(slot)

    def _exposure_ns(self, buffer: int) -> int:
        """In the box's clock; where the frame is incomplete, when its first packet came."""
        arrived_ns = self._arrival.box_ns(int(self._arv.arv_buffer_get_system_timestamp(buffer)))
        arrived_ns = max(arrived_ns, self._previous_ns)
        device_ns = int(self._arv.arv_buffer_get_timestamp(buffer))
        if not device_ns or self._arv.arv_buffer_get_status(buffer) != SUCCESS:
            return arrived_ns
        return max(self._previous_ns, self._clock.box_ns(device_ns, arrived_ns))

    def _trouble(self, buffer: int) -> str:
        """Why it is no frame; empty where it is one."""
        status = self._arv.arv_buffer_get_status(buffer)
        if status != SUCCESS:
            return STATUS_TEXTS.get(status, f"the library's status {status}") + self._hint
        config = self._config
        width, height = self._arv.arv_buffer_get_image_width(buffer), self._arv.arv_buffer_get_image_height(buffer)
        code = self._arv.arv_buffer_get_image_pixel_format(buffer)
        if (width, height, code) != (config.width_px, config.height_px, PIXEL_CODES[config.pixel_format]):
            expected = f"{config.width_px}x{config.height_px} {config.pixel_format.value}"
            return f"got a frame of {width}x{height} {format_name(code)}, expected {expected}"
        payload = self._arv.arv_buffer_get_payload_type(buffer)
        if payload not in IMAGE_PAYLOADS:
            return f"got payload type {payload}, expected an image"
        # Complete to the library is a frame of which no packet is missing, however little is in them: what they left of the slot
        # is another part's.
        came, needed = self._bytes_that_came(buffer), self._stride_bytes(buffer) * config.height_px
        if config.chunks:
            needed = max(needed, self._device.payload_bytes)
        return "" if came >= needed else f"{came} of {needed} bytes came"

    def _bytes_that_came(self, buffer: int) -> int:
        size = c_size_t()
        self._arv.arv_buffer_get_data(buffer, byref(size))
        return size.value

    def _stride_bytes(self, buffer: int) -> int:
        padding, rows = c_int(), c_int()
        self._arv.arv_buffer_get_image_padding(buffer, byref(padding), byref(rows))
        return self._config.pixel_format.row_bytes(self._config.width_px) + max(0, padding.value)

    def _header(self, buffer: int, number: int, encoder_count: int | None, exposure_ns: int) -> SlotHeader:
        config = self._config
        return SlotHeader(
            frame_id=number,
            encoder_count=encoder_count,
            exposure_ns=exposure_ns,
            grabbed_ns=now_ns(),
            width_px=config.width_px,
            height_px=config.height_px,
            stride_bytes=self._stride_bytes(buffer),
            pixel_format=config.pixel_format,
        )
