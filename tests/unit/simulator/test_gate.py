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
    tested.sense(1000, 0)
    assert tested.hear_verdict(verdict(1003), MS) == "kept"
    decision = tested.decide(1800, 80 * MS)
    assert (decision.has_passed, decision.why, decision.latch) == (True, "pass", 1000)
    assert decision.used is not None
    assert decision.used.seq == 1


def test_the_window_reaches_across_the_wrap_of_the_encoder() -> None:
    tested = alive_gate()
    tested.sense(2**BITS - 2, 0)
    assert tested.hear_verdict(verdict(100), MS) == "kept"
    assert tested.decide(798, 80 * MS).has_passed


@pytest.mark.parametrize("kind", ["REJECT", "NO_DECISION", "pass", "OK"])
def test_nothing_but_pass_passes(kind: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000, kind), MS)
    decision = tested.decide(1800, 80 * MS)
    assert (decision.has_passed, decision.why) == (False, "verdict")


def test_silence_rejects() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    assert tested.decide(1800, 80 * MS).why == "silence"
    assert tested.counts["gate_rejects"] == 1


def test_a_part_that_was_never_sensed_is_rejected() -> None:
    tested = alive_gate()
    tested.hear_verdict(verdict(1000), MS)
    assert tested.decide(1800, 80 * MS).why == "unknown_part"


@pytest.mark.parametrize("first", ["PASS", "REJECT"])
def test_two_different_verdicts_reject(first: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    other = "REJECT" if first == "PASS" else "PASS"
    tested.hear_verdict(verdict(1000, first, seq=1), MS)
    tested.hear_verdict(verdict(1020, other, seq=2), MS)
    assert tested.decide(1800, 80 * MS).why == "contradiction"


def test_the_same_verdict_again_is_counted_and_no_harm() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000, seq=1), MS)
    tested.hear_verdict(verdict(1000, seq=1), MS)
    tested.hear_verdict(verdict(1010, seq=2), MS)
    assert tested.decide(1800, 80 * MS).has_passed
    assert tested.counts["duplicate_verdicts"] == 2
    assert tested.counts["repeated_messages"] == 1


def test_the_neighbours_verdict_is_not_for_this_part() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.sense(1500, 0)
    tested.hear_verdict(verdict(1500), MS)
    assert tested.decide(1800, 80 * MS).why == "silence"
    assert tested.decide(2300, 130 * MS).has_passed


def test_a_verdict_in_no_window_is_nobodys() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    assert tested.hear_verdict(verdict(1126), MS) == "unmatched"
    assert tested.hear_verdict(verdict(None, seq=2), MS) == "unmatched"
    assert tested.decide(1800, 80 * MS).why == "silence"


def test_a_verdict_from_before_the_part_was_sensed_is_stale() -> None:
    tested = alive_gate()
    assert tested.hear_verdict(verdict(1000), MS) == "unmatched"
    tested.sense(1000, 0)
    assert tested.decide(1800, 80 * MS).why == "silence"


def test_a_late_verdict_is_discarded_and_counted() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.decide(1800, 80 * MS)
    assert tested.hear_verdict(verdict(1000), MS) == "late"
    tested.sense(1500, 0)
    assert tested.decide(2300, 130 * MS).why == "silence"
    assert tested.counts["late_at_gate"] == 1


