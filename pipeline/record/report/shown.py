"""What the page shows, and how its sections write a moment and a rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.latency import LatencyHistogram
from pipeline.record.reader import Wanted
from pipeline.record.survey import RecordSurvey
from pipeline.record.verify import Verified
from pipeline.report.blocks import plain

ROWS_TOLD = 40


@dataclass(frozen=True, slots=True)
class RecordShown:
    """What there is to show.

    Attributes:
        figures, latency: of ``RecordStats``.
        late_words: by (camera_id, verdict, reason), of the same parts.
        verified: None where nobody looked.
        anchor_count: so many anchors it was verified against.
        reject_at: {class: score} of the line's recipe as it is now, for parts whose own recipe is not on record; empty where
            the line is not known.
        images: the folder of kept pictures, None where it is not known.
    """

    record: Path
    wanted: Wanted
    figures: Mapping[str, Any]
    latency: LatencyHistogram
    survey: RecordSurvey
    late_words: Counter[tuple[str, str, str]]
    verified: Verified | None
    anchor_count: int
    reject_at: Mapping[str, float]
    images: Path | None
    made_utc: str
    version: str


def moment(utc: str) -> str:
    """To the second, without the letters, not to be broken."""
    return plain(utc[:19], 19).replace("T", "\u00a0")


def rest(count: int, what: str, which: str = "", told_max: int = ROWS_TOLD) -> str:
    """Of a table that tells the first, or the last, ``told_max`` of so many."""
    return f" {count - told_max:,} {which}{what} more are not shown." if count > told_max else ""
