"""The promise against brute force, and what is refused."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, kstest

from calibration.threshold import find_threshold, find_thresholds, rejectable_count

SCORES = st.floats(0.0, 1.0)


@given(good_count=st.integers(0, 600), rate=st.floats(0.005, 0.3), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_so_many_may_be_rejected_and_not_one_more(good_count: int, rate: float, confidence: float) -> None:
    """Against the binomial: k of N at or above the threshold where each lies above the (1 - rate) quantile by chance ``rate``."""
    count = rejectable_count(good_count, rate, confidence)
    if count >= 0:
        assert binom.sf(count, good_count, rate) >= confidence - 1e-9
    assert binom.sf(count + 1, good_count, rate) < confidence


@pytest.mark.parametrize(
    ("good_count", "rate", "expected"), [(298, 0.01, -1), (299, 0.01, 0), (473, 0.01, 1), (59, 0.05, 0)]
)
def test_known_numbers_of_parts(good_count: int, rate: float, expected: int) -> None:
    assert rejectable_count(good_count, rate, 0.95) == expected


def test_the_achieved_rates_follow_the_law_of_the_order_statistic() -> None:
    generator = np.random.default_rng(0)
    reports = [find_threshold(generator.random(300), false_reject_max=0.02) for _ in range(500)]
    achieved = [1 - report.threshold for report in reports if report.threshold is not None]
    assert len(achieved) == 500
    k = rejectable_count(300, 0.02, 0.95)
    assert kstest(achieved, "beta", args=(k + 1, 300 - k)).pvalue > 0.01
    violations = sum(rate > 0.02 for rate in achieved)
    assert binomtest(violations, 500, 0.05, alternative="greater").pvalue > 0.01
    assert reports[0].expected_false_reject == pytest.approx(np.mean(achieved), rel=0.1)
    assert reports[0].false_reject_low < np.median(achieved) < reports[0].false_reject_high


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), levels=st.integers(1, 12))
def test_ties_only_lower_the_share_that_is_rejected(seed: int, levels: int) -> None:
    """Scores on few levels: of 40 calibrations the violations are no more than the confidence allows."""
    generator = np.random.default_rng(seed)
    violations = 0
    for _ in range(40):
        report = find_threshold(generator.integers(0, levels, 60) / 16, false_reject_max=0.05)
        assert report.threshold is not None
        violations += (np.arange(levels) / 16 >= report.threshold).mean() > 0.05
    assert binom.sf(violations - 1, 40, 0.05) > 1e-6


@given(st.lists(SCORES, min_size=60, max_size=200), st.lists(SCORES, max_size=30), st.floats(0.0, 0.5))
def test_what_is_told_is_what_the_threshold_does(good: list[float], defective: list[float], floor: float) -> None:
    report = find_threshold(good, defective, false_reject_max=0.05, score_floor=floor)
    if report.threshold is None:
        assert [refusal.reason for refusal in report.refusals] == ["no threshold"]
        assert sorted(good)[-1 - rejectable_count(len(good), 0.05, 0.95)] == 1.0
        return
    assert not report.refusals
    assert floor < report.threshold <= 1.0
    assert report.rejected_count == sum(score >= report.threshold for score in good)
    assert report.rejected_count <= rejectable_count(len(good), 0.05, 0.95)
    assert report.parts_missing == 0
    if defective:
        assert report.false_accept is not None
        assert report.false_accept.count == sum(score < report.threshold for score in defective)
        assert report.false_accept.total == len(defective)
    else:
        assert report.false_accept is None
        assert "No known-defective parts" in report.notes[-1] or "No known-defective parts" in report.notes[0]


def test_too_few_parts_say_how_many_are_missing_and_what_they_support() -> None:
    report = find_threshold(np.linspace(0, 0.5, 200), false_reject_max=0.01)
    assert report.threshold is None
    assert report.false_accept is None
    assert report.parts_missing == 99
    assert report.supported_false_reject == pytest.approx(1 - 0.05 ** (1 / 200))
    assert report.supported_confidence == pytest.approx(1 - 0.99**200)
    (refusal,) = report.refusals
    assert refusal.reason == "too few good parts"
    assert "200 good parts" in refusal.got
    assert "299" in refusal.expected
    assert "Add 99 good parts" in refusal.advice
    # What they support is supported.
    again = find_threshold(np.linspace(0, 0.5, 200), false_reject_max=report.supported_false_reject + 1e-9)
    assert again.threshold is not None


def test_no_parts_at_all() -> None:
    report = find_threshold([], false_reject_max=0.01)
    assert report.parts_missing == 299
    assert "support no promise" in report.refusals[0].advice


def test_parts_that_were_not_judged_are_rejected_ones() -> None:
    good = [*np.linspace(0, 0.5, 472), nan]
    report = find_threshold(good, [nan, 0.9, 0.1], false_reject_max=0.01)
    assert report.threshold is not None
    assert report.threshold > 0.5
    assert report.rejected_count == report.good_unjudged_count == 1
    assert report.false_accept is not None
    assert (report.false_accept.count, report.false_accept.total) == (1, 3)
    assert report.defective_unjudged_count == 1
    assert len(report.notes) == 2
    # One more, and so many parts are too few.
    report = find_threshold([*good[1:], nan], false_reject_max=0.01)
    assert report.threshold is None
    assert report.parts_missing is not None
    assert report.parts_missing > 0
    assert "could not be judged" in report.refusals[0].got
    enough = [*np.linspace(0, 0.5, 471 + report.parts_missing), nan, nan]
    assert find_threshold(enough, false_reject_max=0.01).threshold is not None
    assert find_threshold(enough[1:], false_reject_max=0.01).threshold is None


@pytest.mark.parametrize(
    ("rate", "confidence", "reasons"),
    [
        (0.0, 0.95, ["wanted rate"]),
        (1.0, 0.95, ["wanted rate"]),
        (nan, 0.95, ["wanted rate"]),
        (0.01, 1.0, ["confidence"]),
        (0.01, 0.0, ["confidence"]),
        (0.0, 1.0, ["wanted rate", "confidence"]),
    ],
)
def test_what_no_number_of_parts_supports(rate: float, confidence: float, reasons: list[str]) -> None:
    report = find_threshold(np.linspace(0, 0.5, 10_000), [0.9], false_reject_max=rate, confidence=confidence)
    assert report.threshold is None
    assert report.parts_missing is None
    assert [refusal.reason for refusal in report.refusals] == reasons


def test_good_parts_that_score_as_badly_as_can_be() -> None:
    report = find_threshold([0.1] * 90 + [1.0] * 10, false_reject_max=0.05)
    assert report.threshold is None
    assert report.refusals[0].reason == "no threshold"
    assert "10 of 100 good parts" in report.refusals[0].got


def test_ties_at_the_threshold_are_told() -> None:
    report = find_threshold([0.0] * 100 + [0.25] * 5, false_reject_max=0.05)
    assert report.threshold is not None
    assert report.threshold > 0.25
    assert "5 good parts score the very 0.25" in report.notes[-1]
    assert "just above 0.3" in find_threshold([0.0] * 100, [1.0], false_reject_max=0.05, score_floor=0.3).notes[-1]


@pytest.mark.parametrize("score", [-0.1, 1.1, float("inf")])
def test_scores_are_within_0_and_1(score: float) -> None:
    with pytest.raises(ValueError, match=r"good scores: got .* expected 0 to 1"):
        find_threshold([0.5, score], false_reject_max=0.05)


def test_the_words() -> None:
    told = find_threshold(np.linspace(0, 0.5, 300), [0.2, 0.9, 0.95], false_reject_max=0.01).words()
    assert "at most 1 % of good parts are rejected, with 95 % confidence; 0.332 % are to be expected" in told[0]
    assert "It rests on 300 good parts, 0 of which it rejects" in told[0]
    assert told[1].startswith("Of 3 known-defective parts 1 pass: 33.3 % of parts like them (0.84 % to 90.6 %")
    refused = find_threshold(np.linspace(0, 0.5, 100), false_reject_max=0.01).words()
    assert refused[0].startswith("too few good parts: got 100 good parts, expected 299 to promise 1 %")
    assert "not known" in refused[1]


def dependent(generator: np.random.Generator, parts: int) -> dict[str, np.ndarray]:
    """Scores of two classes on scales of their own, the second one half made of the first."""
    first, other = generator.random(parts), generator.random(parts)
    return {"scratch": first, "dent": ((first + other) / 2) ** 6}


def rejected_share(thresholds: dict[str, float]) -> float:
    """Of all parts as ``dependent`` makes them: what neither threshold leaves, integrated over the first score."""
    first = (np.arange(20_000) + 0.5) / 20_000
    passes = np.clip(2 * thresholds["dent"] ** (1 / 6) - first, 0.0, 1.0)
    return 1.0 - float(np.where(first < thresholds["scratch"], passes, 0.0).mean())


def test_several_thresholds_keep_one_promise_together() -> None:
    """The rate that both reject together follows the law of a single one, though the scores depend on each other."""
    generator = np.random.default_rng(7)
    achieved = []
    for _ in range(400):
        report = find_thresholds(dependent(generator, 500), {"scratch": [], "dent": []}, false_reject_max=0.02)
        assert report.rank == rejectable_count(500, 0.02, 0.95) + 1 == 5
        assert set(report.thresholds) == {"scratch", "dent"}
        achieved.append(rejected_share(report.thresholds))
    assert kstest(achieved, "beta", args=(report.rank, 501 - report.rank)).pvalue > 0.01
    violations = sum(rate > 0.02 for rate in achieved)
    assert binomtest(violations, 400, 0.05, alternative="greater").pvalue > 0.01


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), levels=st.integers(2, 40), lost=st.integers(0, 3), classes=st.integers(1, 4))
def test_what_several_thresholds_do_is_what_is_told(seed: int, levels: int, lost: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    names = [f"class{number}" for number in range(classes)]
    good = {name: generator.integers(0, levels, 400) / 64 for name in names}
    defective = {name: generator.integers(0, 64, 30) / 64 for name in names}
    report = find_thresholds(
        good, defective, false_reject_max=0.05, good_rejected_count=lost, defective_rejected_count=lost
    )
    assert report.good_count == 400 + lost
    is_rejected = np.any([good[name] >= report.thresholds[name] for name in names], axis=0)
    assert report.rejected_count == lost + is_rejected.sum() <= rejectable_count(400 + lost, 0.05, 0.95)
    assert report.false_accept is not None
    is_passed = np.all([defective[name] < report.thresholds[name] for name in names], axis=0)
    assert (report.false_accept.count, report.false_accept.total) == (is_passed.sum(), 30 + lost)


def test_each_class_takes_parts() -> None:
    """473 for two at 1 % and 95 %, as for one with one part rejected; fewer are refused with what is missing."""
    few = {name: np.linspace(0, 0.5, 299) for name in ("scratch", "dent")}
    report = find_thresholds(few, {"scratch": [], "dent": []}, false_reject_max=0.01)
    assert report.thresholds == {}
    assert report.parts_missing == 473 - 299
    assert "2 thresholds together" in report.refusals[0].expected
    enough = {name: np.linspace(0, 0.5, 473) for name in ("scratch", "dent")}
    report = find_thresholds(enough, {"scratch": [], "dent": []}, false_reject_max=0.01)
    # Both rank the parts alike: the first class sets the worst one aside, the second the one after it.
    assert report.thresholds["scratch"] == pytest.approx(0.5)
    assert report.thresholds["dent"] == pytest.approx(0.5 * 471 / 472)
    assert report.rejected_count == 1
    assert "for scratch" in report.words()[0]
    assert "by all of them together" in report.words()[0]


def test_good_parts_that_something_else_rejects_use_up_the_promise() -> None:
    report = find_threshold(np.linspace(0, 0.5, 298), false_reject_max=0.01)
    other = find_thresholds({"": np.linspace(0, 0.5, 298)}, {"": []}, false_reject_max=0.01, good_rejected_count=1)
    assert report.parts_missing == 1
    assert other.parts_missing == 473 - 299
    assert "1 of which are rejected by what is not calibrated" in other.refusals[0].got


def test_one_class_without_room_is_named() -> None:
    good = {"scratch": np.linspace(0, 0.5, 200), "dent": np.ones(200)}
    report = find_thresholds(good, {"scratch": [], "dent": []}, false_reject_max=0.05)
    assert report.thresholds == {}
    assert [refusal.reason for refusal in report.refusals] == ["no threshold for dent"]
