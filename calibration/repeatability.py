"""The same parts judged again and again: how far scores and sizes spread, and how far verdicts agree with the operator's labels.

Each showing must be a new placing of the part in front of the camera: the same picture judged twice gives the same score and
shows nothing.

Sources: Automotive Industry Action Group, Measurement Systems Analysis, 4th edition (2010), chapter III (repeatability, the share
of the study's variation, distinct categories, attribute agreement); D. C. Montgomery and G. C. Runger, Gauge capability and
designed experiments, Quality Engineering 6 (1993); J. D. Thomas and R. A. Hultquist, Interval estimation for the unbalanced case
of the one-way random effects model, Annals of Statistics 6 (1978); J. Cohen, A coefficient of agreement for nominal scales,
Educational and Psychological Measurement 20 (1960); S. Basu, M. Banerjee and A. Sen, Bayesian inference for kappa from single and
multiple studies, Biometrics 56 (2000).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, fdtri

from calibration.intervals import CONFIDENCE, Share, share_of
from calibration.refusal import Refusal
from calibration.repeatability_figures import GaugeFigures, RepeatabilityFigures
from vision.types import Verdict

Floats = npt.NDArray[np.float64]

_KAPPA_DRAWS = 20_000
_CATEGORIES = sqrt(2.0)
"""Distinct categories: 1.41 times the parts' spread in spreads of the gauge (AIAG)."""


@dataclass(frozen=True, slots=True)
class GaugeStudy:
    """The repeatability part of a gauge R&R study. All spreads are standard deviations, in the quantity's own unit.

    ``repeatability`` with its interval: of one part shown again, assuming a normal distribution; ``part_spread``: between parts,
    0 where it is lost in the former; ``share``: the repeatability's share of the total spread, 0..1 ("%GRR" below 0.1 is good,
    above 0.3 is not), with its interval; ``distinct_categories``: so many groups of parts can be told apart, inf where repeats do
    not differ at all. The last four are None with one part. ``to_tolerance``: six repeatabilities over the tolerance's width,
    None without one. ``lost_count``: showings without a value, NaN.
    """

    parts_count: int
    values_count: int
    lost_count: int
    confidence: float
    repeatability: float
    repeatability_low: float
    repeatability_high: float
    part_spread: float | None
    share: float | None
    share_low: float | None
    share_high: float | None
    distinct_categories: float | None
    to_tolerance: float | None
    notes: tuple[str, ...]


def figures_of(
    score: GaugeStudy,
    agreement: AttributeAgreement,
    *,
    size: GaugeStudy | None = None,
    size_unit: Literal["px", "mm"] | None = None,
) -> RepeatabilityFigures:
    """What is kept of a study."""
    kappa, right = agreement.kappa, agreement.right
    return RepeatabilityFigures(
        parts_count=agreement.parts_count,
        shown_count=agreement.shown_count,
        unjudged_count=agreement.unjudged_count,
        confidence=score.confidence,
        score=_gauge_figures(score),
        size=None if size is None else _gauge_figures(size),
        size_unit=None if size is None else size_unit,
        steady_parts_count=agreement.parts_count - len(agreement.mixed_parts),
        labelled_count=0 if right is None else right.total,
        right_count=None if right is None else right.count,
        kappa=None if kappa is None else kappa.value,
        kappa_low=None if kappa is None else kappa.low,
        kappa_high=None if kappa is None else kappa.high,
        mixed_parts=list(agreement.mixed_parts),
    )


def _gauge_figures(study: GaugeStudy) -> GaugeFigures:
    categories = study.distinct_categories
    return GaugeFigures(
        parts_count=study.parts_count,
        values_count=study.values_count,
        lost_count=study.lost_count,
        repeatability=study.repeatability,
        repeatability_low=study.repeatability_low,
        repeatability_high=study.repeatability_high,
        part_spread=study.part_spread,
        share=study.share,
        share_low=study.share_low,
        share_high=study.share_high,
        distinct_categories=None if categories == inf else categories,
    )


