"""The threshold of a fit, and that it keeps what it promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.intervals import parts_needed
from calibration.teaching.graph import score_of
from calibration.teaching.windows import Layer
from calibration.threshold import find_threshold
from pipeline.teaching.fit import Fitted, fit, promised, threshold_of
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.report import ScoredPart

Floats = npt.NDArray[np.float64]

NONE = np.zeros(1_000, np.bool_)
"""No part is a suspect."""

LAYERS = (Layer("maps", 0, 8, 1, (1, 2), 1),)


def fitted(excess: Floats, suspects: npt.NDArray[np.bool_] | None = None) -> Fitted:
    """Of one view, whose fit is of no matter here."""
    is_suspect = np.zeros(len(excess), np.bool_) if suspects is None else suspects
    worst = np.zeros(len(excess), np.intp)
    return Fitted(
        (), np.asarray(excess, np.float64), is_suspect, np.full(len(excess), 0.5), worst, np.arange(len(excess))
    )


def parts(excess: Floats, at: float) -> list[ScoredPart]:
    return [ScoredPart(f"{number:04d}", float(score)) for number, score in enumerate(score_of(excess, at))]


def features(count: int, seed: int = 0, *, grid: tuple[int, int] = (5, 6)) -> npt.NDArray[np.float32]:
    """Maps with a look of their own at each place, and noise."""
    rng = np.random.default_rng(seed)
    usual = np.random.default_rng(99).normal(0, 1, (8, *grid))
    return (usual + 0.3 * rng.normal(0, 1, (count, 8, *grid))).astype(np.float32)


EXCESS = st.integers(20, 700).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.integers(0, 2**32 - 1),
        st.sampled_from([(0.01, 0.95), (0.05, 0.95), (0.02, 0.5), (0.1, 0.99)]),
    )
)


@given(EXCESS)
def test_as_many_good_parts_are_rejected_as_the_order_statistic_allows(
    asked: tuple[int, int, tuple[float, float]],
) -> None:
    """Whatever the scores: the rule of ``calibration.threshold`` and the score that the model rejects from agree."""
    count, seed, (share, confidence) = asked
    excess = np.random.default_rng(seed).standard_t(4, count)
    at = threshold_of(fitted(excess), share, confidence)
    rule = find_threshold(list(score_of(excess, 0.0)), false_reject_max=share, confidence=confidence)
    promise = promised(parts(excess, at), [], fitted(excess), share, confidence)
    assert bool(promise.thresholds) == bool(rule.thresholds)
    assert promise.parts_missing == rule.parts_missing
    rejected = int((score_of(excess, at) >= THRESHOLD).sum())
    if rule.thresholds:
        assert promise.threshold == THRESHOLD
        assert promise.rejected_count == rejected
        # A part that is hardly stranger than the strangest one to pass does, too.
        hardly = np.sort(excess)[count - rule.rejected_count - 1] + 1.01e-3
        assert (excess > hardly).sum() <= rejected <= rule.rejected_count
        assert rejected <= share * count
    else:
        assert rejected == 0


@pytest.mark.parametrize("seed", range(3))
def test_new_good_parts_are_rejected_no_more_often_than_promised(seed: int) -> None:
    """400 parts are fitted by turns; of 4,000 others at most 1 % are above the threshold, unless chance wills it (5 %)."""
    fit_of = fit([features(400, seed)], LAYERS, np.arange(400))
    at = threshold_of(fit_of, 0.01, 0.95)
    others = fit_of.views[0].excess(features(4_000, 1_000 + seed))
    assert np.mean(score_of(others, at) >= THRESHOLD) <= 0.01
    assert (score_of(fit_of.excess, at) >= THRESHOLD).sum() <= 1


def test_with_too_few_parts_the_strangest_that_is_no_suspect_passes() -> None:
    excess = np.linspace(-1, 2, 50)
    excess[[7, 9]] = 30.0, 40.0
    suspects = np.zeros(50, np.bool_)
    suspects[[7, 9]] = True
    at = threshold_of(fitted(excess, suspects), 0.01, 0.95)
    assert 2.0 < at < 2.01
    promise = promised(parts(excess, at), [], fitted(excess, suspects), 0.01, 0.95)
    assert promise.thresholds == {}
    assert promise.parts_missing == parts_needed(0.01, 0.95, 2) - 50  # the two are taken for rejected
    assert int((score_of(excess, at) >= THRESHOLD).sum()) == 2


def test_suspects_count_as_rejected_and_do_not_set_the_threshold() -> None:
    excess = np.linspace(-2, 2, 600)
    suspects = np.zeros(600, np.bool_)
    suspects[:1], excess[:1] = True, 50.0
    at = threshold_of(fitted(excess, suspects), 0.01, 0.95)
    promise = promised(parts(excess, at), [], fitted(excess, suspects), 0.01, 0.95)
    # One of 600 may be rejected: it is the suspect.
    assert (promise.threshold, promise.rejected_count) == (THRESHOLD, 1)
    assert 2.0 < at < 2.01
    suspects[:5], excess[:5] = True, 50.0
    at = threshold_of(fitted(excess, suspects), 0.01, 0.95)
    refused = promised(parts(excess, at), [], fitted(excess, suspects), 0.01, 0.95)
    assert refused.thresholds == {}
    assert "5 of 600 that look unlike the others" in " ".join(refused.words())
    assert "--suspects-are-good" in " ".join(refused.words())
    assert 2.0 < at < 2.01


def test_parts_that_a_line_rejected_count_as_good_ones_that_are_rejected() -> None:
    """What the line passed is chosen: of good parts that were rejected the highest scores would be missing."""
    excess = np.linspace(-2, 2, 600)
    at = threshold_of(fitted(excess), 0.01, 0.95, rejected_count=1)
    promise = promised(parts(excess, at), [], fitted(excess), 0.01, 0.95, rejected_count=1)
    # One of 601 may be rejected, and is already.
    assert (promise.threshold, promise.good_count, promise.rejected_count) == (THRESHOLD, 601, 1)
    assert "1 parts of recorded windows were rejected by the line" in " ".join(promise.notes)
    refused = promised(parts(excess, at), [], fitted(excess), 0.01, 0.95, rejected_count=40)
    assert refused.thresholds == {}
    assert "40 that nobody has looked at" in " ".join(refused.words())
    assert "--rejects-are-defective" in " ".join(refused.words())


def test_of_pictures_that_may_show_one_part_nothing_is_promised() -> None:
    def first(count: int) -> npt.NDArray[np.bool_]:
        return np.arange(600) < count

    excess = np.linspace(-2, 2, 600)
    at = threshold_of(fitted(excess), 0.01, 0.95)
    assert promised(parts(excess, at), [], fitted(excess), 0.01, 0.95, may_repeat=first(61)).thresholds == {}
    assert promised(parts(excess, at), [], fitted(excess), 0.01, 0.95, may_repeat=first(60)).threshold == THRESHOLD
    refused = promised(parts(excess, at), [], fitted(excess), 0.01, 0.95, may_repeat=first(590))
    assert (refused.thresholds, refused.parts_missing) == ({}, None)
    assert len(refused.refusals) == 1
    assert "590 of 600 that may show the part of another one" in " ".join(refused.words())
    assert "--parts-differ" in " ".join(refused.words())
    # Suspects are told by themselves.
    found = fitted(excess, first(100))
    refused = promised(parts(excess, at), [], found, 0.01, 0.95, may_repeat=first(100))
    assert "--parts-differ" not in " ".join(refused.words())
    few = excess[::10]
    assert len(few) == 60
    refused = promised(parts(few, 3.0), [], fitted(few), 0.01, 0.95, may_repeat=np.ones(60, np.bool_))
    assert len(refused.refusals) == 2


def test_a_part_counts_once_however_many_pictures_show_it() -> None:
    excess = np.linspace(-2, 2, 600)
    part = np.arange(600) // 2
    twice = replace(fitted(excess), part=part)
    at = threshold_of(twice, 0.01, 0.95)
    promise = promised(parts(excess, at), [], twice, 0.01, 0.95)
    assert (promise.threshold, promise.good_count) == (THRESHOLD, 300)
    assert "600 pictures show 300 parts" in " ".join(promise.notes)
    often = replace(fitted(excess), part=np.arange(600) // 8)
    refused = promised(parts(excess, threshold_of(often, 0.01, 0.95)), [], often, 0.01, 0.95)
    assert (refused.thresholds, refused.good_count) == ({}, 75)
    # The higher of a part's scores is its own.
    suspects = np.zeros(600, np.bool_)
    suspects[[0, 1, 2]], excess[[0, 1, 2]] = True, 50.0
    found = promised(parts(excess, at), [], replace(fitted(excess, suspects), part=part), 0.01, 0.95)
    assert "2 of 300 good parts are suspects" in " ".join(found.notes)


def test_a_part_that_somebody_said_is_good_is_no_suspect() -> None:
    strange = features(60)
    strange[3] += 4.0
    strange[11] += 4.0
    said = np.zeros(60, np.bool_)
    said[3] = True
    assert fit([strange], LAYERS, np.arange(60)).is_suspect[[3, 11]].all()
    assert fit([strange], LAYERS, np.arange(60), said).is_suspect[[3, 11]].tolist() == [False, True]


def test_defective_parts_that_pass_are_counted_at_the_threshold() -> None:
    excess = np.linspace(-2, 2, 400)
    at = threshold_of(fitted(excess), 0.01, 0.95)
    defective = parts(np.array([at - 1, at - 1e-6, at, at + 5]), at)
    promise = promised(parts(excess, at), defective, fitted(excess), 0.01, 0.95)
    assert promise.false_accept is not None
    assert promise.false_accept.value == 0.5


def test_a_part_is_judged_by_the_view_in_which_it_is_the_strangest() -> None:
    one, other = features(40), features(40, 1, grid=(4, 4))
    one[3] += 4.0
    other[11] += 4.0
    found = fit([one, other], LAYERS, np.arange(40))
    assert len(found.views) == 2
    assert found.excess.shape == found.is_suspect.shape == found.p_values.shape == (40,)
    assert set(np.argsort(found.excess)[-2:]) == {3, 11}
    assert (found.worst_view[3], found.worst_view[11]) == (0, 1)
    assert found.is_suspect[3]
    assert found.is_suspect[11]


def test_a_fit_is_the_same_again() -> None:
    first, second = (fit([features(60)], LAYERS, np.arange(60)) for _ in range(2))
    assert np.array_equal(first.excess, second.excess)
