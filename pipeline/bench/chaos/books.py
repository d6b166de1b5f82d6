"""What the books say: the service's record against those that line, controller and wire tap kept outside it."""

from __future__ import annotations

import bisect
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.clock import NS_PER_S
from pipeline.rehearsal import RehearsalError
from pipeline.rules import Timing
from pipeline.simulator.truth import UNHEARD, GateTruth, Truth, ViolationKind, stream_book


@dataclass(frozen=True, slots=True)
class Row:
    """A part as recorded. ``marks``: the part numbers that were read in its pixels."""

    session_id: str
    part_id: int
    seq: int
    verdict: str
    reason: str
    encoder_count: int | None
    trigger_ns: int
    decided_ns: int
    marks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault: when it struck, when it was taken back, and since when parts are judged again (None: not yet)."""

    kind: str
    what: str
    fault_ns: int
    lifted_ns: int
    recovered_ns: int | None


@dataclass(frozen=True, slots=True)
class Word:
    """Something the service said of itself: an alarm's code and text, or ``state`` and which."""

    at_ns: int
    code: str
    text: str


@dataclass(slots=True)
class Account:
    """What the parts came to that were triggered from one kind's faults on, each until the next fault.

    Attributes:
        felt: faults of which the line or the service noticed anything at all: a part not judged, unheard, late or unobserved, a
            state other than RUNNING, an alarm. What nobody feels costs nothing.
        triggers_observed: triggers that a camera handed to a driver that stayed.
        triggers_unobserved: triggers that no driver was there to hear or to read; no verdict, so the gate rejects.
        verdicts: parts on record; one for each of these triggers, and for those in doubt that were observed.
        unsent: of these, verdicts that nobody heard: no process or no broker to send them; silence rejects.
        passed: parts that the gate let pass.
        unjudged_passed: parts that passed without a timely PASS of their own, on the wire and on record.
        wrong_part_passed: parts that passed on another part's pixels.
        late_at_gate: verdicts that came when their part was past the gate, discarded there.
        records_missing: observed triggers that are not on record, rows that are there twice or with a gap.
        no_decision_inside: NO_DECISIONs between fault and recovery.
        no_decision_outside: those after it; ``judged_outside`` parts were triggered then in all.
    """

    faults: int = 0
    felt: int = 0
    triggers_observed: int = 0
    triggers_unobserved: int = 0
    verdicts: int = 0
    unsent: int = 0
    passed: int = 0
    unjudged_passed: int = 0
    wrong_part_passed: int = 0
    late_at_gate: int = 0
    records_missing: int = 0
    other_violations: int = 0
    no_decision_inside: int = 0
    no_decision_outside: int = 0
    judged_outside: int = 0
    recovery_s: list[float] = field(default_factory=list)
    reasons_inside: Counter[str] = field(default_factory=Counter)


CALM = "(calm)"
"""The account of the time before the first fault."""

_COUNTER_OF: dict[ViolationKind, str] = {
    "passed_without_pass": "unjudged_passed",
    "passed_without_heartbeat": "unjudged_passed",
    "passed_after_stop": "unjudged_passed",
    "passed_on_late_verdict": "unjudged_passed",
    "wrong_part_passed": "wrong_part_passed",
}


def read_rows(records: Iterable[Path]) -> list[Row]:
    """All parts in these database files, each (session, part) once, in the files' order. Raises RehearsalError."""
    rows: dict[tuple[str, int], Row] = {}
    for record in records:
        database = sqlite3.connect(record)
        try:
            query = (
                "SELECT session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns, decided_ns, body"
                " FROM part ORDER BY id"
            )
            found: Iterable[tuple[Any, ...]] = database.execute(query)
            for *fields, body in found:
                marks = (view["part_mark"] for view in json.loads(body)["views"])
                row = Row(*fields, tuple(mark for mark in marks if mark is not None))  # type: ignore[call-arg]
                rows.setdefault((row.session_id, row.part_id), row)
        except sqlite3.Error as error:
            raise RehearsalError(f"record {record}, at the end: {error}") from error
        finally:
            database.close()
    return list(rows.values())


def read_words(wire_log: Path) -> list[Word]:
    """What the service said of itself, in order: its states but RUNNING, and its alarms as they were raised."""
    words: list[Word] = []
    for entry in stream_book(wire_log):
        if entry["event"] != "message" or not isinstance(entry["payload"], dict):
            continue
        topic, payload = entry["topic"], entry["payload"]
        if topic.startswith("alarm/"):
            words.append(Word(entry["arrival_ns"], topic.removeprefix("alarm/"), payload["text"]))
        elif topic == "state" and payload["state"] != "RUNNING":
            words.append(Word(entry["arrival_ns"], "state", payload["state"]))
    return words


def record_faults(rows: Sequence[Row]) -> list[tuple[int, str]]:
    """(moment, text) of every part_id or seq that a session's rows lack or have twice; each session counts from 1."""
    sessions: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sessions[row.session_id].append(row)
    found: list[tuple[int, str]] = []
    for session_id, mine in sessions.items():
        for name in ("part_id", "seq"):
            counts = Counter(getattr(row, name) for row in mine)
            for number in range(1, max(counts) + 1):
                if counts[number] != 1:
                    moment_ns = _moment_near(mine, name, number)
                    found.append(
                        (moment_ns, f"session {session_id}: {name} {number} is on record {counts[number]} times")
                    )
    return found


def _moment_near(rows: list[Row], name: str, number: int) -> int:
    return min(rows, key=lambda row: abs(getattr(row, name) - number)).trigger_ns


