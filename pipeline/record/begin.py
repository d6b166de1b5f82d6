"""How the next segment begins: with the roots of those before it, and what goes on from the last one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from pipeline.outbox import Delivered
from pipeline.record.beside import keep_key_changes, read_key_changes
from pipeline.record.delivered import keep_delivered, read_delivered
from pipeline.record.files import sealed_name, sync_folder
from pipeline.record.roots import read_roots
from pipeline.record.runs import keep_open_runs, open_runs
from pipeline.record.sealed import ask_sealed
from pipeline.record.segment import PAGE_BYTES, Segment, create_tables, first_segment
from pipeline.record.totals import ended_tally, keep_tally
from pipeline.tally import Tally
from pipeline.traceability import KeyChange

_Answer = TypeVar("_Answer")


def begin_segment(record: Path, session_id: str, empty: Tally, begun_utc: str) -> list[str]:
    """The segment after the last one that was sealed; its file is there whole or not at all. What cannot be read of the one
    before begins anew, as do the session's totals with ``empty``.

    Returns the troubles with files that were passed over, each in words. Raises RecordFault, sqlite3.Error and OSError.
    """
    roots = read_roots(record)
    before, number = roots.segments, roots.next_number
    own = before[-1].next(begun_utc, number) if before else first_segment(begun_utc, number)
    tally = _of_newest(record, before, lambda database: ended_tally(database, session_id, empty))
    scratch = record.with_name(f"{record.name}.new")
    scratch.unlink(missing_ok=True)
    with closing(sqlite3.connect(scratch, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        database.execute("BEGIN IMMEDIATE")
        create_tables(database, [*before, own], roots.part_ranges)
        if tally is not None:
            keep_tally(database, session_id, tally, own.first_row - 1)
        keep_delivered(database, _of_newest(record, before, read_delivered) or Delivered())
        keep_key_changes(database, _key_changes(record, before))
        keep_open_runs(database, _of_newest(record, before, open_runs) or [])
        database.execute("COMMIT")
    for suffix in ("-wal", "-shm"):
        # Of a file that is gone: SQLite would take it for the new one's, and drops it itself only beside an empty file.
        record.with_name(record.name + suffix).unlink(missing_ok=True)
    scratch.rename(record)
    sync_folder(record.parent)
    return roots.troubles


def _key_changes(record: Path, before: Sequence[Segment]) -> list[KeyChange]:
    with suppress(ValueError):
        return _of_newest(record, before, read_key_changes) or []
    return []


def _of_newest(
    record: Path, before: Sequence[Segment], question: Callable[[sqlite3.Connection], _Answer]
) -> _Answer | None:
    """As things were when it was sealed."""
    return ask_sealed(sealed_name(record, before[-1].number), question) if before else None
