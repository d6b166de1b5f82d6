"""Suite ``calibrate-threshold``: are the rates that a threshold promises kept? On simulated scores, whose true rates are known,
and on solar cells held out.

Cells are drawn apart at random, again and again, into those that the threshold is found on and the rest: among the rest the
number at or above it follows, whatever the scores are, the beta-binomial law (negative hypergeometric; H. A. David and H. N.
Nagaraja, Order Statistics, section 2.2). Two thresholds are found as they must not be, to show what then becomes of the promise:
on cells that the model was fitted on, and on cells of one type for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its stats are loaded where they are first used: other suites start without them

from calibration.intervals import confidence_of, share_of
from calibration.threshold import Floats, ThresholdReport, find_threshold, find_thresholds, rejectable_count
from pipeline.bench.cells import CellJudge, pictures_of, read_cells

_LAWS = ((300, 0.01, 0.95), (1_000, 0.01, 0.95), (500, 0.02, 0.9), (200, 0.1, 0.99))
"""Good parts, wanted rate, confidence."""
_TOGETHER = ((473, 0.01, 0.95), (500, 0.05, 0.95))
"""The same of two classes that keep one promise, ten times as often."""
_TOGETHER_TIMES = 10
_LEVELS = 40
_CELLS, _RATES, _CONFIDENCE = 300, (0.05, 0.01), 0.95
_DOUBT = 0.001
"""Below this probability a figure does not fit what it should be."""


def calibrate_threshold(
    model: Path, *, calibrations: int = 400, seed: int = 1, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """``calibrations`` of each kind. Raises ImageError, FaultsError, RuntimeProviderError or InferenceError."""
    generator = np.random.default_rng(seed)
    untied = [simulated_calibrations(generator, calibrations, *law, levels=None) for law in _LAWS]
    tied = [simulated_calibrations(generator, calibrations, *law, levels=_LEVELS) for law in _LAWS]
    together = [
        simulated_together(np.random.default_rng(seed), _TOGETHER_TIMES * calibrations, *law) for law in _TOGETHER
    ]
    progress(
        f"{(2 * len(_LAWS) + len(_TOGETHER)) * calibrations} simulated calibrations are done; the cells are judged"
    )
    cells = _cells(generator, model, calibrations)
    splits = cells["splits"]
    return {
        "suite": "calibrate-threshold",
        "calibrations": calibrations,
        "seed": seed,
        "simulated": untied,
        "simulated_with_ties": tied,
        "simulated_classes_together": together,
        "solar_cells": cells,
        "broken_promises": {
            "more_violations_than_the_confidence_allows": sum(
                each["violations_fit_confidence_p"] < _DOUBT for each in untied + tied + together
            ),
            "rates_off_the_law": sum(each["rates_fit_beta_p"] < _DOUBT for each in untied + together),
            "cells_off_the_law": sum(each["violations_fit_law_p"] < _DOUBT for each in splits),
        },
    }


def simulated_calibrations(
    generator: np.random.Generator,
    calibrations: int,
    good_parts: int,
    rate: float,
    confidence: float,
    *,
    levels: int | None,
) -> dict[str, Any]:
    """One law. Scores u ** 4, of which 1 - t ** (1/4) lie at or above t; with ``levels`` rounded down to that many."""
    achieved = []
    for _ in range(calibrations):
        scores = generator.random(good_parts) ** 4
        if levels is not None:
            scores = np.floor(scores * levels) / levels
        threshold = find_threshold(scores, false_reject_max=rate, confidence=confidence).threshold
        if threshold is None:
            raise RuntimeError(f"{good_parts} parts support no threshold for {rate:g} at {confidence:g}")
        if levels is not None:
            # No score lies between two levels.
            steps = np.arange(levels + 1) / levels
            threshold = float(steps[np.searchsorted(steps, threshold)])
        achieved.append(1.0 - threshold**0.25)
    return _told(np.array(achieved), good_parts, rate, confidence, is_tied=levels is not None)


def simulated_together(
    generator: np.random.Generator, calibrations: int, good_parts: int, rate: float, confidence: float
) -> dict[str, Any]:
    """One law, of two classes on scales of their own, the second one's score half made of the first one's."""
    achieved = []
    for _ in range(calibrations):
        first, other = generator.random(good_parts), generator.random(good_parts)
        scores = {"first": first, "second": ((first + other) / 2) ** 6}
        found = find_thresholds(scores, {"first": (), "second": ()}, false_reject_max=rate, confidence=confidence)
        if not found.thresholds:
            raise RuntimeError(f"{good_parts} parts support no thresholds for {rate:g} at {confidence:g}")
        # Of all pairs of first and other, first <= limit and first + other <= total pass.
        limit, total = found.thresholds["first"], 2 * found.thresholds["second"] ** (1 / 6)
        whole, partly = min(max(total - 1, 0.0), limit), min(total, limit)
        achieved.append(1.0 - whole - total * (partly - whole) + (partly**2 - whole**2) / 2)
    return _told(np.array(achieved), good_parts, rate, confidence, is_tied=False)


def _told(rates: Floats, good_parts: int, rate: float, confidence: float, *, is_tied: bool) -> dict[str, Any]:
    calibrations = len(rates)
    violations = int((rates > rate).sum())
    spare = rejectable_count(good_parts, rate, confidence)
    told = {
        "calibrations": calibrations,
        "good_parts": good_parts,
        "wanted_false_reject": rate,
        "confidence": confidence,
        "rejectable_parts": spare,
        "violations": violations,
        "violations_expected_at_most": round((1 - confidence) * calibrations, 1),
        "violations_fit_confidence_p": _p(
            scipy.stats.binomtest(violations, calibrations, 1 - confidence, alternative="greater")
        ),
        "achieved_false_reject": {"mean": round(float(rates.mean()), 6), "max": round(float(rates.max()), 6)},
        "expected_false_reject": round((spare + 1) / (good_parts + 1), 6),
    }
    if is_tied:
        return told
    exact = 1 - confidence_of(spare, good_parts, rate)
    return told | {
        "violations_expected_exactly": round(exact * calibrations, 1),
        "violations_fit_exactly_p": _p(scipy.stats.binomtest(violations, calibrations, exact)),
        "rates_fit_beta_p": _p(scipy.stats.kstest(rates, "beta", args=(spare + 1, good_parts - spare))),
    }


def _cells(generator: np.random.Generator, model: Path, calibrations: int) -> dict[str, Any]:
    cells = read_cells()
    judge = CellJudge(model)

    def scores_of(indices: npt.NDArray[np.int64]) -> Floats:
        return np.array([judge.score(picture) for picture in pictures_of(indices)])

    good, defective = scores_of(cells.held_out_good), scores_of(cells.held_out_defective)
    is_poly = cells.is_poly[cells.held_out_good]
    drawn = generator.permutation(len(good))
    found, rest = good[drawn[:_CELLS]], good[drawn[_CELLS:]]
    wrong = {
        "found_on_cells_that_the_model_was_fitted_on": (scores_of(cells.fitted_good), good),
        "found_on_mono_cells_for_poly_ones": (good[~is_poly], good[is_poly]),
        "found_on_poly_cells_for_mono_ones": (good[is_poly], good[~is_poly]),
    }
    return {
        "held_out_good": len(good),
        "held_out_defective": len(defective),
        "one_calibration": [_promised(found, rest, defective, rate) for rate in _RATES],
        "splits": [_splits(generator, good, rate, calibrations) for rate in _RATES],
        "as_it_must_not_be": {name: _promised(*its, defective, _RATES[0]) for name, its in wrong.items()},
    }


def _promised(found: Floats, rest: Floats, defective: Floats, rate: float) -> dict[str, Any]:
    report = find_threshold(found, defective, false_reject_max=rate, confidence=_CONFIDENCE)
    told: dict[str, Any] = {
        "good_parts": len(found),
        "promised_false_reject": rate,
        "confidence": _CONFIDENCE,
        "threshold": report.threshold,
        "refusals": [str(refusal) for refusal in report.refusals],
    }
    if report.threshold is None:
        return told
    return told | {
        "expected_false_reject": round(report.expected_false_reject, 4),
        "achieved_false_reject": _share(int((rest >= report.threshold).sum()), len(rest)),
        "false_accept": _share(int((defective < report.threshold).sum()), len(defective)),
    }


def _splits(generator: np.random.Generator, good: Floats, rate: float, calibrations: int) -> dict[str, Any]:
    """How often more than the promised share of the rest is rejected, and how often that has to be."""
    spare = rejectable_count(_CELLS, rate, _CONFIDENCE)
    rest_count = len(good) - _CELLS
    rejected = np.array([_rejected_of_rest(generator, good, rate) for _ in range(calibrations)])
    law = scipy.stats.betabinom(rest_count, spare + 1, _CELLS - spare)
    allowed = int(rate * rest_count)
    violations = int((rejected > allowed).sum())
    return {
        "good_parts": _CELLS,
        "rest": rest_count,
        "promised_false_reject": rate,
        "confidence": _CONFIDENCE,
        "achieved_false_reject": {
            "mean": round(float(rejected.mean()) / rest_count, 4),
            "max": round(float(rejected.max()) / rest_count, 4),
        },
        "expected_false_reject": round((spare + 1) / (_CELLS + 1), 4),
        "rest_rejected_beyond_promise": violations,
        "rest_rejected_beyond_promise_expected": round(float(law.sf(allowed)) * calibrations, 1),
        "violations_fit_law_p": _p(scipy.stats.binomtest(violations, calibrations, float(law.sf(allowed)))),
    }


def _rejected_of_rest(generator: np.random.Generator, good: Floats, rate: float) -> int:
    drawn = generator.permutation(len(good))
    report: ThresholdReport = find_threshold(good[drawn[:_CELLS]], false_reject_max=rate, confidence=_CONFIDENCE)
    if report.threshold is None:
        raise RuntimeError(str(report.refusals[0]))
    return int((good[drawn[_CELLS:]] >= report.threshold).sum())


def _share(count: int, total: int) -> dict[str, float | int] | None:
    share = share_of(count, total)
    if share is None:
        return None
    ends = {"share": share.value, "low": share.low, "high": share.high}
    return {"count": count, "total": total, **{name: round(end, 4) for name, end in ends.items()}}


def _p(test: Any) -> float:
    return round(float(test.pvalue), 4)
