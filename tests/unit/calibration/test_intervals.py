from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from calibration.intervals import confidence_of, parts_needed, share_of, upper_bound

CONFIDENCES = st.sampled_from([0.9, 0.95, 0.99])


@given(total=st.integers(1, 400), share=st.floats(0, 1), confidence=CONFIDENCES)
def test_the_bound_is_the_rate_at_which_so_few_would_hardly_be_seen(
    total: int, share: float, confidence: float
) -> None:
    count = int(share * (total - 1))
    bound = upper_bound(count, total, confidence)
    assert binom.cdf(count, total, bound) == pytest.approx(1 - confidence, abs=1e-9)


def test_all_of_them_leaves_every_rate_possible() -> None:
    assert upper_bound(7, 7, 0.95) == 1.0
    assert upper_bound(0, 0, 0.95) == 1.0


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5)])
def test_an_impossible_count_is_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"got {count} of {total}"):
        upper_bound(count, total, 0.95)


@pytest.mark.parametrize(("limit", "needed"), [(0.01, 299), (0.02, 149), (0.001, 2995), (0.05, 59)])
def test_parts_needed_without_a_bad_one(limit: float, needed: int) -> None:
    assert parts_needed(limit, 0.95) == needed


@given(limit=st.floats(0.001, 0.5), confidence=CONFIDENCES)
def test_so_many_are_enough_and_one_fewer_is_not(limit: float, confidence: float) -> None:
    needed = parts_needed(limit, confidence)
    assert upper_bound(0, needed, confidence) <= limit * (1 + 1e-9)
    assert needed == 1 or upper_bound(0, needed - 1, confidence) > limit * (1 - 1e-9)


@given(count=st.integers(1, 20), rate=st.floats(0.005, 0.5), confidence=CONFIDENCES)
def test_with_bad_ones_more_are_needed_and_just_so_many(count: int, rate: float, confidence: float) -> None:
    needed = parts_needed(rate, confidence, count)
    assert needed > parts_needed(rate, confidence, count - 1)
    assert confidence_of(count, needed, rate) >= confidence
    assert confidence_of(count, needed - 1, rate) < confidence


@given(total=st.integers(1, 400), share=st.floats(0, 1), rate=st.floats(0.001, 0.999))
def test_the_confidence_is_that_at_which_the_bound_is_the_rate(total: int, share: float, rate: float) -> None:
    count = int(share * (total - 1))
    assert confidence_of(count, total, rate) == pytest.approx(binom.sf(count, total, rate), abs=1e-9)
    assert confidence_of(total, total, rate) == 0.0


@given(total=st.integers(1, 400), share=st.floats(0, 1))
def test_more_confidence_is_a_wider_interval(total: int, share: float) -> None:
    narrow, wide = share_of(int(share * total), total, 0.8), share_of(int(share * total), total, 0.99)
    assert narrow is not None
    assert wide is not None
    assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high
