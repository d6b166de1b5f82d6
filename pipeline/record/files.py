"""The files that a record consists of: sealed segments, the one that is written to, and damaged ones that were set aside."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from pipeline.record.faults import RecordFault


def sealed_name(record: Path, number: int) -> Path:
    """What the segment of this number is called once it is sealed: ``records-000001.db`` beside ``records.db``."""
    return record.with_name(f"{record.stem}-{number:06d}{record.suffix}")


def sealed_files(record: Path) -> dict[int, Path]:
    """The sealed segments that are there, by their number, the oldest first. Raises OSError."""
    return {number: file for number, file in numbered_files(record) if file == sealed_name(record, number)}


def numbered_files(record: Path) -> list[tuple[int, Path]]:
    """Whatever is called as a sealed segment is, by number, also where two names say the same one. Raises OSError."""
    pattern = re.compile(re.escape(record.stem) + r"-(\d{6,})" + re.escape(record.suffix))
    try:
        found = [(pattern.fullmatch(file.name), file) for file in record.parent.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted((int(match[1]), file) for match, file in found if match is not None)


def record_files(record: Path) -> list[Path]:
    """All of the record that is there, the oldest rows first: sealed segments, then the file ``record`` itself. Raises OSError."""
    return [*sealed_files(record).values(), *([record] if record.exists() else [])]


def identity_of(path: Path) -> tuple[int, int] | None:
    """Of the file itself, whatever its name; None where it cannot be asked."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def sync_folder(folder: Path) -> None:
    """So that a name survives a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path, session_id: str) -> Path:
    """Move a damaged record and its log out of the way, under names that SQLite's own tools can open together; nobody may
    have it open. Returns the new name. Raises RecordFault.

    Killed at any moment, it leaves all the database and log hold under names that belong together: the log gets its new name as a
    second one, then the database moves, then the log's old name goes.
    """
    numbers = [int(found[1]) for found in _set_aside_names(path, session_id)]
    aside = path.with_name(f"{path.name}.damaged-{session_id}-{max(numbers, default=0) + 1}")
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    try:
        with contextlib.suppress(FileNotFoundError):
            aside.with_name(aside.name + "-wal").hardlink_to(log)
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        log.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            index.rename(aside.with_name(aside.name + "-shm"))
    except OSError as error:
        raise RecordFault(f"record {path}: is damaged and cannot be set aside as {aside}: {error.strerror}") from error
    return aside


def set_aside_by(path: Path, session_id: str) -> list[Path]:
    """The damaged records that this session has set aside. Raises RecordFault."""
    return [path.with_name(found[0]) for found in _set_aside_names(path, session_id) if not found[2]]


def _set_aside_names(path: Path, session_id: str) -> list[re.Match[str]]:
    """Each with its number and, of a log or index, the suffix."""
    pattern = re.compile(re.escape(f"{path.name}.damaged-{session_id}-") + r"(\d+)(-wal|-shm)?")
    try:
        return [match for found in path.parent.iterdir() if (match := pattern.fullmatch(found.name)) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordFault(f"record {path}: its folder cannot be read: {error.strerror}") from error
