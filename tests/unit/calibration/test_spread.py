from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from calibration.spread import spread_of, tolerance_factor

COUNT, REPEATS_MIN, PARTS_MIN = 2_000, 10, 20


def test_a_spread_is_the_mean_and_the_deviation_with_what_is_farthest() -> None:
    spread = spread_of(np.array([1.0, 2.0, -6.0, 3.0]))
    assert spread.count == 4
    assert spread.mean_px == 0.0
    assert spread.spread_px == pytest.approx((50 / 3) ** 0.5)
    assert spread.farthest_px == 6.0


def test_nearly_all_parts_lie_within_the_tolerance_proposed_as_often_as_stated() -> None:
    rng = np.random.default_rng(0)
    factor = tolerance_factor(PARTS_MIN, covered=0.99, confidence=0.95)
    kept = 0
    for _ in range(COUNT):
        sample = rng.normal(0.0, 1.0, PARTS_MIN)
        low, high = sample.mean() - factor * sample.std(ddof=1), sample.mean() + factor * sample.std(ddof=1)
        kept += stats.norm.cdf(high) - stats.norm.cdf(low) >= 0.99
    assert stats.binomtest(kept, COUNT, 0.95).pvalue > 1e-3


def test_the_intervals_of_a_spread_hold_the_truth_as_often_as_stated() -> None:
    rng = np.random.default_rng(1)
    spreads = [spread_of(rng.normal(3.0, 0.5, REPEATS_MIN)) for _ in range(COUNT)]
    means = sum(each.mean_low_px <= 3.0 <= each.mean_high_px for each in spreads)
    deviations = sum(each.spread_low_px <= 0.5 <= each.spread_high_px for each in spreads)
    assert stats.binomtest(means, COUNT, 0.95).pvalue > 1e-3
    assert stats.binomtest(deviations, COUNT, 0.95).pvalue > 1e-3
