"""Pictures of one part are told from pictures of different parts."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.teaching.near_copies import near_copies, variety
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
    found = near_copies([features[order]], LAYERS)
    assert not found.may_repeat.any()
    expected = np.tile(np.arange(40), times)[order]
    for number in range(40):
        (only,) = set(found.part[expected == number])
        assert (found.part == only).sum() == times


@pytest.mark.parametrize("seed", range(5))
def test_different_parts_are_different(seed: int) -> None:
    for views in ([parts(60, seed)], [parts(60, seed), parts(60, seed + 100)]):
        found = near_copies(views, LAYERS)
        assert (found.part == np.arange(60)).all()
        assert found.may_repeat.mean() < 0.1


def test_of_more_pictures_of_a_part_than_can_be_told_it_is_told_that_they_are_near() -> None:
    shown = parts(10)
    found = near_copies([np.concatenate([again(shown, seed) for seed in range(40)])], LAYERS)
    assert len(set(found.part)) > 300
    assert found.may_repeat.all()


def test_of_parts_that_are_moved_between_their_pictures_it_is_told_that_they_are_near() -> None:
    """Four ways to look otherwise, alike for all parts, each by another amount in each picture."""
    amounts = np.random.default_rng(1).standard_normal((320, 4))
    moved = np.einsum("ik,kcyx->icyx", amounts, parts(4, 99)).astype(np.float32)
    found = near_copies([parts(40)[np.arange(320) // 8] + moved], LAYERS)
    assert len(set(found.part)) > 200
    assert found.may_repeat.mean() > 0.8
    assert near_copies([parts(320) + moved], LAYERS).may_repeat.mean() < 0.05


@pytest.mark.parametrize("count", [2, 3, 6, 10])
def test_of_a_few_parts_shown_again_and_again_it_is_told(count: int) -> None:
    """Moved and lit otherwise as above, by as much as parts differ."""
    found = near_copies([moved_parts(parts(count)[np.arange(310) % count])], LAYERS)
    assert found.groups_count == count
    assert found.may_repeat.mean() > 0.8


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [60, 100, 310])
def test_different_parts_fall_into_no_groups(seed: int, count: int) -> None:
    found = near_copies([moved_parts(parts(count, seed))], LAYERS)
    assert found.groups_count == 0
    assert found.may_repeat.mean() < 0.1


def test_of_one_part_alone_it_is_told_that_its_pictures_differ_little() -> None:
    shown = np.broadcast_to(parts(1), (100, 16, *GRID))
    length = float(np.sqrt(np.square(shown).mean()))
    assert near_copies([again(shown, 1, spread=0.1 * length)], LAYERS).may_repeat.all()
    # The other side of different parts may look the same.
    assert near_copies([again(shown, 1, spread=0.1 * length), parts(100)], LAYERS).may_repeat.mean() < 0.1


def moved_parts(shown: Features) -> Features:
    amounts = np.random.default_rng(1).standard_normal((len(shown), 4))
    moved: Features = again(shown, 2) + np.einsum("ik,kcyx->icyx", amounts, parts(4, 99)).astype(np.float32)
    return moved


def test_how_much_pictures_differ() -> None:
    same = np.broadcast_to(parts(1), (200, 16, *GRID))
    assert variety(same) == 0.0
    assert variety(np.zeros_like(same)) == 0.0
    length = float(np.sqrt(np.square(same).mean()))
    assert variety(again(same, 1, spread=0.01 * length)) == pytest.approx(0.01, rel=0.1)
    assert variety(np.concatenate([again(same, 1, spread=1e-3), parts(21)])) < 0.01
    assert variety(parts(200)) > 0.5


def test_some_parts_shown_twice_among_others() -> None:
    shown = parts(60)
    features = np.concatenate([shown, again(shown[:6], 1)])
    found = near_copies([features], LAYERS)
    assert len(set(found.part)) == 60
    assert (found.part[60:] == found.part[:6]).all()
    assert found.may_repeat.mean() < 0.1


def test_a_few_of_another_kind_are_not_one_part() -> None:
    features = parts(60)
    features[:7] = -features[:7]
    assert len(set(near_copies([features], LAYERS).part)) == 60


def test_few_pictures_and_pictures_that_are_all_alike() -> None:
    assert near_copies([parts(2)], LAYERS).part.tolist() == [0, 1]
    assert len(near_copies([np.zeros((30, 16, *GRID), np.float32)], LAYERS).part) == 30
