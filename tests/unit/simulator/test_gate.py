"""What the controller lets pass. Pitch 500 pulses, window 125, gate 800 pulses behind the trigger station."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.simulator.gate import Gate, GateOptions

MS = 1_000_000
BITS = 16


def gate(mutant: Any = None) -> Gate:
    return Gate(GateOptions(window_pulses=125, gate_offset_pulses=800, encoder_bits=BITS, mutant=mutant))


def verdict(encoder_count: int | None, kind: str = "PASS", *, seq: int = 1, session_id: str = "a") -> dict[str, Any]:
    return {"session_id": session_id, "seq": seq, "part_id": seq, "verdict": kind, "encoder_count": encoder_count}


def heartbeat(state: str = "RUNNING", session_id: str = "a") -> dict[str, Any]:
    return {"session_id": session_id, "state": state}


def alive_gate(mutant: Any = None) -> Gate:
    tested = gate(mutant)
    tested.hear_heartbeat(heartbeat(), 0)
    return tested


def test_a_fresh_pass_for_the_part_lets_it_pass() -> None:
    tested = alive_gate()
    tested.sense(1000)
    assert tested.hear_verdict(verdict(1003)) == "kept"
    decision = tested.decide(1800, 80 * MS)
    assert (decision.has_passed, decision.why, decision.latch) == (True, "pass", 1000)
    assert decision.used is not None
    assert decision.used.seq == 1


def test_the_window_reaches_across_the_wrap_of_the_encoder() -> None:
    tested = alive_gate()
    tested.sense(2**BITS - 2)
    assert tested.hear_verdict(verdict(100)) == "kept"
    assert tested.decide(798, 80 * MS).has_passed


@pytest.mark.parametrize("kind", ["REJECT", "NO_DECISION", "pass", "OK"])
def test_nothing_but_pass_passes(kind: str) -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000, kind))
    decision = tested.decide(1800, 80 * MS)
    assert (decision.has_passed, decision.why) == (False, "verdict")


def test_silence_rejects() -> None:
    tested = alive_gate()
    tested.sense(1000)
    assert tested.decide(1800, 80 * MS).why == "silence"
    assert tested.counts["gate_rejects"] == 1


def test_a_part_that_was_never_sensed_is_rejected() -> None:
    tested = alive_gate()
    tested.hear_verdict(verdict(1000))
    assert tested.decide(1800, 80 * MS).why == "unknown_part"


@pytest.mark.parametrize("first", ["PASS", "REJECT"])
def test_two_different_verdicts_reject(first: str) -> None:
    tested = alive_gate()
    tested.sense(1000)
    other = "REJECT" if first == "PASS" else "PASS"
    tested.hear_verdict(verdict(1000, first, seq=1))
    tested.hear_verdict(verdict(1020, other, seq=2))
    assert tested.decide(1800, 80 * MS).why == "contradiction"


def test_the_same_verdict_again_is_counted_and_no_harm() -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000, seq=1))
    tested.hear_verdict(verdict(1000, seq=1))
    tested.hear_verdict(verdict(1010, seq=2))
    assert tested.decide(1800, 80 * MS).has_passed
    assert tested.counts["duplicate_verdicts"] == 2
    assert tested.counts["repeated_messages"] == 1


def test_the_neighbours_verdict_is_not_for_this_part() -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.sense(1500)
    tested.hear_verdict(verdict(1500))
    assert tested.decide(1800, 80 * MS).why == "silence"
    assert tested.decide(2300, 130 * MS).has_passed


def test_a_verdict_in_no_window_is_nobodys() -> None:
    tested = alive_gate()
    tested.sense(1000)
    assert tested.hear_verdict(verdict(1126)) == "unmatched"
    assert tested.hear_verdict(verdict(None, seq=2)) == "unmatched"
    assert tested.decide(1800, 80 * MS).why == "silence"


def test_a_verdict_from_before_the_part_was_sensed_is_stale() -> None:
    tested = alive_gate()
    assert tested.hear_verdict(verdict(1000)) == "unmatched"
    tested.sense(1000)
    assert tested.decide(1800, 80 * MS).why == "silence"


def test_a_late_verdict_is_discarded_and_counted() -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.decide(1800, 80 * MS)
    assert tested.hear_verdict(verdict(1000)) == "late"
    tested.sense(1500)
    assert tested.decide(2300, 130 * MS).why == "silence"
    assert tested.counts["late_at_gate"] == 1


@pytest.mark.parametrize(("now_ms", "why"), [(500, "pass"), (501, "no_heartbeat")])
def test_the_watchdog_allows_500_ms_of_silence(now_ms: int, why: str) -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000))
    assert tested.decide(1800, now_ms * MS).why == why


def test_no_heartbeat_ever_rejects() -> None:
    tested = gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000))
    assert tested.decide(1800, 1).why == "no_heartbeat"


@pytest.mark.parametrize("state", ["READY", "CHALLENGE", "HALTED", "OFFLINE"])
def test_a_service_that_is_not_running_passes_nothing(state: str) -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000))
    tested.hear_heartbeat(heartbeat(state), 10 * MS)
    assert tested.decide(1800, 80 * MS).why == "not_running"


def test_a_verdict_of_another_session_is_no_verdict() -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000, session_id="b"))
    assert tested.decide(1800, 80 * MS).why == "session_changed"


@pytest.mark.parametrize("verdict_of", ["a", "b"])
def test_a_session_that_changes_while_the_part_is_under_way_rejects(verdict_of: str) -> None:
    tested = alive_gate()
    tested.sense(1000)
    tested.hear_verdict(verdict(1000, session_id=verdict_of))
    tested.hear_heartbeat(heartbeat(session_id="b"), 10 * MS)
    assert tested.decide(1800, 80 * MS).why == "session_changed"


def test_gaps_in_seq_are_counted_per_session() -> None:
    tested = alive_gate()
    for seq in (1, 2, 5):
        tested.hear_verdict(verdict(None, seq=seq))
    tested.hear_verdict(verdict(None, seq=1, session_id="b"))
    assert tested.counts["seq_gaps"] == 2


@pytest.mark.parametrize("payload", [None, [], {}, {"session_id": "a"}, {**verdict(1), "encoder_count": "1"}])
def test_malformed_messages_are_counted_and_ignored(payload: Any) -> None:
    tested = gate()
    assert tested.hear_verdict(payload) == "malformed"
    assert tested.counts["malformed_messages"] == 1


def test_a_part_taken_off_the_belt_does_not_shift_the_others() -> None:
    tested = alive_gate()
    for latch, seq in ((1000, 1), (1500, 2), (2000, 3)):
        tested.sense(latch)
        tested.hear_verdict(verdict(latch, "PASS" if latch != 1500 else "REJECT", seq=seq))
    assert tested.decide(1800, 80 * MS).has_passed
    assert tested.decide(2800, 180 * MS).has_passed  # 1500 never came to the gate


def test_the_mutant_that_fails_open() -> None:
    tested = alive_gate("fails_open")
    tested.sense(1000)
    tested.sense(1500)
    assert tested.decide(1800, 80 * MS).has_passed
    tested.hear_verdict(verdict(1500))
    assert tested.decide(2300, 2_000 * MS).has_passed


def test_the_mutant_that_goes_by_order_of_arrival() -> None:
    tested = alive_gate("order_of_arrival")
    tested.sense(1000)
    tested.sense(1500)
    tested.hear_verdict(verdict(1500))
    decision = tested.decide(1800, 80 * MS)
    assert decision.has_passed
    assert decision.used is not None
    assert decision.used.encoder_count == 1500


def test_the_mutant_that_ignores_the_watchdog() -> None:
    tested = alive_gate("ignores_watchdog")
    tested.sense(1000)
    tested.hear_verdict(verdict(1000))
    assert tested.decide(1800, 2_000 * MS).has_passed


def test_the_mutant_that_accepts_late_verdicts() -> None:
    tested = alive_gate("accepts_late")
    tested.sense(1000)
    assert not tested.decide(1800, 80 * MS).has_passed
    tested.hear_verdict(verdict(1000))
    tested.sense(1500)
    assert tested.decide(2300, 130 * MS).has_passed
