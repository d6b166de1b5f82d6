"""Anchors, as the topic ``anchor`` carries them: how many rows and reviews there were, and the hashes of the last ones."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec

from pipeline.payloads import COUNT_MAX
from pipeline.record.chain import NO_HASH
from pipeline.record.reader import NotReadable

_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """So many rows there were, and the last one had this hash; and the same of the reviews, where the anchor knows of them."""

    row_count: _Count
    head: str
    review_count: _Count | None = None
    review_head: str | None = None


class _Printed(msgspec.Struct):
    """As ``mosquitto_sub -F %j`` or ``%J`` prints a message: the payload in it as text, or as it is."""

    payload: str | Anchor


_NO_TEXT = "\N{REPLACEMENT CHARACTER}"
_HEAD = re.compile("[0-9a-f]{64}")

_decode_anchor = msgspec.json.Decoder(Anchor).decode
_decode_printed = msgspec.json.Decoder(_Printed).decode


@dataclass(frozen=True, slots=True)
class AnchorLog:
    """What a log of anchors says.

    Attributes:
        anchors: each once, in the log's order; the reviews' part stands only where it differs from those before.
        skipped: lines that are no anchor, as where a log was cut off in the midst of one.
        first_skipped: the first of them, and why.
    """

    anchors: list[Anchor]
    skipped: int = 0
    first_skipped: str = ""


def read_anchor(text: str | bytes) -> Anchor:
    """The topic's payload. Raises msgspec.DecodeError and ValueError."""
    return _checked(_decode_anchor(text))


def read_anchors(lines: Iterable[str], name: str) -> AnchorLog:
    """Anchors, one a line, all of which count. Each is a payload of the topic ``anchor``, also behind whatever
    ``mosquitto_sub`` prints in front of it (``-v``: the topic), or within what it prints of a message as JSON (``-F %j``).

    Raises NotReadable where no line is one; ``name`` is for its text.
    """
    found: dict[Anchor, None] = {}
    reviews_seen: set[tuple[int | None, str | None]] = set()
    skipped, first_skipped = 0, ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            anchor = _read_line(line)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            skipped += 1
            if skipped == 1:
                what = "got no text" if _NO_TEXT in line else str(error)
                first_skipped = f"line {number}: expected an anchor: {what}"
            continue
        reviews = anchor.review_count, anchor.review_head
        if reviews in reviews_seen:
            anchor = Anchor(anchor.row_count, anchor.head)
        reviews_seen.add(reviews)
        found[anchor] = None
    if not found:
        raise NotReadable(f"{name}, {first_skipped}" if skipped else f"{name}: got no anchor, expected one a line")
    return AnchorLog([*found], skipped, first_skipped)


def _read_line(line: str) -> Anchor:
    text = line[max(0, line.find("{")) :]
    try:
        payload = _decode_printed(text).payload
    except msgspec.DecodeError:
        return read_anchor(text)
    return _checked(payload) if isinstance(payload, Anchor) else read_anchor(payload)


def _checked(anchor: Anchor) -> Anchor:
    for head in (anchor.head, anchor.review_head or NO_HASH):
        if not _HEAD.fullmatch(head):
            raise ValueError(f"got {anchor}, expected a head of 64 hexadecimal digits")
    return anchor


def anchor_fault(count: int, head: str, last: int, found: str | None) -> tuple[bool, str]:
    """What does not hold of an anchor that says that ``count`` rows end with ``head``: whether they are cut off, and in words.

    ``last`` is the record's last row, ``found`` the hash that stands at ``count``, None where there is none. Empty words: it holds.
    """
    if count > last:
        return True, f"the record ends here; {count - last} more rows were anchored"
    if found == head:
        return False, ""
    return False, f"was anchored as {head}, " + (f"is {found}" if found is not None else "is not there")
