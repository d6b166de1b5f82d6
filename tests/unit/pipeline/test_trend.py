"""The trend against a reference that looks at the whole window each time, and that it speaks in time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pipeline.config_sections import DegradedConfig, TimingConfig
from pipeline.trend import LOW_HEADROOM, OVER_BUDGET, Trend

TIMING = TimingConfig(deadline_us=1_100, guard_us=100, budget_us=500)


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[math.ceil(share * len(values)) - 1]


@given(
    st.lists(st.tuples(st.integers(0, 1_000), st.integers(0, 1_500)), max_size=150),
    st.sampled_from([20, 40, 100]),
    st.sampled_from([0.1, 0.2, 0.5]),
    st.sampled_from([0.5, 0.7, 0.9]),
)
def test_alarms_stand_as_in_the_reference(
    parts: list[tuple[int, int]], window: int, over_share: float, headroom: float
) -> None:
    trend = Trend(DegradedConfig(window_parts=window, over_budget_share=over_share, headroom_used=headroom), TIMING)
    stands = {OVER_BUDGET: False, LOW_HEADROOM: False}
    expected = dict(stands)
    for index in range(len(parts)):
        for alarm in trend.judged(*parts[index]):
            assert (alarm.text is not None) is not stands[alarm.code]
            stands[alarm.code] = alarm.text is not None
        lacking = [(0, 0)] * window
        latency_us, used_us = zip(*(lacking + parts[: index + 1])[-window:], strict=True)
        over = sum(value > TIMING.budget_us for value in latency_us) / window
        slow_us = percentile(list(used_us), 0.95)
        expected[OVER_BUDGET] = over > (over_share / 2 if expected[OVER_BUDGET] else over_share)
        expected[LOW_HEADROOM] = slow_us > headroom * 1_000 * (0.85 if expected[LOW_HEADROOM] else 1)
        assert stands == expected


def test_texts_carry_the_figures() -> None:
    trend = Trend(DegradedConfig(window_parts=20), TIMING)
    texts = [alarm.text for _ in range(20) for alarm in trend.judged(600, 800)]
    assert texts == [
        "from trigger to decision the 95th percentile of the last 2 parts is 800 us, 80% of the 1000 us there are "
        "(limit 70%): parts will soon run out of time",
        "5 of the last 5 parts took longer than budget_us 500 (median 600 us, 95th percentile 600 us): "
        "the service is getting slow",
    ]


@given(st.integers(1, 30), st.integers(100, 400))
def test_a_gradual_slow_down_is_told_before_the_choice(step_us: int, start_us: int) -> None:
    """However steadily the times rise, by up to 3 % of what there is a part, both alarms come before a part runs out of time."""
    trend = Trend(DegradedConfig(window_parts=20, headroom_used=0.7), TIMING)
    raised: set[str] = set()
    used_us = start_us
    while used_us < 1_000:
        raised |= {alarm.code for alarm in trend.judged(used_us, used_us)}
        used_us += step_us
    assert raised == {OVER_BUDGET, LOW_HEADROOM}
