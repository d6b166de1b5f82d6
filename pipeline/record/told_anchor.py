"""The anchor that the broker keeps: what it is told, and whether the record still is what it was told last."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.clock import now_ns, utc_text
from pipeline.messages import Severity
from pipeline.payloads import AnchorPayload
from pipeline.record.anchor import Anchor, anchor_fault, read_anchor
from pipeline.record.store import RecordStore


class AnchorFault(NamedTuple):
    """What is wrong with the record, or with the anchor itself."""

    severity: Severity
    text: str


def anchor_payload(store: RecordStore, session_id: str) -> AnchorPayload:
    """What an auditor keeps elsewhere. Raises RecordFault."""
    row_count, head = store.head()
    review_count, review_head = store.review_head()
    return AnchorPayload(
        session_id=session_id,
        row_count=row_count,
        head=head,
        review_count=review_count,
        review_head=review_head,
        utc=utc_text(now_ns()),
    )


class ToldAnchor:
    """What the broker had kept on ``topic`` as the last anchor of the record at ``path``, until it is compared."""

    def __init__(self, path: Path, topic: str) -> None:
        self._path = path
        self._topic = topic
        self._payload: bytes | None = None

    def take(self, payload: bytes) -> None:
        """As the broker keeps it."""
        self._payload = payload

    def check(self, store: RecordStore, *, lost_power: bool) -> AnchorFault | None:
        """Whether the record still has what the broker was told it had: it may have been cut off, or be an old copy. None where
        it has, or nothing was told since it was asked last. ``lost_power``: a session before this one ended with the box.

        Raises RecordFault where the record cannot be read; then it is compared the next time.
        """
        if self._payload is None:
            return None
        try:
            text = _what_fails(store, read_anchor(self._payload))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._payload = None
            text = f"what the broker keeps at {self._topic} is no anchor of this record: {error}"
            return AnchorFault("warning", text)
        self._payload = None
        if not text:
            return None
        why = "it was cut off or changed, or is an old copy or another file"
        if lost_power:
            why += ", or the box lost power before the newest rows were on its disk"
        said = f"record {self._path} is not as the broker was last told at {self._topic}: {text}: {why}"
        return AnchorFault("error", said)


def _what_fails(store: RecordStore, anchor: Anchor) -> str:
    """What of it does not hold, empty where all does, or cannot be told. Raises RecordFault."""
    last, _ = store.head()
    if not store.may_be_dropped(anchor.row_count) or store.hash_of(anchor.row_count) is not None:
        is_cut_off, text = anchor_fault(anchor.row_count, anchor.head, last, store.hash_of(anchor.row_count))
        if text:
            return f"row {last if is_cut_off else anchor.row_count}: {text}"
    if anchor.review_count is not None and anchor.review_head is not None:
        last_review, _ = store.review_head()
        found = store.hash_of(anchor.review_count, "review")
        if anchor.review_count > last_review:
            return f"it has {last_review} reviews, {anchor.review_count} were anchored"
        if found is not None and found != anchor.review_head:
            return f"review {anchor.review_count} was anchored as {anchor.review_head}, is {found}"
    return ""
