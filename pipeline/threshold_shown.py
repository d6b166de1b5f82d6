"""What a threshold calibration came to, as it is told on the terminal, in JSON and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.threshold import ThresholdReport
from pipeline.part_scores import PartScores
from vision.types import PixelFormat


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """One picture of a known part."""

    name: str
    file: Path
    scores: PartScores


@dataclass(frozen=True, slots=True)
class ThresholdShown:
    """What there is to show. ``of``: what was calibrated, name and value; ``assumptions``: what the promise rests on; ``copies``:
    pictures that were not counted, and what they are copies of; ``calibration_id`` None where nothing was kept; ``has_places``:
    findings have boxes in the picture as the camera took it.
    """

    report: ThresholdReport
    classes: tuple[str, ...]
    good: Sequence[ScoredPart]
    defective: Sequence[ScoredPart]
    copies: Sequence[tuple[str, str]]
    assumptions: Sequence[str]
    of: Sequence[tuple[str, str]]
    calibration_id: str | None
    pixel_format: PixelFormat
    has_places: bool
