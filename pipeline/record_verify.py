"""Has anybody touched the record? Reads it from the first row to the last and checks that each follows from the one before.

What a chain alone cannot prove: whoever can write the file can cut off its end, or work out the whole chain anew from the
row that they changed. Against that stands the *anchor*: how many rows there were at a moment and the hash of the last one,
kept where the record's owner cannot reach it (the broker's topic ``anchor``, logged elsewhere, or on paper).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipeline.record_chain import NO_HASH, link
from pipeline.record_reader import NotReadable, check_kind, held_still, open_to_read
from pipeline.record_segment import Segment, first_segment, read_segments

FindingKind = Literal["missing", "broken_link", "column", "unreadable", "root", "truncated", "anchor"]

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
            says other than the row's body; ``unreadable``: not a result's JSON, or the file is damaged; ``root``: a
            segment is not what a later one says of it; ``truncated``: the record ends before an anchor; ``anchor``: the
            row that an anchor names has another hash.
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
        segments: files read.
        dropped_rows: rows of segments that are not there, up to here; only their roots are known.
        rows: rows read.
        last_row: number of the last one, 0 for an empty record.
        head: its hash as it stands there.
        finding_count: how many there are; ``findings`` keeps the first so many.
        covered_rows: up to here the anchors that hold prove that nothing was cut off or worked out anew.
    """

    segments: int = 0
    dropped_rows: int = 0
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
    """Anchors, one JSON object a line, as the topic ``anchor`` carries them. Raises NotReadable; ``name`` is for its text."""
    anchors = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            anchor = _decode_anchor(line)
        except msgspec.DecodeError as error:
            raise NotReadable(f"{name}, line {number}: expected an anchor: {error}") from None
        if anchor.row_count < 0 or len(anchor.head) != len(NO_HASH):
            expected = "a row_count of 0 or more and a head of 64 hexadecimal digits"
            raise NotReadable(f"{name}, line {number}: got {anchor}, expected {expected}")
        anchors.append(anchor)
    if not anchors:
        raise NotReadable(f"{name}: got no anchor, expected one a line")
    return anchors


