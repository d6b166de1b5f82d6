"""The chaos suite's account: a run in which all is well has no violations, and each thing that must not be is seen."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from pipeline.bench.chaos.books import CALM, Account, Episode, Row, Word, take_account
from pipeline.rules import Timing
from pipeline.simulator.truth import (
    ControllerTruth,
    GateTruth,
    LabelTruth,
    LineTruth,
    TriggerTruth,
    Truth,
    Violation,
    WireTruth,
    WireVerdict,
)

MS = 1_000_000
PITCH_NS = 50 * MS
PARTS = 40
TIMING = Timing(deadline_ns=40 * MS, guard_ns=3 * MS)
FAULT = Episode("broker_killed", "for a test", 500 * MS, 600 * MS, 800 * MS)


def trigger_ns(part: int) -> int:
    return part * PITCH_NS


def row(part: int, **changes: Any) -> Row:
    right = Row("s", part, part, "PASS", "OK", part * 500, trigger_ns(part), trigger_ns(part) + 5 * MS, (part,))
    return replace(right, **changes)


def trigger(part: int, **changes: Any) -> TriggerTruth:
    heard = WireVerdict(
        trigger_ns(part) + 5 * MS, trigger_ns(part) + 6 * MS, "s", part, part, "PASS", "OK", part * 500, 5_000, 35_000
    )
    return replace(TriggerTruth(part, part * 500, trigger_ns(part), "observable", (heard,), True), **changes)


def gate(part: int, **changes: Any) -> GateTruth:
    return replace(
        GateTruth(part, trigger_ns(part), trigger_ns(part) + 80 * MS, True, "pass", False),
        **changes,
    )


def nothing(kind: type[Any]) -> Any:
    return kind(**{field.name: 0 for field in fields(kind)})


def truth(**changes: Any) -> Truth:
    parts = range(1, PARTS + 1)
    right = Truth(
        line=nothing(LineTruth),
        controller=nothing(ControllerTruth),
        truth=nothing(LabelTruth),
        wire=nothing(WireTruth),
        violations=(),
        triggers=tuple(trigger(part) for part in parts),
        gates=tuple(gate(part) for part in parts),
    )
    return replace(right, **changes)


def rows(**changed: Row | None) -> list[Row]:
    """All parts' rows; ``p7=None`` leaves out part 7's, ``p7=row`` replaces it."""
    found = (changed.get(f"p{part}", row(part)) for part in range(1, PARTS + 1))
    return [each for each in found if each is not None]


def account(
    recorded: list[Row], really: Truth, *, words: tuple[Word, ...] = (), deaf_ns: tuple[tuple[int, int], ...] = ()
) -> tuple[dict[str, Account], list[str]]:
    return take_account(recorded, really, words, [FAULT], deaf_ns, TIMING)


def test_all_is_well() -> None:
    accounts, violations = account(rows(), truth())
    assert violations == []
    assert accounts[CALM].verdicts + accounts[FAULT.kind].verdicts == PARTS
    assert accounts[FAULT.kind].recovery_s == [0.2]
    assert accounts[FAULT.kind].felt == 0


@pytest.mark.parametrize(
    ("recorded", "really", "counter"),
    [
        (rows(p20=None), truth(), "records_missing"),
        (rows(p20=row(20, seq=19)), truth(), "records_missing"),
        ([*rows(), row(20, session_id="t", part_id=1, seq=1)], truth(), "other_violations"),
        ([*rows(), row(20, part_id=41, seq=41, verdict="NO_DECISION")], truth(), "other_violations"),
        ([*rows(), row(41)], truth(), "other_violations"),
        (rows(p20=row(20, encoder_count=1)), truth(), "other_violations"),
        (rows(p20=row(20, marks=(19,))), truth(), "wrong_part_passed"),
        (rows(p20=row(20, verdict="REJECT")), truth(), "unjudged_passed"),
        (rows(p20=row(20, decided_ns=trigger_ns(20) + 37 * MS)), truth(), "other_violations"),
        (rows(), truth(violations=(Violation("repeated_verdict", 20, trigger_ns(20), ""),)), "other_violations"),
        (rows(), truth(violations=(Violation("passed_without_pass", 20, trigger_ns(20), ""),)), "unjudged_passed"),
        (rows(), truth(violations=(Violation("wrong_part_passed", 20, trigger_ns(20), ""),)), "wrong_part_passed"),
    ],
)
def test_what_must_not_be_is_seen(recorded: list[Row], really: Truth, counter: str) -> None:
    accounts, violations = account(recorded, really)
    assert violations
    assert sum(getattr(each, counter) for each in accounts.values()) >= 1


def test_a_broken_slot_is_a_violation() -> None:
    _, violations = account(rows(), truth(), words=(Word(700 * MS, "ring", "slot 3 was not lent"),))
    assert len(violations) == 1


def test_a_fault_without_recovery_is_a_violation() -> None:
    forever = replace(FAULT, recovered_ns=None)
    _, violations = take_account(rows(), truth(), (), [forever], (), TIMING)
    assert len(violations) == 1


def test_what_nobody_could_hear_is_no_violation_and_is_felt() -> None:
    unheard = tuple(trigger(part, verdicts=()) if part == 12 else trigger(part) for part in range(1, PARTS + 1))
    silent = tuple(gate(part, passed=part != 12) for part in range(1, PARTS + 1))
    told = (Violation("no_verdict", 12, trigger_ns(12), ""),)
    recorded = rows(p12=row(12, verdict="NO_DECISION", reason="NOT_RUNNING", marks=()))
    accounts, violations = account(recorded, truth(triggers=unheard, gates=silent, violations=told))
    assert violations == []
    mine = accounts[FAULT.kind]
    assert (mine.unsent, mine.no_decision_inside, mine.no_decision_outside, mine.felt) == (1, 1, 0, 1)


def test_what_was_read_by_nobody_was_not_observed() -> None:
    shorter = [*rows()[:11], *(row(part, part_id=part - 1, seq=part - 1) for part in range(13, PARTS + 1))]
    deaf = ((trigger_ns(12) - MS, trigger_ns(12) + MS),)
    gates = tuple(gate(part, passed=part != 12) for part in range(1, PARTS + 1))
    accounts, violations = account(shorter, truth(gates=gates), deaf_ns=deaf)
    assert violations == []
    assert accounts[FAULT.kind].triggers_unobserved == 1
