"""The file that is written to: made, opened, and taken up where a kill left it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone, fault_of
from pipeline.record.files import identity_of
from pipeline.record.sealing import name_sealed
from pipeline.record.segment import LOG_BYTES, Segment, bears_a_mark, check_kind, no_record, read_segments

_LOCK_WAIT_S = 0.25
_CHECKED_BYTES_MAX = 2 << 30
_UNREAD = ("unable to get the page", "failed to get page")
"""quick_check's words for a page that could not be read, which is the disk's trouble and may pass."""


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """The file that is written to, and what it says of the segments.

    Attributes:
        segments: the sealed ones, the oldest first, whether their files are there or not, and, last, this one.
        identity: of the file that was opened.
    """

    path: Path
    database: sqlite3.Connection
    segments: Sequence[Segment]
    identity: tuple[int, int] | None

    @property
    def own(self) -> Segment:
        """Where this one stands."""
        return self.segments[-1]

    @property
    def sealed(self) -> Sequence[Segment]:
        """Those before this one."""
        return self.segments[:-1]

    @property
    def newest_sealed(self) -> list[int]:
        """The number of the one before this one; empty where there is none."""
        return [segment.number for segment in self.segments[-2:-1]]

    def check_pages(self) -> None:
        """Damage in pages that no writing touches would be sealed in, and later rows with it. Reads the whole file, where it
        is not larger than 2 GiB: 0.4 s for 137 MB that are in memory. Raises RecordDamaged; a page that the disk cannot give
        now is none.
        """
        if self.path.stat().st_size > _CHECKED_BYTES_MAX:
            return
        found = self.database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok" and not any(words in found for words in _UNREAD):
            raise RecordDamaged(f"record {self.path}: database is damaged: {' '.join(found.split())}")

    def is_in_place(self) -> bool:
        """Whether its name is still this file's."""
        return identity_of(self.path) == self.identity

    def check_in_place(self) -> None:
        """Raises RecordGone."""
        if not self.is_in_place():
            raise RecordGone(f"record {self.path}: the file was deleted or replaced while the service ran")


def open_segment(path: Path, begin: Callable[[], None]) -> OpenSegment:
    """``begin`` makes the file, where it is not there or new. Raises RecordFault."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            begin()
        elif not path.is_file():
            # A pipe would be waited for, beyond the reach of any signal.
            what = "a folder" if path.is_dir() else "a pipe, socket or device"
            raise RecordFault(f"record {path}: got {what}, expected a file; name another under records.path")
        # Asked before SQLite makes them itself.
        was_left_open = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm"))
        database = _connect(path)
    except OSError as error:
        raise RecordFault(f"record {path}: {error}") from error
    except sqlite3.Error as error:
        raise fault_of(path, error) from error
    try:
        if check_kind(path, database):
            database.close()
            begin()
            database = _connect(path)
        segments = read_segments(database)
        if segments[-1].sealed_utc is not None:
            # Killed between sealing and giving the file its name.
            close_database(database)
            name_sealed(path, segments[-1].number)
            return open_segment(path, begin)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        page_bytes = database.execute("PRAGMA page_size").fetchone()[0]
        database.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // page_bytes}")
    except OSError as error:
        close_database(database)
        raise RecordFault(f"record {path}: {error}") from error
    except sqlite3.Error as error:
        close_database(database)
        fault = fault_of(path, error)
        if isinstance(fault, RecordDamaged) and not was_left_open and not bears_a_mark(path):
            raise no_record(path) from error
        raise fault from error
    except RecordFault:
        close_database(database)
        raise
    return OpenSegment(path, database, segments, identity_of(path))


def close_database(database: sqlite3.Connection) -> None:
    """What it still moves from its log into the file may fail; the log then stays."""
    with contextlib.suppress(sqlite3.Error):
        database.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