@pytest.mark.parametrize(("now_ms", "why"), [(500, "pass"), (501, "no_heartbeat")])
def test_the_watchdog_allows_500_ms_of_silence(now_ms: int, why: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    assert tested.decide(1800, now_ms * MS).why == why


@pytest.mark.parametrize(("silent_ms", "why"), [(500, "pass"), (501, "no_heartbeat")])
def test_a_silence_while_the_part_was_on_its_way_rejects_it(silent_ms: int, why: str) -> None:
    """An outage's backlog comes with it: this PASS may be as old as a lap of the encoder."""
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_heartbeat(heartbeat(), silent_ms * MS)
    tested.sense(1500, silent_ms * MS)
    tested.hear_verdict(verdict(1000), silent_ms * MS)
    tested.hear_verdict(verdict(1500, seq=2), silent_ms * MS)
    assert tested.decide(1800, (silent_ms + 1) * MS).why == why
    assert tested.decide(2300, (silent_ms + 50) * MS).why == "pass"


def test_no_heartbeat_ever_rejects() -> None:
    tested = gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    assert tested.decide(1800, 1).why == "no_heartbeat"


@pytest.mark.parametrize("state", ["READY", "CHALLENGE", "HALTED", "OFFLINE"])
def test_a_service_that_is_not_running_passes_nothing(state: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    tested.hear_heartbeat(heartbeat(state), 10 * MS)
    assert tested.decide(1800, 80 * MS).why == "not_running"


def test_a_verdict_of_another_session_is_no_verdict() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000, session_id="b"), MS)
    assert tested.decide(1800, 80 * MS).why == "session_changed"


@pytest.mark.parametrize("verdict_of", ["a", "b"])
def test_a_session_that_changes_while_the_part_is_under_way_rejects(verdict_of: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000, session_id=verdict_of), MS)
    tested.hear_heartbeat(heartbeat(session_id="b"), 10 * MS)
    assert tested.decide(1800, 80 * MS).why == "session_changed"


def test_a_part_between_camera_and_gate_when_the_belt_stops_is_rejected() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    tested.sense(1500, 50 * MS)
    tested.stop_belt()
    tested.hear_verdict(verdict(1500, seq=2), 60 * MS)  # a PASS that comes later redeems nothing
    tested.hear_heartbeat(heartbeat(), 400 * MS)
    tested.sense(2000, 410 * MS)
    tested.hear_verdict(verdict(2000, seq=3), 420 * MS)
    decisions = [tested.decide(count, 430 * MS) for count in (1800, 2300, 2800)]
    assert [decision.why for decision in decisions] == ["stopped", "stopped", "pass"]


