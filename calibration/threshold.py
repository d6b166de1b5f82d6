"""Thresholds that reject at most so many good parts, with a stated confidence, whatever the scores' distribution is.

From N good parts that the model was not fitted on, the threshold is the least number above their (k+1)-th highest score, so that
k of them at most are rejected. The share of all good parts that it rejects is then itself a random number, by the draw of the N:
it follows Beta(k + 1, N - k), and lies below that law where scores tie. k is the greatest for which that share is at most the
wanted one with the wanted confidence. This is a one-sided tolerance limit:

* S. S. Wilks, Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics 12 (1941).
* H. Scheffe and J. W. Tukey, Non-parametric estimation I: validation of order statistics, ibid. 16 (1945), for ties.
* H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition (Wiley 2003), sections 7.2 and 2.2.

Where a part has several scores, one for each class that rejects, each class gets a threshold of its own and the promise is of all
of them together. The k + 1 parts are set aside one after the other, by the classes in turn: the part with the highest score of
the class among those that are left; the class's threshold lies just above the last one that it set aside. The share of good
parts that any of the thresholds rejects follows the same law, however the classes' scores depend on each other, since each
setting aside cuts off one of N + 1 statistically equivalent blocks. It takes fewer parts than a share of the rate for each class.

* A. Wald, An extension of Wilks' method for setting tolerance limits, Annals of Mathematical Statistics 14 (1943).
* J. W. Tukey, Non-parametric estimation II: statistically equivalent blocks and tolerance regions, ibid. 18 (1947), and III, ibid.
  19 (1948), for ties.

The thresholds rest on good parts alone, so the defective ones test them as fresh parts would: their interval is that of
``calibration.intervals``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, nextafter

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from calibration.intervals import CONFIDENCE, Share, confidence_of, parts_needed, share_of, upper_bound
from calibration.refusal import Refusal

Floats = npt.NDArray[np.float64]

ASSUMPTIONS = (
    "The good parts are a fair sample of the lots to come (exchangeable with them): taken at random and not chosen, from all "
    "machines, materials and times of day that matter. Parts of another kind of lot may be rejected more often.",
    "No good part, nor another picture of it, was used for fitting or choosing the model.",
    "Each part counts once, with one score: the highest of its views and pictures.",
    "Model, recipe, camera, light and position stay as they were when the parts were judged.",
)
"""What the promise rests on. For every report of a threshold."""


_LEAST = float(np.finfo(np.float32).smallest_normal)
"""Of thresholds: what is smaller may be taken for 0, which every part scores."""


def percent_of(ratio: float) -> str:
    """As it is spoken of: 1 %, 99.9 %, 0.33 %."""
    return f"{100 * ratio:.3g} %"


@dataclass(frozen=True, slots=True)
class ThresholdReport:
    """What the parts support. ``thresholds`` by class, empty: refused, and ``refusals`` say why; a part that scores one of them or
    more is rejected.

    ``good_rejected_count``: good parts that are rejected whatever the thresholds are; ``rejected_count``: of the ``good_count``
    parts, those and the ones without a judgement (``good_unjudged_count``) included;
    ``rank``: of the order statistic, k + 1, 0 where there is none;
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
    good_rejected_count: int
    defective_count: int
    defective_unjudged_count: int
    thresholds: dict[str, float]
    rank: int
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

    @property
    def threshold(self) -> float | None:
        """The only one; None where none is found. Raises ValueError where there are several."""
        if not self.thresholds:
            return None
        (only,) = self.thresholds.values()
        return only

    def words(self) -> list[str]:
        """For the operator: what is promised, or why nothing is; the notes after it."""
        if not self.thresholds:
            return [*map(str, self.refusals), *self.notes]
        told = ", ".join(f"{at:.6g}{f' for {name}' if name else ''}" for name, at in self.thresholds.items())
        several = len(self.thresholds) > 1
        words = [
            f"Threshold{'s' if several else ''} {told}: at most {percent_of(self.false_reject_max)} of good parts are rejected"
            f"{', by all of them together' if several else ''}, with "
            f"{percent_of(self.confidence)} confidence; {percent_of(self.expected_false_reject)} are to be expected "
            f"({percent_of(self.false_reject_low)} to {percent_of(self.false_reject_high)}). "
            f"It rests on {self.good_count} good parts, {self.rejected_count} of which it rejects."
        ]
        if (accept := self.false_accept) is not None:
            words.append(
                f"Of {accept.total} known-defective parts {accept.count} pass: {percent_of(accept.value)} of parts like them "
                f"({percent_of(accept.low)} to {percent_of(accept.high)}, {percent_of(self.confidence)} confidence)."
            )
        return [*words, *self.notes]


