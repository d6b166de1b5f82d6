"""Anomaly maps over pictures: what is cool stays as it is, what is hot is seen, and the peak is where it is."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.teaching.overlay import HOT_MIN, bare_picture, heat_scale, heated, map_picture, peak_of, shown_picture

GREY = np.full((240, 320), 120, np.uint8)


def heat_at(row: int, column: int, level: float = 1.0) -> npt.NDArray[np.float32]:
    """A map of 12 x 16 that is hot in one of its pixels, 20 px of the picture wide."""
    heat = np.zeros((12, 16), np.float32)
    heat[row, column] = level
    return heat


def test_a_cool_map_leaves_the_picture_as_it_is() -> None:
    assert np.array_equal(heated(GREY, np.zeros((12, 16), np.float32)), np.repeat(GREY[..., None], 3, axis=2))


def test_a_picture_in_colour_is_shown_in_grey_levels() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    shown = heated(colour, np.zeros((1, 1), np.float32))
    assert np.array_equal(shown[..., 0], cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY))
    assert (shown == shown[..., :1]).all()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 9), (11, 15)])
def test_colours_and_marks_are_where_it_is_hot(row: int, column: int) -> None:
    shown = heated(GREY, heat_at(row, column)).astype(int)
    changed = np.argwhere((shown != 120).any(axis=2))
    middle = np.array([20 * row + 10, 20 * column + 10])
    # The ticks reach 9 % of the longer side, the colours one pixel of the map at each side of the hot one.
    assert np.abs(changed - middle).max() <= 32
    assert (shown[tuple(middle)] != 120).any()
    assert ((shown == 255).all(axis=2)).any()
    assert ((shown == 0).all(axis=2)).any()


def test_what_is_hot_has_an_outline_and_what_is_warm_has_none() -> None:
    hot, warm = (np.full((12, 16), level, np.float32) for level in (HOT_MIN, HOT_MIN - 0.01))
    white = [int((heated(GREY, heat) == 255).all(axis=2).sum()) for heat in (hot, warm)]
    assert white[0] > white[1] + 2 * (240 + 320) - 100


@given(st.integers(0, 11), st.integers(0, 15), st.floats(0.01, 1.0))
def test_the_peak(row: int, column: int, level: float) -> None:
    peak, across, down = peak_of(heat_at(row, column, level))
    assert peak == np.float32(level)
    assert (across * 16, down * 12) == pytest.approx((column + 0.5, row + 0.5))


@pytest.mark.parametrize("shape", [(1_940, 2_592), (1_940, 2_592, 3), (40, 3_000), (20, 30)])
def test_pictures_are_kept_small(shape: tuple[int, ...]) -> None:
    pixels = np.zeros(shape, np.uint8)
    shown = shown_picture("a.png", 0.25, pixels, np.zeros(shape[:2], np.float64))
    height_px, width_px = shown.pixels.shape[:2]
    assert shown.pixels.shape[2:] == shape[2:]
    assert max(height_px, width_px) <= 288
    assert width_px / height_px == pytest.approx(shape[1] / shape[0], rel=0.2)
    assert shown.heat.shape == (height_px, width_px)
    assert shown.heat.dtype == np.float32
    assert not np.shares_memory(shown.pixels, pixels)


def test_heat_that_is_no_number_shows_nothing_and_too_much_is_cut() -> None:
    heat = np.array([[np.nan, np.inf], [-np.inf, 3.0]])
    assert shown_picture("a.png", 0.25, GREY, heat).heat.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_what_is_said_of_a_picture() -> None:
    shown = shown_picture("a\nb.png", 0.25, GREY, heat_at(5, 9, 0.75), ("left",))
    picture = map_picture(shown, ("rejected",))
    assert list(picture.lines) == ["score 0.250, hottest 0.75", "rejected", "left"]
    assert picture.caption.isprintable()
    assert "59 % from the left and 46 % from the top" in picture.alt
    assert picture.src is not None
    assert bare_picture(shown).src not in (None, picture.src)


def test_the_scale_begins_with_the_picture_and_never_turns_back() -> None:
    colours = heat_scale()
    assert colours.shape == (1, 256, 3)
    assert colours[0, 0].tolist() == [128, 128, 128]
    # The colours alone, from where they cover the picture as much as they ever do: ever lighter.
    lightness = colours[0, 128:].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > -1.0).all()
    assert lightness[-1] > lightness[0] + 50
