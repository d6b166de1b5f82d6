"""A Basler camera's stream through pylon: our slots as its buffers, what becomes of them as events.

pylon has no queue for single buffers. It allocates a fixed set when grabbing starts, writes into them one after the other, and
writes into one again when the grab result that was in it is released. So the set is made of the slots that are queued when
grabbing starts, with spares of our own behind them; a grab result is kept for as long as its slot is not with us, and
released when the slot is queued again. A slot that is not queued thereby is none that pylon may write into.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from pypylon import genicam

from pipeline.camera_config import PylonCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.device_clock import device_clock
from pipeline.cameras.frame_numbers import FrameNumbers
from pipeline.cameras.pixel_codes import PIXEL_CODES, format_name
from pipeline.cameras.pylon_buffers import Pixels
from pipeline.cameras.pylon_device import PylonDevice
from pipeline.cameras.software_trigger import Fired, SoftwareTrigger
from pipeline.clock import NS_PER_S, now_ns
from pipeline.machine import slot_bytes
from pipeline.ring import Slot, SlotHeader

_SPARES = 2
"""Buffers of our own, for frames that come while no slot is free: without one, the camera's frame is dropped unsaid."""
_NO_NUMBER = (1 << 64) - 1


class PylonStream:
    """A camera that is open. ``poll``, ``queue``, ``fire`` and ``fired`` belong to one thread; so does ``end``, which may be
    another one, afterwards. Grabbing starts with the first ``poll``, in a thread, as it may wait for the camera.

    Spares wait aside while slots are with pylon, and slots that come while spares are with pylon wait: a frame in a spare is
    copied into one of them. That happens to the first frames, once each spare, as pylon begins with all that it has; when slots
    run short; and where a slot was not there when grabbing started (a reader had it when the camera came back), for good.
    """

    def __init__(
        self,
        config: PylonCamera,
        open_device: Callable[[PylonCamera, Callable[[], None]], PylonDevice] = PylonDevice,
    ) -> None:
        """Opens the camera. Raises CameraUnavailable."""
        self._config = config
        self._error: CameraUnavailable | None = None
        self._is_removed = False
        self._signal = os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting_on = select.epoll()
        self._waiting_on.register(self._signal, select.EPOLLIN)
        self._starting: threading.Thread | None = None
        self._is_started = False
        self._silent_ns: int | None = None
        try:
            self._device = open_device(config, self._remove)
        except CameraUnavailable:
            self._close_descriptors()
            raise
        self._trigger: SoftwareTrigger | None = None
        self._clock = device_clock(self._device.clock_asked, self._device.ask_clock, self._tell)
        self._numbers = FrameNumbers(self._device.number_count)
        self._new_slots: deque[Slot] = deque()
        """Queued, and pylon does not know them."""
        self._back_slots: deque[Slot] = deque()
        """Queued, known to pylon, and their grab results not released."""
        self._with_pylon: dict[int, Slot] = {}
        """By address, in pylon's order."""
        self._results: dict[int, Any] = {}
        """By address, the grab results that are kept."""
        self._spares: dict[int, Pixels] = {}
        self._spares_out = 0
        self._previous_ns = 0
        self._previous_number = 0
        self._counter = 0
        try:
            if self._device.payload_bytes > slot_bytes(config):
                text = f"sends {self._device.payload_bytes} bytes a frame, expected at most {slot_bytes(config)}"
                raise CameraUnavailable(
                    f"camera {config.camera_id}: {text}; other chunks are switched on in the camera?"
                )
            # Its descriptor is the same before and after the start.
            self._waiting_on.register(self._device.wait_object.GetFd(), select.EPOLLIN)
            if config.trigger == "software":
                name = f"pylon-fire-{config.camera_id}"
                self._trigger = SoftwareTrigger(self._device, config.trigger_ready_timeout_us, self._tell, name)
        except CameraUnavailable:
            self.end()
            raise

    def fileno(self) -> int:
        return self._waiting_on.fileno()

    def due_ns(self) -> int | None:
        """When a camera that runs freely has been silent for too long."""
        return self._silent_ns

    def queue(self, slot: Slot) -> None:
        if slot.pixels.ctypes.data in self._results:
            self._back_slots.append(slot)
        else:
            self._new_slots.append(slot)
        self._refill()

    def fire(self, number: int) -> bool:
        """See ``Pylon``."""
        if self._trigger is None:
            return False
        self._trigger.fire(number)
        return True

    def fired(self) -> list[Fired]:
        return [] if self._trigger is None else self._trigger.fired()

    def poll(self) -> Sequence[CameraEvent]:
        """Raises CameraUnavailable."""
        self._drain_signal()
        if self._starting is None:
            self._begin()
            return ()
        if not self._is_started:
            if self._starting.is_alive():
                return ()
            self._starting.join()
            self._is_started = True
            self._hear()
        is_removed = self._is_removed
        events: list[CameraEvent] = []
        try:
            self._expect_no_error()
            while (result := self._device.retrieve()) is not None:
                events += self._events(result)
                self._refill()
                self._expect_no_error()
        except CameraUnavailable as error:
            # What came before is told first.
            self._error = error
            self._tell()
            if not events:
                raise
        if events:
            self._hear()
        elif is_removed:
            raise self._device.lost()
        elif self._silent_ns is not None and now_ns() >= self._silent_ns:
            text = f"runs freely and sent nothing for {self._config.frame_timeout_s:g} s"
            raise CameraUnavailable(f"camera {self._config.camera_id}: {text}")
        return events

    def _hear(self) -> None:
        if self._config.trigger == "free_running":
            self._silent_ns = now_ns() + int(self._config.frame_timeout_s * NS_PER_S)

    def _expect_no_error(self) -> None:
        if self._error is None and self._clock.trouble:
            self._error = self._anew(self._clock.trouble)
        if self._error is not None:
            raise self._error

    def end(self) -> list[Slot]:
        """Stops and closes, which may wait seconds for a camera that is dead. Afterwards nothing is written into a slot any
        more; returns those that were queued and not filled, in that order.
        """
        if self._starting is not None:
            self._starting.join()
        if self._trigger is not None:
            self._trigger.end()
        self._clock.end()
        self._device.stop()
        for result in self._results.values():
            result.Release()
        self._results.clear()
        self._close_descriptors()
        self._device.close()
        return [*self._with_pylon.values(), *self._back_slots, *self._new_slots]

    def _close_descriptors(self) -> None:
        self._waiting_on.close()
        os.close(self._signal)

    def _tell(self) -> None:
        """In whatever thread."""
        os.eventfd_write(self._signal, 1)

    def _drain_signal(self) -> None:
        try:
            os.eventfd_read(self._signal)
        except BlockingIOError:
            return

    def _remove(self) -> None:
        """In pylon's thread."""
        self._is_removed = True
        self._tell()

    def _begin(self) -> None:
        memories: list[Pixels] = []
        while self._new_slots:
            slot = self._new_slots.popleft()
            memories.append(slot.pixels)
            self._with_pylon[slot.pixels.ctypes.data] = slot
        for _ in range(_SPARES):
            spare = np.empty(max(1, slot_bytes(self._config)), np.uint8)
            memories.append(spare)
            self._spares[spare.ctypes.data] = spare
        self._spares_out = _SPARES
        self._starting = threading.Thread(target=self._start, args=(memories,), name="pylon-start", daemon=True)
        self._starting.start()

    def _start(self, memories: Sequence[Pixels]) -> None:
        try:
            self._device.start(memories)
        except CameraUnavailable as error:
            self._error = error
        self._tell()

    def _refill(self) -> None:
        if not self._is_started:
            return
        if not self._spares_out:
            while self._back_slots:
                slot = self._back_slots.popleft()
                address = slot.pixels.ctypes.data
                self._with_pylon[address] = slot
                self._results.pop(address).Release()
        if not self._back_slots:
            for address in self._spares:
                if len(self._with_pylon) + self._spares_out < _SPARES and address in self._results:
                    self._spares_out += 1
                    self._results.pop(address).Release()

    def _events(self, result: Any) -> Iterator[CameraEvent]:
        """What a grab result means."""
        address = result.GetBufferContext()
        self._results[address] = result
        slot = self._with_pylon.pop(address, None)
        if slot is None:
            self._spares_out -= 1
        place = self._numbers.next(self._number(result))
        exposure_ns = self._exposure_ns(result)
        if place is None:
            text = f"its frame numbers do not go on: got {self._number(result)}"
            counter = self._counter + 1
            yield Triggered(counter, None, exposure_ns)
            yield NotGrabbed(counter, "BAD", text)
            self._give_back(slot)
            self._error = self._anew(text)
            return
        counter, lost = place
        self._counter = counter
        for number in range(counter - lost, counter):
            # Nobody knows when it was; that it was, the next frame tells.
            yield Triggered(number, None, exposure_ns)
            yield NotGrabbed(number, "MISSED", f"frame {number} never came")
        trouble = frame_trouble(self._config, result, self._device.payload_bytes)
        encoder_count = None
        if not trouble:
            try:
                encoder_count = self._encoder_count(result)
            except (genicam.GenericException, AttributeError) as error:
                # Without its count no gate finds the part.
                trouble = f"its chunk {self._config.encoder_chunk} can not be read: {error}"
        trouble = trouble or self._clock.trouble
        yield Triggered(counter, encoder_count, exposure_ns)
        if trouble:
            yield NotGrabbed(counter, "BAD", trouble)
            self._give_back(slot)
            return
        # Of a failed one it is when it came, which may be later than when the next one was exposed.
        self._previous_ns = exposure_ns
        header = self._header(result, counter, encoder_count, exposure_ns)
        if slot is None:
            queue = self._back_slots or self._new_slots
            if not queue:
                yield NotGrabbed(counter, "REFUSED", "no free slot")
                return
            slot = queue.popleft()
            size = header.stride_bytes * header.height_px
            slot.pixels[:size] = self._spares[address][:size]
        yield Grabbed(counter, exposure_ns, slot, header)

    def _anew(self, text: str) -> CameraUnavailable:
        return CameraUnavailable(f"camera {self._config.camera_id}: {text}; it is opened anew")

    def _give_back(self, slot: Slot | None) -> None:
        if slot is not None:
            self._back_slots.appendleft(slot)

    def _number(self, result: Any) -> int:
        """The camera's own; one more than the last where it has none."""
        number = int(result.GetBlockID())
        self._previous_number = self._previous_number + 1 if number == _NO_NUMBER else number
        return self._previous_number

    def _exposure_ns(self, result: Any) -> int:
        """In the box's clock; where the frame is incomplete or the camera tells no time, when it was here."""
        arrived_ns = now_ns()
        device_ns = int(result.GetTimeStamp()) * NS_PER_S // self._device.ticks_per_s
        if not device_ns or not result.GrabSucceeded():
            return arrived_ns
        return max(self._previous_ns, self._clock.box_ns(device_ns, arrived_ns))

    def _header(self, result: Any, counter: int, encoder_count: int | None, exposure_ns: int) -> SlotHeader:
        config = self._config
        return SlotHeader(
            frame_id=counter,
            encoder_count=encoder_count,
            exposure_ns=exposure_ns,
            grabbed_ns=now_ns(),
            width_px=config.width_px,
            height_px=config.height_px,
            stride_bytes=config.pixel_format.row_bytes(config.width_px) + result.GetPaddingX(),
            pixel_format=config.pixel_format,
        )

    def _encoder_count(self, result: Any) -> int | None:
        """Raises GenericException, AttributeError."""
        if self._config.encoder_chunk is None:
            return None
        return int(result.GetChunkNode(self._config.encoder_chunk).GetValue())


def frame_trouble(config: PylonCamera, result: Any, payload_bytes: int) -> str:
    """Why a grab result is no frame; empty where it is one. ``payload_bytes``: of a whole one, chunks and all."""
    if not result.GrabSucceeded():
        return result.GetErrorDescription() or f"pylon's error {result.GetErrorCode():#x}"
    width, height, code = result.GetWidth(), result.GetHeight(), result.GetPixelType()
    if (width, height, code) != (config.width_px, config.height_px, PIXEL_CODES[config.pixel_format]):
        expected = f"{config.width_px}x{config.height_px} {config.pixel_format.value}"
        return f"got a frame of {width}x{height} {format_name(code)}, expected {expected}"
    came, needed = result.GetPayloadSize(), (config.pixel_format.row_bytes(width) + result.GetPaddingX()) * height
    if config.encoder_chunk is not None:
        needed = max(needed, payload_bytes)
    # What did not come is another part's, from when the slot was filled last.
    return "" if came >= needed else f"{came} of {needed} bytes came"
