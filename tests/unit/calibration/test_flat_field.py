from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from calibration.flat_field import (
    BRIGHT_COUNT_MIN,
    DARK_COUNT_MIN,
    FlatField,
    FlatFieldQuality,
    evenness_percent,
    fit_flat_field,
)
from vision.correction import Correction
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

HEIGHT_PX, WIDTH_PX = 240, 320
NOISE_LEVELS = 2.0

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A made-up camera whose truth is known. ``share``: of the light, that each pixel makes levels of; ``dark``: levels without."""

    share: Floats
    dark: Floats
    generator: np.random.Generator

    def frames(self, light: float | Floats, count: int) -> Frames:
        exact = self.dark + self.share * light
        noisy = exact + self.generator.normal(0.0, NOISE_LEVELS, (count, *exact.shape))
        return np.rint(noisy).clip(0, 255).astype(np.uint8)


def camera(*, corner_light: float = 0.55, channels: int = 1, seed: int = 1, pattern: float = 0.01) -> Camera:
    """Vignetted to ``corner_light``, each pixel with a gain of its own."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    radius = ((x - 170) ** 2 + (y - 110) ** 2) / (170**2 + 130**2)
    share = (1 - (1 - corner_light) * radius)[:, :, None] * np.array([1.0, 0.8, 0.9])[:channels]
    share = share * generator.normal(1.0, pattern, share.shape)
    dark = 4 + generator.gamma(2.0, 0.5, share.shape)
    return Camera(share.squeeze(), dark.squeeze(), generator)


def fitted(
    which: Camera, *, light: float = 190, dark_count: int = 12, count: int = 24
) -> tuple[FlatField, FlatFieldQuality]:
    result = fit_flat_field(which.frames(0, dark_count), which.frames(light, count))
    assert result.refusals == ()
    assert result.field is not None
    assert result.quality is not None
    return result.field, result.quality


@pytest.mark.parametrize("channels", [1, 3])
def test_a_vignetted_camera_becomes_even_within_a_per_cent(channels: int) -> None:
    which = camera(channels=channels)
    field, quality = fitted(which)
    # Truth: frames without noise of other light than the one that was fitted.
    for light in (60.0, 120.0, 220.0):
        exact = which.dark + which.share * light
        even = (exact - field.dark) * field.gain
        assert evenness_percent((exact - which.dark).astype(np.float32)) > 40
        assert evenness_percent(even.astype(np.float32)) < 1.0
    assert quality.uneven_before_percent.low > 40
    assert quality.uneven_after_percent.high < 1.0
    assert 0.8 < quality.pattern_before_percent < 2.0
    assert quality.pattern_after_percent < 0.6
    assert quality.held_out_count == 8
    assert 1.4 < quality.fall_off < 2.5


