"""Anchors, as the topic ``anchor`` carries them: how many rows and reviews there were, and the hashes of the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from pipeline.payloads import COUNT_MAX
from pipeline.record_chain import NO_HASH
from pipeline.record_reader import NotReadable

_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class Anchor(msgspec.Struct, frozen=True):
    """So many rows there were, and the last one had this hash; and the same of the reviews, where the anchor knows of them."""

    row_count: _Count
    head: str
    review_count: _Count | None = None
    review_head: str | None = None


class _Printed(msgspec.Struct):
    """As ``mosquitto_sub -F %j`` or ``%J`` prints a message: the payload in it as text, or as it is."""

    payload: str | Anchor


_decode_anchor = msgspec.json.Decoder(Anchor).decode
_decode_printed = msgspec.json.Decoder(_Printed).decode


def read_anchor(text: str | bytes) -> Anchor:
    """The topic's payload. Raises msgspec.DecodeError and ValueError."""
    anchor = _decode_anchor(text)
    for head in (anchor.head, anchor.review_head or NO_HASH):
        if len(head) != len(NO_HASH):
            raise ValueError(f"got {anchor}, expected a head of 64 hexadecimal digits")
    return anchor


def read_anchors(lines: Iterable[str], name: str) -> list[Anchor]:
    """Anchors, one a line, all of which count. Each is a payload of the topic ``anchor``, also behind whatever
    ``mosquitto_sub`` prints in front of it (``-v``: the topic), or within what it prints of a message as JSON (``-F %j``).

    Raises NotReadable; ``name`` is for its text.
    """
    anchors = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            anchors.append(_read_line(line))
        except msgspec.DecodeError as error:
            raise NotReadable(f"{name}, line {number}: expected an anchor: {error}") from None
        except ValueError as error:
            raise NotReadable(f"{name}, line {number}: {error}") from None
    if not anchors:
        raise NotReadable(f"{name}: got no anchor, expected one a line")
    return anchors


def _read_line(line: str) -> Anchor:
    text = line[max(0, line.find("{")) :]
    try:
        payload = _decode_printed(text).payload
    except msgspec.DecodeError:
        return read_anchor(text)
    return payload if isinstance(payload, Anchor) else read_anchor(payload)


def anchor_fault(count: int, head: str, last: int, found: str | None) -> tuple[bool, str]:
    """What does not hold of an anchor that says that ``count`` rows end with ``head``: whether they are cut off, and in words.

    ``last`` is the record's last row, ``found`` the hash that stands at ``count``, None where there is none. Empty words: it holds.
    """
    if count > last:
        return True, f"the record ends here; {count - last} more rows were anchored"
    if found == head:
        return False, ""
    return False, f"was anchored as {head}, " + (f"is {found}" if found is not None else "is not there")
