from __future__ import annotations

from math import isnan, sqrt

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.frame_signals import FrameSignals, SignalReader, evenness
from vision.preprocess import FrameFormat, WrongFrame
from vision.raw import decoded_pixels
from vision.recipe import Region
from vision.types import PixelFormat


def read(pixels: npt.NDArray[np.uint8], **place: int) -> FrameSignals:
    height_px, width_px = pixels.shape[:2]
    pixel_format = PixelFormat.MONO8 if pixels.ndim == 2 else PixelFormat.BGR8
    whole = {"x_px": 0, "y_px": 0, "width_px": width_px, "height_px": height_px}
    region = Region(name="patch", **(whole | place))
    return SignalReader("cam0", region, FrameFormat(width_px, height_px, pixel_format)).read(pixels)


def a_picture(seed: int = 0, side_px: int = 96) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(40, 160, (side_px, side_px)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), np.uint8)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    channels=st.sampled_from([1, 3]),
    gap_px=st.integers(0, 4),
    x_px=st.integers(0, 20),
    y_px=st.integers(0, 20),
    width_px=st.integers(16, 60),
    height_px=st.integers(16, 60),
)
def test_as_the_reference(
    seed: int, channels: int, gap_px: int, x_px: int, y_px: int, width_px: int, height_px: int
) -> None:
    memory = np.random.default_rng(seed).integers(5, 256, (80, 80 + gap_px, channels), np.uint8)
    pixels = memory[:, :80] if channels == 3 else memory[:, :80, 0]
    if channels == 1:
        pixels = np.ascontiguousarray(pixels)
    told = read(pixels, x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)
    seen = (pixels[:, :, 1] if channels == 3 else pixels)[y_px : y_px + height_px, x_px : x_px + width_px].astype(float)
    rows, columns = height_px - 1, width_px - 1
    slopes = (seen[:-1, 1:] - seen[:-1, :-1]) ** 2 + (seen[1:, :-1] - seen[:-1, :-1]) ** 2
    tile_of_row, tile_of_column = np.arange(rows) * 3 // rows, np.arange(3) * columns // 3
    tiles = np.array(
        [
            [part[tile_of_row == row].mean() for part in np.split(seen[:-1, :-1], tile_of_column[1:], axis=1)]
            for row in range(3)
        ]
    ).reshape(-1)
    assert told.brightness == pytest.approx(tiles.mean(), rel=1e-5)
    assert told.sharpness == pytest.approx(sqrt(slopes.mean()) / tiles.mean(), rel=1e-5)
    assert told.tile_shares == pytest.approx(tiles / tiles.mean(), rel=1e-5)


@pytest.mark.parametrize("pixel_format", [each for each in PixelFormat if each.is_raw])
def test_a_raw_frame_tells_what_its_picture_does(pixel_format: PixelFormat) -> None:
    region = Region(name="patch", x_px=7, y_px=5, width_px=41, height_px=33)
    pixels = np.random.default_rng(3).integers(0, 256, pixel_format.shape(64, 48), np.uint8)
    told = SignalReader("cam0", region, FrameFormat(64, 48, pixel_format)).read(pixels)
    expected = SignalReader("cam0", region, FrameFormat(64, 48, pixel_format.decoded)).read(
        decoded_pixels(pixels, pixel_format)
    )
    assert (told.brightness, told.sharpness) == (expected.brightness, expected.sharpness)
    assert np.array_equal(told.tile_shares, expected.tile_shares)


def test_less_light_is_less_bright_and_as_sharp() -> None:
    picture = a_picture()
    bright, dim = read(picture), read((picture * 0.9).round().astype(np.uint8))
    assert dim.brightness == pytest.approx(0.9 * bright.brightness, rel=0.01)
    assert dim.sharpness == pytest.approx(bright.sharpness, rel=0.02)
    assert evenness(dim.tile_shares, bright.tile_shares.tolist()) == pytest.approx(1.0, abs=0.01)


def test_a_blur_is_less_sharp_and_as_bright() -> None:
    picture = a_picture()
    sharp, blurred = read(picture), read(np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.uint8))
    assert blurred.brightness == pytest.approx(sharp.brightness, rel=0.01)
    assert blurred.sharpness < 0.8 * sharp.sharpness


def test_a_spot_of_dirt_is_uneven() -> None:
    picture = a_picture()
    clean = read(picture).tile_shares.tolist()
    dirty = picture.copy()
    dirty[40:60, 5:25] = dirty[40:60, 5:25] // 2
    assert evenness(read(dirty).tile_shares, clean) < 0.85


def test_large_regions_are_read_in_part() -> None:
    picture = np.kron(a_picture(), np.ones((20, 20), np.uint8))
    told = read(picture)
    assert told.brightness == pytest.approx(float(picture.mean()), rel=0.01)


def test_the_dark() -> None:
    told = read(np.zeros((40, 40), np.uint8))
    assert told.brightness == 0.0
    assert isnan(told.sharpness)
    assert isnan(evenness(told.tile_shares, [1.0] * 9))
    assert isnan(evenness(np.ones(9), [0.0] * 9))
    assert evenness(np.array([1.0] * 8 + [0.5]), [1.0] * 8 + [0.0]) == 1.0


@pytest.mark.parametrize("place", [{"x_px": 30}, {"height_px": 41}, {"width_px": 15}])
def test_regions_that_do_not_fit(place: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"region patch: got [xy] from"):
        read(np.zeros((40, 40), np.uint8), **place)


def test_another_frame() -> None:
    region = Region(name="patch", x_px=0, y_px=0, width_px=20, height_px=20)
    reader = SignalReader("cam0", region, FrameFormat(40, 40, PixelFormat.MONO8))
    with pytest.raises(WrongFrame, match=r"cam0: got uint8 \(40, 41\)"):
        reader.read(np.zeros((40, 41), np.uint8))