def find_threshold(
    good_scores: Sequence[float] | Floats,
    defective_scores: Sequence[float] | Floats = (),
    *,
    false_reject_max: float,
    confidence: float = CONFIDENCE,
    score_floor: float = 0.0,
) -> ThresholdReport:
    """``find_thresholds`` of parts with one score."""
    return find_thresholds(
        {"": good_scores},
        {"": defective_scores},
        false_reject_max=false_reject_max,
        confidence=confidence,
        score_floors={"": score_floor},
    )


def find_thresholds(
    good_scores: Mapping[str, Sequence[float] | Floats],
    defective_scores: Mapping[str, Sequence[float] | Floats],
    *,
    false_reject_max: float,
    confidence: float = CONFIDENCE,
    score_floors: Mapping[str, float] | None = None,
    good_rejected_count: int = 0,
    defective_rejected_count: int = 0,
) -> ThresholdReport:
    """By class, one score a part in the same order of parts, 0..1, the higher the worse; NaN where a part could not be judged
    (NO_DECISION), which rejects it.

    ``score_floors``: by class, what the threshold must be above, the decoder's own least score. The ``rejected`` counts: parts
    beside those that something else rejects, whatever the thresholds are. A wanted rate or confidence that no number of parts
    supports is refused in the report. Raises ValueError for scores outside 0 and 1, and where classes have unlike numbers of parts.
    """
    names = list(good_scores)
    good, good_unjudged_count = _judged("good", [good_scores[name] for name in names])
    defective, defective_unjudged_count = _judged("defective", [defective_scores[name] for name in names])
    floors = np.array([(score_floors or {}).get(name, 0.0) for name in names], np.float64)
    lost_count = good_unjudged_count + good_rejected_count
    good_count = len(good) + lost_count
    defective_count = len(defective) + defective_unjudged_count + defective_rejected_count
    # What is rejected at every threshold comes first, then one part at least for each class.
    spare_min = lost_count + len(names) - 1
    refusals = _impossible(false_reject_max, confidence)
    thresholds: dict[str, float] = {}
    spare_count, missing = -1, None
    supported_rate, supported_confidence = 1.0, 0.0
    if not refusals:
        missing = max(0, parts_needed(false_reject_max, confidence, spare_min) - good_count)
        spare_count = rejectable_count(good_count, false_reject_max, confidence)
        supported_rate = upper_bound(min(spare_min, good_count), good_count, confidence)
        supported_confidence = confidence_of(min(spare_min, good_count), good_count, false_reject_max)
        if spare_count < spare_min:
            lost = _lost_words(good_unjudged_count, good_rejected_count)
            refusals = [_too_few(good_count, lost, len(names), missing, false_reject_max, confidence, supported_rate)]
        else:
            limits = np.maximum(_limits(good, spare_count + 1 - lost_count), floors)
            refusals = [
                _no_room(name, scores, false_reject_max)
                for name, scores, limit in zip(names, good.T, limits, strict=True)
                if limit >= 1.0
            ]
            if not refusals:
                above = (max(nextafter(float(limit), inf), _LEAST) for limit in limits)
                thresholds = dict(zip(names, above, strict=True))
    at = np.array(list(thresholds.values()), np.float64)
    low, high = _law(spare_count, good_count, 0.025), _law(spare_count, good_count, 0.975)
    return ThresholdReport(
        false_reject_max=false_reject_max,
        confidence=confidence,
        good_count=good_count,
        good_unjudged_count=good_unjudged_count,
        good_rejected_count=good_rejected_count,
        defective_count=defective_count,
        defective_unjudged_count=defective_unjudged_count,
        thresholds=thresholds,
        rank=spare_count + 1,
        rejected_count=lost_count + (int((good >= at).any(axis=1).sum()) if thresholds else 0),
        expected_false_reject=(spare_count + 1) / (good_count + 1),
        false_reject_low=low,
        false_reject_high=high,
        supported_false_reject=supported_rate,
        supported_confidence=supported_confidence,
        parts_missing=missing,
        false_accept=share_of(int((defective < at).all(axis=1).sum()), defective_count, confidence)
        if thresholds
        else None,
        notes=(
            *_count_notes(good_unjudged_count, good_rejected_count, defective_count, defective_unjudged_count),
            *_tie_notes(good, thresholds, floors),
        ),
        refusals=tuple(refusals),
    )


