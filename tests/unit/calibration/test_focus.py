from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.focus import FRAME_COUNT_MIN, TARGET_BLUR_PX, Sharpness, advise_focus, measure_sharpness
from calibration.refusal import Refusal

OVERSAMPLED = 8


def chessboard(
    blur_px: float,
    *,
    angle_deg: float = 7.0,
    contrast: float = 120.0,
    light: float = 1.0,
    noise: float = 2.0,
    count: int = 6,
    seed: int = 0,
) -> npt.NDArray[np.uint8]:
    """Squares of 24 px, drawn large, blurred there and averaged over pixels; ``blur_px`` of the edges, pixel included."""
    side = 200 * OVERSAMPLED
    y, x = np.mgrid[:side, :side] / OVERSAMPLED
    angle = np.deg2rad(angle_deg)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    large = (60 + contrast * ((np.floor(u / 24) + np.floor(v / 24)) % 2)).astype(np.float32)
    lens_px = np.sqrt(blur_px**2 - 1 / 12)
    large = cv2.GaussianBlur(large, (0, 0), lens_px * OVERSAMPLED)
    exact = light * cv2.resize(large, (200, 200), interpolation=cv2.INTER_AREA)
    generator = np.random.default_rng(seed)
    frames: npt.NDArray[np.uint8] = (
        np.rint(exact + generator.normal(0, noise, (count, 200, 200))).clip(0, 255).astype(np.uint8)
    )
    return frames


def measured(frames: npt.NDArray[np.uint8]) -> Sharpness:
    sharpness = measure_sharpness(frames)
    assert isinstance(sharpness, Sharpness)
    return sharpness


@pytest.mark.parametrize("blur_px", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("angle_deg", [7.0, 38.0])
def test_the_blur_of_edges_is_told_in_pixels(blur_px: float, angle_deg: float) -> None:
    assert measured(chessboard(blur_px, angle_deg=angle_deg)).blur_px == pytest.approx(blur_px, rel=0.17)


def test_the_softer_the_picture_the_more_blur_is_told() -> None:
    told = [measured(chessboard(blur_px)).blur_px for blur_px in (0.4, 0.55, 0.7, 0.9, 1.2, 1.7, 2.4, 3.4, 4.8)]
    assert told == sorted(told)
    assert told[-1] > 3.0


def test_light_contrast_and_noise_do_not_change_it() -> None:
    plain = measured(chessboard(1.2)).blur_px
    assert measured(chessboard(1.2, light=0.4)).blur_px == pytest.approx(plain, rel=0.05)
    assert measured(chessboard(1.2, contrast=40)).blur_px == pytest.approx(plain, rel=0.08)
    noisy = measured(chessboard(1.2, noise=6.0, count=10))
    assert noisy.blur_px == pytest.approx(plain, rel=0.08)
    assert noisy.noise_levels == pytest.approx(6.0, rel=0.05)


@pytest.mark.parametrize("blur_px", [0.7, 1.5, 3.0])
def test_the_sensors_own_pattern_makes_nothing_look_sharp(blur_px: float) -> None:
    """Pixels that answer by 1 % differently, in every frame alike: a usual sensor in little light has no more."""
    frames = chessboard(blur_px, contrast=60.0)
    gains = np.random.default_rng(5).normal(1.0, 0.01, frames.shape[1:])
    patterned = np.rint(frames * gains).clip(0, 255).astype(np.uint8)
    assert measured(patterned).blur_px == pytest.approx(measured(frames).blur_px, rel=0.05)
    blank = np.rint(np.full((6, 200, 200), 150.0) * gains).astype(np.uint8)
    assert isinstance(measure_sharpness(blank), Refusal)


def test_colour_is_judged_by_its_mean() -> None:
    grey = chessboard(1.2)
    assert measured(np.repeat(grey[..., None], 3, axis=3)).blur_px == pytest.approx(measured(grey).blur_px, rel=1e-3)


def test_the_interval_is_that_of_so_many_frames() -> None:
    few, many = measured(chessboard(1.0, noise=4, count=4)), measured(chessboard(1.0, noise=4, count=30))
    assert few.low_px <= few.blur_px <= few.high_px
    assert many.high_px - many.low_px < few.high_px - few.low_px
    assert (few.count, many.count) == (4, 30)


def test_a_blank_picture_and_too_few_frames_are_refused() -> None:
    blank = np.random.default_rng(0).normal(120, 3, (6, 200, 200)).round().astype(np.uint8)
    refusal = measure_sharpness(blank)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "nothing to focus on"
    refusal = measure_sharpness(chessboard(1.0, count=FRAME_COUNT_MIN - 1))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "too few frames"
    with pytest.raises(ValueError, match="expected uint8"):
        measure_sharpness(np.zeros((4, 20, 20)))  # type: ignore[arg-type]


def test_the_operator_is_led_past_the_best_place_and_back() -> None:
    assert "turn the ring on" in advise_focus([3.0, 2.0, 1.4, 0.9, 0.7]).in_words()
    assert "turn the focus ring back" in advise_focus([3.0, 0.7, 1.4]).in_words()
    done = advise_focus([3.0, 2.0, 0.9, 0.7, 0.9, 1.4, 0.72])
    assert done.is_near_best
    assert done.is_best_known
    assert done.in_words().endswith("sharp, fasten the ring.")
    soft = advise_focus([5.0, 1.8, 4.0, 1.85])
    assert f"{TARGET_BLUR_PX:.1f} px are wanted" in soft.in_words()
    assert "1.5 px are wanted" in advise_focus([5.0, 1.8, 4.0, 1.85], 1.5).in_words()
    assert not advise_focus([1.4]).is_sharp
    assert advise_focus([1.4], 1.5).is_sharp
    with pytest.raises(ValueError, match="no reading"):
        advise_focus([])


@given(st.lists(st.floats(0.1, 12.0), min_size=1, max_size=20))
def test_the_last_reading_is_never_better_than_the_best(blurs_px: list[float]) -> None:
    advice = advise_focus(blurs_px)
    assert advice.times_best >= 1.0
    assert advice.best_blur_px == min(blurs_px)
    if advice.is_best_known:
        assert len(blurs_px) >= 3
