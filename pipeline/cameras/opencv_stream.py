"""A free-running stream that OpenCV reads: each frame is its own trigger.

VideoCapture blocks in opening and in waiting for a frame, and nothing can interrupt it. So a thread does both; it touches a
slot only while it decodes, which waits for no device. Closing therefore gets every slot back at once, also from a thread that
is stuck: that one is left to the time limit of its driver, and has lost its way to the slots.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence

import cv2

from pipeline.camera_config import StreamBase
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, StillConnecting, Triggered
from pipeline.cameras.opencv import Capture, FrameWriter
from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.ring import Slot

_OPEN_WAIT_S = 0.5
_CLOSE_WAIT_S = 0.2
"""So long ``open`` and ``close`` wait for the thread: the worker's signs of life stand still meanwhile."""
_WANTED_WITHIN_NS = 5 * NS_PER_S
"""A connection that nobody asks for any more is given up."""
_EXIT_WAIT_S = 1.0
"""So long the process waits for its threads when it ends."""


class StreamCamera:
    """See ``pipeline.cameras.base.Camera``. frame_id counts the frames of the stream, from 0.

    Args:
        config: Of the camera.
        connect: Opens the stream, in a thread. Raises CameraUnavailable.
        grabbed_ns: When the frame that was just grabbed was taken, by what the capture says and the time it is now.
    """

    def __init__(
        self,
        config: StreamBase,
        connect: Callable[[], Capture],
        grabbed_ns: Callable[[Capture, int], int] = lambda _, now: now,
    ) -> None:
        self._config = config
        self._connect = connect
        self._grabbed_ns = grabbed_ns
        self._writer = FrameWriter(config)
        self._connection: _Connection | None = None
        self._left: _Connection | None = None
        """Closed, and still in its driver."""
        self._frame_count = 0

    def open(self) -> None:
        """Raises StillConnecting where the source has not answered within half a second: opened again, it is waited for
        again.
        """
        if self._left is not None:
            if not self._left.has_ended(_OPEN_WAIT_S):
                raise self._unavailable("its driver has not come back since the stream was lost")
            self._left = None
        if self._connection is None:
            self._connection = _Connection(self._connect, self._writer, self._grabbed_ns)
        if not self._connection.is_answered(_OPEN_WAIT_S):
            raise StillConnecting(f"camera {self._config.camera_id}: connecting, no answer yet")
        try:
            self._connection.begin(self._frame_count)
        except CameraUnavailable as error:
            self._connection.has_ended(_OPEN_WAIT_S)
            self._connection = None
            raise self._unavailable(str(error)) from error

    def close(self) -> list[Slot]:
        connection = self._connection
        if connection is None or not connection.has_begun:
            return []  # what is being connected is asked for again
        unfilled = connection.end()
        self._frame_count = connection.frame_count
        self._connection = None
        if not connection.has_ended(_CLOSE_WAIT_S):
            self._left = connection
        return unfilled

    def queue(self, slot: Slot) -> None:
        assert self._connection is not None, "a slot is queued on an open camera"
        self._connection.queue(slot)

    def fileno(self) -> int | None:
        connection = self._connection
        return connection.descriptor if connection is not None and connection.has_begun else None

    def due_ns(self) -> int | None:
        connection = self._connection
        if connection is None or not connection.has_begun:
            return None
        return connection.last_ns + int(self._config.frame_timeout_s * NS_PER_S)

    def poll(self) -> Sequence[CameraEvent]:
        if self._connection is None or not self._connection.has_begun:
            return ()
        try:
            events = self._connection.take()
        except CameraUnavailable as error:
            raise self._unavailable(str(error)) from error
        due_ns = self.due_ns()
        if not events and due_ns is not None and now_ns() >= due_ns:
            raise self._unavailable(f"no frame for {self._config.frame_timeout_s:g} s")
        return events

    def _unavailable(self, text: str) -> CameraUnavailable:
        return CameraUnavailable(f"camera {self._config.camera_id}: {text}")


