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


def missing(config: AnyCamera) -> str | None:
    """What this kind of camera needs and is not installed, and how to install it; None where nothing is missing."""
    if config.kind == "pylon":
        from pipeline.cameras import pylon

        return pylon.missing()
    if config.kind == "aravis":
        from pipeline.cameras import aravis_library

        try:
            aravis_library.library()
        except aravis_library.AravisMissing as error:
            return str(error)
    return None


def make_camera(config: AnyCamera) -> Camera:
    """The camera that the configuration's ``kind`` names, not yet opened."""
    return CAMERAS[config.kind](config)
