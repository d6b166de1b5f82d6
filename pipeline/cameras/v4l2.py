"""A camera of the kernel's (USB video, capture cards), through OpenCV's Video4Linux."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from pipeline.camera_config import V4l2Camera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.opencv import Capture, OpenCapture, open_capture
from pipeline.cameras.opencv_stream import StreamCamera
from pipeline.clock import NS_PER_MS, NS_PER_S

_EXPOSURE_STEP_US = 100
"""V4L2_CID_EXPOSURE_ABSOLUTE counts these."""
_EXPOSURE_MANUAL = 1
"""V4L2_EXPOSURE_MANUAL."""
_RATE_TOLERANCE = 0.01
"""29.97 is meant by 30."""
_AGE_MAX_NS = NS_PER_S
"""A frame that the kernel's clock says is older was stamped by another clock."""


class V4l2Stream(StreamCamera):
    """See ``pipeline.cameras.base.Camera``. Settings are applied, read back, and a device that has others is not used."""

    def __init__(self, config: V4l2Camera, capture: OpenCapture = open_capture) -> None:
        self._device = config
        self._open_capture = capture
        super().__init__(config, self._opened, kernel_ns)

    def _opened(self) -> Capture:
        device = self._device.device
        if fault := _fault_of(Path(device)):
            raise CameraUnavailable(f"{device} {fault}")
        capture = self._open_capture(device, cv2.CAP_V4L2, {})
        if not capture.isOpened():
            raise CameraUnavailable(f"{device} is in use by another program, or takes no pictures")
        try:
            self._set(capture)
        except CameraUnavailable:
            capture.release()
            raise
        return capture

    def _set(self, capture: Capture) -> None:
        """The pixel format before the size, and both before the rate: each limits what comes after it."""
        wanted = self._device
        if wanted.fourcc is not None:
            code = cv2.VideoWriter.fourcc(*wanted.fourcc)
            capture.set(cv2.CAP_PROP_FOURCC, code)
            got = int(capture.get(cv2.CAP_PROP_FOURCC))
            if got != code:
                raise _refused("fourcc", wanted.fourcc, got.to_bytes(4, "little").decode("latin-1"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width_px)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height_px)
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if size != (wanted.width_px, wanted.height_px):
            raise _refused("width_px and height_px", f"{wanted.width_px}x{wanted.height_px}", f"{size[0]}x{size[1]}")
        if wanted.frame_rate_hz is not None:
            self._apply(
                capture,
                "frame_rate_hz",
                cv2.CAP_PROP_FPS,
                wanted.frame_rate_hz,
                1.0,
                slack=_RATE_TOLERANCE * wanted.frame_rate_hz,
            )
        if wanted.exposure_time_us is not None:
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _EXPOSURE_MANUAL)
            self._apply(
                capture,
                "exposure_time_us",
                cv2.CAP_PROP_EXPOSURE,
                wanted.exposure_time_us,
                _EXPOSURE_STEP_US,
                slack=_EXPOSURE_STEP_US / 2,
            )
        if wanted.gain is not None:
            self._apply(capture, "gain", cv2.CAP_PROP_GAIN, wanted.gain, 1.0, slack=0)

    def _apply(self, capture: Capture, key: str, setting: int, wanted: float, unit: float, slack: float) -> None:
        """``wanted`` is in the configuration's unit, of which the device's has ``unit``; ``slack`` is what it may be off by."""
        capture.set(setting, wanted / unit)
        got = capture.get(setting) * unit
        if abs(got - wanted) > slack:
            raise _refused(key, f"{wanted:g}", f"{got:g}")


def kernel_ns(capture: Capture, now: int) -> int:
    """When the kernel had the frame, where it says so by CLOCK_MONOTONIC; else ``now``, when it was read."""
    stamped = int(capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)
    return stamped if now - _AGE_MAX_NS < stamped <= now else now


def _fault_of(device: Path) -> str:
    """What OpenCV does not say; empty where it can be opened."""
    try:
        if not device.is_char_device():
            return "is no device" if device.exists() else "is not there: is the camera plugged in?"
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        return "may not be opened: is this user in the group video?"
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return ""


def _refused(key: str, wanted: str, got: str) -> CameraUnavailable:
    return CameraUnavailable(
        f"{key}: set to {wanted}, the device has {got}; configure what it can (`v4l2-ctl --list-formats-ext`)"
    )
