from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.intervals import upper_bound
from pipeline.shrink.gate import (
    Gate,
    Limits,
    check_fall,
    check_rate,
    images_needed_at,
)


@given(count=st.integers(1, 5), total=st.integers(100, 2_000), limit=st.floats(0.005, 0.1))
def test_at_a_rate_below_the_limit_some_number_would_do(count: int, total: int, limit: float) -> None:
    needed = images_needed_at(count, total, limit, 0.95)
    if needed is None:
        assert count / total > 0.9 * limit
        return
    assert needed >= total
    mistakes = int(count / total * needed)
    assert upper_bound(mistakes, needed, 0.95) <= limit


def test_at_a_rate_of_the_limit_or_more_none_would_do() -> None:
    assert images_needed_at(3, 100, 0.03, 0.95) is None
    assert images_needed_at(5, 100, 0.03, 0.95) is None


@pytest.mark.parametrize(
    ("count", "total", "outcome", "needed"),
    [
        (0, 299, "passed", None),
        (0, 298, "too few images", 299),
        (5, 298, "too few images", 299),
        (
            1,
            299,
            "refused",
            474,
        ),  # 1 of 474 is the first that leaves at most 1 %, and so is as often as 1 of 299 of more
        (3, 299, "refused", None),
    ],
)
def test_a_rate_passes_only_where_the_images_rule_more_out(
    count: int, total: int, outcome: str, needed: int | None
) -> None:
    check = check_rate("new escapes", "defective", count, total, 0.01, 0.95)
    assert check.outcome == outcome
    assert (check.needed is None) == (needed is None)
    assert f"{count} of {total} defective images" in check.words
    if outcome == "too few images":
        assert check.needed == needed
        assert "299 defective images are needed" in check.words
    elif needed is not None:
        assert check.needed is not None
        assert check.needed >= needed


def test_an_area_may_fall_to_its_limit_and_no_further() -> None:
    assert check_fall("AUROC", 0.9, 0.9 - 0.004, 0.005).outcome == "passed"
    assert check_fall("AUROC", 0.9, 0.95, 0.005).outcome == "passed"
    assert check_fall("AUROC", 0.9, 0.8949, 0.005).outcome == "refused"
    assert check_fall("AUROC", None, None, 0.005).outcome == "too few images"


def test_the_gate_is_as_good_as_its_worst_check() -> None:
    passed = check_rate("new escapes", "defective", 0, 400, 0.01, 0.95)
    short = check_rate("new escapes", "defective", 0, 40, 0.01, 0.95)
    refused = check_rate("new escapes", "defective", 9, 400, 0.01, 0.95)
    assert Gate(Limits(), (passed, passed)).outcome == "passed"
    assert Gate(Limits(), (passed, short)).outcome == "too few images"
    assert Gate(Limits(), (refused, short)).outcome == "refused"
