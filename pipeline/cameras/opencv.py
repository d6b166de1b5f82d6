"""OpenCV's VideoCapture as the drivers here see it: opening with settings, and one frame into a slot.

The protocol is the seam: a test stands in for a device that is not there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.camera_config import CameraBase
from pipeline.ring import Slot, SlotHeader
from vision.types import PixelFormat

Image: TypeAlias = npt.NDArray[np.uint8]

_LOG_ERRORS = 2
_FFMPEG_QUIET = "-8"
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_opening = threading.Lock()


class Capture(Protocol):
    """What of cv2.VideoCapture is used."""

    def isOpened(self) -> bool: ...  # noqa: N802
    def grab(self) -> bool:
        """Wait for the next frame. False where none comes any more."""

    def retrieve(self, image: Image) -> tuple[bool, Any]:
        """The frame that was grabbed: in ``image`` where it has its shape and type, else in an array of its own."""

    def get(self, setting: int) -> float: ...
    def set(self, setting: int, value: float) -> bool: ...
    def release(self) -> None: ...


class OpenCapture(Protocol):
    """How a capture is made of a file, a device, an address or a pipeline."""

    def __call__(self, source: str, backend: int, settings: Mapping[int, int], ffmpeg_options: str = "") -> Capture: ...


def open_capture(source: str, backend: int, settings: Mapping[int, int], ffmpeg_options: str = "") -> Capture:
    """The real thing. One that could not be opened says so in ``isOpened``, and nothing on standard error: FFmpeg would
    write there what it was asked to open.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    getattr(cv2.utils, "logging", cv2).setLogLevel(_LOG_ERRORS)  # where it is depends on the version
    with _opening:
        # The one way there is to FFmpeg's own options; they are not meant for the next one that is opened.
        os.environ[_FFMPEG_OPTIONS] = ffmpeg_options
        try:
            capture: Capture = cv2.VideoCapture(
                source, backend, [number for pair in settings.items() for number in pair]
            )
        finally:
            del os.environ[_FFMPEG_OPTIONS]
    return capture


class FrameWriter:
    """Brings frames of a capture into slots in the camera's pixel format.

    BGR8 is decoded straight into the slot, and so are grey frames for Mono8; what else OpenCV delivers goes through one
    array of this writer's and is converted into the slot.
    """

    def __init__(self, config: CameraBase) -> None:
        self._config = config
        self._format = config.pixel_format
        height, width = config.height_px, config.width_px
        self._bytes = self._format.frame_bytes(width, height)
        self._shape = (height, width) if self._format is PixelFormat.MONO8 else (height, width, 3)
        self._delivered: Image = np.empty((height, width, 3), np.uint8)
        self._is_in_place = self._format is PixelFormat.BGR8

    def write(self, capture: Capture, slot: Slot) -> str | None:
        """Fill ``slot`` with the frame that was grabbed; else why there is none, and nothing of it is in the slot but where
        it had the right size.
        """
        place: Image = slot.pixels[: self._bytes].reshape(self._shape)
        wanted = place if self._is_in_place else self._delivered
        is_there, image = capture.retrieve(wanted)
        if not is_there or image is None:
            return "the frame cannot be decoded"
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
            return f"got a frame of {image.dtype} {image.shape}, expected 8 bit grey or BGR"
        height, width = image.shape[:2]
        if (width, height) != (self._config.width_px, self._config.height_px):
            expected = f"{self._config.width_px}x{self._config.height_px}"
            return f"got a frame of {width}x{height} pixels, expected {expected}"
        if not np.may_share_memory(image, place):
            self._convert(image, place)
        self._is_in_place = image.shape == self._shape and self._format is not PixelFormat.RGB8
        return None

    def _convert(self, image: Image, place: Image) -> None:
        if image.ndim == 2:
            if self._format is PixelFormat.MONO8:
                place[:] = image
            else:
                cv2.cvtColor(image, cv2.COLOR_GRAY2BGR, dst=place)
        elif self._format is PixelFormat.MONO8:
            cv2.cvtColor(image, cv2.COLOR_BGR2GRAY, dst=place)
        elif self._format is PixelFormat.RGB8:
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=place)
        else:
            place[:] = image

    def header(self, frame_id: int, exposure_ns: int, grabbed_ns: int) -> SlotHeader:
        """Of a frame that ``write`` wrote."""
        return SlotHeader(
            frame_id=frame_id,
            encoder_count=None,
            exposure_ns=exposure_ns,
            grabbed_ns=grabbed_ns,
            width_px=self._config.width_px,
            height_px=self._config.height_px,
            stride_bytes=self._bytes // self._config.height_px,
            pixel_format=self._format,
        )
