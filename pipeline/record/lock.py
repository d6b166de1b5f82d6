"""One service a record: a lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class RecordInUse(RuntimeError):
    """Another service writes to the same record."""


def lock_record(record: Path) -> int:
    """Hold the record against a second service; returns the descriptor to close at the end. Raises RecordInUse, and OSError
    where the lock's file cannot be opened: no lock, no record.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_lock_file(record), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _hold(descriptor, record)
    return descriptor


def lock_if_there(record: Path) -> int | None:
    """As ``lock_record``, but makes nothing: None where there is no lock yet, or none that can be opened."""
    try:
        descriptor = os.open(_lock_file(record), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    _hold(descriptor, record)
    return descriptor


def _lock_file(record: Path) -> Path:
    return record.with_name(record.name + ".lock")


def _hold(descriptor: int, record: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RecordInUse(
            f"record {record}: another service writes to it; stop that one or name another record"
        ) from None
