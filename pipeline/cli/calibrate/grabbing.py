"""A line's camera while its service does not run: frames for whoever sets the station up."""

from __future__ import annotations

import os
import select
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pipeline.cameras import make_camera
from pipeline.cameras.base import CameraUnavailable, Grabbed, NotGrabbed
from pipeline.cli.line_camera import OPEN_WITHIN_S, open_within
from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.config import Line
from pipeline.machine import slot_bytes
from pipeline.record.lock import RecordInUse, lock_record
from pipeline.ring import Slot

Pixels = npt.NDArray[np.uint8]

_SLOTS = 4


class CannotGrab(RuntimeError):
    """The text says why there are no pictures, and what to do."""


class GrabbingCamera:
    """One camera of the line. Meanwhile the service cannot start: the camera has one master."""

    def __init__(self, line: Line, camera_id: str) -> None:
        self._config = next(camera for camera in line.config.cameras if camera.camera_id == camera_id)
        self._record = line.config.records.path
        self._camera = make_camera(self._config)
        self._lock: int | None = None
        self.lost_text = ""
        """Why the last trigger had no frame; empty where it had one."""

    def __enter__(self) -> GrabbingCamera:
        """Raises CannotGrab."""
        try:
            self._lock = lock_record(self._record)
        except RecordInUse:
            raise CannotGrab(
                "the line is running: stop it first (lineside run, or systemctl stop lineside@...)"
            ) from None
        except OSError as error:
            raise CannotGrab(f"{self._record}: {error.strerror}") from error
        try:
            open_within(self._camera, OPEN_WITHIN_S)
        except CameraUnavailable as error:
            self._unlock()
            raise CannotGrab(str(error)) from error
        for index in range(_SLOTS):
            self._camera.queue(Slot(index, 1, np.empty(slot_bytes(self._config), np.uint8)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._camera.close()
        self._unlock()

    def frame(self, within_s: float) -> Pixels | None:
        """The newest frame, (height, width) or (height, width, 3); None where none came. Raises CannotGrab where the camera went
        away.
        """
        give_up_ns = now_ns() + int(within_s * NS_PER_S)
        while True:
            if (newest := self._poll()) is not None:
                return newest
            now = now_ns()
            if now >= give_up_ns:
                return None
            due_ns, descriptor = self._camera.due_ns(), self._camera.fileno()
            wake_ns = give_up_ns if due_ns is None else min(give_up_ns, due_ns)
            select.select([] if descriptor is None else [descriptor], [], [], seconds_until(wake_ns))

    def _poll(self) -> Pixels | None:
        newest: Pixels | None = None
        try:
            events = self._camera.poll()
        except CameraUnavailable as error:
            raise CannotGrab(str(error)) from error
        for event in events:
            if isinstance(event, Grabbed):
                newest = self._copied(event)
                self._camera.queue(event.slot)
                self.lost_text = ""
            elif isinstance(event, NotGrabbed):
                self.lost_text = event.text
        return newest

    def _copied(self, event: Grabbed) -> Pixels:
        header = event.header
        rows = event.slot.pixels[: header.stride_bytes * header.height_px].reshape(header.height_px, -1)
        pixels = rows[:, : header.pixel_format.row_bytes(header.width_px)]
        return pixels.copy().reshape(header.pixel_format.shape(header.width_px, header.height_px))

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