class TooFewRepeats(ValueError):
    """``refusal`` says what is missing."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def gauge_study(
    values: Mapping[str, Sequence[float]], *, tolerance_width: float | None = None, confidence: float = CONFIDENCE
) -> GaugeStudy:
    """``values``: of each part, one a showing, NaN where there was none (``NO_DECISION``); ``tolerance_width``: more than 0.

    Raises TooFewRepeats where no part has two values.
    """
    given = [np.asarray(each, np.float64).reshape(-1) for each in values.values()]
    lost_count = int(sum(np.isnan(each).sum() for each in given))
    groups = [kept for each in given if (kept := each[~np.isnan(each)]).size]
    counts = np.array([group.size for group in groups], np.float64)
    within_freedom = float(counts.sum()) - len(groups)
    if within_freedom < 1:
        got = f"{int(counts.sum())} values of {len(groups)} parts"
        advice = "Show the same part again, taken out and put back each time: ten parts three times each is usual."
        raise TooFewRepeats(Refusal("too few repeats", got, "a part with two values at least", advice))
    means = np.array([group.mean() for group in groups])
    within = float(sum(((group - group.mean()) ** 2).sum() for group in groups)) / within_freedom
    tail = (1 - confidence) / 2
    spread = sqrt(within)
    part_spread = share = share_low = share_high = categories = None
    if len(groups) > 1:
        # Thomas and Hultquist: means unweighted, with the harmonic mean of their counts; exact where the counts are equal.
        repeats = len(counts) / float((1 / counts).sum())
        between = repeats * float(means.var(ddof=1))
        freedom = len(groups) - 1
        part_spread = sqrt(max(0.0, (between - within) / repeats))
        ratio = between / within if within else inf if between else 1.0
        share = spread / sqrt(within + part_spread**2) if within or part_spread else 1.0
        share_high = _share(ratio / float(fdtri(freedom, within_freedom, 1 - tail)), repeats)
        share_low = _share(ratio / float(fdtri(freedom, within_freedom, tail)), repeats)
        categories = _CATEGORIES * part_spread / spread if spread else inf if part_spread else 0.0
    return GaugeStudy(
        parts_count=len(groups),
        values_count=int(counts.sum()),
        lost_count=lost_count,
        confidence=confidence,
        repeatability=spread,
        repeatability_low=sqrt(within * within_freedom / float(chdtri(within_freedom, tail))),
        repeatability_high=sqrt(within * within_freedom / float(chdtri(within_freedom, 1 - tail))),
        part_spread=part_spread,
        share=share,
        share_low=share_low,
        share_high=share_high,
        distinct_categories=categories,
        to_tolerance=None if tolerance_width is None else 6 * spread / tolerance_width,
        notes=tuple(_gauge_notes(spread, len(groups), lost_count)),
    )


def _share(ratio: float, repeats: float) -> float:
    """Of the repeatability in the total spread, where ``ratio`` is 1 + repeats * (parts' variance over its variance)."""
    return 1 / sqrt(1 + max(0.0, ratio - 1) / repeats)


def _gauge_notes(spread: float, parts_count: int, lost_count: int) -> list[str]:
    notes = []
    if spread == 0.0:
        notes.append("No showing differs from another: was the part really put anew before the camera each time?")
    if parts_count == 1:
        notes.append("One part: how its repeats spread, but not how that compares with the parts' own differences.")
    if lost_count:
        notes.append(f"{lost_count} showings gave no value (NO_DECISION) and are left out.")
    return notes


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa: the agreement beyond what chance alone would give, 1 at best, with its interval at the study's confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AttributeAgreement:
    """Verdicts against labels. Each part counts once, however often it was shown; what is not passed is taken out.

    Without labels ``right``, ``missed``, ``false_alarms`` and ``kappa`` are None.
    ``steady``: parts with the same outcome every time; ``right``: parts right every time; ``missed``: defective parts passed at
    least once; ``false_alarms``: good parts taken out at least once; ``kappa`` None where all labels and all verdicts are one and
    the same, so that agreement by chance is certain; ``mixed_parts``: the unsteady ones, to be looked at.
    """

    parts_count: int
    shown_count: int
    unjudged_count: int
    confidence: float
    steady: Share | None
    right: Share | None
    missed: Share | None
    false_alarms: Share | None
    kappa: Kappa | None
    mixed_parts: tuple[str, ...]


def attribute_agreement(
    verdicts: Mapping[str, Sequence[Verdict]],
    is_defective: Mapping[str, bool] | None,
    *,
    confidence: float = CONFIDENCE,
) -> AttributeAgreement:
    """``verdicts`` of each part, one a showing; ``is_defective``: the operator's label of each part, None where there are none.

    Raises ValueError where a part has no label, or no verdict.
    """
    for part, its in verdicts.items():
        if is_defective is not None and part not in is_defective:
            raise ValueError(f"part {part}: got no label, expected good or defective")
        if not its:
            raise ValueError(f"part {part}: got no verdict, expected one at least")
    taken_out = {part: sum(verdict is not Verdict.PASS for verdict in its) / len(its) for part, its in verdicts.items()}
    labels = is_defective or {}
    defective = [share for part, share in taken_out.items() if labels.get(part) is True]
    good = [share for part, share in taken_out.items() if labels.get(part) is False]
    mixed = tuple(part for part, share in taken_out.items() if 0.0 < share < 1.0)
    parts_count, labelled_count = len(taken_out), len(defective) + len(good)
    missed, false_alarms = sum(share < 1.0 for share in defective), sum(share > 0.0 for share in good)
    return AttributeAgreement(
        parts_count=parts_count,
        shown_count=sum(len(its) for its in verdicts.values()),
        unjudged_count=sum(verdict is Verdict.NO_DECISION for its in verdicts.values() for verdict in its),
        confidence=confidence,
        steady=share_of(parts_count - len(mixed), parts_count, confidence),
        right=share_of(labelled_count - missed - false_alarms, labelled_count, confidence),
        missed=share_of(missed, len(defective), confidence),
        false_alarms=share_of(false_alarms, len(good), confidence),
        kappa=cohens_kappa(
            sum(defective),
            sum(1 - share for share in defective),
            sum(good),
            sum(1 - share for share in good),
            confidence=confidence,
        ),
        mixed_parts=mixed,
    )


def cohens_kappa(
    defective_out: float,
    defective_passed: float,
    good_out: float,
    good_passed: float,
    *,
    confidence: float = CONFIDENCE,
) -> Kappa | None:
    """Of a table of two labels and two outcomes, in parts; a part with mixed outcomes may be shared out. None: see above.

    The interval is a posterior one (Basu, Banerjee and Sen), with Jeffreys' prior of half a part in each cell, of 20,000 draws
    with a fixed seed: the usual standard error (Fleiss, Cohen and Everitt 1969) is 0 where all agree, as they do in most small
    studies. There the upper end is 1 and the lower one one-sided.
    """
    table = np.array([defective_out, defective_passed, good_out, good_passed], np.float64)
    value = float(_kappas(table[None])[0]) if table.sum() else float("nan")
    if np.isnan(value):
        return None
    kappas = _kappas(np.random.default_rng(0).dirichlet(table + 0.5, _KAPPA_DRAWS))
    if defective_passed == good_out == 0.0:
        return Kappa(value, float(np.quantile(kappas, 1 - confidence)), 1.0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(kappas, [tail, 1 - tail])
    return Kappa(value, min(float(low), value), max(float(high), value))


def _kappas(tables: Floats) -> Floats:
    """Of tables (K, 4) as in ``cohens_kappa``; NaN where all lies in one corner."""
    a, b, c, d = (tables / tables.sum(axis=1, keepdims=True)).T
    by_chance = (a + b) * (a + c) + (c + d) * (b + d)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance < 1.0, (a + d - by_chance) / (1 - by_chance), np.nan)
