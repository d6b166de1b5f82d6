"""The fit of all views together, the threshold that follows from it, and what that promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.intervals import share_of
from calibration.refusal import Refusal
from calibration.teaching.fitting import ViewFit, folds_of
from calibration.teaching.graph import score_of
from calibration.teaching.suspects import RobustFit, robust_fit
from calibration.teaching.windows import Layer
from calibration.threshold import ThresholdReport, find_thresholds, percent_of
from pipeline.teaching.features import Features
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.report import ScoredPart

_NEAR_SHARE_MAX = 0.1
"""Of all pictures. Of different parts none was seen that has a near one, of parts with several pictures two thirds and more."""

_MARGIN = 1e-3
"""Of excess, between the strangest part that passes and the threshold: single precision errs by less."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """``excess``, ``is_suspect``, ``p_values``: (pictures,) each, of the view in which it is the strangest, ``worst_view``.

    ``part``: (pictures,), the same number for pictures of one part, see ``calibration.teaching.near_copies``.
    """

    views: tuple[ViewFit, ...]
    excess: npt.NDArray[np.float64]
    is_suspect: npt.NDArray[np.bool_]
    p_values: npt.NDArray[np.float64]
    worst_view: npt.NDArray[np.intp]
    part: npt.NDArray[np.intp]


def fit(
    features: Sequence[Features],
    layers: Sequence[Layer],
    part: npt.NDArray[np.intp],
    is_said_good: npt.NDArray[np.bool_] | None = None,
    is_held: npt.NDArray[np.bool_] | None = None,
) -> Fitted:
    """Of each view's features, (pictures, channels, rows, columns), the pictures in one order, made up of ``layers``.

    ``part``: as in ``Fitted``; ``is_said_good``, (pictures,): somebody has looked at it, and it is no suspect; ``is_held``,
    (pictures,): it is one.
    """
    folds = folds_of(int(part.max()) + 1)[part]
    fits: list[RobustFit] = [robust_fit(of_view, layers, folds, is_said_good, is_held) for of_view in features]
    excess = np.stack([fit.cross.excess for fit in fits])
    p_values = np.stack([fit.p_values for fit in fits])
    return Fitted(
        views=tuple(fit.cross.view for fit in fits),
        excess=excess.max(axis=0),
        is_suspect=np.logical_or.reduce([fit.is_suspect for fit in fits]),
        p_values=p_values.min(axis=0),
        worst_view=excess.argmax(axis=0),
        part=part,
    )


def threshold_of(fitted: Fitted, false_reject_max: float, confidence: float, rejected_count: int = 0) -> float:
    """In excess, by ``calibration.threshold``, suspects and ``rejected_count`` others (``GoodParts``) taken for rejected; where the
    parts are too few for what is wanted, just above the strangest that is no suspect.

    Were the strangest suspects taken for good, a defective one among them would set the threshold, and others like it would pass.
    """
    is_suspect = _of_parts(fitted.is_suspect, fitted.part)
    excess = _of_parts(fitted.excess, fitted.part)[~is_suspect]
    scores = score_of(excess, float(excess.max()))
    found = _found(scores, (), int(is_suspect.sum()) + rejected_count, false_reject_max, confidence)
    passes = scores < found.threshold if found.threshold is not None else np.ones(len(scores), np.bool_)
    return float(excess[passes].max()) + _MARGIN


def promised(
    good: Sequence[ScoredPart],
    defective: Sequence[ScoredPart],
    fitted: Fitted,
    false_reject_max: float,
    confidence: float,
    rejected_count: int = 0,
    may_repeat: npt.NDArray[np.bool_] | None = None,
    said: Sequence[str] = (),
) -> ThresholdReport:
    """What ``THRESHOLD`` promises, suspects and ``rejected_count`` others (``GoodParts``) taken for rejected.

    Each part counts once, with the highest score of its pictures. Nothing is promised where pictures that may show the part of
    another one, ``may_repeat``, (pictures,), are a good share of those that are no suspects (``calibration.teaching.near_copies``).
    ``said``: what it takes somebody's word for, told with it.
    """
    good_scores = _of_parts(np.array([part.score for part in good]), fitted.part)
    is_suspect = _of_parts(fitted.is_suspect, fitted.part)
    defective_scores = [part.score for part in defective]
    suspects = int(is_suspect.sum())
    found = _found(good_scores[~is_suspect], defective_scores, suspects + rejected_count, false_reject_max, confidence)
    # The first note is on those that "something else" rejects.
    notes = found.notes[1:] if suspects or rejected_count else found.notes
    if rejected_count:
        notes = (_left_aside(rejected_count), *notes)
    if suspects:
        notes = (_counted(suspects, len(good_scores)), *notes)
    if len(good_scores) < len(good):
        notes = (_counted_once(len(good), len(good_scores)), *notes)
    unseen = "Counted by fits that had not seen the parts: the package has, and may score one or another otherwise."
    notes = (*notes, *said, unseen)
    refusals = found.refusals
    if not found.thresholds and rejected_count:
        refusals = (_unseen(rejected_count, found),)
    if not found.thresholds and suspects:
        refusals = (_unconfirmed(suspects, len(good_scores), found), *(refusals if rejected_count else ()))
    learnt = ~fitted.is_suspect
    near_count = 0 if may_repeat is None else int((may_repeat & learnt).sum())
    if near_count > _NEAR_SHARE_MAX * learnt.sum():
        refusals = (_may_be_one_part(near_count, int(learnt.sum())), *refusals)
        found = replace(found, thresholds={}, parts_missing=None)
    if not found.thresholds:
        return replace(found, notes=notes, refusals=refusals)
    # It lies within rounding below THRESHOLD, and no part between.
    return replace(
        found,
        thresholds={"": THRESHOLD},
        rejected_count=int((good_scores >= THRESHOLD).sum()) + rejected_count,
        false_accept=share_of(sum(score < THRESHOLD for score in defective_scores), len(defective_scores), confidence),
        notes=notes,
    )


def _found(
    scores: npt.NDArray[np.float64],
    defective: Sequence[float],
    rejected_count: int,
    false_reject_max: float,
    confidence: float,
) -> ThresholdReport:
    return find_thresholds(
        {"": scores},
        {"": defective},
        false_reject_max=false_reject_max,
        confidence=confidence,
        good_rejected_count=rejected_count,
    )


def _of_parts(values: npt.NDArray[Any], part: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Of pictures' values the highest of each part."""
    found = np.full(int(part.max()) + 1, values.min(), values.dtype)
    np.maximum.at(found, part, values)
    return found


