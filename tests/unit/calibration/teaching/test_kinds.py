"""Whether parts are of one kind."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.teaching.kinds import SEPARATION_MAX, kinds_of
from tests.good_parts import Features, maps


def spread(count: int, values: list[float], seed: int = 0) -> Features:
    """Maps whose mean of the first channel are these values' noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.01, (count, 3, 2, 2))
    features[:, 0] += np.asarray(values)[:, None, None]
    return features.astype(np.float32)


@pytest.mark.parametrize("share", [0.5, 0.15, 0.075])
@pytest.mark.parametrize("count", [40, 200])
def test_two_kinds_are_told_apart(count: int, share: float) -> None:
    features = maps(count)
    is_other = np.arange(count) < share * count
    np.random.default_rng(3).shuffle(is_other)
    features[is_other, ::2] += 1.5 if share > 0.1 else 4.0
    found = kinds_of(features)
    assert found.are_two
    assert (found.is_second == is_other).all() or (found.is_second == ~is_other).all()
    if share < 0.5:
        assert (found.is_smaller == is_other).all()


@pytest.mark.parametrize("count", [20, 60, 300])
def test_one_kind_is_one(count: int) -> None:
    for seed in range(10):
        found = kinds_of(maps(count, seed))
        assert 0 < found.separation < SEPARATION_MAX
        assert not found.are_two


def test_a_normal_group_and_an_even_spread_come_to_what_is_stated() -> None:
    count = 4_000
    normal = kinds_of(spread(count, np.random.default_rng(0).normal(0, 1, count).tolist()))
    assert normal.separation == pytest.approx(3.2, abs=0.1)
    even = kinds_of(spread(count, np.linspace(0, 1, count).tolist()))
    assert even.separation == pytest.approx(12**0.5, abs=0.1)


def test_a_few_far_off_are_no_kind() -> None:
    """They are a matter of suspects."""
    features = maps(100)
    features[:3] += 20.0
    found = kinds_of(features)
    assert found.is_smaller.sum() >= 5


def test_parts_are_read_in_blocks_as_if_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features = maps(70)
    in_blocks = kinds_of(features)
    monkeypatch.setattr("calibration.teaching.kinds._BLOCK_PARTS", 1000)
    at_once = kinds_of(features)
    assert in_blocks.separation == pytest.approx(at_once.separation)
    assert (in_blocks.is_second == at_once.is_second).all()


@pytest.mark.parametrize("count", [4, 20, 33, 100])
def test_parts_that_are_all_alike_are_one_kind(count: int) -> None:
    for seed in range(5):
        assert not kinds_of(np.repeat(maps(1, seed), count, axis=0)).are_two


def test_kinds_of_some_of_the_parts() -> None:
    features = maps(100)
    features[:60, ::2] += 3.0
    which = np.arange(100) >= 60
    assert kinds_of(features).are_two
    some, alone = kinds_of(features, which), kinds_of(features[which])
    assert not some.are_two
    assert some.separation == alone.separation
    assert (some.is_second == alone.is_second).all()
