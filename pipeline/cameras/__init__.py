"""The kinds of camera: one file and one line here for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.camera_config import FolderCamera, SimulatedCamera
from pipeline.cameras.base import Camera
from pipeline.cameras.folder import FolderPlayer
from pipeline.cameras.simulated import SimulatorCamera

CAMERAS: dict[str, Callable[[Any], Camera]] = {
    "folder": FolderPlayer,
    "simulated": SimulatorCamera,
}


def make_camera(config: FolderCamera | SimulatedCamera) -> Camera:
    """The camera that the configuration's ``kind`` names, not yet opened."""
    return CAMERAS[config.kind](config)
