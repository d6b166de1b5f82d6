from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from vision.kernels.mark import crc16
from vision.part_mark import MARK_CELLS_HIGH, MARK_CELLS_WIDE, stamp
from vision.part_mark_reader import read

NUMBERS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(
    number=NUMBERS,
    cell_px=st.integers(1, 9),
    x_px=st.integers(0, 20),
    y_px=st.integers(0, 20),
    channels=st.sampled_from([1, 3]),
    gap_px=st.integers(0, 5),
)
def test_a_stamped_number_is_read_back(
    number: int, cell_px: int, x_px: int, y_px: int, channels: int, gap_px: int
) -> None:
    width, height = x_px + MARK_CELLS_WIDE * cell_px, y_px + MARK_CELLS_HIGH * cell_px
    memory = np.full((height, width + gap_px, channels), 90, np.uint8)
    pixels = memory[:, :width] if channels == 3 else memory[:, :width, 0]
    stamp(pixels, number, x_px=x_px, y_px=y_px, cell_px=cell_px)
    assert read(pixels, x_px=x_px, y_px=y_px, cell_px=cell_px) == number
    assert (memory[:, width:] == 90).all()
    assert (pixels[:y_px] == 90).all()
    assert (pixels[:, :x_px] == 90).all()


@settings(deadline=None)
@given(
    number=NUMBERS,
    channels=st.sampled_from([1, 3]),
    gain=st.floats(0.4, 1.0),
    offset=st.floats(0.0, 80.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_exposure_gain_and_noise_do_not_matter(
    number: int, channels: int, gain: float, offset: float, seed: int
) -> None:
    pixels = np.zeros((30, 150, 3), np.uint8) if channels == 3 else np.zeros((30, 150), np.uint8)
    stamp(pixels, number, x_px=10, y_px=10)
    noise = np.random.default_rng(seed).normal(0.0, 10.0, pixels.shape)
    seen = np.clip(pixels * gain + offset + noise, 0, 255).astype(np.uint8)
    assert read(seen, x_px=10, y_px=10) == number


@settings(deadline=None, max_examples=300)
@given(number=NUMBERS, flips=st.sets(st.integers(0, MARK_CELLS_WIDE * MARK_CELLS_HIGH - 1), min_size=1, max_size=3))
def test_up_to_three_wrong_cells_are_never_another_number(number: int, flips: set[int]) -> None:
    pixels = np.zeros((MARK_CELLS_HIGH, MARK_CELLS_WIDE), np.uint8)
    stamp(pixels, number, x_px=0, y_px=0, cell_px=1)
    for cell in flips:
        pixels[cell // MARK_CELLS_WIDE, cell % MARK_CELLS_WIDE] ^= 255
    assert read(pixels, x_px=0, y_px=0, cell_px=1) is None


@settings(deadline=None)
@given(number=NUMBERS, shift_x=st.integers(-8, 8), shift_y=st.integers(-8, 8))
def test_a_mark_elsewhere_is_that_number_or_nothing(number: int, shift_x: int, shift_y: int) -> None:
    pixels = np.full((40, 160), 128, np.uint8)
    stamp(pixels, number, x_px=10 + shift_x, y_px=10 + shift_y)
    assert read(pixels, x_px=10, y_px=10) in (number, None)


@pytest.mark.parametrize("level", [0, 127, 128, 255])
def test_a_plain_area_holds_no_number(level: int) -> None:
    assert read(np.full((40, 160), level, np.uint8), x_px=10, y_px=10) is None


def test_random_cells_hold_no_number() -> None:
    rng = np.random.default_rng(1)
    size = (MARK_CELLS_HIGH, MARK_CELLS_WIDE)
    assert all(
        read(rng.integers(0, 2, size, np.uint8) * np.uint8(255), x_px=0, y_px=0, cell_px=1) is None
        for _ in range(20_000)
    )


def test_a_faint_mark_is_not_read() -> None:
    pixels = np.zeros((8, 128), np.uint8)
    stamp(pixels, 5, x_px=0, y_px=0)
    assert read(pixels // 16 + np.uint8(100), x_px=0, y_px=0) is None


@pytest.mark.parametrize(("x_px", "y_px", "cell_px"), [(33, 0, 4), (0, 33, 4), (-1, 0, 4), (0, -1, 4), (0, 0, 0)])
def test_a_mark_outside_the_frame_is_refused(x_px: int, y_px: int, cell_px: int) -> None:
    pixels = np.zeros((40, 160), np.uint8)
    with pytest.raises(ValueError, match="part mark"):
        stamp(pixels, 1, x_px=x_px, y_px=y_px, cell_px=cell_px)
    with pytest.raises(ValueError, match="part mark"):
        read(pixels, x_px=x_px, y_px=y_px, cell_px=cell_px)


@pytest.mark.parametrize("number", [-1, 2**32])
def test_a_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="part number"):
        stamp(np.zeros((8, 128), np.uint8), number, x_px=0, y_px=0)


@given(number=NUMBERS)
def test_the_checksum_is_the_published_one(number: int) -> None:
    assert naive.crc16(b"123456789") == 0x29B1, "CRC-16/CCITT-FALSE's check value"
    assert crc16(number) == naive.crc16(number.to_bytes(4, "big"))
