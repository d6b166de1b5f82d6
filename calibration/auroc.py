"""How well scores part defective parts from good ones, over all thresholds at once.

The area under the ROC curve is the probability that a defective part scores higher than a good one (ties count half): the
Mann-Whitney statistic. Its interval is of the score kind: all areas from which the observed one is at most so many standard errors
away, these taken at that area and not at the observed one, so that it stays within 0 and 1 and has a width where the observed one
is 1:

* R. G. Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2: asymptotic methods
  and evaluation, Statistics in Medicine 25 (2006), method 5.
* J. A. Hanley and B. J. McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve, Radiology
  143 (1982), for its variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from calibration.intervals import CONFIDENCE

Floats = npt.NDArray[np.float64]

_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Auroc:
    """The area, 0..1, and an interval that holds the true one with about ``confidence``."""

    value: float
    low: float
    high: float
    confidence: float


def auroc_of(
    good_scores: Sequence[float] | Floats, defective_scores: Sequence[float] | Floats, confidence: float = CONFIDENCE
) -> Auroc | None:
    """Finite scores, the higher the worse. None where there is nothing of one kind."""
    good, defective = np.asarray(good_scores, np.float64), np.asarray(defective_scores, np.float64)
    if not (good.size and defective.size):
        return None
    below, not_above = (np.searchsorted(np.sort(good), defective, side) for side in ("left", "right"))
    value = float((below + not_above).sum() / (2 * good.size * defective.size))
    quantile = float(ndtri((1 + confidence) / 2))

    def is_within(area: float) -> bool:
        return abs(value - area) <= quantile * _standard_error(area, good.size, defective.size)

    return Auroc(value, _end(0.0, value, is_within), _end(1.0, value, is_within), confidence)


def roc_points(
    good_scores: Sequence[float] | Floats, defective_scores: Sequence[float] | Floats
) -> tuple[Floats, Floats]:
    """The shares of the good and of the defective parts that score at least each score there is, float64 (K,) each, ascending from
    0 and to 1. Neither may be empty.
    """
    good, defective = (np.sort(np.asarray(each, np.float64)) for each in (good_scores, defective_scores))
    levels = np.unique(np.concatenate([good, defective]))[::-1]
    reached = [1.0 - np.searchsorted(each, levels, side="left") / each.size for each in (good, defective)]
    x, y = (np.concatenate([[0.0], each]) for each in reached)
    return x, y


def _standard_error(area: float, good_count: int, defective_count: int) -> float:
    others = (good_count + defective_count) / 2 - 1
    spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return sqrt(area * (1 - area) * spread / (good_count * defective_count))


def _end(outer: float, inner: float, is_within: Callable[[float], bool]) -> float:
    """The last area that is within, from one that is (``inner``) towards the end of the scale."""
    for _ in range(_HALVINGS):
        middle = (outer + inner) / 2
        outer, inner = (outer, middle) if is_within(middle) else (middle, inner)
    return inner
