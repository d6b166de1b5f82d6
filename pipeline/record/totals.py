"""The table of each session's totals, so that who takes a session up need not read all of its rows."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from pipeline.record.faults import RecordDamaged
from pipeline.record.rows import decode_body
from pipeline.tally import Tally


def keep_tally(database: sqlite3.Connection, session_id: str, tally: Tally, last_row: int) -> None:
    """As they are after ``last_row``. Raises sqlite3.Error."""
    database.execute(
        "INSERT OR REPLACE INTO tally (session_id, last_part_row, body) VALUES (?, ?, ?)",
        (session_id, last_row, tally.to_json()),
    )


def load_tally(path: Path, database: sqlite3.Connection, session_id: str, empty: Tally) -> Tally:
    """The session's totals: those that are kept, if any, else ``empty``, and the rows since. Raises sqlite3.Error;
    RecordDamaged, of the file ``path``, where what is there cannot be read.
    """
    stored = database.execute("SELECT last_part_row, body FROM tally WHERE session_id = ?", (session_id,)).fetchone()
    tally, last_row = empty, 0
    if stored is not None:
        last_row = stored[0]
        try:
            tally = Tally.from_json(stored[1], empty.budget_us, empty.deadline_us)
        except ValueError as error:
            raise RecordDamaged(f"record {path}: the kept totals are none: {error}") from error
    # The plus keeps SQLite from going through all rows of a session that has run for months, where the newest will do.
    by_session = "+session_id" if stored is not None else "session_id"
    missing = database.execute(f"SELECT body FROM part WHERE id > ? AND {by_session} = ?", (last_row, session_id))
    for (body,) in missing:
        tally.add(decode_body(path, body))
    tally.late_inspections = tally.late_inspections_before + _count_late(database, session_id)
    return tally


def ended_tally(database: sqlite3.Connection, session_id: str, empty: Tally) -> Tally | None:
    """The session's totals at the end of a sealed segment; None where it had no part of this session. Raises sqlite3.Error."""
    found = database.execute("SELECT body FROM tally WHERE session_id = ?", (session_id,)).fetchone()
    if found is not None:
        # A sealed file whose totals are none is no damage to the one that is begun.
        with suppress(ValueError):
            tally = Tally.from_json(found[0], empty.budget_us, empty.deadline_us)
            tally.late_inspections_before += _count_late(database, session_id)
            return tally
    return None


def _count_late(database: sqlite3.Connection, session_id: str) -> int:
    ask = "SELECT count(*) FROM late_inspection WHERE session_id = ?"
    return int(database.execute(ask, (session_id,)).fetchone()[0])
