"""GigE Vision and USB3 Vision cameras through libaravis, whose receiving thread writes the pixels into our slots.

Whatever asks the device something may wait seconds for a dead one, so threads open and close it. ``poll`` asks nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from pipeline.camera_config import AravisCamera
from pipeline.cameras.aravis_stream import AravisStream
from pipeline.cameras.base import CameraEvent, CameraUnavailable, StillConnecting
from pipeline.ring import Slot

_PATIENCE_S = 0.2
"""A camera at hand is open or closed sooner. It may be waited for four times in one turn of acquisition, which is warned of when
it is silent for a second."""


class _Opening:
    """A thread that opens the camera, and starts it once somebody is there to take its frames."""

    def __init__(self, config: AravisCamera) -> None:
        self._config = config
        self._is_open = threading.Event()
        self._is_wanted = threading.Event()
        self._stream: AravisStream | None = None
        self._error: CameraUnavailable | None = None
        self._thread = threading.Thread(target=self._open, name="aravis-open", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            stream = AravisStream(self._config)
            self._is_open.set()
            self._is_wanted.wait()
            stream.start()
            self._stream = stream
        except CameraUnavailable as error:
            self._error = error
            self._is_open.set()

    def started(self) -> AravisStream | None:
        """None while it is not. Raises CameraUnavailable."""
        if self._is_open.wait(_PATIENCE_S):
            self._is_wanted.set()
            self._thread.join(_PATIENCE_S)
        if self._error is not None:
            raise self._error
        return self._stream


class _Closing:
    """A thread that closes the camera: one that hangs holds the library up for seconds."""

    def __init__(self, stream: AravisStream) -> None:
        self._stream = stream
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._close, name="aravis-close", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._stream.end()
        self._is_ended.set()
        self._stream.close()

    def unfilled(self) -> list[Slot]:
        """The slots that were not filled, once the library writes into none any more; then none."""
        return self._stream.unfilled() if self._is_ended.wait(_PATIENCE_S) else []

    def has_unfilled(self) -> bool:
        return self._stream.holds_slots

    def is_done(self) -> bool:
        self._thread.join(_PATIENCE_S)
        return not self._thread.is_alive()


class Aravis:
    """See ``pipeline.cameras.base.Camera``. Every frame is a trigger of its own, and so is every one that is missing in
    the camera's numbers. A trigger's time is the frame's time stamp, which most cameras take when the exposure begins.

    Where a camera takes long to close, its slots are given back by a later ``close``.
    """

    def __init__(self, config: AravisCamera) -> None:
        self._config = config
        self._opening: _Opening | None = None
        self._closing: _Closing | None = None
        self._stream: AravisStream | None = None

    def open(self) -> None:
        name = f"camera {self._config.camera_id}"
        if self._closing is not None:
            if not self._closing.is_done():
                raise StillConnecting(f"{name}: still being closed")
            if self._closing.has_unfilled():
                raise StillConnecting(f"{name}: closed now, its slots are to be taken back first")
            self._closing = None
        if self._opening is None:
            self._opening = _Opening(self._config)
        try:
            self._stream = self._opening.started()
        except CameraUnavailable:
            self._opening = None
            raise
        if self._stream is None:
            where = self._config.address or f"serial {self._config.serial}"
            raise StillConnecting(f"{name}: connecting to {where}")
        self._opening = None

    def close(self) -> list[Slot]:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._closing = _Closing(stream)
            # Seen by whoever waits for all of it to be over.
            unfilled = self._closing.unfilled()
            self._closing.is_done()
            return unfilled
        # What is being opened goes on: acquisition closes after every attempt, and opens again.
        return [] if self._closing is None else self._closing.unfilled()

    def queue(self, slot: Slot) -> None:
        assert self._stream is not None, "slots are queued with a camera that is open"
        self._stream.queue(slot)

    def fire(self) -> bool:
        """See ``pipeline.cameras.base.Fires``: with ``trigger: software``. Raises CameraUnavailable."""
        if self._stream is None:
            raise CameraUnavailable(f"camera {self._config.camera_id}: not open")
        return self._stream.fire()

    def fileno(self) -> int | None:
        return None if self._stream is None else self._stream.fileno()

    def due_ns(self) -> int | None:
        return None if self._stream is None else self._stream.due_ns()

    def poll(self) -> Sequence[CameraEvent]:
        return () if self._stream is None else self._stream.poll()

    def packet_counts(self) -> Mapping[str, int]:
        return {} if self._stream is None else self._stream.packet_counts()
