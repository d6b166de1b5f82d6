"""Reads the record for people: part by part, over all segments, also while the service writes."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from pipeline.payloads import ResultPayload
from pipeline.record.files import numbered_files, sealed_name
from pipeline.record.reviews import Review, decode_review
from pipeline.record.segment import SCHEMA_VERSION, Segment, read_segments

_LOCK_WAIT_S = 5.0
_ROWS_AT_ONCE = 5_000
"""Read in one transaction: a longer one would keep a service that writes meanwhile from emptying its log."""

_NAMING_TRIES = 3
_NAMING_S = 0.1
_BEYOND_ALL = 1 << 62

_SECOND = len("2026-01-31T06:00:00")
_MARGIN = timedelta(days=1)
"""So far a wall clock may have been set back meanwhile."""
_SESSIONS = """
WITH RECURSIVE session (id) AS (
    SELECT min(session_id) FROM part
    UNION ALL
    SELECT (SELECT min(session_id) FROM part WHERE session_id > session.id) FROM session WHERE session.id IS NOT NULL
)
"""
"""Of a file, by its index."""

_decode_result = msgspec.json.Decoder(ResultPayload).decode


class NotReadable(RuntimeError):
    """There is no record, or it cannot be read; the text names the file, what was got and what was expected."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts: all conditions hold. ``since`` and ``until`` compare with ``trigger_utc``, as text, the end not included.

    Sealed segments in which every session's last part came over a day before ``since`` are passed over.
    """

    session_id: str | None = None
    part_id: int | None = None
    since_utc: str | None = None
    until_utc: str | None = None
    lot: str | None = None
    order: str | None = None
    serial: str | None = None
    shift: str | None = None

    def condition(self) -> tuple[str, list[object]]:
        """In SQL, with its arguments."""
        asked = (
            ("session_id = ?", self.session_id),
            ("part_id = ?", self.part_id),
            ("trigger_utc >= ?", self.since_utc),
            ("trigger_utc < ?", self.until_utc),
            ("json_extract(body, '$.traceability.lot') = ?", self.lot),
            ("json_extract(body, '$.traceability.order') = ?", self.order),
            ("json_extract(body, '$.traceability.serial') = ?", self.serial),
            ("json_extract(body, '$.traceability.shift') = ?", self.shift),
        )
        return " AND ".join(["1", *(words for words, value in asked if value is not None)]), [
            value for _, value in asked if value is not None
        ]


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """A part as it stands in the record: its row's number, the file, and the result with its ``row_hash``."""

    row: int
    file: Path
    result: ResultPayload


class _LateView(msgspec.Struct):
    """As ``ViewInspected`` is kept."""

    camera_id: str
    verdict: str
    reason: str
    score: float | None
    grabbed_ns: int
    judged_ns: int


_decode_late = msgspec.json.Decoder(_LateView).decode


@dataclass(frozen=True, slots=True)
class LateWord:
    """What an inspection said after its part was decided."""

    camera_id: str
    arrived_ns: int
    verdict: str
    reason: str
    score: float | None


def read_rows(record: Path, wanted: Wanted | None = None) -> Iterator[RecordedRow]:
    """The parts wanted, in the record's order. Raises NotReadable."""
    wanted = wanted or Wanted()
    condition, arguments = wanted.condition()
    sessions, row = "", "id"
    if wanted.part_id is not None:
        # Looked for in each session by the index, and not among all rows in their order.
        sessions, row = _SESSIONS, "+id"
        condition += " AND session_id IN (SELECT id FROM session)"
    ask = f"{sessions} SELECT id, body, row_hash FROM part WHERE {row} > ? AND {condition} ORDER BY id LIMIT {_ROWS_AT_ONCE}"
    with _complete(record) as files:
        for file in files:
            with _reading(file) as database:
                if wanted.since_utc is not None and _ended_before(database, wanted.since_utc):
                    continue
                last = -1
                while rows := database.execute(ask, (last, *arguments)).fetchall():
                    for last, body, row_hash in rows:
                        yield RecordedRow(last, file, _result(file, last, body, row_hash))


