"""Where the chains of rows and of reviews have got, and what stands at a number, over all segments."""

from __future__ import annotations

from typing import Literal

from pipeline.payloads import COUNT_MAX
from pipeline.record.chain import NO_HASH
from pipeline.record.faults import faults_of
from pipeline.record.files import sealed_name
from pipeline.record.opening import OpenSegment
from pipeline.record.sealed import find_sealed


def last_own_row(segment: OpenSegment) -> tuple[int, str] | None:
    """Number and hash; None while it holds none. Raises sqlite3.Error."""
    row = segment.database.execute("SELECT id, row_hash FROM part ORDER BY id DESC LIMIT 1").fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def end_of_chain(segment: OpenSegment) -> tuple[int, str]:
    """The last row's number, and what the next row commits to. Raises sqlite3.Error."""
    return last_own_row(segment) or (segment.own.first_row - 1, segment.own.follows)


def end_of_rows(segment: OpenSegment) -> tuple[int, str]:
    """The last row's number and hash. Raises sqlite3.Error."""
    row = last_own_row(segment)
    if row is not None:
        return row
    for before in segment.sealed[-1:]:
        return before.last_row or 0, before.head or NO_HASH
    return 0, NO_HASH


def end_of_reviews(segment: OpenSegment) -> tuple[int, str]:
    """The last review's number and hash. Raises sqlite3.Error."""
    row = segment.database.execute("SELECT id, review_hash FROM review ORDER BY id DESC LIMIT 1").fetchone()
    if row is not None:
        return int(row[0]), str(row[1])
    for before in segment.sealed[-1:]:
        return before.last_review or 0, before.review_head or NO_HASH
    return 0, NO_HASH


def hash_of(segment: OpenSegment, number: int, table: Literal["part", "review"]) -> str | None:
    """Of this row, or this review; None where there is none, or it is in a file that cannot be read. Raises RecordFault."""
    if not 0 <= number <= COUNT_MAX:
        return None  # nor can SQLite be asked for any integer
    column = "row_hash" if table == "part" else "review_hash"
    ask = f"SELECT {column} FROM {table} WHERE id = ?"
    with faults_of(segment.path):
        own = segment.database.execute(ask, (number,)).fetchone()
    if own is not None:
        return str(own[0])
    if number == 0:
        return NO_HASH
    for sealed in segment.sealed:
        last, head = (sealed.last_row, sealed.head) if table == "part" else (sealed.last_review, sealed.review_head)
        if last == number:
            return head
        if last is not None and last > number:
            # The first that ends behind it: it is there or nowhere.
            found = find_sealed(segment.path, [sealed.number], ask, (number,))
            return None if found is None else str(found[0])
    return None


def may_be_dropped(segment: OpenSegment, row: int) -> bool:
    """Whether it is in a sealed segment whose file is not there."""
    return any(
        sealed.last_row is not None
        and sealed.first_row <= row <= sealed.last_row
        and not sealed_name(segment.path, sealed.number).exists()
        for sealed in segment.sealed
    )
