"""Has anybody touched the record? Reads it from the first row to the last and checks that each follows from the one before.

What a chain alone cannot prove: whoever can write the file can cut off its end, or work out the whole chain anew from the
row that they changed. Against that stands the *anchor*: how many rows there were at a moment and the hash of the last one,
kept where the record's owner cannot reach it (the broker's topic ``anchor``, logged elsewhere, or on paper).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipeline.record.anchor import Anchor, anchor_fault
from pipeline.record.chain import NO_HASH, link
from pipeline.record.reader import check_kind, held_still, open_to_read
from pipeline.record.reviews import ReviewChain
from pipeline.record.segment import Segment, first_segment, read_segments
from pipeline.record.structure import structure_faults

FindingKind = Literal[
    "missing", "broken_link", "column", "structure", "unreadable", "root", "truncated", "anchor", "context", "review"
]

CANNOT_PROVE = (
    "rows cut off from the end",
    "a change after which all later rows' hashes were worked out anew",
    "a record exchanged for another one",
)
"""Behind the last anchor."""

DROPPED_OR_REMOVED = "whether retention dropped them or somebody removed them the record alone cannot prove"
"""Of the segments before the first one that is there."""

NOT_CHAINED = (
    "late inspections",
    "what the broker has acknowledged",
    "the sessions' begin and end",
    "kept totals",
    "when a segment was begun and sealed (segment.begun_utc, sealed_utc)",
    "the history of lot, order, serial and shift (table traceability)",
    "which segment has which parts (table sealed_parts)",
    "kept pictures and recorded windows, which are files beside the record",
)
"""Beside the rows nothing commits to these: whoever can write the file can change them unseen."""

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


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the service wrote it.

    Attributes:
        kind: ``missing``: rows are not there; ``broken_link``: the row does not follow from the one before, as one of
            the two was edited, exchanged or put there, or something between them was taken out; ``column``: a column
            says other than the row's body; ``structure``: a table, an index or a stored type is not the service's, so
            that parts may not be found, or others in their place; ``unreadable``: not a result's JSON, or the file is
            damaged; ``root``: a segment is not what a later one says of it; ``truncated``: the record ends before an
            anchor; ``anchor``: the row that an anchor names has another hash; ``context``: the context that a row names
            is not in its file, or is not what its hash says; ``review``: the like of all these of an operator's review.
        row: its number, from 1; of missing rows the first; of reviews that of the review; of a file's structure its last
            row, 0 where there is none.
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
        unchecked_anchors: how many anchors name a row within these, and so could not be compared with anything.
        rows: rows read.
        last_row: number of the last one, 0 for an empty record.
        head: its hash as it stands there.
        finding_count: how many there are; ``findings`` keeps the first so many.
        covered_rows: up to here the anchors that hold prove that nothing was cut off or worked out anew.
        reviews: number of the last operators' review, with ``review_head`` its hash; ``covered_reviews`` as ``covered_rows``.
        contexts: that the rows of all files were judged in.
    """

    segments: int = 0
    dropped_rows: int = 0
    unchecked_anchors: int = 0
    rows: int = 0
    last_row: int = 0
    head: str = NO_HASH
    first_utc: str | None = None
    last_utc: str | None = None
    sessions: dict[str, int] = field(default_factory=dict)
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    covered_rows: int = 0
    reviews: int = 0
    review_head: str = NO_HASH
    covered_reviews: int = 0
    contexts: int = 0


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
    context_sha256: str | None = None


_decode_row = msgspec.json.Decoder(_Row).decode


