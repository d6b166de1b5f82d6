"""What the sealed segments beside a record say of the segments so far, for the one that is begun after them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.record.faults import RecordDamaged, RecordFault, fault_of
from pipeline.record.files import sealed_files
from pipeline.record.sealed import open_sealed
from pipeline.record.segment import PartRange, Segment, check_kind, read_part_ranges, read_segments


@dataclass(frozen=True, slots=True)
class Roots:
    """Of the sealed segments.

    Attributes:
        segments: as the newest one that can be read tells them, the oldest first; empty where there is none.
        part_ranges: which parts are in which of them.
        next_number: of the segment to be begun. Not the last one's plus 1 where names behind it are taken: what those files
            hold is not known, and the gap says so for ever.
        troubles: of files that were passed over, each in words.
    """

    segments: list[Segment]
    part_ranges: list[PartRange]
    next_number: int
    troubles: list[str]


def read_roots(record: Path) -> Roots:
    """Raises RecordFault where a file cannot be read now, is another program's or of another version: to go on without it would
    begin a second record beside the first.
    """
    try:
        files = sealed_files(record)
    except OSError as error:
        raise RecordFault(f"record {record}: its folder cannot be read: {error.strerror}") from error
    segments: list[Segment] = []
    part_ranges: list[PartRange] = []
    troubles: list[str] = []
    damaged_number = 0
    for number, file in reversed(files.items()):
        try:
            with closing(open_sealed(file)) as database:
                if check_kind(file, database):
                    raise sqlite3.DatabaseError("malformed: it is empty")
                segments, part_ranges = read_segments(database), read_part_ranges(database)
        except sqlite3.Error as error:
            fault = fault_of(file, error)
            if not isinstance(fault, RecordDamaged):
                raise RecordFault(f"{fault}: what comes after it cannot be begun") from error
            damaged_number = max(damaged_number, number)
            troubles.append(f"{file} is damaged ({error}): the record goes on without what it held; keep it as it is")
            continue
        own = segments[-1]
        if own.number == number and own.sealed_utc is not None:
            break
        state = "is not sealed" if own.sealed_utc is None else "is sealed"
        troubles.append(
            f"{file} holds segment {own.number}, which {state}, expected segment {number}, sealed: it looks like a copy and counts "
            "for nothing; move it away"
        )
        segments, part_ranges = [], []
    next_number = max(segments[-1].number if segments else 0, damaged_number) + 1
    while next_number in files:
        next_number += 1
    return Roots(segments, part_ranges, next_number, troubles)
