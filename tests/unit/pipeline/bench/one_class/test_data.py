from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bench.one_class.data import NoData, Product, split_of, with_hidden

PIXELS = np.zeros((2, 2), np.uint8)


def product(sources: list[int], defective: int = 0) -> Product:
    pictures = [np.full((2, 2), number, np.uint8) for number in range(len(sources))]
    return Product("p", pictures, np.array(sources), [PIXELS + 200 + at for at in range(defective)], None)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 4))
def test_every_picture_is_on_one_side_with_all_of_its_source(sources: list[int], seed: int) -> None:
    split = split_of(product(sources), seed)
    assert sorted([*split.train, *split.test]) == list(range(len(sources)))
    by_source = np.array(sources)
    assert not set(by_source[split.train]) & set(by_source[split.test])
    assert len(set(by_source[split.train])) == int(0.8 * len(set(sources)))


def test_a_split_is_drawn_by_its_seed() -> None:
    members = [3, 8, 11, 12, 19, 20, 33, 40, 41, 50]
    drawn = np.random.default_rng(102).permutation(np.array(members))
    split = split_of(product(members), 2)
    np.testing.assert_array_equal(np.array(members)[split.train], drawn[:8])
    np.testing.assert_array_equal(np.array(members)[split.test], drawn[8:])


@given(st.integers(50, 150), st.one_of(st.just(0.0), st.floats(0.02, 0.2)), st.integers(0, 3))
def test_hidden_defects_are_the_share_asked_for_and_are_not_tested_on(good: int, share: float, seed: int) -> None:
    each = product(list(range(good)), defective=55)
    train = split_of(each, seed).train
    mixed = with_hidden(each, train, share, seed)
    hidden = int(mixed.is_hidden.sum())
    assert abs(hidden - share * len(mixed.pictures)) <= 1
    assert len(mixed.pictures) == len(train) + hidden
    assert all(
        (picture >= 200).all() == is_hidden for picture, is_hidden in zip(mixed.pictures, mixed.is_hidden, strict=True)
    )
    kept = {
        int(picture[0, 0]) - 200
        for picture, is_hidden in zip(mixed.pictures, mixed.is_hidden, strict=True)
        if is_hidden
    }
    assert kept | set(mixed.left.tolist()) == set(range(55))
    assert not kept & set(mixed.left.tolist())


def test_without_hidden_defects_the_pictures_keep_their_order() -> None:
    each = product(list(range(20)), defective=5)
    train = split_of(each, 0).train
    mixed = with_hidden(each, train, 0.0, 0)
    assert [int(picture[0, 0]) for picture in mixed.pictures] == train.tolist()
    assert mixed.left.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("share", [-0.1, 0.5, 1.0])
def test_hiding_a_share_that_cannot_be(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        with_hidden(product([0, 1], 5), np.array([0, 1]), share, 0)


def test_hiding_none() -> None:
    with pytest.raises(NoData, match="got 24 pictures to learn from, expected so many"):
        with_hidden(product(list(range(30)), 30), np.arange(24), 0.01, 0)


def test_hiding_more_than_there_are() -> None:
    with pytest.raises(NoData, match="got 5 defective pictures, expected more than 20"):
        with_hidden(product(list(range(100)), 5), np.arange(80), 0.2, 0)


def test_fewer_pictures_for_a_short_run() -> None:
    each = product([1, 2, 3, 4], defective=6).at_most(3)
    assert (len(each.good), len(each.defective), each.sources.tolist()) == (3, 3, [1, 2, 3])
