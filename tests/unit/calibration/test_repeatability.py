from __future__ import annotations

from math import inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from calibration.repeatability import (
    TooFewRepeats,
    attribute_agreement,
    cohens_kappa,
    figures_of,
    gauge_study,
)
from calibration.repeatability_figures import RepeatabilityFigures
from vision.types import Verdict

PASS, REJECT, NO_DECISION = Verdict.PASS, Verdict.REJECT, Verdict.NO_DECISION


def test_a_study_by_hand() -> None:
    """Two parts, three showings each; the sums of squares are 2 and 2, between the parts' means lie 10."""
    study = gauge_study({"a": [1.0, 2.0, 3.0], "b": [11.0, 12.0, 13.0]}, tolerance_width=60.0)
    assert (study.parts_count, study.values_count, study.lost_count) == (2, 6, 0)
    assert study.repeatability == pytest.approx(1.0)
    assert study.part_spread == pytest.approx(sqrt(50 - 1 / 3))
    assert study.share == pytest.approx(1 / sqrt(50 + 2 / 3))
    assert study.to_tolerance == pytest.approx(0.1)
    assert study.distinct_categories == pytest.approx(sqrt(2) * sqrt(50 - 1 / 3))


def test_a_study_of_unequal_counts_by_hand() -> None:
    """Sums of squares 2 and 12 of 4 degrees of freedom; means of variance 50; the counts' harmonic mean is 8/3."""
    study = gauge_study({"a": [0.0, 2.0], "b": [10.0, 10.0, 14.0, 10.0]})
    assert study.repeatability == pytest.approx(sqrt(3.5))
    assert study.part_spread == pytest.approx(sqrt(50 - 3.5 * 3 / 8))


@pytest.mark.parametrize("counts", [[3] * 10, [2, 3, 4, 5, 2, 3, 4, 5, 6, 2]])
def test_intervals_hold_the_truth(counts: list[int]) -> None:
    generator = np.random.default_rng(0)
    in_spread = in_share = 0
    for _ in range(500):
        parts = generator.normal(0.0, 2.0, len(counts))
        study = gauge_study(
            {
                f"{n}": generator.normal(part, 1.0, count).tolist()
                for n, (part, count) in enumerate(zip(parts, counts, strict=True))
            }
        )
        assert study.share_low is not None
        assert study.share_high is not None
        in_spread += study.repeatability_low <= 1.0 <= study.repeatability_high
        in_share += study.share_low <= 1 / sqrt(5) <= study.share_high
    assert in_spread >= 0.92 * 500
    assert in_share >= 0.92 * 500


def test_one_part_alone() -> None:
    study = gauge_study({"a": [0.1, nan, 0.2, 0.3]})
    assert study.repeatability == pytest.approx(0.1)
    assert study.repeatability_low < 0.1 < study.repeatability_high
    assert study.lost_count == 1
    assert (study.part_spread, study.share, study.distinct_categories) == (None, None, None)
    assert any("One part" in note for note in study.notes)
    assert any("1 showings gave no value" in note for note in study.notes)


def test_repeats_that_do_not_differ_are_suspicious() -> None:
    study = gauge_study({"a": [0.5, 0.5], "b": [0.25, 0.25]})
    assert (study.repeatability, study.share, study.share_high) == (0.0, 0.0, 0.0)
    assert study.distinct_categories == inf
    assert "anew" in study.notes[0]
    same = gauge_study({"a": [0.5, 0.5], "b": [0.5, 0.5]})
    assert (same.repeatability, same.share, same.distinct_categories) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("values", [{}, {"a": [1.0]}, {"a": [1.0], "b": [2.0, nan]}, {"a": [nan, nan]}])
def test_without_repeats_there_is_no_study(values: dict[str, list[float]]) -> None:
    with pytest.raises(TooFewRepeats, match="Show the same part again") as caught:
        gauge_study(values)
    assert caught.value.refusal.reason == "too few repeats"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_kappa_is_that_of_the_reference(pairs: list[tuple[bool, bool]]) -> None:
    labels, outs = [label for label, _ in pairs], [out for _, out in pairs]
    cells = [
        sum(pair == cell for pair in pairs) for cell in ((True, True), (True, False), (False, True), (False, False))
    ]
    kappa = cohens_kappa(*cells)
    if len({*labels, *outs}) == 1:
        assert kappa is None
        return
    assert kappa is not None
    assert kappa.value == pytest.approx(cohen_kappa_score(labels, outs))
    assert -1.0 <= kappa.low <= kappa.value <= kappa.high <= 1.0


