"""Why a record cannot be written: for now, by this connection, or because it is damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PASSING = ("database is locked", "database or disk is full")
_DAMAGE = ("file is not a database", "malformed", "could not decode to utf-8")
"""In SQLite's words for SQLITE_NOTADB, SQLITE_CORRUPT and text that is none; its codes are known to Python from 3.11 on."""


class RecordFault(RuntimeError):
    """The record cannot be written now; the text names file and cause. Trying again may help."""


class RecordGone(RecordFault):
    """This connection will write no more: the file was deleted or replaced, or it was opened while it could only be read.
    Open it anew.
    """


class RecordDamaged(RecordGone):
    """The file is no sound database any more: set it aside and begin another."""


def fault_of(path: Path, error: sqlite3.Error) -> RecordFault:
    """SQLite's error, of the right kind."""
    text = str(error).lower()
    kind: type[RecordFault] = RecordGone
    if any(words in text for words in _PASSING):
        kind = RecordFault
    elif any(words in text for words in _DAMAGE):
        kind = RecordDamaged
    return kind(f"record {path}: {error}")


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """SQLite's errors come out of it as RecordFault."""
    try:
        yield
    except sqlite3.Error as error:
        raise fault_of(path, error) from error
