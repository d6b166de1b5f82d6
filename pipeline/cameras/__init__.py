"""The kinds of camera: one file and one line here for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.camera_config import AnyCamera, AravisCamera, PylonCamera
from pipeline.cameras.base import Camera
from pipeline.cameras.folder import FolderPlayer
from pipeline.cameras.simulated import SimulatorCamera


def _aravis(config: AravisCamera) -> Camera:
    # Imported where it is chosen, as it looks for a library of the system's.
    from pipeline.cameras.aravis import Aravis

    return Aravis(config)


def _pylon(config: PylonCamera) -> Camera:
    from pipeline.cameras.pylon import Pylon

    return Pylon(config)


CAMERAS: dict[str, Callable[[Any], Camera]] = {
    "aravis": _aravis,
    "folder": FolderPlayer,
    "pylon": _pylon,
    "simulated": SimulatorCamera,
}


def make_camera(config: AnyCamera) -> Camera:
    """The camera that the configuration's ``kind`` names, not yet opened."""
    return CAMERAS[config.kind](config)
