"""The line rules against a reference that looks at the whole history each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config_sections import LineRulesConfig, RateRule, RunRule
from pipeline.line_rules import CONSECUTIVE_NO_DECISIONS, CONSECUTIVE_REJECTS, REJECT_RATE, LineRules
from vision.types import Reason, Verdict

Said = tuple[Verdict, Reason]
PASS: Said = (Verdict.PASS, Reason.OK)
REJECT: Said = (Verdict.REJECT, Reason.DEFECT)
DEADLINE: Said = (Verdict.NO_DECISION, Reason.DEADLINE)
UNCOUNTED: list[Said] = [(Verdict.NO_DECISION, Reason.NOT_RUNNING), (Verdict.REJECT, Reason.CHALLENGE)]
ANY = st.sampled_from([PASS, REJECT, DEADLINE, (Verdict.NO_DECISION, Reason.FAULT), *UNCOUNTED])


def run_reference(history: list[Said], count: int, adds: Verdict, ignored: Verdict | None) -> bool:
    """Whether a run's alarm stands after this history."""
    counted = [said[0] for said in history if said not in UNCOUNTED and said[0] is not ignored]
    last = "".join("a" if verdict is adds else "e" for verdict in counted)
    raised = last.rfind("a" * count)
    taken_back = last.rfind("e" * count)
    return raised > taken_back


def rate_reference(history: list[Said], rule: RateRule) -> str:
    """``high``, ``low`` or nothing, from the first part on."""
    judged = [
        said[0] is Verdict.REJECT for said in history if said not in UNCOUNTED and said[0] is not Verdict.NO_DECISION
    ]
    high = 1.0 if rule.max_share is None else rule.max_share
    low = 0.0 if rule.min_share is None else rule.min_share
    middle = (high + low) / 2
    stands = ""
    for end in range(1, len(judged) + 1):
        window = judged[max(0, end - rule.window_parts) : end]
        share = sum(window) / rule.window_parts
        full = len(window) == rule.window_parts
        if share > high:
            stands = "high"
        elif full and share < low:
            stands = "low"
        elif (stands == "high" and share <= (max(high * 0.8, middle) if low else high * 0.8)) or (
            stands == "low" and full and share >= min(low * 1.2, middle)
        ):
            stands = ""
    return stands


@given(
    st.lists(ANY, max_size=120),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 12),
    st.floats(0, 0.99),
    st.floats(0.01, 1),
)
def test_alarms_stand_as_in_the_reference(
    history: list[Said], rejects: int, no_decisions: int, window: int, high: float, low: float
) -> None:
    rate = RateRule(window_parts=window, max_share=high, min_share=low if low < high else None)
    rules = LineRules(
        LineRulesConfig(
            consecutive_rejects=RunRule(count=rejects),
            reject_rate=rate,
            consecutive_no_decisions=RunRule(count=no_decisions, action="stop"),
        )
    )
    stands: dict[str, str | None] = {}
    for index, (verdict, reason) in enumerate(history):
        for alarm in rules.decided(index + 1, verdict, reason):
            # Never raised twice, never taken back without having been raised; but a rate may turn from high to low.
            if alarm.text is None or alarm.code != REJECT_RATE:
                assert (stands.get(alarm.code) is None) is (alarm.text is not None)
            assert alarm.stop is (alarm.text is not None and alarm.code == CONSECUTIVE_NO_DECISIONS)
            stands[alarm.code] = alarm.text
        so_far = history[: index + 1]
        expected = run_reference(so_far, rejects, Verdict.REJECT, Verdict.NO_DECISION)
        assert (stands.get(CONSECUTIVE_REJECTS) is not None) is expected
        expected = run_reference(so_far, no_decisions, Verdict.NO_DECISION, None)
        assert (stands.get(CONSECUTIVE_NO_DECISIONS) is not None) is expected
        text, side = stands.get(REJECT_RATE), rate_reference(so_far, rate)
        assert ("more than" in text if side == "high" else "less than" in text) if text is not None else side == ""
    assert {alarm.code for alarm in rules.reset()} == {code for code, text in stands.items() if text is not None}
    assert rules.reset() == []


@given(st.lists(ANY, max_size=60), st.lists(ANY, max_size=60))
def test_a_reset_forgets(before: list[Said], after: list[Said]) -> None:
    config = LineRulesConfig(
        consecutive_rejects=RunRule(count=2),
        reject_rate=RateRule(window_parts=5, max_share=0.3),
        consecutive_no_decisions=RunRule(count=2),
    )
    used, fresh = LineRules(config), LineRules(config)
    for said in before:
        used.decided(1, *said)
    used.reset()
    for index, said in enumerate(after):
        assert used.decided(index, *said) == fresh.decided(index, *said)


def test_no_rule_says_nothing() -> None:
    rules = LineRules(LineRulesConfig())
    assert [*rules.decided(1, *REJECT), *rules.decided(2, *DEADLINE), *rules.reset()] == []


@pytest.mark.parametrize(("window", "share", "rejects"), [(100, 0.29, 30), (10, 0.3, 4), (7, 0.0, 1), (50, 0.02, 2)])
def test_a_share_at_its_limit_is_not_beyond_it(window: int, share: float, rejects: int) -> None:
    rules = LineRules(LineRulesConfig(reject_rate=RateRule(window_parts=window, max_share=share)))
    raised = [number for number in range(1, window) if rules.decided(number, *REJECT)]
    assert raised == [rejects]
