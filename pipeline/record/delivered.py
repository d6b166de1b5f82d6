"""The table of what the broker has: one row, which outlives the process and goes from segment to segment."""

from __future__ import annotations

import sqlite3
from itertools import pairwise

import msgspec

from pipeline.outbox import Delivered

_encode = msgspec.json.Encoder().encode
_decode_held = msgspec.json.Decoder(tuple[tuple[int, int], ...]).decode


def keep_delivered(database: sqlite3.Connection, delivered: Delivered) -> None:
    """Raises sqlite3.Error."""
    database.execute(
        "INSERT OR REPLACE INTO delivery (id, live_row, held) VALUES (1, ?, ?)",
        (delivered.live_row, _encode(delivered.held).decode()),
    )


def read_delivered(database: sqlite3.Connection) -> Delivered:
    """What cannot be read is nothing: at worst a consumer sees rows again. Raises sqlite3.Error."""
    found = database.execute("SELECT live_row, held FROM delivery").fetchone()
    if found is None:
        return Delivered()
    live_row, held = found
    if not isinstance(live_row, int) or not isinstance(held, str) or live_row < 0:
        return Delivered()
    try:
        intervals = _decode_held(held)
    except msgspec.DecodeError:
        return Delivered()
    ends = [0, *(row for interval in intervals for row in interval)]
    # Each interval's ends may be one row; the next one begins behind it.
    is_ascending = all(a < b if place % 2 == 0 else a <= b for place, (a, b) in enumerate(pairwise(ends)))
    return Delivered(live_row, intervals) if is_ascending else Delivered()
