"""Original and shrunk model on the same images, taking turns, through the code that the line judges with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.intervals import parts_needed
from pipeline.evaluation.data import DataSet
from pipeline.evaluation.figures import Figures, figures_of
from pipeline.evaluation.labels import are_defective
from pipeline.evaluation.runner import Judged, Runner
from pipeline.shrink.gate import Check, Gate, Limits, check_fall, check_rate
from pipeline.verification.measure import score_difference

IOU_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """``before`` and ``after`` are all figures of the two models; the counts are of images whose verdict became wrong, or right.

    Of images with the same bytes one counts: copies are no further evidence. ``copies_left_out`` says how many did not.
    """

    before: Figures
    after: Figures
    defective_count: int
    good_count: int
    copies_left_out: int
    new_escapes: int
    new_false_rejects: int
    mended: int
    score_difference: float


def too_few(data_set: DataSet, is_defective: npt.NDArray[np.bool_], limits: Limits) -> str | None:
    """Why these images cannot decide, however well the shrunk model does on them; None where they can."""
    asked = (
        ("defective", _distinct(data_set, is_defective), "new escapes", limits.new_escapes_max),
        ("good", _distinct(data_set, ~is_defective), "new false rejects", limits.new_false_rejects_max),
    )
    told, is_short = [], False
    for kind, there, what, limit in asked:
        needed = parts_needed(limit, limits.confidence)
        is_short |= there < needed
        told.append(f"{there} {kind} ones of the {needed} that {what} of at most {limit:.2%} take")
    if not is_short:
        return None
    if copies := len(data_set.samples) - sum(there for _, there, _, _ in asked):
        told.append(f"{copies} copies of other images do not count")
    return f"too few images to decide with {limits.confidence:.0%} confidence, even without one new mistake: {'; '.join(told)}"


def labels_of(data_set: DataSet, runner: Runner) -> npt.NDArray[np.bool_]:
    """Which images are defective by their labels and the rules, bool (N,)."""
    return are_defective(data_set, runner.package.card, runner.judge_of)


def compare(
    before: Runner,
    after: Runner,
    data_set: DataSet,
    is_defective: npt.NDArray[np.bool_],
    *,
    looked: Callable[[], None] = lambda: None,
) -> Comparison:
    """Each image on both, and every other time the shrunk model first: what slows the box down slows both alike.

    Raises FaultsError, InferenceError.
    """
    judged: tuple[list[Judged], list[Judged]] = ([], [])
    runners = (before, after)
    for index, sample in enumerate(data_set.samples):
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            judged[which].append(runners[which].judged(sample))
        looked()
    figures = [
        figures_of(
            outcomes,
            is_defective,
            runner.package.card,
            runner.recipe_for(data_set.samples[0]),
            iou_min=IOU_MIN,
            pixels=None,
        )
        for runner, outcomes in zip(runners, judged, strict=True)
    ]
    passed, passes = figures[0].is_passed, figures[1].is_passed
    was_right = passed != is_defective
    is_right = passes != is_defective
    defective_count, good_count = _distinct(data_set, is_defective), _distinct(data_set, ~is_defective)
    scores = zip(figures[0].scores.tolist(), figures[1].scores.tolist(), strict=True)
    return Comparison(
        before=figures[0],
        after=figures[1],
        defective_count=defective_count,
        good_count=good_count,
        copies_left_out=len(data_set.samples) - defective_count - good_count,
        new_escapes=_distinct(data_set, is_defective & ~passed & passes),
        new_false_rejects=_distinct(data_set, ~is_defective & passed & ~passes),
        mended=_distinct(data_set, ~was_right & is_right),
        score_difference=max(score_difference(*pair) for pair in scores),
    )


def gate_of(found: Comparison, limits: Limits) -> Gate:
    """The gate on what was found."""
    rates: list[Check] = [
        check_rate(
            "new escapes",
            "defective",
            found.new_escapes,
            found.defective_count,
            limits.new_escapes_max,
            limits.confidence,
        ),
        check_rate(
            "new false rejects",
            "good",
            found.new_false_rejects,
            found.good_count,
            limits.new_false_rejects_max,
            limits.confidence,
        ),
        check_fall("AUROC", found.before.auroc, found.after.auroc, limits.auroc_drop_max),
    ]
    if found.before.detected is not None and found.after.detected is not None:
        before, after = found.before.detected, found.after.detected
        rates.append(check_fall("mAP", before.mean_average_precision, after.mean_average_precision, limits.ap_drop_max))
    return Gate(limits, tuple(rates))


def _distinct(data_set: DataSet, is_one: npt.NDArray[np.bool_]) -> int:
    """How many of these images have bytes of their own."""
    return len({sample.facts.sha256 for sample, counts in zip(data_set.samples, is_one, strict=True) if counts})
