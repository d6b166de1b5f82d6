"""A camera's flat field as it is kept: what of the light, the lens and the sensor is evened out in each frame.

Two 16-bit PNG files of the frame's size, so that a person can look at them: the gains in steps of ``GAIN_STEP``, 0 for a
dead pixel; and the dark levels in steps of ``DARK_STEP`` grey levels. A colour file looks right whatever the camera's order is.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from vision.correction import Correction
from vision.faults import Fault, FaultsError
from vision.preprocess import FrameFormat
from vision.recipe import Strict
from vision.types import PixelFormat

GAIN_STEP = 1 / 4096
"""A four-thousandth part of a gain of 1: 0.06 grey levels of 255."""
DARK_STEP = 1 / 256

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class MeasuredPercent(Strict):
    """A share in per cent; ``low`` to ``high`` holds the true one with 95 % confidence."""

    value: float = Field(ge=0.0)
    low: float = Field(ge=0.0)
    high: float = Field(ge=0.0)


class FlatFieldSection(Strict):
    """What evens out one camera's frames, and how well it was measured to do so on frames that had no part in it."""

    gain_sha256: _Sha256 = Field(description="of the gains' file")
    dark_sha256: _Sha256 = Field(description="of the dark levels' file")
    dark_frame_count: int = Field(gt=0)
    bright_frame_count: int = Field(gt=0)
    held_out_count: int = Field(gt=0, description="bright frames that had no part in the gains")
    dead_count: int = Field(ge=0, description="pixels that answer light too little or too much")
    hot_count: int = Field(ge=0, description="pixels that shine in the dark")
    uneven_before_percent: MeasuredPercent = Field(description="darkest to brightest part of a held-out frame, raw")
    uneven_after_percent: MeasuredPercent = Field(description="the same, corrected")


def gain_png(
    gain: npt.NDArray[np.float32], dead: npt.NDArray[np.bool_], pixel_format: PixelFormat = PixelFormat.MONO8
) -> bytes:
    """The gains' file. ``gain``: (height, width) or (height, width, 3) in the frame's order; ``dead``: (height, width)."""
    steps = np.rint(gain / GAIN_STEP).clip(1, np.iinfo(np.uint16).max)
    steps[dead] = 0
    return _png(steps, pixel_format)


def dark_png(dark: npt.NDArray[np.float32], pixel_format: PixelFormat = PixelFormat.MONO8) -> bytes:
    """The dark levels' file, of the shapes that gains have."""
    return _png(np.rint(dark / DARK_STEP), pixel_format)


def read_flat_field(
    section: FlatFieldSection,
    gain_content: bytes,
    dark_content: bytes,
    frame_format: FrameFormat,
    *,
    gain_file: str,
    dark_file: str,
) -> Correction:
    """The correction out of both files' content, without a map. Raises FaultsError that names the file at fault."""
    gain_steps = _read(gain_content, section.gain_sha256, frame_format, gain_file)
    dark_steps = _read(dark_content, section.dark_sha256, frame_format, dark_file)
    dead = gain_steps == 0
    if dead.ndim == 3:
        dead = dead.any(axis=2)
    gain_steps[dead] = round(1 / GAIN_STEP)
    return Correction(
        gain=(gain_steps * np.float32(GAIN_STEP)).astype(np.float32),
        dark=(dark_steps * np.float32(DARK_STEP)).astype(np.float32),
        dead=dead,
    )


def _png(steps: npt.NDArray[np.float32], pixel_format: PixelFormat) -> bytes:
    is_made, content = cv2.imencode(".png", _swapped(steps.astype(np.uint16), pixel_format))
    if not is_made:
        raise ValueError(f"map: got shape {steps.shape}, expected (height, width) or (height, width, 3)")
    return bytes(content.tobytes())


def _read(content: bytes, sha256: str, frame_format: FrameFormat, file: str) -> npt.NDArray[np.uint16]:
    got_sha256 = hashlib.sha256(content).hexdigest()
    if got_sha256 != sha256:
        expected = f"{sha256}: fetch the file that belongs to this calibration, or calibrate the flat field again"
        raise FaultsError([Fault(file, "sha256", got_sha256, expected)])
    steps: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if content else None
    if steps is None or steps.dtype != np.uint16 or steps.shape != frame_format.shape:
        got = "no image" if steps is None else f"{steps.dtype} of shape {steps.shape}"
        expected = f"a 16-bit PNG of shape {frame_format.shape}, the camera's: calibrate the flat field again"
        raise FaultsError([Fault(file, "", got, expected)])
    return _swapped(steps, frame_format.pixel_format).copy()


def _swapped(steps: npt.NDArray[np.uint16], pixel_format: PixelFormat) -> npt.NDArray[np.uint16]:
    """From the frame's order to OpenCV's, blue first, or back."""
    return steps[:, :, ::-1] if pixel_format is PixelFormat.RGB8 else steps
