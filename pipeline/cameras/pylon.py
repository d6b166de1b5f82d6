"""Basler cameras through pypylon, whose receiving thread writes the pixels into our slots.

Whatever asks the device something may wait seconds for a dead one, so threads open, start, trigger and close it. ``poll`` asks
nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pipeline.camera_config import PylonCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, StillConnecting
from pipeline.cameras.software_trigger import Fired
from pipeline.ring import Slot

if TYPE_CHECKING:
    from pipeline.cameras.pylon_stream import PylonStream

INSTALL = "pip install 'lineside[pylon]'"
_PATIENCE_S = 0.5
"""A camera at hand is open or closed sooner. Waiting much longer would look like a hung process."""


def missing() -> str | None:
    """What has to be installed, and how; None where it is. Imports nothing."""
    return None if find_spec("pypylon") is not None else f"pypylon is not installed: {INSTALL}"


class _Opening:
    """A thread that opens the camera, for whoever asks for it again."""

    def __init__(self, config: PylonCamera, open_stream: Callable[[PylonCamera], PylonStream]) -> None:
        self._config = config
        self._open_stream = open_stream
        self._stream: PylonStream | None = None
        self._error: CameraUnavailable | None = None
        self._thread = threading.Thread(target=self._open, name="pylon-open", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            self._stream = self._open_stream(self._config)
        except CameraUnavailable as error:
            self._error = error

    def stream(self, patience_s: float | None) -> PylonStream | None:
        """None while it is not open yet. Raises CameraUnavailable."""
        self._thread.join(patience_s)
        if self._error is not None:
            raise self._error
        if self._stream is None and not self._thread.is_alive():
            raise CameraUnavailable(f"camera {self._config.camera_id}: could not be opened, see the log")
        return self._stream


class _Closing:
    """A thread that closes the camera. Until it is done pylon may write into slots, so they come back afterwards."""

    def __init__(self, stream: PylonStream) -> None:
        self._stream = stream
        self._unfilled: list[Slot] | None = None
        self._thread = threading.Thread(target=self._close, name="pylon-close", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._unfilled = self._stream.end()

    def unfilled(self, patience_s: float | None) -> list[Slot] | None:
        """None while it is not closed yet."""
        self._thread.join(patience_s)
        return self._unfilled


def _opened(config: PylonCamera) -> PylonStream:
    """Imports pypylon, which takes a while. Raises CameraUnavailable."""
    try:
        from pipeline.cameras.pylon_stream import PylonStream
    except ImportError as error:
        raise CameraUnavailable(f"camera {config.camera_id}: pypylon does not load ({error}): {INSTALL}") from error
    return PylonStream(config)


class Pylon:
    """See ``pipeline.cameras.base.Camera``; with ``trigger: software`` it is fired. Every frame is a trigger of its own, and so
    is every one that is missing in the camera's numbers. A trigger's time is the frame's time stamp; of a camera that stamps no
    time, when the frame was here.

    Where a camera takes long to close, its slots are given back by a later ``close``.
    """

    def __init__(self, config: PylonCamera, open_stream: Callable[[PylonCamera], PylonStream] = _opened) -> None:
        self._config = config
        self._open_stream = open_stream
        self._opening: _Opening | None = None
        self._closing: _Closing | None = None
        self._stream: PylonStream | None = None

    def open(self) -> None:
        name = f"camera {self._config.camera_id}"
        if (text := missing()) is not None:
            raise CameraUnavailable(f"{name}: {text}")
        if self._closing is not None:
            raise StillConnecting(f"{name}: still being closed")
        if self._opening is None:
            # pylon aborts a process that ends with a camera open.
            atexit.register(self._leave)
            self._opening = _Opening(self._config, self._open_stream)
        try:
            self._stream = self._opening.stream(_PATIENCE_S)
        except CameraUnavailable:
            self._opening = None
            atexit.unregister(self._leave)
            raise
        if self._stream is None:
            where = self._config.address or f"serial {self._config.serial}"
            raise StillConnecting(f"{name}: connecting to {where}")
        self._opening = None

    def close(self) -> list[Slot]:
        if self._stream is not None:
            self._closing = _Closing(self._stream)
            self._stream = None
        if self._closing is None:
            # What is being opened goes on: acquisition closes after every attempt, and opens again.
            return []
        unfilled = self._closing.unfilled(_PATIENCE_S)
        if unfilled is None:
            return []
        self._closing = None
        atexit.unregister(self._leave)
        return unfilled

    def _leave(self) -> None:
        """At the end of the process."""
        if self._opening is not None:
            with contextlib.suppress(CameraUnavailable):
                self._stream = self._opening.stream(None)
        self.close()
        if self._closing is not None:
            self._closing.unfilled(None)

    def queue(self, slot: Slot) -> None:
        assert self._stream is not None, "slots are queued with a camera that is open"
        self._stream.queue(slot)

    def fileno(self) -> int | None:
        return None if self._stream is None else self._stream.fileno()

    def due_ns(self) -> int | None:
        return None if self._stream is None else self._stream.due_ns()

    def poll(self) -> Sequence[CameraEvent]:
        return () if self._stream is None else self._stream.poll()

    def fire(self, number: int = 0) -> bool:
        """Have a picture taken as soon as the camera is ready for it; does not wait for that. ``number`` names it in ``fired``.

        False where it takes none, as it has another trigger than software. Raises CameraUnavailable.
        """
        if self._stream is None:
            raise CameraUnavailable(f"camera {self._config.camera_id}: not open")
        return self._stream.fire(number)

    def fired(self) -> Sequence[Fired]:
        """What became of what was fired since the last call, in order; ``fileno`` is readable when there is something. What
        has no answer when the camera is closed gets none.
        """
        return [] if self._stream is None else self._stream.fired()
