"""Has anybody touched the record? Reads it from the first row to the last and checks that each follows from the one before.

What a chain alone cannot prove: whoever can write the file can cut off its end, or work out the whole chain anew from the
row that they changed. Against that stands the *anchor*: how many rows there were at a moment and the hash of the last one,
kept where the record's owner cannot reach it (the broker's topic ``anchor``, logged elsewhere, or on paper).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipeline.record_chain import NO_HASH, link
from pipeline.record_segment import SCHEMA_VERSION

FindingKind = Literal["missing", "broken_link", "column", "unreadable", "truncated", "anchor"]

CANNOT_PROVE = (
    "rows cut off from the end",
    "a change after which all later rows' hashes were worked out anew",
    "a record exchanged for another one",
)
"""Behind the last anchor."""

_COLUMNS = (
    "session_id",
    "part_id",
    "seq",
    "verdict",
    "reason",
    "encoder_count",
    "trigger_ns",
    "trigger_utc",
    "decided_ns",
    "sent_ns",
    "deadline_ns",
)
_ROWS_AT_ONCE = 5_000
"""Read in one transaction: a longer one would keep a service that writes meanwhile from emptying its log."""
_PROGRESS_ROWS = 50_000


class NotVerifiable(RuntimeError):
    """There is no record to verify, or an anchor is none; the text names the file and what was expected."""


class Anchor(msgspec.Struct, frozen=True):
    """So many rows there were, and the last one had this hash."""

    row_count: int
    head: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the service wrote it.

    Attributes:
        kind: ``missing``: rows are not there; ``broken_link``: the row does not follow from the one before, as one of
            the two was edited, exchanged or put there, or something between them was taken out; ``column``: a column
            says other than the row's body; ``unreadable``: not a result's JSON, or the file is damaged; ``truncated``:
            the record ends before an anchor; ``anchor``: the row that an anchor names has another hash.
        row: its number, from 1; of missing rows the first.
        session_id, part_id: what the row says of itself; None where it says nothing.
    """

    kind: FindingKind
    row: int
    session_id: str | None
    part_id: int | None
    text: str


@dataclass(slots=True)
class Verified:
    """What was found.

    Attributes:
        rows: rows read.
        last_row: number of the last one, 0 for an empty record.
        head: its hash as it stands there.
        finding_count: how many there are; ``findings`` keeps the first so many.
        covered_rows: up to here the anchors that hold prove that nothing was cut off or worked out anew.
    """

    rows: int = 0
    last_row: int = 0
    head: str = NO_HASH
    first_utc: str | None = None
    last_utc: str | None = None
    sessions: dict[str, int] = field(default_factory=dict)
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    covered_rows: int = 0


class _Row(msgspec.Struct):
    """The columns again, as the body has them."""

    session_id: str
    part_id: int
    seq: int
    verdict: str
    reason: str
    encoder_count: int | None
    trigger_ns: int
    trigger_utc: str
    decided_ns: int
    sent_ns: int | None
    deadline_ns: int


_decode_row = msgspec.json.Decoder(_Row).decode
_decode_anchor = msgspec.json.Decoder(Anchor).decode


def read_anchors(lines: Iterable[str], name: str) -> list[Anchor]:
    """Anchors, one JSON object a line, as the topic ``anchor`` carries them. Raises NotVerifiable; ``name`` is for its text."""
    anchors = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            anchor = _decode_anchor(line)
        except msgspec.DecodeError as error:
            raise NotVerifiable(f"{name}, line {number}: expected an anchor: {error}") from None
        if anchor.row_count < 0 or len(anchor.head) != len(NO_HASH):
            expected = "a row_count of 0 or more and a head of 64 hexadecimal digits"
            raise NotVerifiable(f"{name}, line {number}: got {anchor}, expected {expected}")
        anchors.append(anchor)
    if not anchors:
        raise NotVerifiable(f"{name}: got no anchor, expected one a line")
    return anchors