def verify(
    record: Path,
    anchors: Sequence[Anchor] = (),
    *,
    findings_max: int = 1_000,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Reads the whole record; the service may go on writing. ``progress`` gets rows read and rows in all now and then.

    Raises NotReadable where there is no record.
    """
    reading = _Reading(anchors, findings_max, progress)
    with held_still(record) as files:
        for file in files:
            with closing(open_to_read(file)) as database:
                reading.read(file, database)
    reading.check_anchors(anchors)
    return reading.verified


class _Reading:
    """How far the record was read."""

    def __init__(
        self, anchors: Sequence[Anchor], findings_max: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self.verified = Verified()
        self._findings_max = findings_max
        self._progress = progress
        self._anchored = {anchor.row_count for anchor in anchors}
        self._heads = {0: NO_HASH}
        """What stands there of the rows that anchors name."""
        self._roots: list[Segment] = []
        self._follows = NO_HASH
        """What the next row has to commit to."""

    def read(self, file: Path, database: sqlite3.Connection) -> None:
        """The next file, rows and all."""
        check_kind(file, database)
        self.verified.segments += 1
        try:
            self._enter(file, read_segments(database))
            last_row = database.execute("SELECT coalesce(max(id), 0) FROM part").fetchone()[0]
        except sqlite3.Error:
            last_row = 0
        try:
            for number, stored, body, row_hash in _rows(database):
                self._read_row(number, stored, body, row_hash)
                if self._progress is not None and self.verified.rows % _PROGRESS_ROWS == 0:
                    self._progress(self.verified.rows, last_row)
        except sqlite3.Error as error:
            self._find(
                "unreadable", self.verified.last_row + 1, f"{file.name}: from here on it cannot be read: {error}"
            )
        self._leave(file)

    def _enter(self, file: Path, segments: list[Segment]) -> None:
        """Whether this file stands where it says, and its predecessors are what it says of them."""
        verified, own = self.verified, segments[-1]
        for known, told in zip(self._roots, segments, strict=False):
            if _root(known) != _root(told):
                self._find(
                    "root",
                    told.first_row,
                    f"{file.name} says of segment {told.number} {_root(told)}, it is {_root(known)}",
                )
        expected = first_segment("")
        for told in segments:
            if (told.number, told.first_row, told.follows) != (expected.number, expected.first_row, expected.follows):
                self._find(
                    "root", told.first_row, f"{file.name}: segment {told.number} does not follow from the one before it"
                )
            if told is not own:
                if told.last_row is None:
                    self._find("root", told.first_row, f"{file.name} does not say where segment {told.number} ends")
                    break
                expected = told.next("")
        if own.first_row != verified.last_row + 1:
            if own.first_row > verified.last_row + 1 and verified.rows == 0:
                verified.dropped_rows = own.first_row - 1
            elif own.first_row > verified.last_row + 1:
                count = own.first_row - verified.last_row - 1
                self._find("missing", verified.last_row + 1, f"{count} rows are missing before {file.name}")
            else:
                self._find("root", own.first_row, f"{file.name} begins with a row that was there already")
            before = segments[-2] if len(segments) > 1 else None
            verified.last_row = own.first_row - 1
            verified.head = before.head or NO_HASH if before is not None else NO_HASH
            self._see(verified.last_row, verified.head)
        self._roots = segments
        self._follows = own.follows

    def _leave(self, file: Path) -> None:
        """Whether a sealed file ends where its seal says."""
        own = self._roots[-1] if self._roots else None
        if own is None or own.sealed_utc is None:
            return
        if (own.last_row, own.head) != (self.verified.last_row, self.verified.head):
            told = f"row {own.last_row}, {own.head}"
            is_short = own.last_row is not None and self.verified.last_row < own.last_row
            kind: FindingKind = "truncated" if is_short else "root"
            self._find(kind, self.verified.last_row, f"{file.name} ends here, its seal says with {told}")

    def _read_row(self, number: int, stored: Sequence[Any], body: bytes, row_hash: str) -> None:
        verified = self.verified
        if number < 1:
            self._find("broken_link", number, "is numbered below 1, where the service begins")
            return
        if number > verified.last_row + 1:
            self._find("missing", verified.last_row + 1, f"{number - verified.last_row - 1} rows are missing")
        row = self._check_row(number, stored, body)
        if link(self._follows, body) != row_hash:
            self._find("broken_link", number, "does not follow from the row before it", row)
        verified.rows += 1
        verified.last_row, verified.head, self._follows = number, row_hash, row_hash
        self._see(number, row_hash)
        if row is not None:
            verified.sessions[row.session_id] = verified.sessions.get(row.session_id, 0) + 1
            verified.first_utc = verified.first_utc or row.trigger_utc
            verified.last_utc = row.trigger_utc

    def _see(self, number: int, row_hash: str) -> None:
        if number in self._anchored:
            self._heads[number] = row_hash

    def _check_row(self, number: int, stored: Sequence[Any], body: bytes) -> _Row | None:
        try:
            row = _decode_row(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._find("unreadable", number, f"holds no result: {error}")
            return None
        for name, column in zip(_COLUMNS, stored, strict=True):
            told = getattr(row, name)
            if isinstance(column, bytes):
                column = column.decode(errors="replace")
            if column != told:
                self._find("column", number, f"column {name} is {column!r}, the body says {told!r}", row)
        return row

    def check_anchors(self, anchors: Iterable[Anchor]) -> None:
        """When all is read."""
        verified = self.verified
        for anchor in sorted(set(anchors), key=lambda anchor: anchor.row_count):
            found = self._heads.get(anchor.row_count)
            if anchor.row_count > verified.last_row:
                count = anchor.row_count - verified.last_row
                self._find("truncated", verified.last_row + 1, f"the record ends here; {count} more rows were anchored")
            elif found is None and anchor.row_count <= verified.dropped_rows:
                continue  # in the midst of a segment that is not there: nothing to compare it with
            elif found != anchor.head:
                text = f"was anchored as {anchor.head}, " + (f"is {found}" if found is not None else "is not there")
                self._find("anchor", anchor.row_count, text)
            else:
                verified.covered_rows = anchor.row_count

    def _find(self, kind: FindingKind, row: int, text: str, said: _Row | None = None) -> None:
        verified = self.verified
        verified.finding_count += 1
        if len(verified.findings) < self._findings_max:
            session_id, part_id = (said.session_id, said.part_id) if said is not None else (None, None)
            verified.findings.append(Finding(kind, row, session_id, part_id, text))


def _root(segment: Segment) -> tuple[object, ...]:
    return (segment.number, segment.first_row, segment.follows, segment.last_row, segment.head)


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
