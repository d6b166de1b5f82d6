"""Each part is scored by a fit that had not seen it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.teaching.fitting import FOLD_COUNT, CrossFit, ViewFit, cross_fit, folds_of, nothing_learnt
from tests import naive_teaching as naive
from tests.good_parts import LAYER_OF_MANY, LAYERS, growth_of_memory, maps

Folds = npt.NDArray[np.int64]
COUNT = 40


def everyone(count: int = COUNT) -> npt.NDArray[np.bool_]:
    return np.ones(count, np.bool_)


def arrays_of(view: ViewFit) -> list[npt.NDArray[np.float64]]:
    return [
        np.asarray(each)
        for scale in view.scales
        for each in (
            scale.gaussian.centre,
            scale.gaussian.whitening,
            scale.usual.offset,
            scale.usual.deviation,
            scale.usual.location,
            scale.usual.spread,
            scale.shrinkage,
        )
    ]


def expect_same(one: CrossFit, other: CrossFit, *, within: float = 0.0) -> None:
    for first, second in zip([one.excess, *arrays_of(one.view)], [other.excess, *arrays_of(other.view)], strict=True):
        np.testing.assert_allclose(first, second, rtol=within, atol=within)


@given(st.integers(2, 500), st.integers(0, 50))
def test_folds_are_as_even_as_can_be(count: int, seed: int) -> None:
    folds = folds_of(count, seed)
    sizes = np.bincount(folds)
    assert len(folds) == count
    assert len(sizes) == min(FOLD_COUNT, count)
    assert sizes.max() - sizes.min() <= 1
    assert (folds_of(count, seed) == folds).all()


@settings(max_examples=10)
@given(st.integers(12, 50), st.integers(2, 5), st.integers(0, 6), st.integers(0, 1000))
def test_scores_are_those_of_fits_made_by_hand_without_the_parts_fold(
    count: int, fold_count: int, left_out: int, seed: int
) -> None:
    features, folds = maps(count, seed), np.arange(count) % fold_count
    is_kept = everyone(count)
    is_kept[np.random.default_rng(seed).permutation(count)[:left_out]] = False
    found = cross_fit(features, LAYERS, folds, is_kept)
    np.testing.assert_allclose(found.excess, naive.cross_fit(features, LAYERS, folds, is_kept), rtol=1e-6, atol=1e-6)


def test_the_fit_is_that_of_all_kept_parts() -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    is_kept = everyone()
    is_kept[:4] = False
    view = cross_fit(features, LAYERS, folds, is_kept).view
    assert [(scale.windows.layer.name, scale.windows.side) for scale in view.scales] == [
        ("fine", 1),
        ("fine", 3),
        ("deep", 2),
    ]
    others = maps(5, 3)
    for scale in view.scales:
        windows = scale.windows
        fitted_on = naive.look(features[is_kept], windows.layer, windows.side, windows.step)
        looks = naive.look(others, windows.layer, windows.side, windows.step)
        np.testing.assert_allclose(
            scale.gaussian.strangeness(looks),
            naive.strangeness(looks, fitted_on, windows.separate_count),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("by", [1.0, 1e4])
def test_means_and_covariances_that_a_part_is_held_against_have_not_seen_it(by: float) -> None:
    """Whatever it becomes: it and the others of its fold are scored by a fit made by hand of the unchanged others."""
    features, folds = maps(COUNT), np.arange(COUNT) % 4
    changed = features.copy()
    changed[6] += np.float32(by) * np.random.default_rng(2).normal(0, 1, features.shape[1:]).astype(np.float32)
    is_other = folds != folds[6]
    for layer in LAYERS:
        for side in layer.sides:
            one = dataclasses.replace(layer, sides=(side,))
            found = cross_fit(changed, [one], folds, everyone())
            by_hand = cross_fit(features[is_other], [one], folds[is_other], everyone(int(is_other.sum()))).view
            (scale,) = by_hand.scales
            strange = scale.gaussian.strangeness(naive.look(changed[~is_other], one, side, 1))
            # What is usual of strangeness is that of the other folds' parts, each by a fit without its own.
            usual = np.concatenate(
                [
                    naive.strangeness(
                        naive.look(changed[folds == fold], one, side, 1),
                        naive.look(changed[folds != fold], one, side, 1),
                        scale.windows.separate_count,
                    )
                    for fold in set(folds[is_other].tolist())
                ]
            )
            np.testing.assert_allclose(found.excess[~is_other], naive.excess(strange, usual), rtol=1e-5, atol=1e-5)


def test_making_a_part_stranger_makes_its_own_score_higher() -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    direction = np.random.default_rng(2).normal(0, 1, features.shape[1:]).astype(np.float32)
    scores = []
    for by in (0.0, 3.0, 10.0, 100.0):
        changed = features.copy()
        changed[6] += by * direction
        scores.append(cross_fit(changed, LAYERS, folds, everyone()).excess[6])
    assert (np.diff(scores) > 0).all()
    assert scores[-1] > 10


@pytest.mark.parametrize("by", [1.0, 1e6])
def test_a_part_that_is_not_kept_changes_nothing_but_its_own_score(by: float) -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    is_kept = everyone()
    # Of another block than the first as well.
    is_kept[[3, 35]] = False
    changed = features.copy()
    changed[~is_kept] += by
    before, after = (cross_fit(each, LAYERS, folds, is_kept) for each in (features, changed))
    np.testing.assert_array_equal(before.excess[is_kept], after.excess[is_kept])
    for one, other in zip(arrays_of(before.view), arrays_of(after.view), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (after.excess[~is_kept] > before.excess[~is_kept]).all()


def test_the_order_of_parts_is_of_no_matter() -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    order = np.random.default_rng(1).permutation(COUNT)
    one, other = (
        cross_fit(features, LAYERS, folds, everyone()),
        cross_fit(features[order], LAYERS, folds[order], everyone()),
    )
    np.testing.assert_allclose(one.excess[order], other.excess, rtol=1e-6, atol=1e-6)


def test_it_is_the_same_to_the_bit_again_and_from_a_file(tmp_path: Path) -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    first = cross_fit(features, LAYERS, folds, everyone())
    expect_same(cross_fit(features, LAYERS, folds, everyone()), first)
    expect_same(cross_fit(mapped, LAYERS, folds, everyone()), first)


@pytest.mark.parametrize(("block_parts", "scatter_bytes"), [(7, 128_000_000), (1000, 128_000_000), (32, 1), (7, 9_000)])
def test_blocks_and_chunks_give_what_all_at_once_does(
    monkeypatch: pytest.MonkeyPatch, block_parts: int, scatter_bytes: int
) -> None:
    features, folds = maps(COUNT), folds_of(COUNT)
    whole = cross_fit(features, LAYERS, folds, everyone())
    monkeypatch.setattr("calibration.teaching.fitting.PARTS_AT_ONCE", block_parts)
    monkeypatch.setattr("calibration.teaching.fitting._SCATTER_BYTES", scatter_bytes)
    expect_same(cross_fit(features, LAYERS, folds, everyone()), whole, within=1e-6)


def test_memory_does_not_grow_with_the_features(tmp_path: Path) -> None:
    """Ten times as many parts take room for their strangeness alone, some numbers for each."""
    assert (
        growth_of_memory(
            tmp_path,
            80,
            800,
            lambda features: cross_fit(features, LAYER_OF_MANY, folds_of(len(features)), everyone(len(features))),
        )
        < 0.25
    )


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (2, 1)])
def test_maps_smaller_than_a_window_are_fitted(grid: tuple[int, int]) -> None:
    found = cross_fit(maps(COUNT, grid=grid), LAYERS, folds_of(COUNT), everyone())
    assert np.isfinite(found.excess).all()


def test_parts_that_are_all_alike_are_fitted_and_another_one_is_strange() -> None:
    features = np.repeat(maps(1), COUNT, axis=0)
    found = cross_fit(features, LAYERS, folds_of(COUNT), everyone())
    assert np.isfinite(found.excess).all()
    other = found.view.excess(features[:1] + np.float32(0.5))
    assert np.isfinite(other).all()
    assert other > found.excess.max() + 100


def test_fewer_than_two_kept_parts_are_refused() -> None:
    is_kept = np.zeros(COUNT, np.bool_)
    is_kept[:2] = True
    with pytest.raises(ValueError, match="got 1 parts, expected two or more"):
        cross_fit(maps(COUNT), LAYERS, np.arange(COUNT) % 2, is_kept)


def test_a_fit_of_nothing_is_as_large_as_any() -> None:
    found = nothing_learnt(LAYERS, (3, 4))
    fitted = cross_fit(maps(COUNT), LAYERS, folds_of(COUNT), everyone()).view
    assert [scale.windows for scale in found.scales] == [scale.windows for scale in fitted.scales]
    for one, other in zip(arrays_of(found), arrays_of(fitted), strict=True):
        assert one.shape == other.shape
    assert np.isfinite(found.excess(maps(3))).all()
