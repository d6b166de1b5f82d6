"""Verdicts and scores of whole images against what they should be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, precision_recall_fscore_support, roc_auc_score, roc_curve

from calibration.intervals import Share, share_of

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VerdictFigures:
    """At the thresholds in use. Whatever is not passed is taken out, so that a part without a verdict counts as rejected.

    ``false_accept``: of the defective ones those passed; ``false_reject``: of the good ones those not passed; ``correct``: of all.
    ``precision``, ``recall`` and ``f1`` are of "defective"; None where their divisor is 0.
    """

    correct: Share | None
    false_accept: Share | None
    false_reject: Share | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve in the order of falling thresholds: float64 (K,) each."""

    x: Floats
    y: Floats


def verdict_figures(is_defective: Bools, is_passed: Bools) -> VerdictFigures:
    """Bool (N,) each, one for each image."""
    is_rejected = ~is_passed
    precision = recall = f1 = None
    if len(is_defective):
        told = precision_recall_fscore_support(
            is_defective, is_rejected, pos_label=True, average="binary", zero_division=np.nan
        )
        precision, recall, f1 = (None if np.isnan(value) else float(value) for value in told[:3])
    return VerdictFigures(
        correct=share_of(int((is_defective == is_rejected).sum()), len(is_defective)),
        false_accept=share_of(int((is_defective & is_passed).sum()), int(is_defective.sum())),
        false_reject=share_of(int((~is_defective & is_rejected).sum()), int((~is_defective).sum())),
        precision=precision,
        recall=recall,
        f1=f1,
    )


def auroc(is_defective: Bools, scores: Floats) -> float | None:
    """The area under the ROC curve; None where all images are good or all are defective. No score is NaN."""
    if is_defective.all() or not is_defective.any():
        return None
    return float(roc_auc_score(is_defective, scores))


def roc(is_defective: Bools, scores: Floats) -> Curve:
    """The share of good ones rejected (x) and of defective ones rejected (y). Both kinds must be there."""
    x, y, _ = roc_curve(is_defective, scores)
    return Curve(np.asarray(x, np.float64), np.asarray(y, np.float64))


def precision_over_recall(is_defective: Bools, scores: Floats) -> Curve:
    """Recall (x) and precision (y). Some image must be defective."""
    precision, recall, _ = precision_recall_curve(is_defective, scores)
    return Curve(np.asarray(recall[::-1], np.float64), np.asarray(precision[::-1], np.float64))
