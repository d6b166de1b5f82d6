from __future__ import annotations

import hashlib

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from vision.correction import Correction
from vision.faults import FaultsError
from vision.flat_field import (
    DARK_STEP,
    GAIN_STEP,
    FlatFieldSection,
    MeasuredPercent,
    dark_png,
    gain_png,
    read_flat_field,
)
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

FORMATS = [FrameFormat(40, 30, pixel_format) for pixel_format in PixelFormat if not pixel_format.is_raw]


def maps(frame_format: FrameFormat) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    generator = np.random.default_rng(4)
    gain = generator.uniform(0.3, 3.0, frame_format.shape).astype(np.float32)
    dark = generator.uniform(0.0, 30.0, frame_format.shape).astype(np.float32)
    return gain, dark, generator.random(frame_format.shape[:2]) < 0.02


def section(gain_content: bytes, dark_content: bytes) -> FlatFieldSection:
    measured = MeasuredPercent(value=1.0, low=0.9, high=1.1)
    return FlatFieldSection(
        gain_sha256=hashlib.sha256(gain_content).hexdigest(),
        dark_sha256=hashlib.sha256(dark_content).hexdigest(),
        dark_frame_count=10,
        bright_frame_count=18,
        held_out_count=6,
        dead_count=3,
        hot_count=1,
        uneven_before_percent=measured,
        uneven_after_percent=measured,
    )


def read(gain_content: bytes, dark_content: bytes, frame_format: FrameFormat) -> Correction:
    given = section(gain_content, dark_content)
    return read_flat_field(given, gain_content, dark_content, frame_format, gain_file="gain.png", dark_file="dark.png")


@pytest.mark.parametrize("frame_format", FORMATS, ids=lambda each: each.pixel_format.value)
def test_what_is_written_is_read_again(frame_format: FrameFormat) -> None:
    gain, dark, dead = maps(frame_format)
    pixel_format = frame_format.pixel_format
    correction = read(gain_png(gain, dead, pixel_format), dark_png(dark, pixel_format), frame_format)
    correction.check(frame_format.shape)
    assert correction.dead is not None
    assert correction.gain is not None
    assert correction.dark is not None
    assert np.array_equal(correction.dead, dead)
    assert np.abs(correction.gain - gain)[~dead].max() <= 0.51 * GAIN_STEP
    assert np.abs(correction.dark - dark).max() <= 0.51 * DARK_STEP


def test_a_colour_file_looks_the_same_whatever_the_cameras_order_is() -> None:
    gain, _, dead = maps(FORMATS[1])
    as_bgr = gain_png(gain, dead, PixelFormat.BGR8)
    assert gain_png(gain[:, :, ::-1], dead, PixelFormat.RGB8) == as_bgr


def test_another_file_or_another_cameras_is_refused_by_name() -> None:
    gain, dark, dead = maps(FORMATS[0])
    gains, darks = gain_png(gain, dead), dark_png(dark)
    with pytest.raises(FaultsError, match=r"gain\.png: sha256: got"):
        read_flat_field(
            section(gains, darks), gains + b"x", darks, FORMATS[0], gain_file="gain.png", dark_file="dark.png"
        )
    with pytest.raises(FaultsError, match=r"gain.png: got uint16 of shape \(30, 40\), expected a 16-bit PNG of shape"):
        read(gains, darks, FrameFormat(41, 30, PixelFormat.MONO8))
    with pytest.raises(FaultsError, match=r"dark.png: got no image, expected a 16-bit PNG"):
        read(gains, b"", FORMATS[0])
    eight_bits = cv2.imencode(".png", np.zeros((30, 40), np.uint8))[1].tobytes()
    with pytest.raises(FaultsError, match=r"dark.png: got uint8 of shape \(30, 40\)"):
        read(gains, eight_bits, FORMATS[0])
