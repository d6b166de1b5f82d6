"""The bench must see a promise that is not kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from calibration.threshold import ThresholdReport, find_threshold
from pipeline.bench import calibrate_threshold
from pipeline.bench.calibrate_threshold import simulated_calibrations, simulated_together


@pytest.mark.parametrize("levels", [None, 40])
def test_a_threshold_as_it_should_be_fits(levels: int | None) -> None:
    told = simulated_calibrations(np.random.default_rng(0), 200, 300, 0.02, 0.95, levels=levels)
    assert told["violations_fit_confidence_p"] > 0.01
    if levels is None:
        assert told["rates_fit_beta_p"] > 0.01
        assert told["violations_fit_exactly_p"] > 0.01
    else:
        assert told["achieved_false_reject"]["mean"] <= told["expected_false_reject"]


@pytest.mark.parametrize(
    "wrong", [partial(find_threshold, confidence=0.7), lambda scores, **asked: find_threshold(scores[:200], **asked)]
)
def test_a_wrong_threshold_does_not(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., ThresholdReport]) -> None:
    def found(scores: object, *, false_reject_max: float, confidence: float) -> ThresholdReport:
        rate = 2 * false_reject_max if isinstance(wrong, partial) else false_reject_max
        return wrong(scores, false_reject_max=rate)

    monkeypatch.setattr(calibrate_threshold, "find_threshold", found)
    told = simulated_calibrations(np.random.default_rng(0), 400, 300, 0.02, 0.95, levels=None)
    assert min(told["violations_fit_confidence_p"], told["rates_fit_beta_p"]) < 0.001


def test_two_classes_keep_one_promise_together() -> None:
    told = simulated_together(np.random.default_rng(0), 400, 500, 0.05, 0.95)
    assert min(told["violations_fit_confidence_p"], told["rates_fit_beta_p"]) > 0.01


def test_a_promise_for_each_class_is_none_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    def each_by_itself(good: Mapping[str, Any], defective: object, **asked: Any) -> ThresholdReport:
        found = {name: find_threshold(scores, **asked) for name, scores in good.items()}
        thresholds = {name: report.threshold for name, report in found.items() if report.threshold is not None}
        return replace(found["first"], thresholds=thresholds)

    monkeypatch.setattr(calibrate_threshold, "find_thresholds", each_by_itself)
    told = simulated_together(np.random.default_rng(0), 400, 500, 0.05, 0.95)
    assert max(told["violations_fit_confidence_p"], told["rates_fit_beta_p"]) < 0.001
