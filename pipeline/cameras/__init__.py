"""The kinds of camera: one file and one line here for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.camera_config import AnyCamera, AravisCamera
from pipeline.cameras.base import Camera
from pipeline.cameras.folder import FolderPlayer
from pipeline.cameras.gstreamer import GstreamerStream
from pipeline.cameras.rtsp import RtspStream
from pipeline.cameras.simulated import SimulatorCamera
from pipeline.cameras.v4l2 import V4l2Stream
from pipeline.cameras.video import VideoPlayer


def _aravis(config: AravisCamera) -> Camera:
    # Imported where it is chosen, as it looks for a library of the system's.
    from pipeline.cameras.aravis import Aravis

    return Aravis(config)


CAMERAS: dict[str, Callable[[Any], Camera]] = {
    "aravis": _aravis,
    "folder": FolderPlayer,
    "gstreamer": GstreamerStream,
    "rtsp": RtspStream,
    "simulated": SimulatorCamera,
    "v4l2": V4l2Stream,
    "video": VideoPlayer,
}


def make_camera(config: AnyCamera) -> Camera:
    """The camera that the configuration's ``kind`` names, not yet opened."""
    return CAMERAS[config.kind](config)
