from __future__ import annotations

import numpy as np
import pytest

from pipeline.bench.one_class.pointing import TOLERANCE_PX, highest_px, is_hit


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 7), (9, 19), (5, 2)])
def test_the_highest_point_of_a_small_map_lies_in_the_same_share_of_the_picture(row: int, column: int) -> None:
    small = np.zeros((10, 20), np.float32)
    small[row, column] = 1.0
    x_px, y_px = highest_px(small, height_px=240, width_px=320)
    assert column * 16 <= x_px < (column + 1) * 16
    assert row * 24 <= y_px < (row + 1) * 24


def test_a_map_as_large_as_the_picture_is_taken_as_it_is() -> None:
    large = np.random.default_rng(0).random((30, 40), np.float32)
    large[12, 33] = 2.0
    assert highest_px(large, 30, 40) == (33, 12)


@pytest.mark.parametrize(
    ("x_px", "y_px", "is_one"),
    [
        (50, 20, True),  # in it
        (40 - TOLERANCE_PX, 20, True),
        (39 - TOLERANCE_PX, 20, False),
        (59 + TOLERANCE_PX, 29, True),
        (60 + TOLERANCE_PX, 29, False),
        (40 - TOLERANCE_PX, 10 - TOLERANCE_PX, False),  # at the corner it is a circle
        (40 - 2, 10 - 3, True),
        (0, 0, False),
        (99, 49, False),
    ],
)
def test_a_hit_is_in_the_defect_or_a_few_pixels_beside_it(x_px: int, y_px: int, is_one: bool) -> None:
    mask = np.zeros((50, 100), bool)
    mask[10:30, 40:60] = True
    assert is_hit(x_px, y_px, mask) is is_one


def test_nothing_is_a_hit_without_a_defect() -> None:
    assert not is_hit(3, 3, np.zeros((8, 8), bool))
