"""What was made last, as record and ledgers tell it, and when a start has to wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.ledger import Ledger, LedgerHead, TriggerKey
from pipeline.ledger_file import LedgerFile
from pipeline.line_clearance import Clearance, Made, clearance_asked, made_last
from pipeline.record.store import RecordStore
from pipeline.rules import Matching
from tests.unit.pipeline.test_payloads import RESULT
from vision.types import Reason, Verdict

NOW = Made("r", "1", "0" * 64)


def record(path: Path, *parts: tuple[str, str, str]) -> Path:
    """(session_id, recipe_version, verdict or reason for none) in the order written."""
    store = RecordStore(path, "s", budget_us=1, deadline_us=1)
    for number, (session_id, version, decided) in enumerate(parts, 1):
        verdict, reason = {"PASS": ("PASS", "OK"), "REJECT": ("REJECT", "DEFECT")}.get(
            decided, ("NO_DECISION", decided)
        )
        change = {"part_id": number, "seq": number, "recipe_version": version, "verdict": verdict, "reason": reason}
        store.commit([msgspec.structs.replace(RESULT, session_id=session_id, **change)], [])
    store.close()
    return path


@pytest.fixture
def leave_ledger() -> Iterator[Callable[..., LedgerFile]]:
    """A session's ledger as a kill leaves it, with one part decided so."""
    left = []

    def leave(record: Path, version: str, verdict: Verdict, reason: Reason) -> LedgerFile:
        file = LedgerFile.create(record, LedgerHead("old", 256, 1, None, 0, "r", version, False, 1, Matching(32, 0, 0)))
        ledger = Ledger(file.descriptor)
        ledger.model_in_use("0" * 64)
        ledger.open_part(1, None, 1, TriggerKey(0, 1, 1))
        ledger.decide(1, 1, verdict, reason, 2)
        left.append(file)
        return file

    yield leave
    for file in left:
        file.remove()
        file.close()


def product(version: str) -> Made:
    return Made("r", version, NOW.model_sha256)


def test_the_last_part_made_tells(tmp_path: Path) -> None:
    path = record(tmp_path / "a #1.db", ("s", "0", "PASS"), ("s", "1", "REJECT"), ("s", "2", "NOT_RUNNING"))
    assert made_last(path) == {NOW}


@pytest.mark.parametrize("reason", ["DEADLINE", "MISSED_FRAME", "BAD_FRAME", "OVERRUN"])
def test_what_was_made_without_a_decision_counts(tmp_path: Path, reason: str) -> None:
    path = record(tmp_path / "a.db", ("s", "1", "PASS"), ("t", "2", reason), ("u", "3", "NOT_RUNNING"))
    assert made_last(path) == {product("2")}


def test_a_fault_may_hide_what_was_made_before_or_be_what_was_made(tmp_path: Path) -> None:
    """Killed while it waited for its clearance, or made with a model that fails at every part."""
    path = record(tmp_path / "a.db", ("s", "1", "PASS"), ("t", "2", "FAULT"))
    assert made_last(path) == {NOW, product("2")}
    assert made_last(record(tmp_path / "b.db", ("s", "1", "FAULT"))) == {NOW, None}
    assert made_last(record(tmp_path / "c.db", ("s", "1", "PASS"), ("t", "1", "FAULT"))) == {NOW}
    assert made_last(record(tmp_path / "d.db", ("s", "2", "FAULT"), ("t", "1", "PASS"))) == {NOW}


def test_a_killed_session_recorded_late_does_not_hide_a_later_one(tmp_path: Path) -> None:
    path = record(tmp_path / "a.db", ("t", "2", "PASS"), ("s", "1", "PASS"))
    assert made_last(path) == {NOW, Made("r", "2", NOW.model_sha256)}


