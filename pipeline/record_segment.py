"""One file of the record: its tables, where it stands among the others, and what its rows commit to.

The record is a row of segments. One is written to; when it is sealed the next begins, and the first row of that one commits
to the *seal* of the one before, as every other row commits to the row before it. Each file knows the roots of all segments
before it, also of those that retention has dropped since.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.record_chain import NO_HASH, link
from pipeline.record_faults import RecordFault

SCHEMA_VERSION = 4

_SCHEMA = """
CREATE TABLE segment (
    number INTEGER PRIMARY KEY,
    first_row INTEGER NOT NULL,
    follows TEXT NOT NULL,
    begun_utc TEXT NOT NULL,
    last_row INTEGER,
    head TEXT,
    last_review INTEGER,
    review_head TEXT,
    sealed_utc TEXT
);
CREATE TABLE part (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    part_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    encoder_count INTEGER,
    trigger_ns INTEGER NOT NULL,
    trigger_utc TEXT NOT NULL,
    decided_ns INTEGER NOT NULL,
    sent_ns INTEGER,
    deadline_ns INTEGER NOT NULL,
    body TEXT NOT NULL,
    row_hash TEXT NOT NULL,
    UNIQUE (session_id, part_id)
);
CREATE TABLE context (
    sha256 TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE review (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    part_id INTEGER NOT NULL,
    utc TEXT NOT NULL,
    who TEXT NOT NULL,
    said TEXT NOT NULL,
    request TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    review_hash TEXT NOT NULL
);
CREATE TABLE traceability (
    id INTEGER PRIMARY KEY,
    from_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    utc TEXT NOT NULL,
    who TEXT NOT NULL,
    request TEXT NOT NULL,
    keys TEXT NOT NULL,
    recipe TEXT NOT NULL
);
CREATE TABLE late_inspection (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    part_id INTEGER NOT NULL,
    camera_id TEXT NOT NULL,
    arrived_ns INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (session_id, part_id, camera_id, arrived_ns)
);
CREATE TABLE tally (
    session_id TEXT PRIMARY KEY,
    last_part_row INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE run (
    session_id TEXT PRIMARY KEY,
    boot_id TEXT NOT NULL,
    begun_utc TEXT NOT NULL,
    ended_utc TEXT
);
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    live_row INTEGER NOT NULL,
    held TEXT NOT NULL
);
"""
_SEGMENT = "number, first_row, follows, begun_utc, last_row, head, last_review, review_head, sealed_utc"
_COLUMNS = {"session_id", "part_id", "body", "row_hash"}
_MARK = re.compile(rb'row_hash TEXT NOT NULL,|"row_hash":""\}[0-9a-f]{64}')
"""What a record's pages hold and no other file: the table's words, and a row's end with its hash."""
_MARK_WITHIN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """Where a segment stands; the last five are None while it is written to.

    Attributes:
        number: from 1.
        first_row: the number that its first row has or will have.
        follows: what its first row commits to: the seal of the segment before, 64 zeros in the first one.
        last_row, head: the last row's number and hash.
        last_review, review_head: the same of the operators' reviews, over all segments.
    """

    number: int
    first_row: int
    follows: str
    begun_utc: str
    last_row: int | None = None
    head: str | None = None
    last_review: int | None = None
    review_head: str | None = None
    sealed_utc: str | None = None

    def next(self, begun_utc: str) -> Segment:
        """The one after this one, which is sealed."""
        assert self.last_row is not None
        return Segment(self.number + 1, self.last_row + 1, seal_of(self), begun_utc)


def first_segment(begun_utc: str) -> Segment:
    """Where a record begins."""
    return Segment(1, 1, NO_HASH, begun_utc)


def seal_of(sealed: Segment) -> str:
    """Commits to a segment's root (place, number of rows, last hash, the same of the reviews) and to all roots before it."""
    root = (
        f"{sealed.number} {sealed.first_row} {sealed.last_row} {sealed.head} {sealed.last_review} {sealed.review_head}"
    )
    return link(sealed.follows, root.encode())


def create_tables(database: sqlite3.Connection, segments: Sequence[Segment]) -> None:
    """In an empty file, within a transaction; ``segments`` are the roots so far and, last, this file's own."""
    for statement in _SCHEMA.split(";"):
        database.execute(statement)
    database.executemany(
        f"INSERT INTO segment ({_SEGMENT}) VALUES (?,?,?,?,?,?,?,?,?)",
        [
            (
                s.number,
                s.first_row,
                s.follows,
                s.begun_utc,
                s.last_row,
                s.head,
                s.last_review,
                s.review_head,
                s.sealed_utc,
            )
            for s in segments
        ],
    )
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def read_segments(database: sqlite3.Connection) -> list[Segment]:
    """The roots so far and, last, the file's own. Raises sqlite3.Error."""
    return [Segment(*row) for row in database.execute(f"SELECT {_SEGMENT} FROM segment ORDER BY number")]


def check_kind(path: Path, database: sqlite3.Connection) -> bool:
    """Whether the file is new. Changes nothing, as it may be another program's. Raises RecordFault where it is."""
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, SCHEMA_VERSION):
        raise RecordFault(
            f"record {path}: is of version {found}, this service writes version {SCHEMA_VERSION}; "
            "move the file away or name another under records.path"
        )
    is_empty = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if is_empty:
        return True
    columns = {name for (name,) in database.execute("SELECT name FROM pragma_table_info('part')")}
    if found == 0 or not columns >= _COLUMNS:
        raise no_record(path)
    return False


def no_record(path: Path) -> RecordFault:
    """It was never one of ours."""
    return RecordFault(
        f"record {path}: the file is no record of Lineside; move it away or name another under records.path"
    )


def bears_a_mark(path: Path) -> bool:
    """Whether a file that SQLite cannot read was a record once. Raises RecordFault."""
    try:
        with path.open("rb") as file:
            return _MARK.search(file.read(_MARK_WITHIN_BYTES)) is not None
    except OSError as error:
        raise RecordFault(f"record {path}: {error}") from error
