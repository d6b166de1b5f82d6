"""Reading the record's rows back while it is written, for whoever they have to be told: over all segments, past what is gone."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from pipeline.outbox import Row, RowsRead
from pipeline.record.faults import RecordDamaged, RecordFault, fault_of, faults_of
from pipeline.record.files import sealed_name
from pipeline.record.opening import OpenSegment
from pipeline.record.rows import decode_row
from pipeline.record.sealed import open_sealed

_READ_ROWS = "SELECT id, body, row_hash FROM part WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
_FILES_AT_ONCE = 8
"""Sealed segments that are opened at once for rows to be told."""

_encode = msgspec.json.Encoder().encode


def read_payloads(segment: OpenSegment, first: int, last: int, count_max: int) -> RowsRead:
    """Numbers and ``result`` payloads of the first rows that are there of this interval, in order.

    Rows of a sealed segment that is not there any more, or damaged, are gone; where one cannot be read for any other reason
    it stops there and says so. Raises RecordFault where it is the segment that is written to.
    """
    rows: list[Row] = []
    through = first - 1
    begin = max(0, bisect_right(segment.segments, first, key=lambda other: other.first_row) - 1)
    opened = 0
    for asked in segment.segments[begin:]:
        if asked.first_row > last or len(rows) == count_max or opened == _FILES_AT_ONCE:
            return RowsRead(rows, through)
        end = last if asked.last_row is None else min(last, asked.last_row)
        interval = (through + 1, end, count_max - len(rows))
        if asked is segment.own:
            read, read_through = _read_own(segment, *interval)
        else:
            file = sealed_name(segment.path, asked.number)
            try:
                file.stat()
                opened += 1
                read, read_through = _read_sealed(file, *interval)
            except FileNotFoundError as error:
                if not segment.is_in_place():
                    # The folder is away, with all that is in it.
                    return RowsRead(rows, through, f"record {file}: {error.strerror}")
                read, read_through = [], end
            except OSError as error:
                return RowsRead(rows, through, f"record {file}: {error.strerror}")
            except RecordFault as error:
                return RowsRead(rows, through, str(error))
        rows += read
        through = max(through, read_through)
        if through < end:
            return RowsRead(rows, through)
    return RowsRead(rows, max(through, last))


def _read_own(segment: OpenSegment, first: int, last: int, count_max: int) -> tuple[list[Row], int]:
    """As ``_read_sealed``, and where one of the rows cannot be read, none can. Raises RecordFault."""
    with faults_of(segment.path):
        found = segment.database.execute(_READ_ROWS, (first, last, count_max)).fetchall()
    rows = [_payload(segment.path, *row) for row in found]
    return rows, found[-1][0] if len(found) == count_max else last


def _read_sealed(file: Path, first: int, last: int, count_max: int) -> tuple[list[Row], int]:
    """The first rows that can be read of this interval, and up to where it was looked through. Raises RecordFault."""
    with faults_of(file), closing(open_sealed(file)) as database:
        try:
            found = database.execute(_READ_ROWS, (first, last, count_max)).fetchall()
            through = found[-1][0] if len(found) == count_max else last
        except sqlite3.Error as error:
            if not isinstance(fault_of(file, error), RecordDamaged):
                raise
            # Rows beside the damage are told all the same.
            through = min(last, first + count_max - 1)
            found = [row for number in range(first, through + 1) for row in _row_if_sound(file, database, number)]
    rows = []
    for row in found:
        with suppress(RecordDamaged):
            rows.append(_payload(file, *row))
    return rows, through


def _row_if_sound(file: Path, database: sqlite3.Connection, number: int) -> list[tuple[int, object, str]]:
    """Raises sqlite3.Error where it is not for damage that it cannot be read."""
    try:
        return database.execute(_READ_ROWS, (number, number, 1)).fetchall()
    except sqlite3.Error as error:
        if not isinstance(fault_of(file, error), RecordDamaged):
            raise
        return []


def _payload(file: Path, number: int, body: object, row_hash: str) -> Row:
    """Raises RecordDamaged."""
    return number, _encode(decode_row(file, body, row_hash))
