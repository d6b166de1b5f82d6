"""Which of the good parts are unlike the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.teaching.fitting import cross_fit, folds_of
from calibration.teaching.kinds import kinds_of
from calibration.teaching.suspects import FALSE_SHARE, robust_fit, suspicious
from tests.good_parts import LAYERS, Features, maps

Floats = npt.NDArray[np.float64]

EXCESS = hnp.arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e6, 1e6))


def with_spots(features: Features, parts: list[int], *, by: float) -> Features:
    """Those parts are changed at one place each, in some channels."""
    changed = features.copy()
    rng = np.random.default_rng(5)
    for part in parts:
        y, x = (int(rng.integers(0, length)) for length in features.shape[2:])
        changed[part, :, y, x] += by * rng.choice([-1, 1], features.shape[1])
    return changed


def test_planted_parts_are_found_and_hardly_a_good_one_with_them() -> None:
    false_counts = []
    for seed in range(5):
        planted = [3, 17, 40, 61]
        found = robust_fit(with_spots(maps(80, seed), planted, by=6.0), LAYERS, folds_of(80))
        assert set(planted) <= set(np.flatnonzero(found.is_suspect).tolist())
        false_counts.append(int(found.is_suspect.sum()) - len(planted))
        assert found.p_values[planted].max() < 1e-3
    assert np.mean(false_counts) <= 2


def with_like_spots(features: Features, parts: list[int], *, by: float) -> Features:
    """Those parts are changed at the same place in the same way."""
    changed = features.copy()
    changed[parts, :, 1, 2] += np.float32(by) * np.random.default_rng(5).choice([-1, 1], features.shape[1])
    return changed


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 10), st.integers(0, 1000))
def test_parts_with_the_same_defect_do_not_hide_one_another_whatever_their_order(count: int, seed: int) -> None:
    planted = np.random.default_rng(seed).permutation(100)[:count].tolist()
    found = robust_fit(with_like_spots(maps(100, seed), planted, by=6.0), LAYERS, folds_of(100))
    assert set(planted) <= set(np.flatnonzero(found.is_suspect).tolist())
    assert found.is_suspect.sum() - count <= 6


def test_a_fit_that_has_seen_them_does_not_find_them() -> None:
    """What the start is for."""
    planted = list(range(8))
    features = with_like_spots(maps(100), planted, by=6.0)
    assert suspicious(cross_fit(features, LAYERS, folds_of(100), np.ones(100, np.bool_)).excess)[0][planted].sum() <= 2
    assert robust_fit(features, LAYERS, folds_of(100)).is_suspect[planted].all()


def test_a_few_parts_that_look_otherwise_all_over_are_suspects() -> None:
    features = maps(100)
    features[:3, ::2] += 3.0
    assert not kinds_of(features).are_two
    assert robust_fit(features, LAYERS, folds_of(100)).is_suspect[:3].all()


@pytest.mark.parametrize("count", [12, 30, 90])
def test_the_fewer_ones_of_another_kind_are_suspects_until_somebody_says_otherwise(count: int) -> None:
    features = maps(200)
    features[:count, ::2] += 3.0
    kinds = kinds_of(features)
    assert kinds.are_two
    assert kinds.is_smaller[:count].all()
    found = robust_fit(features, LAYERS, folds_of(200)).is_suspect
    assert found[:count].all()
    assert found.sum() <= count + 6
    said = np.zeros(200, np.bool_)
    said[:count] = True
    assert not robust_fit(features, LAYERS, folds_of(200), said).is_suspect[:count].any()


def test_another_kind_does_not_hide_suspects_of_this_one() -> None:
    planted = list(range(190, 200))
    features = with_like_spots(maps(200), planted, by=6.0)
    features[:30, ::2] += 3.0
    found = robust_fit(features, LAYERS, folds_of(200)).is_suspect
    assert found[:30].all()
    assert found[planted].all()


def test_of_parts_that_are_all_good_there_are_none() -> None:
    features = with_like_spots(maps(60), [1, 2, 3], by=6.0)
    found = robust_fit(features, LAYERS, folds_of(60), np.ones(60, np.bool_))
    assert not found.is_suspect.any()
    everyone = cross_fit(features, LAYERS, folds_of(60), np.ones(60, np.bool_))
    np.testing.assert_array_equal(found.cross.excess, everyone.excess)


def test_of_one_kind_of_parts_hardly_any_are_suspects() -> None:
    counts = [int(robust_fit(maps(80, seed), LAYERS, folds_of(80)).is_suspect.sum()) for seed in range(5)]
    assert np.mean(counts) <= 2


def test_the_fit_is_that_without_the_suspects() -> None:
    features = with_spots(maps(60), [5, 9], by=8.0)
    folds = folds_of(60)
    found = robust_fit(features, LAYERS, folds)
    again = cross_fit(features, LAYERS, folds, ~found.is_suspect)
    np.testing.assert_array_equal(found.cross.excess, again.excess)
    without = cross_fit(features, LAYERS, folds, np.ones(60, np.bool_))
    assert found.cross.excess[5] > without.excess[5]


@pytest.mark.parametrize("count", [50, 500])
def test_where_excess_is_normal_there_are_suspects_as_seldom_as_stated(count: int) -> None:
    """With no bad part any suspect is a false one, which FALSE_SHARE bounds, but for the spread that is estimated."""
    rng = np.random.default_rng(count)
    has_any = [bool(suspicious(rng.normal(3, 2, count))[0].any()) for _ in range(2_000)]
    assert np.mean(has_any) <= FALSE_SHARE * (2.2 if count < 100 else 1.3)


def test_of_the_suspects_so_many_at_most_are_good_parts() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        is_suspect, _ = suspicious(np.concatenate([rng.normal(0, 1, 480), rng.normal(6, 1, 20)]))
        assert is_suspect[480:].mean() >= 0.8
        shares.append(is_suspect[:480].sum() / max(1, is_suspect.sum()))
    assert np.mean(shares) <= FALSE_SHARE


@given(EXCESS)
def test_p_values_fall_as_excess_rises_and_suspects_are_the_highest(excess: Floats) -> None:
    is_suspect, p_values = suspicious(excess)
    assert is_suspect.shape == p_values.shape == excess.shape
    assert ((p_values >= 0) & (p_values <= 1)).all()
    order = np.argsort(excess)
    assert (np.diff(p_values[order]) <= 0).all()
    assert not is_suspect[p_values > FALSE_SHARE].any()
    if is_suspect.any():
        assert (is_suspect == (p_values <= p_values[is_suspect].max())).all()


def test_parts_that_are_all_alike_are_no_suspects() -> None:
    is_suspect, p_values = suspicious(np.full(40, 2.5))
    assert not is_suspect.any()
    assert p_values.tolist() == [0.5] * 40
    features = np.repeat(maps(1), 40, axis=0)
    assert not robust_fit(features, LAYERS, folds_of(40)).is_suspect.any()


@pytest.mark.parametrize("count", [20, 120])
def test_parts_that_are_held_are_suspects_and_of_no_matter_for_the_others(count: int) -> None:
    """However many they are, and alike."""
    held = np.arange(200) < count
    features = maps(200)
    features[held] = with_like_spots(features[held], list(range(count)), by=6.0)
    found = robust_fit(features, LAYERS, folds_of(200), None, held)
    assert found.is_suspect[:count].all()
    assert found.is_suspect[count:].sum() <= 6
    said = robust_fit(features, LAYERS, folds_of(200), held, held)
    assert not said.is_suspect[:count].any()
