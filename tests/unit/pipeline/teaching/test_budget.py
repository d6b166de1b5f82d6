"""How large a product's model may be: chosen by what it takes, told with what was tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.teaching.backbone import CHANNELS_BY_DEPTH, FeatureShape, feature_shape
from pipeline.teaching import budget
from pipeline.teaching.budget import PREFERRED, Choice, Measured, choose, measure
from vision.faults import FaultsError
from vision.package import load_package
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

FRAME = FrameFormat(200, 200, PixelFormat.MONO8)
PIXELS = np.full((200, 200), 128, np.uint8)

Times = Callable[[FeatureShape], float]


def by_pixels(shape: FeatureShape) -> float:
    """10 us for each thousand pixels and for each block, about."""
    return 10 * shape.width_px * shape.height_px / 1_000 + 10 * shape.depth


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Choice]:
    """``choose`` on a box where models take times that are given."""

    def with_times(times: Times, budget_us: float, size_px: int | None = None, frame: FrameFormat = FRAME) -> Choice:
        monkeypatch.setattr(budget, "measure", lambda shape, *_: Measured(times(shape), 2 * times(shape)))
        return choose(frame, PIXELS, ("",), size_px, budget_us, tmp_path)

    return with_times


def of(size_px: int, depth: int) -> FeatureShape:
    return feature_shape(200, 200, is_grey=True, size_px=size_px, depth=depth)


def test_the_best_is_taken_where_it_keeps_to_the_budget(chosen: Callable[..., Choice]) -> None:
    choice = chosen(by_pixels, 1_000)
    assert choice.shape == of(*PREFERRED[0])
    assert [(size.p50_us, size.is_chosen) for size in choice.tried] == [(by_pixels(choice.shape), True)]
    assert choice.budget_us == 1_000


@pytest.mark.parametrize("budget_us", [150, 200, 250, 300, 350])
def test_else_the_first_that_does(chosen: Callable[..., Choice], budget_us: float) -> None:
    fits = [each for each in PREFERRED if by_pixels(of(*each)) <= budget_us]
    assert fits[0] != PREFERRED[0]
    choice = chosen(by_pixels, budget_us)
    assert choice.shape == of(*fits[0])
    assert f"{budget_us:g} us" in choice.why
    times = [size.p50_us for size in choice.tried]
    assert times == sorted(times)
    assert [size.is_chosen for size in choice.tried].count(True) == 1
    assert all(size.p50_us > budget_us for size in choice.tried if not size.is_chosen)
    assert len(choice.tried) == PREFERRED.index(fits[0]) + 1


def test_a_size_that_is_asked_for_is_kept_and_its_depth_chosen(chosen: Callable[..., Choice]) -> None:
    choice = chosen(by_pixels, 10_000, size_px=192)
    assert choice.shape == of(192, 10)
    assert "asked for" in choice.why
    shallow = chosen(lambda shape: shape.depth * 100, 450, size_px=192)
    depths = list(CHANNELS_BY_DEPTH)
    assert shallow.shape == of(192, 4)
    assert len(shallow.tried) == depths.index(4) + 1


@pytest.mark.parametrize(
    ("picture_px", "size_px", "told"),
    [
        ((200, 200), 100, "It is 96 x 96 px for 100 x 100: sides go in steps of 32 px"),
        ((200, 200), 192, None),
        ((200, 200), None, None),
        ((200, 180), None, None),
        ((600, 200), 160, "It is 288 x 96 px for 160 x 160"),
        ((2000, 100), 160, "SQUEEZED: they are 20 times as wide as high, and the model sees 512 x 96 px"),
        ((2000, 100), None, "SQUEEZED: they are 20 times as wide as high, and the model sees 512 x 96 px"),
        ((100, 2000), None, "SQUEEZED: they are 20 times as high as wide, and the model sees 96 x 512 px"),
        ((400, 200), 512, "SQUEEZED: they are 2 times as wide as high, and the model sees 512 x 352 px"),
    ],
)
def test_sizes_and_shapes_that_are_not_what_was_asked_for_are_told(
    chosen: Callable[..., Choice], picture_px: tuple[int, int], size_px: int | None, told: str | None
) -> None:
    choice = chosen(by_pixels, 100_000, size_px=size_px, frame=FrameFormat(*picture_px, PixelFormat.MONO8))
    if told is None:
        assert "steps" not in choice.why
        assert "SQUEEZED" not in choice.why
    else:
        assert told in choice.why


def test_where_none_does_the_fastest_is_told(chosen: Callable[..., Choice]) -> None:
    least = min(by_pixels(of(*each)) for each in PREFERRED)
    with pytest.raises(
        FaultsError, match=rf"--budget-us: got 100, and the fastest of {len(PREFERRED)} models takes {least:.0f} us"
    ):
        chosen(by_pixels, 100)
    with pytest.raises(FaultsError, match=f"the fastest of {len(CHANNELS_BY_DEPTH)} models"):
        chosen(by_pixels, 100, size_px=512)


def test_a_model_is_measured_as_the_line_would_run_it(tmp_path: Path) -> None:
    shape = of(96, 4)
    measured = measure(shape, ("left", "right"), PIXELS, tmp_path)
    assert 0 < measured.p50_us <= measured.p99_us
    card = load_package(tmp_path).card
    assert (card.input.width_px, card.input.height_px) == (shape.input_width_px, shape.input_height_px)
    assert card.input.views == ["left", "right"]