def _ended_before(database: sqlite3.Connection, utc: str) -> bool:
    """Whether the file is sealed, and its sessions' last parts came a day or more before. Raises sqlite3.Error."""
    sealed = database.execute("SELECT sealed_utc IS NOT NULL FROM segment ORDER BY number DESC LIMIT 1").fetchone()
    if sealed is None or not sealed[0]:
        return False
    # The parts' own time and not the seal's: to that no row commits. Rows of a killed session come behind the next one's.
    newest = database.execute(
        f"{_SESSIONS} SELECT max(trigger_utc) FROM session CROSS JOIN part WHERE part.session_id = session.id"
        " AND part.part_id = (SELECT max(part_id) FROM part WHERE session_id = session.id)"
    ).fetchone()[0]
    try:
        last, asked = (datetime.fromisoformat(str(text)[:_SECOND]) for text in (newest, utc))
        return last + _MARGIN < asked
    except (ValueError, OverflowError):
        return False  # as it is no moment, its parts are asked


def read_late_words(record: Path, session_id: str, part_id: int) -> list[LateWord]:
    """What was said of a part after its decision, in the order in which it came. Raises NotReadable."""
    ask = "SELECT arrived_ns, body FROM late_inspection WHERE session_id = ? AND part_id = ? ORDER BY arrived_ns"
    found = []
    with _complete(record) as files:
        for file in files:
            with _reading(file) as database:
                for arrived_ns, body in database.execute(ask, (session_id, part_id)):
                    view = _decode_late(body)
                    found.append(LateWord(view.camera_id, arrived_ns, view.verdict, view.reason, view.score))
    return found


def count_late_words(record: Path, parts: Mapping[str, tuple[int, int]]) -> Counter[tuple[str, str, str]]:
    """How often a camera's inspection came after the decision, by (camera_id, verdict, reason) that it told.

    ``parts`` says which: {session_id: (first part_id, last part_id)}. Raises NotReadable.
    """
    ask = f"SELECT id, session_id, part_id, body FROM late_inspection WHERE id > ? ORDER BY id LIMIT {_ROWS_AT_ONCE}"
    counts: Counter[tuple[str, str, str]] = Counter()
    with held_still(record) as files:
        for file in files:
            with _reading(file) as database:
                last = -1
                while rows := database.execute(ask, (last,)).fetchall():
                    last = rows[-1][0]
                    for _, session_id, part_id, body in rows:
                        first_part, last_part = parts.get(session_id, (1, 0))
                        if first_part <= part_id <= last_part:
                            view = _decode_late(body)
                            counts[view.camera_id, view.verdict, view.reason] += 1
    return counts


def read_reviews(record: Path) -> list[Review]:
    """What people said of parts, in the order in which it came. Raises NotReadable."""
    found = []
    with held_still(record) as files:
        for file in files:
            with _reading(file) as database:
                found += [decode_review(body) for (body,) in database.execute("SELECT body FROM review ORDER BY id")]
    return found


def read_context(recorded: RecordedRow) -> dict[str, Any] | None:
    """What the part was judged with; None where that is not known. Raises NotReadable."""
    sha256 = recorded.result.context_sha256
    if sha256 is None:
        return None
    with _reading(recorded.file) as database:
        found = database.execute("SELECT body FROM context WHERE sha256 = ?", (sha256,)).fetchone()
    if found is None or hashlib.sha256(str(found[0]).encode()).hexdigest() != sha256:
        raise NotReadable(
            f"record {recorded.file}: context {sha256} is not there as it was; see lineside records verify"
        )
    context: dict[str, Any] = msgspec.json.decode(found[0])
    return context


@contextmanager
def held_still(record: Path) -> Iterator[list[Path]]:
    """The record's files, the oldest first. Meanwhile none changes its name: the service cannot seal what somebody has open.

    Raises NotReadable where there is none.
    """
    with ExitStack() as stack:
        try:
            if record.exists() and not record.is_file():
                # A pipe would be waited for, beyond the reach of any signal.
                what = "a folder" if record.is_dir() else "a pipe, socket or device"
                raise NotReadable(f"record {record}: got {what}, expected a file")
            newest = _open_newest(record, stack)
            sealed = numbered_files(record)
        except OSError as error:
            raise NotReadable(f"record {record}: its folder cannot be read: {error.strerror}") from error
        for (number, file), (other_number, other) in pairwise(sealed):
            if number == other_number:
                raise NotReadable(
                    f"record {record}: got {file.name} and {other.name} for segment {number}, expected one; move the other away"
                )
        for number, file in sealed:
            if newest is not None and number >= newest:
                raise NotReadable(
                    f"record {record}: got {file.name} beside it, expected only segments before its own, which is {newest}; "
                    "move the one that does not belong there away (it can be read alone)"
                )
        files = [file for _, file in sealed]
        if newest is not None:
            files.append(record)
        if not files:
            raise NotReadable(f"record {record}: got nothing, expected a file")
        yield files


