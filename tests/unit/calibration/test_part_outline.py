"""A template for a part that nobody has marked: where the part is, with its outline, and room to search."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.part_outline import template_around_part
from pipeline.simulator.part_scene import Look, PartScene
from vision.registration import TEMPLATE_SIDE_MAX_PX

SCENE = PartScene(420, 340)
EMPTY = SCENE.frame(Look(has_part=False), seed=1)


@settings(max_examples=20, deadline=None)
@given(
    shift_x_px=st.integers(-50, 50), shift_y_px=st.integers(-40, 40), gain=st.floats(0.5, 1.1), seed=st.integers(2, 99)
)
def test_the_template_holds_the_part_wherever_it_lies(shift_x_px: int, shift_y_px: int, gain: float, seed: int) -> None:
    reference = SCENE.frame(Look(shift_x_px, shift_y_px, gain=gain), seed)
    where = template_around_part(reference, SCENE.frame(Look(has_part=False, gain=gain), 1), 40, 40)
    assert where is not None
    x_px, y_px, width_px, height_px = SCENE.plate_px
    left, top = x_px + shift_x_px, y_px + shift_y_px
    assert where.x_px == pytest.approx(left - 6, abs=4)
    assert where.y_px == pytest.approx(top - 6, abs=4)
    assert where.x_px + where.width_px == pytest.approx(left + width_px + 6, abs=4)
    assert where.y_px + where.height_px == pytest.approx(top + height_px + 6, abs=4)


def test_the_search_has_room_beside_it() -> None:
    reference = SCENE.frame(Look(60.0, 0.0), 5)
    where = template_around_part(reference, EMPTY, 80, 40)
    assert where is not None
    assert where.x_px + where.width_px == 420 - 80
    assert template_around_part(reference, EMPTY, 200, 40) is None


def test_of_a_part_that_is_larger_than_a_template_the_place_with_edges_is_taken() -> None:
    empty: npt.NDArray[np.uint8] = np.full((900, 1200), 40, np.uint8)
    part = empty.copy()
    part[100:800, 100:1100] = 150
    for x_px in range(760, 1000, 40):
        cv2.circle(part, (x_px, 650), 12, 30, -1)
    where = template_around_part(part, empty, 40, 40)
    assert where is not None
    assert (where.width_px, where.height_px) == (TEMPLATE_SIDE_MAX_PX, TEMPLATE_SIDE_MAX_PX)
    assert where.x_px <= 740
    assert where.x_px + where.width_px >= 990
    assert where.y_px <= 630
    assert where.y_px + where.height_px >= 670


def test_where_nothing_differs_there_is_none() -> None:
    assert template_around_part(EMPTY, EMPTY, 40, 40) is None
