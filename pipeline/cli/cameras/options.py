"""What the commands that open a line's camera have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from pipeline.camera_config import AnyCamera
from pipeline.cli.line_camera import camera_of
from pipeline.cli.output import fail
from pipeline.config import Line
from pipeline.record.lock import RecordInUse, lock_if_there

CameraIdOption = Annotated[
    str | None,
    typer.Option("--camera-id", "--camera", metavar="ID", help="Which camera, where the line has several."),
]


def camera_config_of(line: Line, camera_id: str | None) -> AnyCamera:
    """The one that was asked for, or the only one. Ends the command where there is no such camera."""
    wanted = camera_of(line, camera_id)
    return next(camera for camera in line.config.cameras if camera.camera_id == wanted)


@contextmanager
def service_away(line: Line) -> Iterator[None]:
    """Meanwhile the line's service cannot start: the camera has one master. Ends the command where it runs."""
    try:
        lock = lock_if_there(line.config.records.path)
    except RecordInUse:
        text = "the line is running and has its cameras: stop it first (lineside run, or systemctl stop lineside@...)"
        raise fail(text) from None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)
