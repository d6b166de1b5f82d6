"""The table of sessions: which of them ended in good order, and which with the box."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Run: TypeAlias = tuple[str, str, str]
"""A session that has not ended: its id, the boot that it began in, and when."""


def boot_id() -> str:
    """Empty where the kernel does not say."""
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def begin_run(database: sqlite3.Connection, session_id: str, utc: str) -> tuple[str, ...]:
    """The sessions that ended neither in order nor by a kill that left the box running. Raises sqlite3.Error."""
    boot = boot_id()
    database.execute(
        "INSERT OR IGNORE INTO run (session_id, boot_id, begun_utc) VALUES (?, ?, ?)", (session_id, boot, utc)
    )
    over = "ended_utc IS NULL AND session_id != ?"
    ask = f"SELECT session_id FROM run WHERE {over} AND boot_id != ? ORDER BY begun_utc"
    found = tuple(cut_off for (cut_off,) in database.execute(ask, (session_id, boot)))
    # Who writes has the record alone: whatever session has not ended is over.
    database.execute(f"UPDATE run SET ended_utc = ? WHERE {over}", (utc, session_id))
    return found


def end_run(database: sqlite3.Connection, session_id: str, utc: str) -> None:
    """Raises sqlite3.Error."""
    database.execute("UPDATE run SET ended_utc = ? WHERE session_id = ?", (utc, session_id))


def open_runs(database: sqlite3.Connection) -> list[Run]:
    """Those that have not ended. Raises sqlite3.Error."""
    return database.execute("SELECT session_id, boot_id, begun_utc FROM run WHERE ended_utc IS NULL").fetchall()


def keep_open_runs(database: sqlite3.Connection, runs: Iterable[Run]) -> None:
    """In the segment that comes next. Raises sqlite3.Error."""
    database.executemany("INSERT INTO run VALUES (?, ?, ?, NULL)", runs)
