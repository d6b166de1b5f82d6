"""Which sealed segments of the record have had their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A file that is never written again. ``last_row`` is its last row's number, ``age_s`` how long ago it was sealed."""

    file: Path
    last_row: int
    size_bytes: int
    age_s: float


def to_drop(
    sealed: Sequence[SealedSegment],
    newest_bytes: int,
    *,
    keep_s: float | None,
    keep_bytes: int | None,
    delivered_row: int,
) -> list[SealedSegment]:
    """The oldest segments that are older than ``keep_s``, or more than ``keep_bytes`` with all that is newer; None keeps all.

    ``sealed`` is in order, the oldest first. A segment with rows behind ``delivered_row``, which somebody still waits for,
    stays, and so does all behind it: what is left is one stretch without holes.
    """
    size_bytes = newest_bytes + sum(segment.size_bytes for segment in sealed)
    dropped: list[SealedSegment] = []
    for segment in sealed:
        is_old = keep_s is not None and segment.age_s > keep_s
        is_too_much = keep_bytes is not None and size_bytes > keep_bytes
        if segment.last_row > delivered_row or not (is_old or is_too_much):
            break
        dropped.append(segment)
        size_bytes -= segment.size_bytes
    return dropped
