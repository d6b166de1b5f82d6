from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.exposure import TARGET_LEVEL, ExposureAdvice, advise_exposure, longest_exposure_us, motion_blur_px


def frames(brightest: float, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A scene of all levels up to the brightest one, as a linear camera shows it."""
    scene = np.random.default_rng(seed).uniform(0, brightest, (3, 100, 100))
    return np.rint(scene).clip(0, 255).astype(np.uint8)


def advised(
    brightest: float, *, exposure_max_us: float = 10_000, gain_max_db: float = 12.0, gain_db: float = 0.0
) -> ExposureAdvice:
    return advise_exposure(
        frames(brightest),
        exposure_time_us=1_000,
        gain_db=gain_db,
        exposure_max_us=exposure_max_us,
        gain_max_db=gain_max_db,
    )


def test_a_good_picture_is_left_alone() -> None:
    advice = advised(215)
    assert advice.is_good
    assert (advice.exposure_time_us, advice.gain_db, advice.missing_light_factor) == (1_000, 0.0, 1.0)
    assert advice.in_words().endswith("good.")


def test_a_dark_picture_gets_exposure_first_then_gain_then_light() -> None:
    enough = advised(50)
    assert enough.exposure_time_us == pytest.approx(4_300, rel=0.03)
    assert enough.gain_db == 0.0
    some = advised(50, exposure_max_us=2_000)
    assert some.exposure_time_us == 2_000
    assert some.gain_db == pytest.approx(6.65, abs=0.2)
    assert some.missing_light_factor == 1.0
    little = advised(50, exposure_max_us=500)
    assert (little.exposure_time_us, little.gain_db) == (500, 12.0)
    assert little.missing_light_factor == pytest.approx(2.16, rel=0.05)
    assert "2.2 times the light" in little.in_words()


def test_a_saturated_picture_is_halved_and_gain_goes_first() -> None:
    advice = advised(280)
    assert advice.saturated_share > 0.05
    assert advice.exposure_time_us == 250
    amplified = advised(280, gain_db=12.0)
    assert amplified.gain_db == 0.0
    assert amplified.exposure_time_us == pytest.approx(1_000 * 10 ** (12 / 20) / 4)


def test_an_exposure_too_long_for_the_belt_becomes_gain() -> None:
    advice = advised(215, exposure_max_us=500)
    assert not advice.is_good
    assert advice.exposure_time_us == 500
    assert advice.gain_db == pytest.approx(6.02, abs=0.01)


@given(brightest=st.floats(5, 400), scale=st.floats(0.3, 3.0))
def test_following_the_advice_comes_to_a_good_picture(brightest: float, scale: float) -> None:
    exposure_us, gain_db = 1_000.0 * scale, 0.0
    for _ in range(6):
        shown = frames(brightest * exposure_us / 1_000 * 10 ** (gain_db / 20))
        advice = advise_exposure(shown, exposure_time_us=exposure_us, gain_db=gain_db, exposure_max_us=100_000)
        if advice.is_good:
            break
        exposure_us, gain_db = advice.exposure_time_us, advice.gain_db
    assert advice.is_good
    assert 185 <= advice.brightest_level <= TARGET_LEVEL + 35


def test_the_longest_exposure_is_blur_over_speed() -> None:
    assert longest_exposure_us(belt_speed_mm_per_s=500, mm_per_px=0.1, blur_max_px=0.5) == pytest.approx(100)
    assert motion_blur_px(exposure_time_us=100, belt_speed_mm_per_s=500, mm_per_px=0.1) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="mm_per_px: got 0, expected above 0"):
        longest_exposure_us(belt_speed_mm_per_s=500, mm_per_px=0, blur_max_px=0.5)


@given(speed=st.floats(1, 5e3), mm_per_px=st.floats(1e-3, 2), blur=st.floats(0.05, 5))
def test_exposed_so_long_a_part_moves_by_the_limit(speed: float, mm_per_px: float, blur: float) -> None:
    exposure_us = longest_exposure_us(belt_speed_mm_per_s=speed, mm_per_px=mm_per_px, blur_max_px=blur)
    moved = motion_blur_px(exposure_time_us=exposure_us, belt_speed_mm_per_s=speed, mm_per_px=mm_per_px)
    assert moved == pytest.approx(blur)


def test_what_is_no_frame_or_no_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="frames: got float64"):
        advise_exposure(np.zeros((1, 4, 4)), exposure_time_us=1, gain_db=0, exposure_max_us=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exposure_time_us 0"):
        advise_exposure(frames(100), exposure_time_us=0, gain_db=0, exposure_max_us=1)
