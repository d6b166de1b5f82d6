"""The camera of a line that a command is about, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.cameras.base import Camera, CameraUnavailable, StillConnecting
from pipeline.cli.output import fail
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import Line

OPEN_WITHIN_S = 30


def camera_of(line: Line, camera_id: str | None) -> str:
    """The one that was asked for, or the only one. Ends the command where there is no such camera."""
    cameras = [camera.camera_id for camera in line.config.cameras]
    if camera_id is None and len(cameras) == 1:
        return cameras[0]
    if camera_id not in cameras:
        got = "none" if camera_id is None else camera_id
        raise fail(f"--camera-id: got {got}, expected one of the line's cameras: {', '.join(cameras)}", 2)
    return camera_id


def open_within(camera: Camera, seconds: float, should_end: Callable[[], bool] = lambda: False) -> None:
    """As acquisition does: a camera that is still being connected to is asked again. Raises CameraUnavailable."""
    give_up_ns = now_ns() + int(seconds * NS_PER_S)
    while True:
        try:
            camera.open()
        except CameraUnavailable as error:
            camera.close()
            if not isinstance(error, StillConnecting) or should_end() or now_ns() > give_up_ns:
                raise
        else:
            return
