"""The sealed segments beside a record: asked one at a time, and as far as they can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pipeline.record.files import sealed_name

_LOCK_WAIT_S = 0.25
_Answer = TypeVar("_Answer")


def open_sealed(file: Path) -> sqlite3.Connection:
    """To read only. Raises sqlite3.Error, as does whatever is asked of it."""
    return sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=_LOCK_WAIT_S)


def ask_sealed(file: Path, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer | None:
    """None also where the file is not there or cannot be read."""
    with suppress(sqlite3.Error), closing(open_sealed(file)) as database:
        return question(database)
    return None


def find_sealed(
    record: Path, numbers: Iterable[int], ask: str, arguments: tuple[object, ...]
) -> tuple[Any, ...] | None:
    """The first row that the segments of these numbers give to an SQL question, as far as they can be read."""

    def first_row(database: sqlite3.Connection) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = database.execute(ask, arguments).fetchone()
        return row

    for number in numbers:
        found = ask_sealed(sealed_name(record, number), first_row)
        if found is not None:
            return found
    return None