def test_what_a_killed_session_judged_and_nobody_recorded_counts(
    tmp_path: Path, leave_ledger: Callable[..., LedgerFile]
) -> None:
    path = record(tmp_path / "a.db", ("s", "1", "PASS"))
    # Its lock is still held, as by a signalling that closes its books.
    file = leave_ledger(path, "2", Verdict.NO_DECISION, Reason.NOT_RUNNING)
    assert made_last(path) == {NOW}
    Ledger(file.descriptor).decide(1, 1, Verdict.PASS, Reason.OK, 2)
    assert made_last(path) == {NOW, Made("r", "2", NOW.model_sha256)}
    assert file.path is not None
    file.path.write_bytes(b"noise")
    assert made_last(path) == {NOW, None}


@pytest.mark.parametrize(
    ("verdict", "reason", "made"),
    [
        (Verdict.NO_DECISION, Reason.DEADLINE, {NOW}),
        (Verdict.NO_DECISION, Reason.FAULT, {NOW, None}),
        (Verdict.NO_DECISION, Reason.NOT_RUNNING, set()),
    ],
)
def test_a_ledger_alone(
    tmp_path: Path,
    leave_ledger: Callable[..., LedgerFile],
    verdict: Verdict,
    reason: Reason,
    made: set[Made | None],
) -> None:
    leave_ledger(tmp_path / "a.db", "1", verdict, reason)
    assert made_last(tmp_path / "a.db") == made


def test_nothing_made_tells_nothing(tmp_path: Path) -> None:
    assert made_last(record(tmp_path / "a.db", ("s", "1", "NOT_RUNNING"))) == frozenset()
    assert made_last(tmp_path / "none.db") == frozenset()
    assert not (tmp_path / "none.db").exists()


def test_a_record_that_cannot_be_looked_at_is_not_known(tmp_path: Path) -> None:
    """As where the folder may not be searched or the disk fails."""
    assert made_last(tmp_path / f"{'long' * 100}.db") == {None}
    (tmp_path / "file").touch()
    assert made_last(tmp_path / "file" / "a.db") == frozenset()


def test_the_newest_rows_answer(tmp_path: Path) -> None:
    """However big the record is: rows in order, none sorted."""
    path = record(tmp_path / "a.db", ("s", "1", "PASS"))
    statements: list[str] = []
    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database: sqlite3.Connection = connect(*arguments, **options)
        database.set_trace_callback(statements.append)
        return database

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite3, "connect", watched)
        made_last(path)
    database = sqlite3.connect(path)
    asked = [statement for statement in statements if statement.startswith("SELECT")]
    plans = [row[3] for statement in asked for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
    database.close()
    assert len(plans) == 4
    assert not any("TEMP B-TREE" in plan for plan in plans)


def test_a_damaged_or_locked_record_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"no database" * 1_000)
    assert made_last(tmp_path / "noise.db") == {None}
    path = record(tmp_path / "a.db", ("s", "1", "PASS"))
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE part SET body = '[]'")
    database.close()
    assert made_last(path) == {None}
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("CREATE TABLE part (id, verdict, body)")
    holder.execute("BEGIN EXCLUSIVE")
    assert made_last(tmp_path / "locked.db") == {None}
    holder.close()


@pytest.mark.parametrize(
    ("mode", "before", "asked"),
    [
        ("off", {None}, False),
        ("off", {Made("other", "1", None)}, False),
        ("always", {NOW}, True),
        ("changeover", {NOW}, False),
        ("changeover", set(), True),
        ("changeover", {NOW, None}, True),
        ("changeover", {NOW, Made("other", "1", NOW.model_sha256)}, True),
        ("changeover", {Made("r", "2", NOW.model_sha256)}, True),
        ("changeover", {Made("r", "1", "f" * 64)}, True),
        ("changeover", {Made("r", "1", None)}, True),
    ],
)
def test_when_it_is_asked(mode: Clearance, before: set[Made | None], asked: bool) -> None:
    text = clearance_asked(mode, before, NOW)
    assert bool(text) is asked
    assert not asked or text.endswith("send cmd/confirm_line_clear when no part is between camera and gate")
