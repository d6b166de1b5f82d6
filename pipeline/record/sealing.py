"""How a segment ends: its seal, its name, and what is there of those that have ended."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pipeline.clock import NS_PER_S
from pipeline.record.faults import RecordFault, RecordGone
from pipeline.record.files import sealed_name, sync_folder
from pipeline.record.segment import Segment, note_part_ranges, seconds_of
from pipeline.retention import SealedSegment

_CLOCK_SET_UTC = "2020"
"""An earlier time is that of a box whose clock nobody had set yet."""


def write_seal(
    database: sqlite3.Connection, number: int, last: tuple[int, str], last_review: tuple[int, str], utc: str
) -> None:
    """``last``: number and hash of the last row, ``last_review`` of the last review. Raises sqlite3.Error."""
    note_part_ranges(database, number)
    database.execute(
        "UPDATE segment SET last_row = ?, head = ?, last_review = ?, review_head = ?, sealed_utc = ? WHERE number = ?",
        (*last, *last_review, utc, number),
    )


def name_sealed(record: Path, number: int) -> None:
    """The sealed file, which nobody has open, makes room for the next. Raises RecordGone."""
    sealed = sealed_name(record, number)
    try:
        if sealed.exists():
            raise RecordGone(f"record {record}: cannot be sealed as {sealed}: there is such a file already")
        record.rename(sealed)
        sync_folder(sealed.parent)
    except OSError as error:
        raise RecordGone(f"record {record}: cannot be sealed as {sealed}: {error.strerror}") from error


def sealed_there(record: Path, sealed: Sequence[Segment], wall_ns: int) -> list[SealedSegment]:
    """Those of the sealed segments whose files are there, in their order. One that was sealed before the box knew the time is
    as old as the one after it. Raises RecordFault, and OSError.
    """
    found: list[SealedSegment] = []
    age = 0.0
    for segment in reversed(sealed):
        file = sealed_name(record, segment.number)
        if segment.last_row is None or segment.sealed_utc is None:
            raise RecordFault(f"record {record}: says nothing of how segment {segment.number} ended")
        if segment.sealed_utc >= _CLOCK_SET_UTC:
            age = age_s(segment.sealed_utc, wall_ns)
        with contextlib.suppress(FileNotFoundError):
            found.append(SealedSegment(file, segment.last_row, file.stat().st_size, age))
    return found[::-1]


def age_s(utc: str, wall_ns: int) -> float:
    """How long ago that was, by the wall clock; negative where that was set back."""
    return wall_ns / NS_PER_S - seconds_of(utc)
