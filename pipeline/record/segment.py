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
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from pipeline.record.chain import NO_HASH, link
from pipeline.record.faults import RecordFault

SCHEMA_VERSION = 4
PAGE_BYTES = 8192
"""Of a new file. A row without defects takes a bit over a kilobyte: three of them leave much of SQLite's own 4,096 bytes empty."""
LOG_BYTES = 4_096_000
"""So large the log grows before it is moved into the file: SQLite's own 1,000 pages, where they have 4,096 bytes."""

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
CREATE TABLE sealed_parts (
    session_id TEXT NOT NULL,
    segment INTEGER NOT NULL,
    first_part INTEGER NOT NULL,
    last_part INTEGER NOT NULL,
    PRIMARY KEY (session_id, segment)
) WITHOUT ROWID;
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

    def next(self, begun_utc: str, number: int | None = None) -> Segment:
        """The one after this one, which is sealed; with another ``number`` where that name is taken. Raises RecordFault."""
        if self.last_row is None:
            raise RecordFault(f"segment {self.number} of the record is not sealed: nothing can come after it")
        return Segment(number or self.number + 1, self.last_row + 1, seal_of(self), begun_utc)


PartRange: TypeAlias = tuple[str, int, int, int]
"""Session, segment, and the lowest and highest number of that session's parts in that segment."""


def first_segment(begun_utc: str, number: int = 1) -> Segment:
    """Where a record begins."""
    return Segment(number, 1, NO_HASH, begun_utc)


def seconds_of(utc: str) -> float:
    """Of the wall clock, from its text. Raises ValueError."""
    return datetime.fromisoformat(utc.replace("Z", "+00:00")).timestamp()


def seal_of(sealed: Segment) -> str:
    """Commits to a segment's root (place, number of rows, last hash, the same of the reviews) and to all roots before it."""
    root = (
        f"{sealed.number} {sealed.first_row} {sealed.last_row} {sealed.head} {sealed.last_review} {sealed.review_head}"
    )
    return link(sealed.follows, root.encode())


def create_tables(
    database: sqlite3.Connection, segments: Sequence[Segment], part_ranges: Sequence[PartRange] = ()
) -> None:
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
    database.executemany("INSERT INTO sealed_parts VALUES (?,?,?,?)", part_ranges)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def read_segments(database: sqlite3.Connection) -> list[Segment]:
    """The roots so far and, last, the file's own. Raises sqlite3.Error, also where they hold what is never written."""
    segments = [Segment(*row) for row in database.execute(f"SELECT {_SEGMENT} FROM segment ORDER BY number")]
    if not segments:
        raise sqlite3.DatabaseError("malformed: its table segment is empty")
    for segment in segments:
        if (fault := _type_fault(segment)) or (segment is not segments[-1] and segment.sealed_utc is None):
            text = fault or "it is not sealed, and there are later ones"
            raise sqlite3.DatabaseError(f"malformed: its table segment, number {segment.number!r}: {text}")
    return segments


def _type_fault(segment: Segment) -> str:
    is_sealed = segment.sealed_utc is not None
    counts: dict[str, object] = {"number": segment.number, "first_row": segment.first_row}
    texts: dict[str, object] = {"follows": segment.follows}
    times = {"begun_utc": segment.begun_utc}
    if is_sealed:
        counts |= {"last_row": segment.last_row or 0, "last_review": segment.last_review or 0}
        texts |= {"head": segment.head or ""}
        times |= {"sealed_utc": str(segment.sealed_utc)}
        if segment.last_row is None:
            return "it is sealed and has no last_row"
    for name, count in counts.items():
        if not isinstance(count, int):
            return f"got {name} {count!r}, expected a whole number"
    for name, text in texts.items():
        if not isinstance(text, str):
            return f"got {name} {text!r}, expected a hash"
    for name, time in times.items():
        try:
            seconds_of(time)
        except (ValueError, TypeError, AttributeError, OverflowError):
            return f"got {name} {time!r}, expected a time"
    return ""


def read_part_ranges(database: sqlite3.Connection) -> list[PartRange]:
    """Of all segments that are sealed, this one too where it is. Raises sqlite3.Error."""
    return database.execute("SELECT session_id, segment, first_part, last_part FROM sealed_parts").fetchall()


def note_part_ranges(database: sqlite3.Connection, segment: int) -> None:
    """Of the file's own parts, when it is sealed as ``segment``. Raises sqlite3.Error."""
    database.execute(
        "INSERT OR REPLACE INTO sealed_parts"
        " SELECT session_id, ?, min(part_id), max(part_id) FROM part GROUP BY session_id",
        (segment,),
    )


def segments_with_part(database: sqlite3.Connection, part_id: int, session_id: str | None) -> list[int]:
    """Numbers of the sealed segments that may have it, the newest first. Raises sqlite3.Error."""
    ask = (
        "SELECT DISTINCT segment FROM sealed_parts WHERE ?1 BETWEEN first_part AND last_part"
        " AND (?2 IS NULL OR session_id = ?2) ORDER BY segment DESC"
    )
    if session_id is not None:
        ask = ask.replace("(?2 IS NULL OR session_id = ?2)", "session_id = ?2")  # by the table's index
    return [number for (number,) in database.execute(ask, (part_id, session_id))]


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