def _counted_once(pictures: int, parts: int) -> str:
    return f"{pictures} pictures show {parts} parts, some of them several times: each part counts once, with its highest score."


def _counted(suspects: int, good_count: int) -> str:
    return f"{suspects} of {good_count} good parts are suspects: they count as rejected until somebody says that they are good."


def _left_aside(count: int) -> str:
    said = "they count as good ones that are rejected, until somebody says that they are defective"
    return f"{count} parts of recorded windows were rejected by the line: {said}."


def _unseen(count: int, found: ThresholdReport) -> Refusal:
    return Refusal(
        "rejected parts of recorded windows",
        f"{count} that nobody has looked at",
        f"so few that {percent_of(found.false_reject_max)} can be promised with {percent_of(found.confidence)} confidence",
        "The parts that a line passed are chosen: those that it rejected may be good. Look at them; if all are defective, say so "
        "with --rejects-are-defective; if some are good, take all with --all-parts, less the defective ones: --without NAME "
        "for each.",
    )


def _may_be_one_part(near: int, pictures: int) -> Refusal:
    return Refusal(
        "pictures of different parts",
        f"{near} of {pictures} that may show the part of another one: they are much nearer to it than pictures usually are, fall "
        "into a few groups far apart, or all differ little",
        "one picture of each part, so that they are as many as there are parts",
        "If parts are shown several times, keep one picture of each: no promise holds for more parts than there are. If each shows "
        "another part (those that are cut from one piece are alike, too, and those of one kind among several), say so with "
        "--parts-differ.",
    )


def _unconfirmed(suspects: int, good_count: int, found: ThresholdReport) -> Refusal:
    return Refusal(
        "suspects among the good parts",
        f"{suspects} of {good_count} that look unlike the others",
        f"so few that {percent_of(found.false_reject_max)} can be promised with {percent_of(found.confidence)} confidence",
        "Look at them: take out those that are defective; if all are good, say so with --suspects-are-good.",
    )