def test_kappa_of_nothing() -> None:
    assert cohens_kappa(0, 0, 0, 0) is None


def test_full_agreement_of_few_parts_proves_little() -> None:
    few, many = cohens_kappa(3, 0, 0, 3), cohens_kappa(50, 0, 0, 50)
    assert few is not None
    assert many is not None
    assert few.value == many.value == few.high == many.high == 1.0
    assert few.low < 0.6 < 0.9 < many.low < 1.0


@pytest.mark.parametrize(
    ("defective", "missed", "false_alarms"), [(0.5, 0.05, 0.05), (0.2, 0.2, 0.05), (0.3, 0.5, 0.3)]
)
def test_the_interval_of_kappa_holds_the_truth(defective: float, missed: float, false_alarms: float) -> None:
    cells = np.array(
        [
            defective * (1 - missed),
            defective * missed,
            (1 - defective) * false_alarms,
            (1 - defective) * (1 - false_alarms),
        ]
    )
    truth = cohens_kappa(*(cells * 1e6))
    assert truth is not None
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        kappa = cohens_kappa(*generator.multinomial(40, cells).astype(float))
        assert kappa is not None
        held += kappa.low <= truth.value <= kappa.high
    assert held >= 0.91 * 200


def test_each_part_counts_once() -> None:
    verdicts = {
        "1": [REJECT, REJECT, REJECT],
        "2": [REJECT, PASS, REJECT],
        "3": [PASS, PASS, PASS],
        "4": [PASS, PASS, NO_DECISION],
        "5": [PASS, PASS],
    }
    is_defective = {"1": True, "2": True, "3": False, "4": False, "5": False, "never shown": True}
    told = attribute_agreement(verdicts, is_defective)
    assert (told.parts_count, told.shown_count, told.unjudged_count) == (5, 14, 1)
    assert told.mixed_parts == ("2", "4")
    for share, count, total in (
        (told.steady, 3, 5),
        (told.right, 3, 5),
        (told.missed, 1, 2),
        (told.false_alarms, 1, 3),
    ):
        assert share is not None
        assert (share.count, share.total) == (count, total)
    assert told.kappa is not None
    assert told.kappa.value == pytest.approx(13 / 18)  # 1 2/3, 1/3, 1/3, 2 2/3 of 5 parts
    assert told.kappa.low < 0.2


def test_parts_of_one_label_have_no_kappa() -> None:
    told = attribute_agreement({"1": [PASS], "2": [PASS]}, {"1": False, "2": False})
    assert told.kappa is None
    assert told.missed is None
    assert told.right is not None
    assert told.right.value == 1.0


def test_every_part_has_a_label_and_a_verdict() -> None:
    with pytest.raises(ValueError, match="part 2: got no label"):
        attribute_agreement({"2": [PASS]}, {"1": False})
    with pytest.raises(ValueError, match="part 1: got no verdict"):
        attribute_agreement({"1": []}, {"1": False})


def test_what_is_kept_of_it() -> None:
    scores = gauge_study({"1": [0.9, 0.92], "2": [0.1, 0.12]})
    agreement = attribute_agreement({"1": [REJECT, PASS], "2": [PASS, PASS]}, {"1": True, "2": False})
    kept = figures_of(scores, agreement, size=gauge_study({"1": [2.0, 2.5]}), size_unit="mm")
    assert RepeatabilityFigures.model_validate_json(kept.model_dump_json()) == kept
    assert (kept.parts_count, kept.shown_count, kept.steady_parts_count, kept.mixed_parts) == (2, 4, 1, ["1"])
    assert kept.score.repeatability == scores.repeatability
    assert kept.size is not None
    assert kept.size.share is None
    assert figures_of(scores, agreement, size_unit="mm").size_unit is None
    assert (kept.labelled_count, kept.right_count) == (2, 1)


def test_without_labels_only_steadiness_is_told() -> None:
    verdicts = {"1": [REJECT, PASS], "2": [PASS, PASS]}
    told = attribute_agreement(verdicts, None)
    assert told.mixed_parts == ("1",)
    assert told.steady is not None
    assert (told.steady.count, told.steady.total) == (1, 2)
    assert (told.right, told.missed, told.false_alarms, told.kappa) == (None,) * 4
    kept = figures_of(gauge_study({"1": [0.5, 0.5], "2": [0.1, 0.1]}), told)
    assert (kept.labelled_count, kept.right_count, kept.kappa) == (0, None, None)
    assert kept.score.distinct_categories is None, "infinitely many are kept as none"
