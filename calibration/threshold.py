"""The threshold that rejects at most so many good parts, with a stated confidence, whatever the scores' distribution is.

From N good parts that the model was not fitted on, the threshold is the least number above their (k+1)-th highest score, so that
k of them at most are rejected. The share of all good parts that it rejects is then itself a random number, by the draw of the N:
it follows Beta(k + 1, N - k), and lies below that law where scores tie. k is the greatest for which that share is at most the
wanted one with the wanted confidence. This is a one-sided tolerance limit:

* S. S. Wilks, Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics 12 (1941).
* H. Scheffe and J. W. Tukey, Non-parametric estimation I: validation of order statistics, ibid. 16 (1945), for ties.
* H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition (Wiley 2003), sections 7.2 and 2.2.

The threshold rests on good parts alone, so the defective ones test it as fresh parts would: their interval is that of
``calibration.intervals``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nextafter
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.special import betaincinv

from calibration.intervals import CONFIDENCE, Share, confidence_of, parts_needed, share_of, upper_bound
from calibration.refusal import Refusal
from vision.recipe import Strict

Floats = npt.NDArray[np.float64]

ASSUMPTIONS = (
    "The good parts are a fair sample of the lots to come (exchangeable with them): taken at random and not chosen, from all "
    "machines, materials and times of day that matter. Parts of another kind of lot may be rejected more often.",
    "No good part, nor another picture of it, was used for fitting or choosing the model.",
    "Each part counts once, with one score: the highest of its views and pictures.",
    "Model, recipe, camera, light and position stay as they were when the parts were judged.",
)
"""What the promise rests on. For every report of a threshold."""


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """What the parts support. ``threshold`` None: refused, and ``refusals`` say why; a part that scores it or more is rejected.

    ``rejected_count``: of the ``good_count`` parts, those without a judgement (``good_unjudged_count``) included;
    ``expected_false_reject``: the mean of the law, and ``false_reject_low`` to ``false_reject_high`` its central 95 %;
    ``supported_false_reject``: the lowest rate that so many parts can promise with the wanted confidence, and
    ``supported_confidence`` the most that the wanted rate can be promised with;
    ``parts_missing``: good parts to be added before the wanted rate can be promised, None where no number would do;
    ``false_accept``: of the defective parts those passed, with an interval at ``confidence``; None where there are none.
    """

    false_reject_max: float
    confidence: float
    good_count: int
    good_unjudged_count: int
    defective_count: int
    defective_unjudged_count: int
    threshold: float | None
    rejected_count: int
    expected_false_reject: float
    false_reject_low: float
    false_reject_high: float
    supported_false_reject: float
    supported_confidence: float
    parts_missing: int | None
    false_accept: Share | None
    notes: tuple[str, ...]
    refusals: tuple[Refusal, ...]


class ThresholdSection(Strict):
    """As kept of one product: what was promised and what it rests on. The shares are with an interval at ``confidence``."""

    threshold: Annotated[float, Field(gt=0.0, le=1.0, description="a part that scores so much or more is rejected")]
    false_reject_max: Annotated[float, Field(gt=0.0, lt=1.0)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    expected_false_reject: Annotated[float, Field(ge=0.0, le=1.0)]
    good_count: Annotated[int, Field(ge=1)]
    good_rejected_count: Annotated[int, Field(ge=0)]
    defective_count: Annotated[int, Field(ge=0)]
    defective_accepted_count: Annotated[int, Field(ge=0)]
    false_accept_low: float | None
    false_accept_high: float | None


def section_of(report: ThresholdReport) -> ThresholdSection:
    """Raises ValueError for a report without a threshold."""
    if report.threshold is None:
        raise ValueError("report: got refusals, expected a threshold")
    accept = report.false_accept
    return ThresholdSection(
        threshold=report.threshold,
        false_reject_max=report.false_reject_max,
        confidence=report.confidence,
        expected_false_reject=report.expected_false_reject,
        good_count=report.good_count,
        good_rejected_count=report.rejected_count,
        defective_count=report.defective_count,
        defective_accepted_count=0 if accept is None else accept.count,
        false_accept_low=None if accept is None else accept.low,
        false_accept_high=None if accept is None else accept.high,
    )


def find_threshold(
    good_scores: Sequence[float] | Floats,
    defective_scores: Sequence[float] | Floats = (),
    *,
    false_reject_max: float,
    confidence: float = CONFIDENCE,
    score_floor: float = 0.0,
) -> ThresholdReport:
    """One score a part, 0..1, the higher the worse; NaN where a part could not be judged (NO_DECISION), which rejects it.

    ``score_floor``: what the threshold must be above, the decoder's own least score. A wanted rate or confidence that no number
    of parts supports is refused in the report. Raises ValueError for scores outside 0 and 1.
    """
    good, good_unjudged_count = _judged("good", good_scores)
    defective, defective_unjudged_count = _judged("defective", defective_scores)
    good_count, defective_count = len(good) + good_unjudged_count, len(defective) + defective_unjudged_count
    refusals = _impossible(false_reject_max, confidence)
    threshold: float | None = None
    spare_count, missing = -1, None
    supported_rate, supported_confidence = 1.0, 0.0
    if not refusals:
        missing = max(0, parts_needed(false_reject_max, confidence, good_unjudged_count) - good_count)
        spare_count = rejectable_count(good_count, false_reject_max, confidence)
        supported_rate = upper_bound(good_unjudged_count, good_count, confidence)
        supported_confidence = confidence_of(good_unjudged_count, good_count, false_reject_max)
        if spare_count < good_unjudged_count:
            refusals = [
                _too_few(good_count, good_unjudged_count, missing, false_reject_max, confidence, supported_rate)
            ]
        else:
            # Those without a judgement are the worst: above every threshold.
            limit = max(float(good[good_count - spare_count - 1]), score_floor)
            if limit >= 1.0:
                refusals = [_no_room(good, false_reject_max)]
            else:
                threshold = nextafter(limit, inf)
    low, high = _law(spare_count, good_count, 0.025), _law(spare_count, good_count, 0.975)
    return ThresholdReport(
        false_reject_max=false_reject_max,
        confidence=confidence,
        good_count=good_count,
        good_unjudged_count=good_unjudged_count,
        defective_count=defective_count,
        defective_unjudged_count=defective_unjudged_count,
        threshold=threshold,
        rejected_count=good_unjudged_count + (0 if threshold is None else int((good >= threshold).sum())),
        expected_false_reject=(spare_count + 1) / (good_count + 1),
        false_reject_low=low,
        false_reject_high=high,
        supported_false_reject=supported_rate,
        supported_confidence=supported_confidence,
        parts_missing=missing,
        false_accept=None
        if threshold is None
        else share_of(int((defective < threshold).sum()), defective_count, confidence),
        notes=tuple(
            _notes(good, good_unjudged_count, defective_count, defective_unjudged_count, threshold, score_floor)
        ),
        refusals=tuple(refusals),
    )


def rejectable_count(good_count: int, false_reject_max: float, confidence: float) -> int:
    """So many of the good parts may lie at or above the threshold; -1 where not even none would do.

    The greatest k with P(Beta(k + 1, N - k) <= false_reject_max) >= confidence. Rate and confidence above 0 and below 1.
    """
    low, high = -1, good_count  # at all of them nothing is promised
    while high - low > 1:
        middle = (low + high) // 2
        if confidence_of(middle, good_count, false_reject_max) >= confidence:
            low = middle
        else:
            high = middle
    return low


def _judged(name: str, scores: Sequence[float] | Floats) -> tuple[Floats, int]:
    """Sorted, and how many are NaN."""
    given = np.asarray(scores, np.float64).reshape(-1)
    judged = np.sort(given[~np.isnan(given)])
    if judged.size and not (judged[0] >= 0.0 and judged[-1] <= 1.0):
        raise ValueError(f"{name} scores: got {judged[0]:g} to {judged[-1]:g}, expected 0 to 1")
    return judged, given.size - judged.size


def _law(spare_count: int, good_count: int, share: float) -> float:
    if spare_count < 0:
        return 0.0 if share < 0.5 else 1.0
    return float(betaincinv(spare_count + 1.0, good_count - spare_count, share))


def _impossible(false_reject_max: float, confidence: float) -> list[Refusal]:
    refusals = []
    if not 0.0 < false_reject_max < 1.0:
        advice = "No number of parts can show that none is ever rejected: say what rate can be borne, 0.01 for 1 %."
        refusals.append(Refusal("wanted rate", f"{false_reject_max:g}", "more than 0 and less than 1", advice))
    if not 0.0 < confidence < 1.0:
        advice = "No number of parts makes it certain: 0.95 is usual, 0.99 takes half as many parts again."
        refusals.append(Refusal("confidence", f"{confidence:g}", "more than 0 and less than 1", advice))
    return refusals


def _too_few(
    good_count: int, unjudged_count: int, missing: int, false_reject_max: float, confidence: float, supported: float
) -> Refusal:
    got = f"{good_count} good parts"
    if unjudged_count:
        got += f", {unjudged_count} of which could not be judged and are rejected at every threshold"
    expected = f"{good_count + missing} to promise {false_reject_max:.3g} with {confidence:.3g} confidence"
    if supported < 1.0:
        advice = f"Add {missing} good parts, or be content with {supported:.2g}, which these parts support."
    else:
        advice = f"Add {missing} good parts: these support no promise."
    if unjudged_count:
        advice += " Find out first why parts were not judged (NO_DECISION)."
    return Refusal("too few good parts", got, expected, advice)


def _no_room(good: Floats, false_reject_max: float) -> Refusal:
    got = f"{int((good >= 1.0).sum())} of {len(good)} good parts with the highest score there is"
    expected = f"at most {false_reject_max:.3g} of them to score 1"
    advice = "The model takes good parts for defective ones: look at their pictures, and teach or choose another model."
    return Refusal("no threshold", got, expected, advice)


def _notes(
    good: Floats,
    good_unjudged_count: int,
    defective_count: int,
    defective_unjudged_count: int,
    threshold: float | None,
    score_floor: float,
) -> list[str]:
    notes = []
    if good_unjudged_count:
        notes.append(f"{good_unjudged_count} good parts could not be judged (NO_DECISION) and count as rejected.")
    if defective_count == 0:
        notes.append("No known-defective parts were given: how many defective parts will pass is not known.")
    if defective_unjudged_count:
        notes.append(
            f"{defective_unjudged_count} defective parts could not be judged (NO_DECISION): they are taken out, but not "
            "because their defects were seen."
        )
    if threshold is None or not len(good):
        return notes
    limit = np.nextafter(threshold, 0.0)
    ties = int((good == limit).sum())
    if limit == score_floor and ties != 1:
        notes.append(f"The threshold is the lowest that the model allows, just above {score_floor:g}.")
    elif ties > 1:
        notes.append(
            f"{ties} good parts score the very {limit:.6g} that the threshold lies above: fewer good parts than expected "
            "will be rejected."
        )
    return notes