def verify(
    record: Path,
    anchors: Sequence[Anchor] = (),
    *,
    findings_max: int = 1_000,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Reads the whole record; the service may go on writing. ``progress`` gets rows read and rows in all now and then.

    Raises NotVerifiable where there is no record.
    """
    verified = Verified()
    anchored = {anchor.row_count for anchor in anchors}
    # What stands there of the rows that anchors name.
    found_heads = {0: NO_HASH}

    def find(kind: FindingKind, row: int, session_id: str | None, part_id: int | None, text: str) -> None:
        verified.finding_count += 1
        if len(verified.findings) < findings_max:
            verified.findings.append(Finding(kind, row, session_id, part_id, text))

    with contextlib.closing(_open(record)) as database:
        _check_kind(record, database)
        try:
            last_row = database.execute("SELECT coalesce(max(id), 0) FROM part").fetchone()[0]
        except sqlite3.Error:
            last_row = 0
        try:
            for number, stored, body, row_hash in _rows(database):
                if number < 1:
                    find("broken_link", number, None, None, "is numbered below 1, where the service begins")
                    continue
                if number > verified.last_row + 1:
                    count = number - verified.last_row - 1
                    find("missing", verified.last_row + 1, None, None, f"{count} rows are missing")
                row = _check_row(find, number, stored, body)
                if link(verified.head, body) != row_hash:
                    session_id, part_id = (row.session_id, row.part_id) if row is not None else (None, None)
                    text = "does not follow from the row before it"
                    find("broken_link", number, session_id, part_id, text)
                verified.rows += 1
                verified.last_row, verified.head = number, row_hash
                if number in anchored:
                    found_heads[number] = row_hash
                if row is not None:
                    verified.sessions[row.session_id] = verified.sessions.get(row.session_id, 0) + 1
                    verified.first_utc = verified.first_utc or row.trigger_utc
                    verified.last_utc = row.trigger_utc
                if progress is not None and verified.rows % _PROGRESS_ROWS == 0:
                    progress(verified.rows, last_row)
        except sqlite3.Error as error:
            find("unreadable", verified.last_row + 1, None, None, f"from here on the file cannot be read: {error}")
    _check_anchors(find, verified, anchors, found_heads)
    return verified


def _check_row(find: Callable[..., None], number: int, stored: Sequence[Any], body: bytes) -> _Row | None:
    try:
        row = _decode_row(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        find("unreadable", number, None, None, f"holds no result: {error}")
        return None
    for name, column in zip(_COLUMNS, stored, strict=True):
        told = getattr(row, name)
        if isinstance(column, bytes):
            column = column.decode(errors="replace")
        if column != told:
            find("column", number, row.session_id, row.part_id, f"column {name} is {column!r}, the body says {told!r}")
    return row


def _check_anchors(
    find: Callable[..., None], verified: Verified, anchors: Iterable[Anchor], found_heads: dict[int, str]
) -> None:
    for anchor in sorted(set(anchors), key=lambda anchor: anchor.row_count):
        found = found_heads.get(anchor.row_count)
        if anchor.row_count > verified.last_row:
            count = anchor.row_count - verified.last_row
            text = f"the record ends here; {count} more rows were anchored"
            find("truncated", verified.last_row + 1, None, None, text)
        elif found != anchor.head:
            text = f"was anchored as {anchor.head}, " + (f"is {found}" if found is not None else "is not there")
            find("anchor", anchor.row_count, None, None, text)
        else:
            verified.covered_rows = anchor.row_count


def _rows(database: sqlite3.Connection) -> Iterator[tuple[int, Sequence[Any], bytes, str]]:
    """Number, columns, body and hash of each row, in order."""
    # The plain bytes, whatever somebody wrote there.
    database.text_factory = bytes
    names = ", ".join(_COLUMNS)
    first = database.execute("SELECT min(id) FROM part").fetchone()[0]
    last = 0 if first is None else first - 1
    while True:
        rows = database.execute(
            f"SELECT id, CAST(body AS BLOB), CAST(row_hash AS BLOB), {names} FROM part WHERE id > ? ORDER BY id LIMIT ?",
            (last, _ROWS_AT_ONCE),
        )
        before = last
        for last, body, row_hash, *stored in rows:
            yield last, stored, body or b"", (row_hash or b"").decode(errors="replace")
        if last == before:
            return


def _check_kind(record: Path, database: sqlite3.Connection) -> None:
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise NotVerifiable(f"record {record}: is of version {version}, expected version {SCHEMA_VERSION}")
        names = {name for (name,) in database.execute("SELECT name FROM pragma_table_info('part')")}
        if not {"id", "body", "row_hash", *_COLUMNS} <= names:
            raise NotVerifiable(f"record {record}: the file is no record of Lineside")
    except sqlite3.Error as error:
        raise NotVerifiable(f"record {record}: cannot be read: {error}") from error


def _open(record: Path) -> sqlite3.Connection:
    if not record.is_file():
        raise NotVerifiable(f"record {record}: got {'a folder' if record.is_dir() else 'nothing'}, expected a file")
    uri = f"{record.resolve().as_uri()}?mode=ro"
    log = record.with_name(f"{record.name}-wal")
    if not os.access(record.parent, os.W_OK) and not log.exists():
        # On a medium that cannot be written SQLite has no place for its index, and needs none.
        uri += "&immutable=1"
    try:
        return sqlite3.connect(uri, uri=True)
    except sqlite3.Error as error:
        raise NotVerifiable(f"record {record}: cannot be opened: {error}") from error
