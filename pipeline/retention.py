"""When a segment of the record is sealed, and when a sealed one has had its time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.clock import NS_PER_S
from pipeline.config_sections import RecordsConfig

STEADY_NS = 3_600 * NS_PER_S
"""So long the wall clock has to have gone as the box's own before it tells how old a segment is."""
_JUMP_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class SealedSegment:
    """A file that is never written again. ``last_row`` is its last row's number, ``age_s`` how long ago it was sealed."""

    file: Path
    last_row: int
    size_bytes: int
    age_s: float


class Retention:
    """Says what may go: one segment at a time, and by age only where the wall clock can be trusted."""

    def __init__(self, limits: RecordsConfig) -> None:
        self._limits = limits
        self._difference_ns: int | None = None
        self._steady_since_ns = 0
        self._jump_s = 0.0
        self.trouble = ""
        """Why nothing goes by age just now, in words; empty where nothing is wrong."""

    def next(
        self,
        sealed: Sequence[SealedSegment],
        newest_bytes: int,
        delivered_row: int,
        *,
        wall_ns: int,
        boot_ns: int,
    ) -> SealedSegment | None:
        """To be asked every few seconds. ``boot_ns``: of CLOCK_BOOTTIME, which nobody sets."""
        difference_ns = wall_ns - boot_ns
        if self._difference_ns is None:
            self._steady_since_ns = boot_ns
        elif abs(difference_ns - self._difference_ns) > _JUMP_NS:
            self._steady_since_ns = boot_ns
            self._jump_s = (difference_ns - self._difference_ns) / NS_PER_S
        self._difference_ns = difference_ns
        is_steady = boot_ns - self._steady_since_ns >= STEADY_NS
        is_told = self._jump_s != 0 and not is_steady and self._limits.keep_days is not None
        self.trouble = ""
        if is_told:
            self.trouble = (
                f"the wall clock was set by {self._jump_s:+.0f} s: for {STEADY_NS // NS_PER_S} s no segment is dropped "
                "for its age; is the date right?"
            )
        found = past_limits(self._limits, sealed, newest_bytes, delivered_row, by_age=is_steady)
        return found[0] if found else None


def is_to_be_sealed(limits: RecordsConfig, size_bytes: int, age_s: float) -> bool:
    """Whether the segment that is written to has become too large or too old."""
    return size_bytes >= limits.segment_max_mib << 20 or age_s >= limits.segment_max_hours * 3_600


def past_limits(
    limits: RecordsConfig,
    sealed: Sequence[SealedSegment],
    newest_bytes: int,
    delivered_row: int,
    *,
    by_age: bool = True,
) -> list[SealedSegment]:
    """What ``to_drop`` says by the limits that are configured."""
    return to_drop(
        sealed,
        newest_bytes,
        keep_s=None if limits.keep_days is None or not by_age else limits.keep_days * 86_400,
        keep_bytes=None if limits.keep_max_gib is None else int(limits.keep_max_gib * (1 << 30)),
        delivered_row=delivered_row,
    )


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
