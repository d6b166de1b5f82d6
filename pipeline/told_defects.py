"""What of a view's judgement goes on record: the same for the line and for the replay."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.messages import DefectFound
from vision.types import Defect

_DEFECTS_MAX = 32
_DEFECTS_BYTES_MAX = 7_000
"""In a message, of which a part's record holds up to eight; the best-scored ones. The verdict does not depend on the rest."""
_DEFECT_BYTES = 112
"""Beside its class's name."""


def told_score(score: float) -> float | None:
    """None for NaN, which JSON has no word for."""
    return score if score == score else None


def told_defects(defects: Sequence[Defect]) -> tuple[DefectFound, ...]:
    """The best-scored ones, so many that a message holds them."""
    found: list[DefectFound] = []
    room = _DEFECTS_BYTES_MAX
    for defect in sorted(defects, key=lambda defect: -defect.score)[:_DEFECTS_MAX]:
        room -= _DEFECT_BYTES + len(defect.class_name.encode())
        if room < 0:
            break
        found.append(DefectFound(defect.class_name, defect.score, defect.box_px, defect.box_mm, defect.area_mm2))
    return tuple(found)