@contextmanager
def _complete(record: Path) -> Iterator[list[Path]]:
    """``held_still``, where no segment is missing between two others, nor under another one's name. Raises NotReadable."""
    with held_still(record) as files:
        before: Segment | None = None
        for file in files:
            with _reading(file) as database:
                own = read_segments(database)[-1]
            if file != record and file != sealed_name(record, own.number):
                raise NotReadable(
                    f"record {file}: holds segment {own.number}, expected {sealed_name(record, own.number).name} as its name; "
                    "give it that one, or move it away where there is such a file"
                )
            if before is not None and own.number != before.number + 1:
                missing = sealed_name(record, before.number + 1)
                raise NotReadable(
                    f"record {record}: {missing.name} is missing, expected it between rows {before.last_row} and {own.first_row}; "
                    f"put it back, or ask for one file alone, as {file}"
                )
            before = own
        yield files


def _open_newest(record: Path, stack: ExitStack) -> int | None:
    """The number of the segment that is written to; None where there is no such file just now."""
    for _ in range(_NAMING_TRIES):
        if not record.exists():
            return None
        database = stack.enter_context(closing(open_to_read(record)))
        check_kind(record, database)
        try:
            own = read_segments(database)[-1]
        except sqlite3.Error:
            return _BEYOND_ALL  # to be read as far as it goes
        if own.sealed_utc is None:
            break
        # Just sealed: it has its other name in a moment, but where the service was killed just then.
        time.sleep(_NAMING_S)
    return own.number


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(open_to_read(file)) as database:
            check_kind(file, database)
            yield database
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise _unreadable(file, error) from error


def files_of(record: Path) -> list[Path]:
    """The record's files as they are called now, the oldest first. Raises NotReadable where there is none."""
    with held_still(record) as files:
        return files


def open_to_read(file: Path) -> sqlite3.Connection:
    """Raises NotReadable."""
    uri = f"{file.resolve().as_uri()}?mode=ro"
    log = file.with_name(f"{file.name}-wal")
    if not os.access(file.parent, os.W_OK) and not log.exists():
        # On a medium that cannot be written SQLite has no place for its index, and needs none.
        uri += "&immutable=1"
    try:
        return sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S)
    except sqlite3.Error as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> NotReadable:
    """SQLite's words, and what to do."""
    if not os.access(file, os.R_OK, effective_ids=True):
        return NotReadable(
            f"record {file}: cannot be read: permission denied; ask as the user that the service runs as"
        )
    text = str(error)
    advice = ""
    if "not a database" in text:
        advice = "; expected the SQLite file of a record, or the YAML file of its line"
    elif "unable to open" in text and not os.access(file.parent, os.W_OK):
        advice = "; its log (-wal) lies beside it, and SQLite has no place for its index: copy both to a folder that can be written"
    elif "malformed" in text:
        advice = "; keep it as it is: `sqlite3 FILE .recover` shows what can be read of it"
    return NotReadable(f"record {file}: cannot be read: {text}{advice}")


def check_kind(file: Path, database: sqlite3.Connection) -> None:
    """Whether it is a record of this version. Raises NotReadable."""
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        names = {name for (name,) in database.execute("SELECT name FROM pragma_table_info('part')")}
    except sqlite3.Error as error:
        raise _unreadable(file, error) from error
    if version == 0 and not names:
        what = "is empty" if not file.stat().st_size else "is a database without parts"
        raise NotReadable(f"record {file}: {what}, expected a record of Lineside")
    if version != SCHEMA_VERSION:
        whose = "a newer" if version > SCHEMA_VERSION else "an older"
        raise NotReadable(
            f"record {file}: is of version {version}, expected version {SCHEMA_VERSION}; read it with {whose} Lineside, or the "
            "program that wrote it"
        )
    if not {"id", "session_id", "part_id", "body", "row_hash"} <= names:
        raise NotReadable(f"record {file}: the file is no record of Lineside")


def _result(file: Path, row: int, body: str, row_hash: str) -> ResultPayload:
    try:
        return msgspec.structs.replace(_decode_result(body), row_hash=row_hash)
    except (msgspec.DecodeError, TypeError) as error:
        raise NotReadable(f"record {file}: row {row} holds no result: {error}; see lineside records verify") from error
