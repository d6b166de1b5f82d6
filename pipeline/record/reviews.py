"""What people said of parts afterwards: a chain of its own beside the verdicts, committed to by every seal and anchor."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Set

import msgspec

from pipeline.messages import ReviewSaid
from pipeline.payloads import VerdictName
from pipeline.record.chain import NO_HASH, link

_COLUMNS = ("session_id", "part_id", "utc", "who", "said", "request")


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """One person's word on one part. Later ones stand beside it and replace nothing.

    Attributes:
        row, row_hash, verdict: the part's own, as they were when it was reviewed.
        request: session and request_id of the command that brought it.
    """

    session_id: str
    part_id: int
    row: int
    row_hash: str
    verdict: VerdictName
    utc: str
    who: str
    said: ReviewSaid
    note: str
    request: str


encode_review = msgspec.json.Encoder().encode
decode_review = msgspec.json.Decoder(Review).decode


def agreement(review: Review) -> str:
    """``confirmed``, ``overruled`` or ``undecided``: where the person, or the service, did not decide."""
    if review.said == "unclear" or review.verdict == "NO_DECISION":
        return "undecided"
    return "confirmed" if (review.said == "good") == (review.verdict == "PASS") else "overruled"


def insert_review(database: sqlite3.Connection, number: int, review: Review, follows: str) -> str:
    """Writes it as the next one; ``follows`` is the hash of the one before. Returns its own. Raises sqlite3.Error."""
    body = encode_review(review)
    review_hash = link(follows, body)
    database.execute(
        "INSERT INTO review (id, session_id, part_id, utc, who, said, request, body, review_hash)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (
            number,
            review.session_id,
            review.part_id,
            review.utc,
            review.who,
            review.said,
            review.request,
            body.decode(),
            review_hash,
        ),
    )
    return review_hash


class ReviewChain:
    """Checks the reviews file by file: how many there were, the last one's hash, and what is not as it was written.

    ``heads`` has the hashes, as they stand there, of those of ``wanted``.
    """

    def __init__(self, wanted: Set[int]) -> None:
        self.count = 0
        self.head = NO_HASH
        self._wanted = wanted
        self._is_begun = False
        self.heads = {0: NO_HASH}
        self.unread = 0
        """Up to here they are in segments that are not there."""

    def begin(self, count: int, head: str) -> str:
        """A file begins where the root of the one before says; empty where that is where the chain has got."""
        before = self.count, self.head
        if not self._is_begun:
            self.unread, self._is_begun = count, True
        self._see(count, head)
        return "" if before == (count, head) else f"expected {count} reviews before this file, read {before[0]}"

    def read(self, database: sqlite3.Connection) -> Iterator[tuple[int, str]]:
        """Number of each review that something is wrong with, and what. Raises sqlite3.Error."""
        columns = ", ".join(f"CAST({name} AS BLOB)" for name in _COLUMNS)
        ask = f"SELECT id, CAST(body AS BLOB), CAST(review_hash AS BLOB), {columns} FROM review ORDER BY id"
        for number, body, stored_hash, *stored in database.execute(ask):
            body = body or b""
            review_hash = (stored_hash or b"").decode(errors="replace")
            if number != self.count + 1:
                yield number, f"review {number} comes after review {self.count}"
            if link(self.head, body) != review_hash:
                yield number, f"review {number} does not follow from the one before it"
            self._see(number, review_hash)
            try:
                review = decode_review(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield number, f"review {number} cannot be read: {error}"
                continue
            for name, column in zip(_COLUMNS, stored, strict=True):
                told = str(getattr(review, name))
                found = (column or b"").decode(errors="replace")
                if found != told:
                    yield number, f"review {number}: column {name} is {found!r}, the body says {told!r}"

    def _see(self, number: int, review_hash: str) -> None:
        self.count, self.head = number, review_hash
        if number in self._wanted:
            self.heads[number] = review_hash