@pytest.mark.parametrize(
    ("interruption", "why"),
    [
        ([(10, heartbeat(session_id="b")), (20, heartbeat())], "session_changed"),
        ([(10, heartbeat("HALTED")), (20, heartbeat())], "not_running"),
        ([(510, heartbeat())], "no_heartbeat"),
        ([(490, heartbeat())], "pass"),
    ],
)
def test_what_has_been_condemned_is_not_redeemed(interruption: list[tuple[int, dict[str, Any]]], why: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    for at_ms, payload in interruption:
        tested.hear_heartbeat(payload, at_ms * MS)
    tested.hear_verdict(verdict(1000, seq=2), 512 * MS)
    assert tested.decide(1800, 513 * MS).why == why
    tested.sense(1500, 514 * MS)
    tested.hear_verdict(verdict(1500, seq=3), 515 * MS)
    assert tested.decide(2300, 516 * MS).has_passed


def test_silence_noticed_at_one_part_condemns_the_next_ones_too() -> None:
    tested = alive_gate()
    for latch in (1000, 1500):
        tested.sense(latch, 0)
        tested.hear_verdict(verdict(latch, seq=latch), MS)
    assert tested.decide(1800, 501 * MS).why == "no_heartbeat"
    tested.hear_heartbeat(heartbeat(), 502 * MS)
    assert tested.decide(2300, 503 * MS).why == "no_heartbeat"


def test_a_part_that_was_sensed_while_the_service_did_not_run_is_rejected() -> None:
    tested = alive_gate()
    tested.hear_heartbeat(heartbeat("READY"), 0)
    tested.sense(1000, MS)
    tested.hear_heartbeat(heartbeat(), 2 * MS)
    tested.hear_verdict(verdict(1000), 3 * MS)
    assert tested.decide(1800, 80 * MS).why == "not_running"


@pytest.mark.parametrize(("heard_ms", "outcome", "why"), [(40, "kept", "pass"), (41, "overdue", "silence")])
def test_a_pass_is_good_until_its_deadline(heard_ms: int, outcome: str, why: str) -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    timed = {**verdict(1000), "age_us": 5_000, "valid_us": 35_000}
    assert tested.hear_verdict(timed, heard_ms * MS) == outcome
    assert tested.decide(1800, 80 * MS).why == why
    assert tested.counts["overdue_at_gate"] == (outcome == "overdue")


def test_anything_but_a_pass_counts_after_its_deadline_too() -> None:
    tested = alive_gate()
    tested.sense(1000, 0)
    tested.hear_verdict({**verdict(1000), "age_us": 5_000, "valid_us": 35_000}, 10 * MS)
    reject = {**verdict(1000, "REJECT", seq=2), "age_us": 45_000, "valid_us": -5_000}
    assert tested.hear_verdict(reject, 45 * MS) == "kept"
    assert tested.decide(1800, 80 * MS).why == "contradiction"


def test_gaps_in_seq_are_counted_per_session() -> None:
    tested = alive_gate()
    for seq in (1, 2, 5):
        tested.hear_verdict(verdict(None, seq=seq), MS)
    tested.hear_verdict(verdict(None, seq=1, session_id="b"), MS)
    assert tested.counts["seq_gaps"] == 2


@pytest.mark.parametrize("payload", [None, [], {}, {"session_id": "a"}, {**verdict(1), "encoder_count": "1"}])
def test_malformed_messages_are_counted_and_ignored(payload: Any) -> None:
    tested = gate()
    assert tested.hear_verdict(payload, MS) == "malformed"
    assert tested.counts["malformed_messages"] == 1


def test_a_part_taken_off_the_belt_does_not_shift_the_others() -> None:
    tested = alive_gate()
    for latch, seq in ((1000, 1), (1500, 2), (2000, 3)):
        tested.sense(latch, 0)
        tested.hear_verdict(verdict(latch, "PASS" if latch != 1500 else "REJECT", seq=seq), MS)
    assert tested.decide(1800, 80 * MS).has_passed
    assert tested.decide(2800, 180 * MS).has_passed  # 1500 never came to the gate


def test_the_mutant_that_fails_open() -> None:
    tested = alive_gate("fails_open")
    tested.sense(1000, 0)
    tested.sense(1500, 0)
    assert tested.decide(1800, 80 * MS).has_passed
    tested.hear_verdict(verdict(1500), MS)
    assert tested.decide(2300, 2_000 * MS).has_passed


def test_the_mutant_that_goes_by_order_of_arrival() -> None:
    tested = alive_gate("order_of_arrival")
    tested.sense(1000, 0)
    tested.sense(1500, 0)
    tested.hear_verdict(verdict(1500), MS)
    decision = tested.decide(1800, 80 * MS)
    assert decision.has_passed
    assert decision.used is not None
    assert decision.used.encoder_count == 1500


def test_the_mutant_that_ignores_the_watchdog() -> None:
    tested = alive_gate("ignores_watchdog")
    tested.sense(1000, 0)
    tested.hear_verdict(verdict(1000), MS)
    assert tested.decide(1800, 2_000 * MS).has_passed


def test_the_mutant_that_accepts_late_verdicts() -> None:
    tested = alive_gate("accepts_late")
    tested.sense(1000, 0)
    assert not tested.decide(1800, 80 * MS).has_passed
    tested.hear_verdict(verdict(1000), MS)
    tested.sense(1500, 0)
    assert tested.decide(2300, 130 * MS).has_passed


def test_a_verdicts_time_counts_from_the_last_camera() -> None:
    late = {**verdict(1000), "age_us": 10_000, "valid_us": 30_000}
    tested = alive_gate()
    tested.sense(1000, 0)
    assert tested.hear_verdict(late, 110 * MS) == "overdue"
    tested.pass_last_camera(1004, 100 * MS)
    assert tested.hear_verdict(late, 110 * MS) == "kept"
    assert tested.hear_verdict(late, 141 * MS) == "overdue"