class _Connection:
    """One opening of the stream, its thread, and what both sides share under a lock."""

    def __init__(
        self, connect: Callable[[], Capture], writer: FrameWriter, grabbed_ns: Callable[[Capture, int], int]
    ) -> None:
        self._connect = connect
        self._writer = writer
        self._grabbed_ns = grabbed_ns
        self._changed = threading.Condition()
        self._is_connected = False
        self._lost: str | None = None
        self._is_closed = False
        self._slots: deque[Slot] = deque()
        self._filling: Slot | None = None
        self._events: list[CameraEvent] = []
        self._wanted_until_ns = now_ns() + _WANTED_WITHIN_NS
        self.has_begun = False
        self.descriptor = -1
        self.frame_count = 0
        self.last_ns = 0
        """When the last frame came, or the stream was begun."""
        # A daemon: it may be in a driver that does not come back when the process ends.
        self._thread = threading.Thread(target=self._run, name="opencv-stream", daemon=True)
        self._thread.start()
        _connections.add(self)

    def is_answered(self, within_s: float) -> bool:
        """Whether the stream is there, or cannot be had, ``within_s`` from now."""
        with self._changed:
            self._wanted_until_ns = now_ns() + _WANTED_WITHIN_NS
            return self._changed.wait_for(lambda: self._is_connected or self._lost is not None, within_s)

    def begin(self, frame_count: int) -> None:
        """Frames count from now on, from ``frame_count``. Raises CameraUnavailable."""
        with self._changed:
            if self._lost is not None:
                raise CameraUnavailable(self._lost)
            self.has_begun = True
            self.frame_count = frame_count
            self.last_ns = now_ns()
            self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._changed.notify_all()

    def queue(self, slot: Slot) -> None:
        with self._changed:
            self._slots.append(slot)

    def take(self) -> list[CameraEvent]:
        """What has happened. Raises CameraUnavailable where nothing did and nothing will."""
        with self._changed:
            if not self._events and self._lost is not None:
                raise CameraUnavailable(self._lost)
            if self._lost is None:
                try:
                    os.eventfd_read(self.descriptor)
                except BlockingIOError:
                    return []
            # A loss shows again at the next call: the descriptor stays readable.
            events, self._events = self._events, []
            return events

    def end(self) -> list[Slot]:
        """Nothing more comes of it, and no slot is written to when this returns. The slots that nobody was told of as
        filled, oldest first.
        """
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: self._filling is None)
            unfilled = [event.slot for event in self._events if isinstance(event, Grabbed)]
            unfilled += self._slots
            self._events.clear()
            self._slots.clear()
            os.close(self.descriptor)
            self._changed.notify_all()
        return unfilled

    def give_up(self) -> None:
        """Its thread lets go of the device as soon as the driver lets go of the thread."""
        with self._changed:
            self._is_closed = True

    def has_ended(self, within_s: float) -> bool:
        """Whether its thread has let go of the device ``within_s`` from now."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._read()
        except (CameraUnavailable, cv2.error) as error:
            self._lose(str(error))
        finally:
            self._lose("its driver broke off")

    def _read(self) -> None:
        capture = self._connect()
        try:
            with self._changed:
                self._is_connected = True
                self._changed.notify_all()
            while self._is_wanted():
                if not capture.grab():
                    raise CameraUnavailable("the stream ended or was cut off")
                self._deliver(capture, now_ns())
        finally:
            capture.release()

    def _is_wanted(self) -> bool:
        with self._changed:
            if not self.has_begun and now_ns() > self._wanted_until_ns:
                self._lost = "connected, but not opened in time"
            return not self._is_closed and self._lost is None

    def _lose(self, text: str) -> None:
        with self._changed:
            self._lost = self._lost or text
            self._signal()
            self._changed.notify_all()

    def _signal(self) -> None:
        if self.has_begun and not self._is_closed:
            os.eventfd_write(self.descriptor, 1)

    def _deliver(self, capture: Capture, now: int) -> None:
        with self._changed:
            if not self.has_begun or self._is_closed:
                return  # older than the opening, or too late
            counter, self.frame_count = self.frame_count, self.frame_count + 1
            self.last_ns = now
            trigger_ns = self._grabbed_ns(capture, now)
            self._events.append(Triggered(counter, None, trigger_ns))
            if not self._slots:
                self._events.append(NotGrabbed(counter, "REFUSED", "no free slot"))
                self._signal()
                return
            self._filling = slot = self._slots.popleft()
            self._signal()
        fault: str | None = "the driver broke off"
        try:
            fault = self._writer.write(capture, slot)
        finally:
            with self._changed:
                self._filling = None
                if fault is None:
                    header = self._writer.header(counter, trigger_ns, now_ns())
                    self._events.append(Grabbed(counter, trigger_ns, slot, header))
                else:
                    self._slots.appendleft(slot)
                    self._events.append(NotGrabbed(counter, "BAD", fault))
                self._signal()
                self._changed.notify_all()


_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()


def _let_go() -> None:
    """A thread that comes back from OpenCV while the interpreter is taken down would abort the process."""
    connections = list(_connections)
    for connection in connections:
        connection.give_up()
    give_up_ns = now_ns() + int(_EXIT_WAIT_S * NS_PER_S)
    for connection in connections:
        connection.has_ended(seconds_until(give_up_ns))


atexit.register(_let_go)
