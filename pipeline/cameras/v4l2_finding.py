"""Cameras that the kernel has: those of its video devices that deliver pictures. Asks the kernel alone, not the camera."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_DEVICES = Path("/dev")
_QUERYCAP = 0x80685600
"""VIDIOC_QUERYCAP."""
_CAPABILITY = struct.Struct("16s32s32sIII12x")
_VIDEO_CAPTURE, _VIDEO_CAPTURE_MPLANE = 0x1, 0x1000
_HAS_OWN = 0x80000000
"""V4L2_CAP_DEVICE_CAPS: what this very device can, and not all devices of its camera together."""


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """``path``: by id where there is such a name, as the number may change; ``bus``: where it hangs."""

    path: Path
    driver: str
    card: str
    bus: str


def find_video_devices() -> Sequence[VideoDevice]:
    """Raises OSError where a device may not be opened."""
    numbered = (path for path in _DEVICES.glob("video*") if path.name.removeprefix("video").isdigit())
    found = (_asked(path) for path in sorted(numbered, key=lambda path: int(path.name.removeprefix("video"))))
    return [device for device in found if device is not None]


def _asked(path: Path) -> VideoDevice | None:
    """None where it delivers no pictures, or is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError as error:
        raise PermissionError(error.errno, "may not be opened: is this user in the group video?", str(path)) from error
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            return None
        raise
    try:
        told = fcntl.ioctl(descriptor, _QUERYCAP, bytes(_CAPABILITY.size))
    except OSError:  # no video device, or not of this kernel interface
        return None
    finally:
        os.close(descriptor)
    driver, card, bus, _, all_can, this_can = _CAPABILITY.unpack(told)
    if not (this_can if all_can & _HAS_OWN else all_can) & (_VIDEO_CAPTURE | _VIDEO_CAPTURE_MPLANE):
        return None
    return VideoDevice(_lasting_name(path), *(_text(each) for each in (driver, card, bus)))


def _lasting_name(path: Path) -> Path:
    names = sorted(each for each in (_DEVICES / "v4l" / "by-id").glob("*") if each.resolve() == path.resolve())
    return names[0] if names else path


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
