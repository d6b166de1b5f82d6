"""A GStreamer pipeline that ends in an appsink, through an OpenCV that was built with GStreamer (as on a Jetson)."""

from __future__ import annotations

import re

import cv2

from pipeline.camera_config import GstreamerCamera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.opencv import Capture, OpenCapture, open_capture
from pipeline.cameras.opencv_stream import StreamCamera


class GstreamerStream(StreamCamera):
    """See ``pipeline.cameras.base.Camera``."""

    def __init__(self, config: GstreamerCamera, capture: OpenCapture = open_capture, build: str | None = None) -> None:
        """``build``: what OpenCV says of itself."""
        self._pipeline = config.pipeline
        self._open_capture = capture
        self._build = cv2.getBuildInformation() if build is None else build
        super().__init__(config, self._opened)

    def _opened(self) -> Capture:
        if not re.search(r"GStreamer:\s+YES", self._build):
            raise CameraUnavailable(
                f"OpenCV {cv2.__version__} is built without GStreamer, as pip's packages are: uninstall "
                "opencv-python-headless, install the system's (`apt-get install python3-opencv`; a Jetson has one) and use it "
                "in a virtual environment made with --system-site-packages; or choose another kind of camera"
            )
        capture = self._open_capture(self._pipeline, cv2.CAP_GSTREAMER, {})
        if not capture.isOpened():
            raise CameraUnavailable(
                "GStreamer does not start the pipeline: try it with `gst-launch-1.0 -v`, fakesink in appsink's place"
            )
        return capture