def take_account(
    rows: Sequence[Row],
    truth: Truth,
    words: Sequence[Word],
    episodes: Sequence[Episode],
    deaf_ns: Sequence[tuple[int, int]],
    timing: Timing,
) -> tuple[dict[str, Account], list[str]]:
    """{kind: account} and, in words, everything that must never happen and did.

    ``deaf_ns``: spans in which triggers went to a process that was killed without ever reading them: observed by nobody.
    """
    starts = [episode.fault_ns - timing.deadline_ns for episode in episodes]
    accounts: dict[str, Account] = {CALM: Account(), **{episode.kind: Account() for episode in episodes}}

    felt: set[int] = set()

    def index_at(moment_ns: int) -> int:
        return bisect.bisect_right(starts, moment_ns) - 1

    def feel(moment_ns: int) -> None:
        if index_at(moment_ns) >= 0:
            felt.add(index_at(moment_ns))

    def episode_at(moment_ns: int) -> Episode | None:
        index = index_at(moment_ns)
        return episodes[index] if index >= 0 else None

    def account_at(moment_ns: int) -> Account:
        episode = episode_at(moment_ns)
        return accounts[CALM if episode is None else episode.kind]

    violations: list[str] = []

    def blame(moment_ns: int, counter: str, text: str) -> None:
        episode = episode_at(moment_ns)
        account = account_at(moment_ns)
        setattr(account, counter, getattr(account, counter) + 1)
        violations.append(f"{CALM if episode is None else f'{episode.kind} ({episode.what})'}: {text}")

    for struck in episodes:
        accounts[struck.kind].faults += 1
        if struck.recovered_ns is None:
            blame(struck.fault_ns, "other_violations", "not recovered")
        else:
            accounts[struck.kind].recovery_s.append(max(0.0, (struck.recovered_ns - struck.lifted_ns) / NS_PER_S))

    rows_at: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        rows_at[row.trigger_ns].append(row)
    for row in rows:
        account = account_at(row.trigger_ns)
        account.verdicts += 1
        episode = episode_at(row.trigger_ns)
        recovered_ns = None if episode is None else episode.recovered_ns
        inside = episode is not None and (recovered_ns is None or row.trigger_ns <= recovered_ns)
        if inside:
            if row.verdict == "NO_DECISION":
                account.no_decision_inside += 1
                feel(row.trigger_ns)
                account.reasons_inside[row.reason] += 1
        else:
            account.judged_outside += 1
            account.no_decision_outside += row.verdict == "NO_DECISION"
        late_ns = row.decided_ns - timing.choice_ns(row.trigger_ns)
        if row.verdict == "PASS" and late_ns >= 0:
            text = f"part {row.part_id} of {row.session_id}: PASS decided {late_ns} ns after the last moment for it"
            blame(row.trigger_ns, "other_violations", text)
    for moment_ns, text in record_faults(rows):
        blame(moment_ns, "records_missing", text)

    number_at: dict[int, int] = {}
    for trigger in truth.triggers:
        number_at[trigger.trigger_ns] = trigger.part_number
        mine = rows_at.get(trigger.trigger_ns, [])
        if len(mine) > 1:
            text = f"part {trigger.part_number}: its trigger is on record {len(mine)} times: {mine}"
            blame(trigger.trigger_ns, "other_violations", text)
        if any(row.encoder_count != trigger.encoder_count for row in mine):
            text = f"part {trigger.part_number} at count {trigger.encoder_count}: on record is {mine}"
            blame(trigger.trigger_ns, "other_violations", text)
        was_heard = bool(mine) or not any(since_ns <= trigger.trigger_ns <= until_ns for since_ns, until_ns in deaf_ns)
        if trigger.observability == "observable" and was_heard:
            account_at(trigger.trigger_ns).triggers_observed += 1
            if not mine:
                text = f"part {trigger.part_number}: its trigger was observed and is not on record"
                blame(trigger.trigger_ns, "records_missing", text)
        elif not mine:
            account_at(trigger.trigger_ns).triggers_unobserved += 1
            feel(trigger.trigger_ns)
        if mine and not trigger.verdicts:
            account_at(trigger.trigger_ns).unsent += 1
            feel(trigger.trigger_ns)
    for row in rows:
        number = number_at.get(row.trigger_ns)
        if number is None:
            blame(
                row.trigger_ns,
                "other_violations",
                f"part {row.part_id} of {row.session_id}: of no trigger that ever was",
            )
        elif row.verdict == "PASS" and set(row.marks) - {number}:
            text = f"part {number}: PASS on record was earned by {row.marks}"
            blame(row.trigger_ns, "wrong_part_passed", text)

    rows_of_part: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.trigger_ns in number_at:
            rows_of_part[number_at[row.trigger_ns]].append(row)
    for gate in truth.gates:
        _account_gate(gate, rows_of_part[gate.part_number], account_at(gate.sensed_ns), blame)
        if gate.late:
            feel(gate.sensed_ns)
    for violation in truth.violations:
        if violation.kind not in UNHEARD:
            blame(violation.at_ns, _COUNTER_OF.get(violation.kind, "other_violations"), violation.text)
    for word in words:
        feel(word.at_ns)
        if word.code == "ring":
            # A frame's slot was not whose it should be.
            blame(word.at_ns, "other_violations", f"alarm: {word.text}")
    for index in felt:
        accounts[episodes[index].kind].felt += 1
    return accounts, violations


def _account_gate(gate: GateTruth, rows: list[Row], account: Account, blame: Any) -> None:
    account.late_at_gate += gate.late
    if gate.passed:
        account.passed += 1
        # The wire said PASS, else truth has it; the record must say so too.
        if not any(row.verdict == "PASS" for row in rows):
            said = ", ".join(row.verdict for row in rows) or "nothing"
            blame(gate.sensed_ns, "unjudged_passed", f"part {gate.part_number} passed; on record is {said}")
