"""Sessions: each start of the service is one."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import string
import time
from pathlib import Path
from urllib.parse import quote

from pipeline.ledger_file import ledger_files, session_of
from pipeline.record.files import record_files

_BASE_36 = string.digits + string.ascii_lowercase
_LOCK_WAIT_S = 0.25
_TABLES = ("part", "late_inspection", "tally")


def new_session_id(record: Path) -> str:
    """Eight characters that sort by time: seconds in base 36, and two at random. Short, as every verdict carries it.

    None that is on ``record``, or has a ledger there, comes again: a box whose clock is not kept over power cuts starts at
    the same second each time. A record that cannot be read is left out of it.
    """
    in_ledgers = {session_of(path) for path in ledger_files(record)}
    seconds = int(time.time())
    while True:
        session_id = _base_36(seconds) + "".join(secrets.choice(_BASE_36) for _ in range(2))
        if session_id not in in_ledgers and not _is_on_record(record, session_id):
            return session_id
        # The next second's: a second that has none left ends it as well.
        seconds += 1


def _base_36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _BASE_36[digit] + text
    return text


def _is_on_record(record: Path, session_id: str) -> bool:
    try:
        files = record_files(record)
    except OSError:
        return False
    return any(_is_in(file, session_id) for file in files)


def _is_in(file: Path, session_id: str) -> bool:
    with contextlib.suppress(sqlite3.Error):
        address = f"file:{quote(str(file))}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_LOCK_WAIT_S)) as database:
            return any(
                database.execute(f"SELECT 1 FROM {table} WHERE session_id = ? LIMIT 1", (session_id,)).fetchone()
                for table in _TABLES
            )
    return False