def test_the_gains_are_those_of_the_camera() -> None:
    which = camera()
    field, quality = fitted(which, count=60)
    true = np.median(which.share) / which.share
    relative = field.gain / true
    assert np.abs(relative / np.median(relative) - 1).std() < 2 * quality.noise_percent / 100
    assert np.abs(field.dark - which.dark).mean() < NOISE_LEVELS
    assert not field.dead.any()
    assert not field.hot.any()


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BGR8])
def test_the_kernel_makes_held_out_frames_even(pixel_format: PixelFormat) -> None:
    which = camera(channels=pixel_format.channel_count)
    which.share[100, 50] = 0.0
    which.dark[30, 40] = 120.0
    field, _ = fitted(which)
    correction = Correction(gain=field.gain, dark=field.dark, dead=field.dead | field.hot)
    count = pixel_format.channel_count
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": 160,
            "height_px": 120,
            "colour_order": "GRAY" if count == 1 else "RGB",
            "scale": 1.0,
            "mean": [0.0] * count,
            "std": [1.0] * count,
            "fit": "stretch",
        }
    )
    whole = Region(name="all", x_px=0, y_px=0, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    plan = RegionPlan("top", whole, FrameFormat(WIDTH_PX, HEIGHT_PX, pixel_format), model_input, correction)
    rows = np.zeros((16, *model_input.row_shape), np.float32)
    for row, frame in zip(rows, which.frames(150, len(rows)), strict=True):
        plan.fill(frame, row)
    mean = rows.mean(axis=0).transpose(1, 2, 0)
    assert evenness_percent(mean) < 1.0
    assert np.abs(mean / mean.mean(axis=(0, 1)) - 1).max() < 0.06


def test_dead_and_hot_pixels_are_found_and_nothing_else() -> None:
    which = camera()
    dead = [(10, 12), (100, 50), (100, 51), (239, 319)]
    hot = [(30, 40), (0, 0)]
    for place in dead:
        which.share[place] *= 0.2
    for place in hot:
        which.dark[place] += 60
    which.share[200, 200] *= 0.8
    field, quality = fitted(which)
    assert list(zip(*(axis.tolist() for axis in np.nonzero(field.dead)), strict=True)) == dead
    assert list(zip(*(axis.tolist() for axis in np.nonzero(field.hot)), strict=True)) == sorted(hot)
    assert (quality.dead_count, quality.hot_count) == (4, 2)
    assert field.gain[200, 200] == pytest.approx(np.median(which.share) / which.share[200, 200], rel=0.03)
    # A dead pixel's gain is that of those around it.
    assert field.gain[10, 12] == pytest.approx(field.gain[8:15, 8:15].mean(), rel=0.03)


def test_the_interval_holds_the_mean_of_many_more_frames() -> None:
    held = 0
    for seed in range(20):
        which = camera(seed=seed)
        field, quality = fitted(which, count=18)
        many = np.mean([evenness_percent(field.corrected(frame)) for frame in which.frames(190, 40)])
        held += int(quality.uneven_after_percent.low <= many <= quality.uneven_after_percent.high)
    assert held >= 15, "19 of 20 are expected"


def texture() -> Floats:
    return 1 + 0.06 * np.sign(np.sin(np.arange(WIDTH_PX) / 2.0))[None, :].repeat(HEIGHT_PX, axis=0)


def refusals_of(dark: Frames, bright: Frames) -> list[str]:
    result = fit_flat_field(dark, bright)
    assert result.field is None
    return [refusal.reason for refusal in result.refusals]


def test_what_cannot_become_a_flat_field_is_refused_in_words() -> None:
    which = camera()
    dark, bright = which.frames(0, 10), which.frames(190, 18)
    fine = fit_flat_field(dark, bright)
    assert fine.refusals == ()
    assert refusals_of(dark[: DARK_COUNT_MIN - 1], bright[: BRIGHT_COUNT_MIN - 1]) == [
        "too few dark frames",
        "too few bright frames",
    ]
    assert refusals_of(which.frames(60, 10), bright) == ["the dark frames are not dark"]
    assert refusals_of(dark, which.frames(290, 18)) == ["the bright frames are saturated"]
    assert refusals_of(dark, which.frames(70, 18)) == ["the bright frames are too dark"]
    assert refusals_of(dark, np.concatenate([which.frames(190, 9), which.frames(170, 9)])) == ["the light flickers"]
    assert refusals_of(dark, which.frames(texture() * 180, 18)) == ["the bright target is not plain"]
    steep = camera(corner_light=0.1)
    assert refusals_of(steep.frames(0, 10), steep.frames(230, 18)) == ["the light is too uneven to be evened out"]


def test_a_thing_in_the_picture_is_refused_whether_it_lies_still_or_moves() -> None:
    which = camera()
    dark = which.frames(0, 10)
    frames = []
    for index in range(18):
        light = np.full((HEIGHT_PX, WIDTH_PX), 190.0)
        cv2.circle(light, (40 + index * 10, 120), 25, 120.0, -1)
        frames.append(which.frames(light, 1)[0])
    assert refusals_of(dark, np.stack(frames)) == ["something moves in the bright frames"]
    still = np.full((HEIGHT_PX, WIDTH_PX), 190.0)
    cv2.rectangle(still, (100, 60), (200, 160), 120.0, -1)
    assert refusals_of(dark, which.frames(still, 18)) == ["the bright target is not plain"]


def test_many_dead_pixels_and_a_cluster_of_them_are_refused() -> None:
    which = camera()
    which.share.reshape(-1)[::150] = 0.0
    assert "too many pixels look dead" in refusals_of(which.frames(0, 10), which.frames(190, 18))
    which = camera()
    which.share[:, 100:101] = 0.0
    assert fit_flat_field(which.frames(0, 10), which.frames(190, 18)).refusals == ()


def test_words_tell_what_to_do() -> None:
    which = camera()
    (refusal,) = fit_flat_field(which.frames(0, 10), which.frames(70, 18)).refusals
    assert str(refusal).startswith("the bright frames are too dark: got a typical level of")
    assert "times the light" in refusal.advice


def test_frames_of_two_shapes_or_of_floats_are_the_callers_fault() -> None:
    dark = np.zeros((10, 20, 30), np.uint8)
    with pytest.raises(ValueError, match=r"got dark \(20, 30\), bright \(30, 20\), expected one shape"):
        fit_flat_field(dark, np.zeros((18, 30, 20), np.uint8))
    with pytest.raises(ValueError, match="bright_frames: got float64 of shape"):
        fit_flat_field(dark, np.zeros((18, 20, 30)))  # type: ignore[arg-type]
