"""The area under the ROC curve, its interval and its points, against plain counting and simulated truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from calibration.auroc import auroc_of, roc_points

scores = st.lists(st.integers(0, 12).map(lambda level: level / 12), min_size=1, max_size=30)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(good: list[float], defective: list[float]) -> None:
    found = auroc_of(good, defective)
    won = [1.0 if bad > fine else 0.5 if bad == fine else 0.0 for bad in defective for fine in good]
    assert found is not None
    assert found.value == pytest.approx(np.mean(won), abs=1e-12)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    x, y = roc_points(good, defective)
    assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(found.value, abs=1e-12)


@given(scores, scores)
def test_the_points_are_those_of_the_curve(good: list[float], defective: list[float]) -> None:
    x, y, _ = roc_curve([0] * len(good) + [1] * len(defective), good + defective, drop_intermediate=False)
    found_x, found_y = roc_points(good, defective)
    assert np.allclose(found_x, x)
    assert np.allclose(found_y, y)


def test_nothing_of_one_kind() -> None:
    assert auroc_of([], [0.5]) is None
    assert auroc_of([0.5], []) is None


def test_an_area_of_1_is_not_certain() -> None:
    few, many = auroc_of([0.1] * 10, [0.9] * 10), auroc_of([0.1] * 1_000, [0.9] * 1_000)
    assert few is not None
    assert many is not None
    assert few.value == few.high == many.value == 1.0
    assert 0.6 < few.low < 0.9
    assert 0.99 < many.low < 1.0


def test_more_confidence_is_wider() -> None:
    rng = np.random.default_rng(0)
    good, defective = rng.normal(0, 1, 50), rng.normal(1, 1, 50)
    wide, narrow = auroc_of(good, defective, 0.99), auroc_of(good, defective, 0.9)
    assert wide is not None
    assert narrow is not None
    assert wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high


@pytest.mark.parametrize(("shift", "true_area"), [(0.0, 0.5), (1.5, 0.8555778), (3.0, 0.9830526)])
def test_the_interval_holds_the_truth_as_often_as_it_says(shift: float, true_area: float) -> None:
    """Two normal populations ``shift`` apart: the true area is that of a normal law at shift / sqrt(2)."""
    rng = np.random.default_rng(1)
    runs, held = 1_000, 0
    for _ in range(runs):
        found = auroc_of(rng.normal(0, 1, 60), rng.normal(shift, 1, 25))
        assert found is not None
        held += found.low <= true_area <= found.high
    assert 0.925 <= held / runs <= 0.985
