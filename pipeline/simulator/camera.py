"""The simulated camera: counts triggers, exposes, and sends to whichever driver is connected. It never blocks."""

from __future__ import annotations

import select
import socket
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipeline.simulator.process import Book, Options
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header

_SEND_BUFFER_BYTES = 4 << 20
"""Asked of the kernel, which grants what it allows."""
_MESSAGES_QUEUED_AT_MOST = 4096


class CameraOptions(Options):
    """One simulated camera."""

    camera_id: str = Field(min_length=1)
    path: Path = Field(description="AF_UNIX socket that the device listens on")
    belt_offset_pulses: int = Field(default=0, ge=0, description="how far down the belt from the trigger station it is")
    exposure_us: float = Field(default=500.0, ge=0.0)
    readout_us: float = Field(default=1500.0, ge=0.0)
    queue_frames: int = Field(default=4, ge=1, description="frames the device holds for a slow driver before it drops")


@dataclass(slots=True)
class _Queued:
    message: DeviceMessage
    buffers: list[memoryview]


class SimulatedCamera:
    """One device. Call ``serve`` when one of its file descriptors is ready.

    Attributes:
        trigger_counter: triggers seen since the device was switched on, connected or not.
        frame_counter: frames exposed since the device was switched on, connected or not.
        frames_dropped: frames that found the queue full.
        connection_number: how many drivers have connected so far.
        unplugged_count: how often the device was unplugged so far.
        is_torn: what the connected driver was sent last is garbage, and it cannot make sense of what follows.
    """

    def __init__(self, options: CameraOptions, book: Book) -> None:
        self.options = options
        self.trigger_counter = 0
        self.frame_counter = 0
        self.frames_dropped = 0
        self.connection_number = 0
        self.unplugged_count = 0
        self.is_torn = False
        self._book = book
        self._driver: socket.socket | None = None
        self._queue: deque[_Queued] = deque()
        self._frames_queued = 0
        self._listener: socket.socket | None = _listen(options.path)

    @property
    def is_plugged_in(self) -> bool:
        """Whether the device is there at all."""
        return self._listener is not None

    @property
    def is_connected(self) -> bool:
        """Whether a driver is there."""
        return self._driver is not None

    @property
    def readable(self) -> list[socket.socket]:
        """Sockets to wait on until they can be read."""
        return [each for each in (self._listener, self._driver) if each is not None]

    @property
    def writable(self) -> list[socket.socket]:
        """Sockets to wait on until they can be written, while something waits to be sent."""
        return [self._driver] if self._driver is not None and self._queue else []

    def send(
        self, message: DeviceMessage, pixels: tuple[memoryview, ...], now_ns: int, *, garbage: bytes | None = None
    ) -> bool:
        """Sends to the connected driver, now or as soon as it reads. False where there is no room or no driver.

        ``garbage`` follows the pixels in place of the frame's end.
        """
        if self._driver is None:
            return False
        is_frame = message.kind is MessageKind.FRAME
        if is_frame and self._frames_queued >= self.options.queue_frames:
            self.frames_dropped += 1
            return False
        if len(self._queue) >= _MESSAGES_QUEUED_AT_MOST:
            return False
        buffers = [memoryview(encode_header(message)), *pixels]
        if is_frame:
            end = encode_frame_end(message.trigger_counter) if garbage is None else garbage
            buffers.append(memoryview(end))
        self.is_torn |= garbage is not None
        self._queue.append(_Queued(message, buffers))
        self._frames_queued += is_frame
        self._flush(now_ns)
        return self._driver is not None

    def serve(self, now_ns: int) -> None:
        """Lets drivers come and go and sends what waits; returns at once."""
        if self._driver is not None and self._driver_has_gone(self._driver):
            self._hang_up(now_ns)
        self._accept(now_ns)
        self._flush(now_ns)

    def unplug(self, now_ns: int) -> None:
        """The device is gone: the driver is hung up on and none can connect."""
        if self._listener is not None:
            self.unplugged_count += 1
            self._book.write("camera", camera_id=self.options.camera_id, plugged_in=False, at_ns=now_ns)
            self.close(now_ns)

    def plug_in(self, now_ns: int) -> None:
        """The device is switched on again; its counters begin again."""
        if self._listener is None:
            self.trigger_counter = 0
            self.frame_counter = 0
            self._listener = _listen(self.options.path)
            self._book.write("camera", camera_id=self.options.camera_id, plugged_in=True, at_ns=now_ns)

    def close(self, now_ns: int) -> None:
        """Removes the socket and hangs up, in this order: who is hung up on and connects again at once finds nobody."""
        if self._listener is not None:
            self.options.path.unlink(missing_ok=True)
            self._listener.close()
            self._listener = None
        self._hang_up(now_ns)

    def _accept(self, now_ns: int) -> None:
        while self._listener is not None and select.select([self._listener], [], [], 0)[0]:
            driver, _ = self._listener.accept()
            if self._driver is not None:
                driver.close()  # one driver at a time
                continue
            driver.setblocking(False)
            driver.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
            self._driver = driver
            self.connection_number += 1
            self._book.write("driver", camera_id=self.options.camera_id, connected=True, at_ns=now_ns)

    def _flush(self, now_ns: int) -> None:
        while self._queue and self._driver is not None:
            queued = self._queue[0]
            try:
                sent = self._driver.sendmsg(queued.buffers, (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self._hang_up(now_ns)
                return
            queued.buffers = _rest(queued.buffers, sent)
            if not queued.buffers:
                self._queue.popleft()
                self._frames_queued -= queued.message.kind is MessageKind.FRAME

    def _hang_up(self, now_ns: int) -> None:
        if self._driver is None:
            return
        self._driver.close()
        self._driver = None
        camera_id = self.options.camera_id
        for queued in self._queue:
            message = queued.message
            kind, counter = message.kind.name, message.trigger_counter
            trigger_ns = message.trigger_ns
            self._book.write(
                "undelivered", camera_id=camera_id, kind=kind, trigger_counter=counter, trigger_ns=trigger_ns
            )
        self._queue.clear()
        self._frames_queued = 0
        self.unplugged_count = 0
        self.is_torn = False
        self._book.write("driver", camera_id=camera_id, connected=False, at_ns=now_ns)

    @staticmethod
    def _driver_has_gone(driver: socket.socket) -> bool:
        try:
            # A driver says nothing in this protocol: whatever it sends is read and dropped.
            return driver.recv(4096) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)  # what a killed predecessor left
    listener.bind(str(path))
    listener.listen(1)
    listener.setblocking(False)
    return listener


def _rest(buffers: list[memoryview], sent: int) -> list[memoryview]:
    """What is left of the buffers after ``sent`` bytes."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [buffer[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
