"""Findings + recipe -> Inspection."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan

from vision.recipe import Recipe
from vision.types import Defect, Findings, Inspection, Reason, Verdict

FAULT = Inspection(verdict=Verdict.NO_DECISION, reason=Reason.FAULT, score=nan, defects=())
"""The judgement on a view that no decision may rest on."""


def judge(findings_per_region: Sequence[Findings], recipe: Recipe, classes: Sequence[str]) -> Inspection:
    """Applies the recipe's rules to one view.

    REJECT/DEFECT where a ruled class scores at least its ``reject_at_score``, PASS/OK otherwise; ``score`` is the
    highest score among the ruled classes (0 without such a finding), ``headroom`` what was left below the thresholds.
    NO_DECISION/FAULT where there is no region, a score is not finite or a finding names no class of the model. Raises
    ValueError for a rule on a class that the model lacks.
    """
    reject_at = {rule.class_name: rule.reject_at_score for rule in recipe.rules}
    if strangers := sorted(set(reject_at) - set(classes)):
        raise ValueError(f"recipe {recipe.recipe_id}: got rules for {strangers}, expected classes {list(classes)}")
    if not findings_per_region:
        return FAULT
    highest = 0.0
    headroom = min(reject_at.values())
    defects: list[Defect] = []
    for findings in findings_per_region:
        pairs = zip(findings.class_ids.tolist(), findings.scores.tolist(), strict=True)
        for index, (class_id, score) in enumerate(pairs):
            if not isfinite(score) or not 0 <= class_id < len(classes):
                return FAULT
            threshold = reject_at.get(classes[class_id])
            if threshold is None:
                continue
            highest = max(highest, score)
            headroom = min(headroom, threshold - score)
            if score >= threshold:
                x1, y1, x2, y2 = findings.boxes_px[index].tolist()
                defects.append(Defect(class_name=classes[class_id], score=score, box_px=(x1, y1, x2, y2)))
    if defects:
        return Inspection(Verdict.REJECT, Reason.DEFECT, highest, tuple(defects), headroom)
    return Inspection(Verdict.PASS, Reason.OK, highest, (), headroom)
