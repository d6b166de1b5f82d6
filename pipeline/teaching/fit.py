"""The fit of all views together, the threshold that follows from it, and what that promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calibration.intervals import share_of
from calibration.teaching.fitting import ViewFit, folds_of
from calibration.teaching.graph import score_of
from calibration.teaching.suspects import RobustFit, robust_fit
from calibration.teaching.windows import Layer
from calibration.threshold import ThresholdReport, find_threshold
from pipeline.teaching.features import Features
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.report import ScoredPart

_MARGIN = 1e-3
"""Of excess, between the strangest part that passes and the threshold: single precision errs by less."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """``excess``, ``is_suspect``, ``p_values``: (parts,) each, of the view in which a part is the strangest, ``worst_view``."""

    views: tuple[ViewFit, ...]
    excess: npt.NDArray[np.float64]
    is_suspect: npt.NDArray[np.bool_]
    p_values: npt.NDArray[np.float64]
    worst_view: npt.NDArray[np.intp]


def fit(features: Sequence[Features], layers: Sequence[Layer]) -> Fitted:
    """Of each view's features, (parts, channels, rows, columns), the parts in one order, made up of ``layers``."""
    folds = folds_of(len(features[0]))
    fits: list[RobustFit] = [robust_fit(of_view, layers, folds) for of_view in features]
    excess = np.stack([fit.cross.excess for fit in fits])
    p_values = np.stack([fit.p_values for fit in fits])
    return Fitted(
        views=tuple(fit.cross.view for fit in fits),
        excess=excess.max(axis=0),
        is_suspect=np.logical_or.reduce([fit.is_suspect for fit in fits]),
        p_values=p_values.min(axis=0),
        worst_view=excess.argmax(axis=0),
    )


def threshold_of(fitted: Fitted, false_reject_max: float, confidence: float) -> float:
    """In excess, by ``calibration.threshold`` from all parts that are said to be good; where those are too few for what is wanted,
    just above the strangest that is no suspect.
    """
    excess = fitted.excess
    scores = score_of(excess, float(excess.max()))
    found = find_threshold(scores, false_reject_max=false_reject_max, confidence=confidence)
    passes = ~fitted.is_suspect if found.threshold is None else scores < found.threshold
    return float(excess[passes].max()) + _MARGIN


def promised(
    good: Sequence[ScoredPart], defective: Sequence[ScoredPart], false_reject_max: float, confidence: float
) -> ThresholdReport:
    """What ``THRESHOLD`` promises."""
    good_scores, defective_scores = [part.score for part in good], [part.score for part in defective]
    found = find_threshold(good_scores, defective_scores, false_reject_max=false_reject_max, confidence=confidence)
    if not found.thresholds:
        return found
    # It lies within rounding below THRESHOLD, and no part between.
    return replace(
        found,
        thresholds={"": THRESHOLD},
        rejected_count=sum(score >= THRESHOLD for score in good_scores),
        false_accept=share_of(sum(score < THRESHOLD for score in defective_scores), len(defective_scores), confidence),
    )
