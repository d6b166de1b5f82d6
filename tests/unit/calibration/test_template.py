from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.template import noise_of, quality_of, second_place, template_refusal
from pipeline.simulator.part_scene import Look, PartScene

SCENE = PartScene(360, 300)
NOWHERE_ELSE = np.zeros((81, 81))


@settings(deadline=None, max_examples=20)
@given(levels=st.floats(1.0, 12.0), seed=st.integers(0, 2**32 - 1))
def test_noise_is_told_from_what_is_in_the_picture(levels: float, seed: int) -> None:
    picture = SCENE.frame(Look(noise_levels=levels), seed)[90:210, 120:248]
    # Rounding to whole levels is noise too, of 0.29.
    assert noise_of(picture) == pytest.approx((levels**2 + 1 / 12) ** 0.5, rel=0.25, abs=0.15)


def test_a_picture_without_noise_has_none() -> None:
    assert noise_of(np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)) == 0.0


def bars(turn_deg: float) -> npt.NDArray[np.uint8]:
    """That run in this direction, from right towards down."""
    y, x = np.mgrid[0:96, 0:96]
    across = y * np.cos(np.radians(turn_deg)) - x * np.sin(np.radians(turn_deg))
    picture: npt.NDArray[np.uint8] = (128 + 90 * np.sin(across / 3)).astype(np.uint8)
    return picture


@pytest.mark.parametrize(
    ("turn_deg", "words"),
    [
        (0, "left and right"),
        (5, "left and right"),
        (45, "from top left to bottom right"),
        (90, "up and down"),
        (135, "from bottom left to top right"),
        (178, "left and right"),
    ],
)
def test_bars_are_weak_in_the_direction_in_which_they_run(turn_deg: float, words: str) -> None:
    quality = quality_of(bars(turn_deg), 2.0, NOWHERE_ELSE)
    assert quality.edges_count > 3_000
    assert quality.weak_direction == words
    refusal = template_refusal(quality)
    assert refusal is not None
    assert refusal.reason == "weak in one direction"
    assert words in refusal.advice


def test_a_round_hole_is_as_strong_in_every_direction() -> None:
    y, x = np.mgrid[0:96, 0:96]
    hole = np.where(np.hypot(x - 48, y - 48) < 36, 30, 200).astype(np.uint8)
    quality = quality_of(hole, 2.0, NOWHERE_ELSE)
    assert quality.weak_count == pytest.approx(quality.edges_count / 2, rel=0.05)
    assert template_refusal(quality) is None


def test_the_second_place_is_the_highest_top_beside_the_best() -> None:
    scores = np.zeros((41, 61))
    scores[20, 30] = 1.0
    scores[20, 31:35] = [0.9, 0.8, 0.7, 0.6]
    scores[5, 50] = 0.55
    scores[33, 8] = 0.5
    assert second_place(scores, 20, 30) == (0.55, 5, 50)
