"""Findings + recipe -> Inspection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from vision.geometry import BoxPx
from vision.recipe import Finding, Recipe, Required, Rule
from vision.types import Defect, Findings, Inspection, Reason, Verdict

FAULT = Inspection(verdict=Verdict.NO_DECISION, reason=Reason.FAULT, score=nan, defects=())
"""The judgement on a view that no decision may rest on."""

MISSING = "missing "
"""Before the class of what a view should have shown, as the class of the defect that its absence is."""


@dataclass(frozen=True, slots=True)
class _Counted:
    """The findings that a rule means, the best-scored first."""

    scores: npt.NDArray[np.float32]
    boxes_px: npt.NDArray[np.float32]
    areas_px: npt.NDArray[np.float32]

    def score_at_count(self, count: int) -> float:
        """The highest score that so many findings reach; 0 where there are fewer."""
        return float(self.scores[count - 1]) if self.scores.size >= count else 0.0

    def score_at_area(self, area_px: float) -> float:
        """The highest score at which the findings that reach it cover this area together; 0 where all do not."""
        enough = np.flatnonzero(np.cumsum(self.areas_px, dtype=np.float64) >= area_px)
        return float(self.scores[enough[0]]) if enough.size else 0.0


class Judge:
    """Applies a recipe's rules to the findings of one view."""

    def __init__(self, recipe: Recipe, camera_id: str, class_names: Sequence[str], view_px: BoxPx) -> None:
        """``view_px``: what the view looks at, the box of a defect that is an absence. Raises ValueError for a rule on a class
        that the model lacks.
        """
        every: list[Finding] = [*recipe.rules, *recipe.required]
        if strangers := sorted({one.class_name for one in every} - set(class_names)):
            raise ValueError(
                f"recipe {recipe.recipe_id}: got rules for {strangers}, expected classes {list(class_names)}"
            )
        self._class_names = tuple(class_names)
        self._view_px = view_px
        self._rules = [rule for rule in recipe.rules if rule.camera_id in (None, camera_id)]
        self._required = [one for one in recipe.required if one.camera_id in (None, camera_id)]

    def judge(self, findings_per_region: Sequence[Findings]) -> Inspection:
        """REJECT/DEFECT where a rule is met or something required is missing, PASS/OK otherwise.

        NO_DECISION/FAULT where there is no region, a score, box or area is not finite or a finding names no class of the model; and
        where nothing rejects, but findings for which the decoder had no room may score as high as a rule.
        A rule comes to the highest score at which it would be met (with one finding: that finding's); ``score`` is the
        highest of these, or of 1 less the score at which what is required would be found.
        """
        findings = _joined(findings_per_region)
        if findings is None or not self._are_sound(findings):
            return FAULT
        highest, headroom = 0.0, 1.0
        defects: list[Defect] = []
        for rule in self._rules:
            counted = self._counted(findings, rule)
            reached = _reached(rule, counted)
            highest, headroom = max(highest, reached), min(headroom, rule.reject_at_score - reached)
            if reached >= rule.reject_at_score:
                which = counted.scores.tolist(), counted.boxes_px.tolist(), counted.areas_px.tolist()
                for score, (x1, y1, x2, y2), area_px in zip(*which, strict=True):
                    if score >= rule.reject_at_score:
                        defects.append(Defect(rule.class_name, score, (x1, y1, x2, y2), area_px))
        for one in self._required:
            found = self._counted(findings, one).score_at_count(one.count)
            highest, headroom = max(highest, 1.0 - found), min(headroom, found - one.found_at_score)
            if found < one.found_at_score:
                x1, y1, x2, y2 = box = _place(one, self._view_px)
                defects.append(Defect(f"{MISSING}{one.class_name}", 1.0 - found, box, (x2 - x1) * (y2 - y1)))
        if defects:
            return Inspection(Verdict.REJECT, Reason.DEFECT, highest, tuple(defects), headroom)
        # What was dropped may be of any class and anywhere.  What is required can only be found more often with it.
        if any(rule.reject_at_score <= findings.dropped_score for rule in self._rules):
            return FAULT
        return Inspection(Verdict.PASS, Reason.OK, highest, (), headroom)

    def _are_sound(self, findings: Findings) -> bool:
        ids = findings.class_ids
        dropped_score = np.float64(findings.dropped_score)
        numbers = (findings.scores, findings.boxes_px, findings.areas_px, findings.peaks_px, dropped_score)
        return all(array is None or bool(np.isfinite(array).all()) for array in numbers) and bool(
            ((ids >= 0) & (ids < len(self._class_names))).all()
        )

    def _counted(self, findings: Findings, which: Finding) -> _Counted:
        boxes = findings.boxes_px
        width_px, height_px = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        counts = findings.class_ids == self._class_names.index(which.class_name)
        counts &= (width_px >= which.min_width_px) & (height_px >= which.min_height_px)
        counts &= findings.areas_px >= which.min_area_px
        if (zone := which.zone) is not None:
            middle = (boxes[:, :2] + boxes[:, 2:]) / 2 if findings.peaks_px is None else findings.peaks_px
            corner = np.array([zone.x_px, zone.y_px], np.float32)
            size = np.array([zone.width_px, zone.height_px], np.float32)
            counts &= ((middle >= corner) & (middle < corner + size)).all(axis=1)
        chosen = np.flatnonzero(counts)
        chosen = chosen[np.argsort(-findings.scores[chosen], kind="stable")]
        return _Counted(findings.scores[chosen], boxes[chosen], findings.areas_px[chosen])


def _reached(rule: Rule, counted: _Counted) -> float:
    """The highest score at which the rule would be met; 0 where none is high enough to say so."""
    reached = 0.0
    if rule.reject_at_total_area_px is not None:
        reached = counted.score_at_area(rule.reject_at_total_area_px)
    if rule.reject_at_count is not None or rule.reject_at_total_area_px is None:
        reached = max(reached, counted.score_at_count(rule.reject_at_count or 1))
    return reached


def _place(one: Required, view_px: BoxPx) -> BoxPx:
    if (zone := one.zone) is None:
        return view_px
    return (
        float(zone.x_px),
        float(zone.y_px),
        float(zone.x_px + zone.width_px),
        float(zone.y_px + zone.height_px),
    )


def _joined(findings_per_region: Sequence[Findings]) -> Findings | None:
    """The findings of all regions as one, without their outlines; None where there is no region."""
    if len(findings_per_region) <= 1:
        return findings_per_region[0] if findings_per_region else None
    has_peaks = all(findings.peaks_px is not None for findings in findings_per_region)
    return Findings(
        class_ids=np.concatenate([findings.class_ids for findings in findings_per_region]),
        scores=np.concatenate([findings.scores for findings in findings_per_region]),
        boxes_px=np.concatenate([findings.boxes_px for findings in findings_per_region]),
        areas_px=np.concatenate([findings.areas_px for findings in findings_per_region]),
        peaks_px=np.concatenate(
            [findings.peaks_px for findings in findings_per_region if findings.peaks_px is not None]
        )
        if has_peaks
        else None,
        dropped_score=float(np.max([findings.dropped_score for findings in findings_per_region])),
    )
