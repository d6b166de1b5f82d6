"""Which of a line's cameras a command is about."""

from __future__ import annotations

from pipeline.cli.output import fail
from pipeline.config import Line


def camera_of(line: Line, camera_id: str | None) -> str:
    """The one that was asked for, or the only one. Ends the command where there is no such camera."""
    cameras = [camera.camera_id for camera in line.config.cameras]
    if camera_id is None and len(cameras) == 1:
        return cameras[0]
    if camera_id not in cameras:
        got = "none" if camera_id is None else camera_id
        raise fail(f"--camera-id: got {got}, expected one of the line's cameras: {', '.join(cameras)}", 2)
    return camera_id
