"""A running line's parts, as they are heard: every one counts once, and whatever did not have its time counts as never told."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec
import pytest

from pipeline.line_timing import ClocksDiffer, TimesHeard
from pipeline.payloads import ResultPayload, VerdictPayload, encode

GUARD_US = 3_000
DEADLINE_NS = 40_000_000
STAGES = {
    "grab": 1_000,
    "handover": 100,
    "preprocess": 200,
    "inference": 3_000,
    "judge": 100,
    "decide": 300,
    "send": 50,
}


def verdict(seq: int, **changes: Any) -> bytes:
    given: dict[str, Any] = {
        "session_id": "s1",
        "seq": seq,
        "part_id": seq,
        "verdict": "PASS",
        "reason": "OK",
        "encoder_count": None,
        "reject_at_encoder_count": None,
        "part_key": None,
        "age_us": 5_000,
        "valid_us": 35_000,
    }
    return encode(VerdictPayload(**{**given, **changes}))


def result(seq: int, **changes: Any) -> bytes:
    """Of a part triggered at ``seq`` seconds and decided 5 ms later."""
    trigger_ns = seq * 10**9
    given: dict[str, Any] = {
        "session_id": "s1",
        "seq": seq,
        "part_id": seq,
        "verdict": "PASS",
        "reason": "OK",
        "encoder_count": None,
        "reject_at_encoder_count": None,
        "part_key": None,
        "age_us": 5_000,
        "valid_us": 35_000,
        "trigger_utc": "2026-01-01T00:00:00.000000Z",
        "trigger_ns": trigger_ns,
        "decided_ns": trigger_ns + 5_000_000,
        "sent_ns": trigger_ns + 5_050_000,
        "deadline_ns": trigger_ns + DEADLINE_NS,
        "stages_us": STAGES,
        "recipe_id": "housing",
        "recipe_version": "1",
        "model_sha256": None,
        "calibration_id": None,
        "views": [],
        "defects": [],
        "is_simulated": True,
        "is_challenge": False,
        "image_ref": None,
        "row_hash": "",
    }
    return encode(ResultPayload(**{**given, **changes}))


def arrives_ns(seq: int) -> int:
    """6 ms after the trigger."""
    return seq * 10**9 + 6_000_000


def heard(*seqs: int) -> TimesHeard:
    """Verdicts and results of these."""
    times = TimesHeard(GUARD_US)
    for seq in seqs:
        times.hear("verdict", verdict(seq), arrives_ns(seq))
        times.hear("result", result(seq), arrives_ns(seq) + 10**7)
    return times


def test_a_part_has_the_time_from_trigger_to_arrival_and_from_when_it_could_be_decided() -> None:
    times = heard(7, 8)
    assert (times.count, times.lost_count, times.has_results(2)) == (2, 0, True)
    assert [(part.seq, part.fate, part.latency_us, part.arrival_us) for part in times.parts(2)] == [
        (7, "inspected", 6_000.0, 1_000.0 + STAGES["decide"]),
        (8, "inspected", 6_000.0, 1_000.0 + STAGES["decide"]),
    ]
    assert len(times.parts(1)) == 1


def test_a_verdict_that_never_came_counts_once_a_later_one_did() -> None:
    times = heard(7, 10)
    assert (times.count, times.lost_count, times.has_results(4)) == (4, 2, False)
    times.hear("result", result(8), 0)
    times.hear("history", result(9, verdict="REJECT", reason="DEFECT"), 0)
    assert times.has_results(4)
    lost = times.parts(4)[1:3]
    assert [(part.fate, part.latency_us, part.arrival_us) for part in lost] == [("verdict lost", inf, inf)] * 2
    assert [part.reason for part in lost] == ["OK", "DEFECT"]


def test_results_are_waited_for_of_the_parts_that_are_measured_and_of_no_later_ones() -> None:
    times = heard(1, 2)
    times.hear("verdict", verdict(3), arrives_ns(3))
    assert times.has_results(2)
    assert not times.has_results(3)


def test_a_part_of_which_nothing_was_told_is_not_taken_for_a_quick_one() -> None:
    times = TimesHeard(GUARD_US)
    times.hear("verdict", verdict(1), arrives_ns(1))
    assert not times.has_results(1)
    assert [(part.fate, part.latency_us) for part in times.parts(1)] == [("not told", inf)]


def test_what_comes_twice_counts_once_and_the_first_counts() -> None:
    times = heard(1, 2)
    times.hear("verdict", verdict(1), arrives_ns(1) + 10**9)
    times.hear("result", result(1, decided_ns=0, trigger_ns=0), 0)
    assert [part.latency_us for part in times.parts(9)] == [6_000.0, 6_000.0]


@pytest.mark.parametrize("reason", ["NOT_RUNNING", "CHALLENGE"])
def test_parts_that_say_nothing_of_production_are_left_out(reason: str) -> None:
    times = heard(1)
    kind = {"verdict": "REJECT" if reason == "CHALLENGE" else "NO_DECISION", "reason": reason}
    times.hear("verdict", verdict(2, **kind), arrives_ns(2))
    times.hear("result", result(2, **kind), 0)
    times.hear("verdict", verdict(3), arrives_ns(3))
    times.hear("result", result(3), 0)
    assert (times.count, times.left_out) == (2, {reason: 1})
    assert [part.seq for part in times.parts(2)] == [1, 3]


@pytest.mark.parametrize(
    ("changes", "decided_us", "fate", "arrival_us"),
    [
        # The final choice was due 37 ms after the trigger, and fell 100 us late: that belongs to the guard.
        ({"verdict": "NO_DECISION", "reason": "DEADLINE"}, 37_100, "cut off", 1_100.0),
        ({"verdict": "NO_DECISION", "reason": "MISSED_FRAME"}, 37_100, "cut off", 1_100.0),
        # The camera said at once that it has none.
        ({"verdict": "NO_DECISION", "reason": "MISSED_FRAME"}, 2_000, "not inspected", 1_000.0),
        ({"verdict": "NO_DECISION", "reason": "BAD_FRAME"}, 2_000, "not inspected", 1_000.0),
        # One view rejected, the other one never came.
        ({"verdict": "REJECT", "reason": "DEFECT"}, 37_100, "cut off", 1_100.0),
    ],
)
def test_who_did_not_have_all_the_time_counts_as_later_than_any(
    changes: dict[str, Any], decided_us: int, fate: str, arrival_us: float
) -> None:
    times = TimesHeard(GUARD_US)
    decided_ns = 10**9 + decided_us * 1_000
    times.hear("verdict", verdict(1, **changes), decided_ns + 1_000_000)
    times.hear("result", result(1, **changes, decided_ns=decided_ns, stages_us={}), 0)
    (part,) = times.parts(1)
    assert (part.fate, part.latency_us, part.arrival_us) == (fate, inf, arrival_us)


def test_a_reject_that_all_views_were_inspected_for_had_its_time() -> None:
    times = TimesHeard(GUARD_US)
    times.hear("verdict", verdict(1, verdict="REJECT", reason="DEFECT"), arrives_ns(1))
    times.hear("result", result(1, verdict="REJECT", reason="DEFECT"), 0)
    assert [part.fate for part in times.parts(1)] == ["inspected"]


def test_another_session_is_noticed_and_nothing_of_it_counts() -> None:
    times = heard(1)
    times.hear("result", result(2, session_id="s0"), 0)
    times.hear("verdict", verdict(1, session_id="s2"), arrives_ns(2))
    assert (times.session_id, times.next_session_id, times.count) == ("s1", "s2", 1)


def test_a_verdict_that_is_there_before_it_was_decided_is_of_another_clock() -> None:
    times = TimesHeard(GUARD_US)
    times.hear("verdict", verdict(1), 10**9 + 4_000_000)
    times.hear("result", result(1), 0)
    with pytest.raises(ClocksDiffer, match="seq 1 was there 1000 us before"):
        times.parts(1)


def test_what_is_none_of_ours_is_not_heard() -> None:
    times = heard(1)
    for topic in ("verdict", "result"):
        with pytest.raises(msgspec.DecodeError):
            times.hear(topic, b'{"seq": "one"}', 0)
    assert times.count == 1