def _limits(scores: Floats, cuts: int) -> Floats:
    """Of each class (column) the score of the last part (row) that it set aside; one part at least for each."""
    limits = np.zeros(scores.shape[1])
    left = np.arange(len(scores))
    for number in range(cuts):
        column = number % scores.shape[1]
        worst = int(np.argmax(scores[left, column]))
        limits[column] = scores[left[worst], column]
        left = np.delete(left, worst)
    return limits


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


def _judged(name: str, scores: Sequence[Sequence[float] | Floats]) -> tuple[Floats, int]:
    """(parts, classes) of those with all their scores, and how many lack one."""
    given = np.stack([np.asarray(each, np.float64).reshape(-1) for each in scores], axis=1)
    is_lost = np.isnan(given).any(axis=1)
    judged = given[~is_lost]
    if judged.size and not (judged.min() >= 0.0 and judged.max() <= 1.0):
        raise ValueError(f"{name} scores: got {judged.min():g} to {judged.max():g}, expected 0 to 1")
    return judged, int(is_lost.sum())


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


def _lost_words(unjudged_count: int, rejected_count: int) -> str:
    told = [f"{unjudged_count} of which could not be judged"] if unjudged_count else []
    if rejected_count:
        told.append(f"{rejected_count} of which are rejected by what is not calibrated")
    return f", {' and '.join(told)}: rejected at every threshold" if told else ""


def _too_few(
    good_count: int,
    lost: str,
    classes_count: int,
    missing: int,
    false_reject_max: float,
    confidence: float,
    supported: float,
) -> Refusal:
    expected = (
        f"{good_count + missing} to promise {percent_of(false_reject_max)} with {percent_of(confidence)} confidence"
    )
    if classes_count > 1:
        expected += f" of {classes_count} thresholds together"
    if supported < 1.0:
        advice = f"Add {missing} good parts, or be content with {percent_of(supported)}, which these parts support."
    else:
        advice = f"Add {missing} good parts: these support no promise."
    if lost:
        advice += " Find out first why good parts are rejected at every threshold."
    return Refusal("too few good parts", f"{good_count} good parts{lost}", expected, advice)


def _no_room(name: str, good: Floats, false_reject_max: float) -> Refusal:
    got = f"{int((good >= 1.0).sum())} of {len(good)} good parts with the highest score there is"
    expected = f"at most {percent_of(false_reject_max)} of them to score 1"
    advice = "The model takes good parts for defective ones: look at their pictures, and teach or choose another model."
    return Refusal(f"no threshold{f' for {name}' if name else ''}", got, expected, advice)


def _count_notes(
    good_unjudged_count: int, good_rejected_count: int, defective_count: int, defective_unjudged_count: int
) -> list[str]:
    notes = []
    if good_unjudged_count:
        notes.append(f"{good_unjudged_count} good parts could not be judged (NO_DECISION) and count as rejected.")
    if good_rejected_count:
        notes.append(f"{good_rejected_count} good parts are rejected by what is not calibrated, and count as rejected.")
    if defective_count == 0:
        notes.append("No known-defective parts were given: how many defective parts will pass is not known.")
    if defective_unjudged_count:
        notes.append(
            f"{defective_unjudged_count} defective parts could not be judged (NO_DECISION): they are taken out, but not "
            "because their defects were seen."
        )
    return notes


def _tie_notes(good: Floats, thresholds: Mapping[str, float], floors: Floats) -> list[str]:
    notes = []
    for (name, threshold), scores, floor in zip(thresholds.items(), good.T, floors, strict=False):
        limit = 0.0 if threshold == _LEAST else np.nextafter(threshold, 0.0)
        ties = int((scores == limit).sum())
        of = f" for {name}" if name else ""
        if limit == floor and ties != 1:
            notes.append(f"The threshold{of} is the lowest that the model allows, just above {floor:g}.")
        elif ties > 1:
            notes.append(
                f"{ties} good parts score the very {limit:.6g} that the threshold{of} lies above: fewer good parts than "
                "expected will be rejected."
            )
    return notes
