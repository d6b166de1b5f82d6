"""Parts judged again and again, and what that came to, as it is told on the terminal, in JSON and on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Literal

from calibration.refusal import Refusal
from calibration.repeatability import AttributeAgreement, GaugeStudy
from vision.decoders.anomaly import ANOMALY
from vision.judge import MISSING
from vision.package import ModelCard
from vision.types import Inspection, PixelFormat


@dataclass(frozen=True, slots=True)
class Showing:
    """One picture of a part. ``size``: NaN where no defect with a size was found; ``told``: why it was not judged."""

    name: str
    file: Path
    inspection: Inspection
    size: float
    told: str = ""


@dataclass(frozen=True, slots=True)
class RepeatabilityShown:
    """``showings``: of each part; ``size`` None where no defect of any part was measured twice; ``is_defective``: the operator's
    labels, None without; ``of``: what was studied, name and value; ``rejects_at``: the scores that reject, as they are in force.
    """

    showings: Mapping[str, Sequence[Showing]]
    score: GaugeStudy | None
    size: GaugeStudy | None
    size_unit: Literal["px", "mm"]
    agreement: AttributeAgreement
    is_defective: Mapping[str, bool] | None
    copies: Sequence[tuple[str, str]]
    refusals: Sequence[Refusal]
    of: Sequence[tuple[str, str]]
    rejects_at: Sequence[float]
    calibration_id: str | None
    pixel_format: PixelFormat


def size_of(inspection: Inspection, card: ModelCard) -> float:
    """The longer side of the largest defect's box: in mm where the camera has a geometry, else in pixels of the frame.

    NaN where nothing was found that has a size of its own: a classifier's finding is its whole region, and so is an anomaly.
    """
    if card.task == "classification":
        return nan
    measured = [
        each
        for each in inspection.defects
        if not each.class_name.startswith(MISSING) and not (card.task == "anomaly" and each.class_name == ANOMALY)
    ]
    if not measured:
        return nan
    largest = max(measured, key=lambda defect: defect.area_px)
    x1, y1, x2, y2 = largest.box_px if largest.box_mm is None else largest.box_mm
    return max(x2 - x1, y2 - y1)


def verdict_on(share: float, share_high: float | None) -> str:
    """What a gauge with this share of the total spread is good for (AIAG, Measurement Systems Analysis, 4th edition), as far as the
    end of its interval shows it.
    """
    if share < 0.1:
        is_shown = share_high is not None and share_high < 0.1
        return (
            "good: below 10 %"
            if is_shown
            else "below 10 %, which so few parts do not prove: show more parts, or more often"
        )
    return "may do, depending on what is at stake: 10 to 30 %" if share <= 0.3 else "NOT good enough: above 30 %"
