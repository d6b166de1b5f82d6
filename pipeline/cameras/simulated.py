"""The driver of the line simulator's camera: pixels go from its socket straight into the slot."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence

from pipeline.camera_config import SimulatedCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.clock import now_ns
from pipeline.ring import Slot, SlotHeader
from pipeline.simulator.protocol import (
    FRAME_END_BYTES,
    HEADER_BYTES,
    DeviceMessage,
    MessageKind,
    ProtocolError,
    check_frame_end,
    decode_header,
)

_SCRATCH_BYTES = 65_536


class SimulatorCamera:
    """See ``pipeline.cameras.base.Camera``."""

    def __init__(self, config: SimulatedCamera) -> None:
        self._config = config
        self._slots: deque[Slot] = deque()
        self._socket: socket.socket | None = None
        self._header = bytearray(HEADER_BYTES)
        self._header_got = 0
        self._message: DeviceMessage | None = None
        self._slot: Slot | None = None
        self._refusal: NotGrabbed | None = None
        self._payload_got = 0
        self._end = bytearray(FRAME_END_BYTES)
        self._end_got = 0
        self._scratch = bytearray(_SCRATCH_BYTES)

    def open(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(str(self._config.address))
        except OSError as error:
            connection.close()
            raise CameraUnavailable(
                f"camera {self._config.camera_id}: no simulator answers at {self._config.address}: {error.strerror or error}"
            ) from error
        self._socket = connection
        self._header_got = 0
        self._message = None

    def close(self) -> list[Slot]:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
        unfilled = list(self._slots)
        self._slots.clear()
        self._slot = None
        return unfilled

    def queue(self, slot: Slot) -> None:
        self._slots.append(slot)

    def fileno(self) -> int | None:
        return None if self._socket is None else self._socket.fileno()

    def due_ns(self) -> int | None:
        return None

    def poll(self) -> Sequence[CameraEvent]:
        events: list[CameraEvent] = []
        try:
            while (event := self._next()) is not None:
                events.append(event)
        except (OSError, ProtocolError) as error:
            if not events:
                raise CameraUnavailable(f"camera {self._config.camera_id}: {error}") from error
            # What came before the loss is still true; the loss shows again at the next poll.
        return events

    def _next(self) -> CameraEvent | None:
        """The next complete event, or None where the socket has no more bytes yet."""
        while True:
            if self._message is None:
                if not self._receive_header():
                    return None
                message = decode_header(self._header)
                self._header_got = 0
                if message.kind is MessageKind.TRIGGER:
                    return Triggered(message.trigger_counter, message.encoder_count, message.trigger_ns)
                if message.kind is MessageKind.MISSED:
                    return NotGrabbed(message.trigger_counter, "MISSED", "the camera saw the trigger and took no frame")
                self._begin_frame(message)
            if not (self._receive_payload() and self._receive_end()):
                return None
            return self._end_frame()

    def _receive_header(self) -> bool:
        view = memoryview(self._header)
        while self._header_got < HEADER_BYTES:
            count = self._receive_into(view[self._header_got :])
            if count == 0:
                return False
            self._header_got += count
        return True

    def _begin_frame(self, message: DeviceMessage) -> None:
        config = self._config
        self._message = message
        self._payload_got = 0
        self._end_got = 0
        self._slot = None
        self._refusal = None
        shape = (message.width, message.height, message.pixel_format)
        counter = message.trigger_counter
        if shape != (config.width_px, config.height_px, config.pixel_format):
            text = (
                f"got a frame of {message.width}x{message.height} {message.pixel_format.value}, "
                f"expected {config.width_px}x{config.height_px} {config.pixel_format.value}"
            )
            self._refusal = NotGrabbed(counter, "BAD", text)
        elif (
            message.stride < message.pixel_format.row_bytes(message.width)
            or message.payload_bytes != message.stride * message.height
        ):
            text = f"{message.payload_bytes} bytes in rows of {message.stride} are no frame of {message.height} rows"
            self._refusal = NotGrabbed(counter, "BAD", text)
        elif not self._slots:
            self._refusal = NotGrabbed(counter, "REFUSED", "no free slot")
        elif message.payload_bytes > self._slots[0].pixels.size:
            text = f"a frame of {message.payload_bytes} bytes does not fit the slot of {self._slots[0].pixels.size}"
            self._refusal = NotGrabbed(counter, "BAD", text)
        else:
            self._slot = self._slots[0]

    def _receive_payload(self) -> bool:
        assert self._message is not None
        total = self._message.payload_bytes
        target = self._slot.pixels.data if self._slot is not None else memoryview(self._scratch)
        while self._payload_got < total:
            wanted = total - self._payload_got
            if self._slot is not None:
                count = self._receive_into(target[self._payload_got : total])
            else:
                count = self._receive_into(target[: min(wanted, _SCRATCH_BYTES)])
            if count == 0:
                return False
            self._payload_got += count
        return True

    def _receive_end(self) -> bool:
        view = memoryview(self._end)
        while self._end_got < FRAME_END_BYTES:
            count = self._receive_into(view[self._end_got :])
            if count == 0:
                return False
            self._end_got += count
        return True

    def _end_frame(self) -> Grabbed | NotGrabbed:
        message = self._message
        assert message is not None
        # Of a torn frame nothing is true, not even what it would have been refused for.
        check_frame_end(self._end, message.trigger_counter)
        self._message = None
        if self._refusal is not None:
            return self._refusal
        slot = self._slots.popleft()
        header = SlotHeader(
            frame_id=message.frame_id,
            encoder_count=message.encoder_count,
            exposure_ns=message.exposure_ns,
            grabbed_ns=now_ns(),
            width_px=message.width,
            height_px=message.height,
            stride_bytes=message.stride,
            pixel_format=message.pixel_format,
        )
        return Grabbed(message.trigger_counter, message.trigger_ns, slot, header)

    def _receive_into(self, target: memoryview) -> int:
        """Bytes received, 0 for none yet. Raises ConnectionResetError at the end of the stream."""
        if self._socket is None:
            raise ConnectionResetError("not connected")
        try:
            count = self._socket.recv_into(target)
        except BlockingIOError:
            return 0
        if count == 0:
            raise ConnectionResetError("the simulator hung up")
        return count
