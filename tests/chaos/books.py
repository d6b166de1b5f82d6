"""What must hold after any fault, read from the record and from the books outside the service."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.recorded import read_parts
from pipeline.record.files import record_files
from pipeline.simulator.truth import Truth, read_book, stream_book


@dataclass(frozen=True)
class Row:
    """A part as recorded."""

    session_id: str
    part_id: int
    seq: int
    verdict: str
    reason: str
    encoder_count: int
    trigger_ns: int


@dataclass(frozen=True)
class Window:
    """From the fault to the service's recovery, monotonic."""

    fault_ns: int
    recovered_ns: int


def read_rows(record: Path) -> list[Row]:
    """Of all segments, in order."""
    ask = "SELECT session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns FROM part ORDER BY id"
    rows = []
    for file in record_files(record):
        with closing(sqlite3.connect(file)) as database:
            rows += [Row(*row) for row in database.execute(ask)]
    return rows


def check_record(rows: list[Row]) -> None:
    """Within a session every part_id and every seq from 1 on, once each."""
    sessions: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sessions[row.session_id].append(row)
    for session_id, mine in sessions.items():
        expected = list(range(1, len(mine) + 1))
        assert sorted(row.part_id for row in mine) == expected, f"session {session_id}: a part is missing or doubled"
        assert sorted(row.seq for row in mine) == expected, f"session {session_id}: a seq is missing or doubled"


def check_wire_is_recorded(rows: list[Row], wire_log: Path) -> int:
    """Every verdict that was heard stands in the record, word for word; how many there were."""
    recorded = {(row.session_id, row.part_id): row for row in rows}
    verdicts = [
        entry["payload"]
        for entry in stream_book(wire_log)
        if entry["event"] == "message" and entry["topic"] == "verdict"
    ]
    for verdict in verdicts:
        row = recorded[verdict["session_id"], verdict["part_id"]]
        heard = (verdict["seq"], verdict["verdict"], verdict["reason"], verdict["encoder_count"])
        assert (row.seq, row.verdict, row.reason, row.encoder_count) == heard
    return len(verdicts)


def withheld_ns(record: Path) -> set[int]:
    """The triggers whose PASS was late before it could be sent: the record says that it never was."""
    return {part.trigger_ns for part in read_parts(record) if part.verdict == "PASS" and not part.is_sent}


def check_promise(truth: Truth, *, sender_died: bool = False, withheld_ns: Set[int] = frozenset()) -> None:
    """No unjudged, wrong or late part passed; no trigger was told two things, and none nothing at all.

    ``sender_died``: while nobody could send, the verdict is on record only. ``withheld_ns``: the triggers whose verdict need
    not have been on the wire.
    """
    untold = [each for each in truth.violations if each.kind == "no_verdict"]
    excused = untold if sender_died else [each for each in untold if each.at_ns in withheld_ns]
    violations = [each.text for each in truth.violations if each not in excused]
    assert violations == [], "\n".join(violations)
    if not sender_died:
        assert truth.wire.triggers_without_verdict == len(excused)
    assert truth.controller.passed_without_pass == 0
    assert truth.controller.wrong_part_passed == 0
    assert truth.controller.passed_without_heartbeat == 0
    assert truth.controller.passed_after_stop == 0
    assert truth.controller.passed_on_late_verdict == 0
    assert truth.wire.triggers_with_several_verdicts == 0
    assert truth.wire.verdicts_without_trigger == 0
    assert truth.wire.duplicate_seq == 0
    assert truth.wire.retained_verdicts == 0
    assert truth.wire.results_contradicting == 0
    assert truth.wire.largest_verdict_bytes <= 256


def check_marks(record: Path, line_book: Path) -> int:
    """Every PASS on record was read off the very part that its encoder count names; how many there were.

    A PASS without its views was decided by a signalling that was killed before records had it.
    """
    part_at = {
        entry["encoder_count"]: entry["part_number"] for entry in stream_book(line_book) if entry["event"] == "trigger"
    }
    passes = []
    for file in record_files(record):
        with closing(sqlite3.connect(file)) as database:
            passes += [json.loads(body) for (body,) in database.execute("SELECT body FROM part WHERE verdict = 'PASS'")]
    proven = [(result["encoder_count"], view["part_mark"]) for result in passes for view in result["views"]]
    wrong = [(count, mark) for count, mark in proven if part_at[count] != mark]
    assert not wrong, f"PASS earned by another part (encoder count, mark): {wrong}"
    return len(proven)


def observed(line_book: Path, kills_ns: list[int], reading_ns: int) -> set[int]:
    """Encoder counts of the triggers that a living driver was handed, but for those of the last ``reading_ns`` before
    acquisition was killed.
    """
    book = read_book(line_book)
    connected_ns = [entry["at_ns"] for entry in book if entry["event"] == "driver" and entry["connected"]]
    away = [
        (killed_ns - reading_ns, next(at_ns for at_ns in connected_ns if at_ns > killed_ns)) for killed_ns in kills_ns
    ]
    return {
        entry["encoder_count"]
        for entry in book
        if entry["event"] == "trigger"
        and entry["sent"]
        and not any(since_ns <= entry["trigger_ns"] <= until_ns for since_ns, until_ns in away)
    }


def no_decision_outside(rows: list[Row], windows: list[Window], deadline_ns: int) -> tuple[int, int]:
    """(NO_DECISION, all) of the parts that no fault can excuse."""
    outside = [
        row
        for row in rows
        if not any(window.fault_ns - deadline_ns <= row.trigger_ns <= window.recovered_ns for window in windows)
    ]
    return sum(row.verdict == "NO_DECISION" for row in outside), len(outside)