def verify(
    record: Path,
    anchors: Sequence[Anchor] = (),
    *,
    keeps_all: bool = False,
    findings_max: int = 1_000,
    progress: Callable[[int, int], None] | None = None,
) -> Verified:
    """Reads the whole record; the service may go on writing. ``keeps_all``: no retention is configured, so that segments that are
    not there any more are a finding. ``progress`` gets rows read and rows in all now and then.

    Raises NotReadable where there is no record.
    """
    reading = _Reading(anchors, findings_max, progress)
    with held_still(record) as files:
        for file in files:
            with closing(open_to_read(file)) as database:
                reading.read(file, database)
    if keeps_all:
        reading.check_beginning()
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
        self._contexts: set[str] = set()
        """That are in the file that is read, and sound."""
        self._spoiled: set[str] = set()
        self._missing: set[str] = set()
        self._contexts_read: set[str] = set()
        self._reviews = ReviewChain({anchor.review_count for anchor in anchors if anchor.review_count is not None})
        self._roots: list[Segment] = []
        self._is_cut_short = False
        """The file before this one could not be read to its end."""
        self._follows = NO_HASH
        """What the next row has to commit to."""

    def read(self, file: Path, database: sqlite3.Connection) -> None:
        """The next file, rows and all."""
        check_kind(file, database)
        self.verified.segments += 1
        try:
            self._enter(file, read_segments(database))
        except sqlite3.Error as error:
            self._roots = []
            self._find("root", self.verified.last_row + 1, f"{file.name}: where it stands cannot be read: {error}")
        try:
            last_row = database.execute("SELECT coalesce(max(id), 0) FROM part").fetchone()[0]
        except sqlite3.Error:
            last_row = 0
        self._contexts, self._spoiled, self._missing = set(), set(), set()
        self._is_cut_short = False
        try:
            for number, stored, body, row_hash in _rows(database):
                row = self._read_row(number, stored, body, row_hash)
                if (
                    row is not None
                    and row.context_sha256 is not None
                    and not self._has_context(file, database, row.context_sha256)
                ):
                    self._find("context", number, f"its context {row.context_sha256} is not in its file", row)
                if self._progress is not None and self.verified.rows % _PROGRESS_ROWS == 0:
                    self._progress(self.verified.rows, last_row)
        except sqlite3.Error as error:
            self._is_cut_short = True
            self._find(
                "unreadable", self.verified.last_row + 1, f"{file.name}: from here on it cannot be read: {error}"
            )
        try:
            for number, text in self._reviews.read(database):
                self._find("review", number, f"{file.name}: {text}")
        except sqlite3.Error as error:
            self._find("review", self._reviews.count + 1, f"{file.name}: from here on they cannot be read: {error}")
        self._check_structure(file, database)
        self._leave(file)

    def _check_structure(self, file: Path, database: sqlite3.Connection) -> None:
        """Where the file can be read at all."""
        try:
            for fault in structure_faults(database):
                row = self.verified.last_row if fault.row is None else fault.row
                self._find("structure", row, f"{file.name}: {fault.text}")
        except sqlite3.Error as error:
            self._find("structure", self.verified.last_row, f"{file.name}: its tables cannot be checked: {error}")

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
            if told.number > expected.number and (told.first_row, told.follows) == (
                expected.first_row,
                expected.follows,
            ):
                lost = f"segment {expected.number}"
                if told.number - 1 > expected.number:
                    lost = f"segments {expected.number} to {told.number - 1}"
                text = f"{file.name}: when segment {told.number} was begun {lost} could not be read; what was in it is not known"
                self._find("root", told.first_row, text)
            elif (told.number, told.first_row, told.follows) != (expected.number, expected.first_row, expected.follows):
                self._find(
                    "root", told.first_row, f"{file.name}: segment {told.number} does not follow from the one before it"
                )
            if told is not own:
                expected = told.next("")
        if own.first_row != verified.last_row + 1:
            if own.first_row > verified.last_row + 1 and verified.rows == 0:
                verified.dropped_rows = own.first_row - 1
            elif own.first_row > verified.last_row + 1:
                count = own.first_row - verified.last_row - 1
                kind: FindingKind
                kind, what = ("unreadable", "could not be read") if self._is_cut_short else ("missing", "are missing")
                self._find(kind, verified.last_row + 1, f"{count} rows {what} before {file.name}")
            else:
                self._find("root", own.first_row, f"{file.name} begins with a row that was there already")
            before = segments[-2] if len(segments) > 1 else None
            verified.last_row = own.first_row - 1
            verified.head = before.head or NO_HASH if before is not None else NO_HASH
            self._see(verified.last_row, verified.head)
        before = segments[-2] if len(segments) > 1 else None
        reviews = (0, NO_HASH) if before is None else (before.last_review or 0, before.review_head or NO_HASH)
        # Those of segments that are not there are known by their root alone.
        if (text := self._reviews.begin(*reviews)) and self._roots:
            self._find("review", reviews[0], f"{file.name}: {text}")
        self._roots = segments
        self._follows = own.follows

    def _read_contexts(self, file: Path, database: sqlite3.Connection) -> None:
        """Also again, as the service may have written another one meanwhile."""
        known, self._contexts = self._contexts, set()
        try:
            for name, body in database.execute("SELECT CAST(sha256 AS BLOB), CAST(body AS BLOB) FROM context"):
                sha256 = (name or b"").decode(errors="replace")
                if hashlib.sha256(body or b"").hexdigest() == sha256:
                    self._contexts.add(sha256)
                elif sha256 not in self._spoiled:
                    self._spoiled.add(sha256)
                    text = f"{file.name}: context {sha256} is not what its hash says"
                    self._find("context", self.verified.last_row + 1, text)
        except sqlite3.Error as error:
            self._contexts = known
            self._find("context", self.verified.last_row + 1, f"{file.name}: contexts cannot be read: {error}")
        self._contexts_read |= self._contexts
        self.verified.contexts = len(self._contexts_read)

    def _has_context(self, file: Path, database: sqlite3.Connection, sha256: str) -> bool:
        if sha256 in self._contexts:
            return True
        if sha256 not in self._missing:
            self._read_contexts(file, database)
            if sha256 in self._contexts:
                return True
            self._missing.add(sha256)
        return False

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
        if (own.last_review, own.review_head) != (self._reviews.count, self._reviews.head):
            text = f"{file.name} ends with review {self._reviews.count}, its seal says with {own.last_review}, {own.review_head}"
            self._find("review", self._reviews.count, text)

    def _read_row(self, number: int, stored: Sequence[Any], body: bytes, row_hash: str) -> _Row | None:
        verified = self.verified
        if number < 1:
            self._find("broken_link", number, "is numbered below 1, where the service begins")
            return None
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
        return row

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

    def check_beginning(self) -> None:
        """When all is read, of a record that retention drops nothing of."""
        count = self.verified.dropped_rows
        if count:
            text = (
                f"{count} rows with their segments are not there, and records.keep_days and keep_max_gib let nothing go"
            )
            self._find("missing", 1, text)

    def check_anchors(self, anchors: Iterable[Anchor]) -> None:
        """When all is read."""
        verified = self.verified
        for row_count, head in sorted({(anchor.row_count, anchor.head) for anchor in anchors}):
            found = self._heads.get(row_count)
            if found is None and row_count <= verified.dropped_rows:
                verified.unchecked_anchors += 1
                continue  # in the midst of a segment that is not there: nothing to compare it with
            is_cut_off, text = anchor_fault(row_count, head, verified.last_row, found)
            if is_cut_off:
                self._find("truncated", verified.last_row + 1, text)
            elif text:
                self._find("anchor", row_count, text)
            else:
                verified.covered_rows = row_count
        self._check_review_anchors(anchors)

    def _check_review_anchors(self, anchors: Iterable[Anchor]) -> None:
        verified, reviews = self.verified, self._reviews
        verified.reviews, verified.review_head = reviews.count, reviews.head
        pairs = {
            (a.review_count, a.review_head) for a in anchors if a.review_count is not None and a.review_head is not None
        }
        for count, head in sorted(pairs):
            found = reviews.heads.get(count)
            if found is None and count <= reviews.unread:
                continue
            if count > reviews.count:
                self._find(
                    "review", reviews.count + 1, f"the reviews end here; {count - reviews.count} more were anchored"
                )
            elif found != head:
                text = f"review {count} was anchored as {head}, " + (
                    f"is {found}" if found is not None else "is not there"
                )
                self._find("review", count, text)
            else:
                verified.covered_reviews = count

    def _find(self, kind: FindingKind, row: int, text: str, said: _Row | None = None) -> None:
        verified = self.verified
        verified.finding_count += 1
        if len(verified.findings) < self._findings_max:
            session_id, part_id = (said.session_id, said.part_id) if said is not None else (None, None)
            verified.findings.append(Finding(kind, row, session_id, part_id, text))


def _root(segment: Segment) -> tuple[object, ...]:
    own = (segment.number, segment.first_row, segment.follows)
    return (*own, segment.last_row, segment.head, segment.last_review, segment.review_head)


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
