"""Pictures of one part are told from pictures of different parts."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.teaching.near_copies import same_part
from tests.good_parts import LAYERS, Features, maps

GRID = (8, 8)


def parts(count: int, seed: int = 0) -> Features:
    return maps(count, seed, grid=GRID)


def again(shown: Features, seed: int, *, spread: float = 0.3) -> Features:
    """The same parts once more: but for noise of the camera the features are theirs."""
    return shown + np.random.default_rng(seed).normal(0, spread, shown.shape).astype(np.float32)


@pytest.mark.parametrize("times", [2, 5])
def test_pictures_of_one_part_are_found_in_whatever_order(times: int) -> None:
    shown = parts(40)
    features = np.concatenate([again(shown, seed) for seed in range(times)])
    order = np.random.default_rng(9).permutation(len(features))
    found = same_part([features[order]], LAYERS)
    expected = np.tile(np.arange(40), times)[order]
    for number in range(40):
        (only,) = set(found[expected == number])
        assert (found == only).sum() == times


@pytest.mark.parametrize("seed", range(5))
def test_different_parts_are_different(seed: int) -> None:
    assert (same_part([parts(60, seed)], LAYERS) == np.arange(60)).all()
    assert (same_part([parts(60, seed), parts(60, seed + 100)], LAYERS) == np.arange(60)).all()


def test_some_parts_shown_twice_among_others() -> None:
    shown = parts(60)
    features = np.concatenate([shown, again(shown[:6], 1)])
    found = same_part([features], LAYERS)
    assert len(set(found)) == 60
    assert (found[60:] == found[:6]).all()


def test_a_few_of_another_kind_are_not_one_part() -> None:
    features = parts(60)
    features[:7] = -features[:7]
    assert len(set(same_part([features], LAYERS))) == 60


def test_few_pictures_and_pictures_that_are_all_alike() -> None:
    assert same_part([parts(2)], LAYERS).tolist() == [0, 1]
    assert len(same_part([np.zeros((30, 16, *GRID), np.float32)], LAYERS)) == 30
