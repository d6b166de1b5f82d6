from __future__ import annotations

from math import inf, isfinite, isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.judge import judge
from vision.recipe import Recipe
from vision.types import Findings, Reason, Verdict

CLASSES = ("functional", "defective", "scratched")


def recipe(**reject_at: float) -> Recipe:
    return Recipe.model_validate(
        {
            "recipe_id": "cells",
            "recipe_version": "1",
            "model": "model",
            "views": [
                {
                    "camera_id": "top",
                    "regions": [{"name": "cell", "x_px": 0, "y_px": 0, "width_px": 8, "height_px": 8}],
                }
            ],
            "rules": [{"class": name, "reject_at_score": score} for name, score in reject_at.items()],
        }
    )


def findings(*scores: float, class_ids: list[int] | None = None) -> Findings:
    return Findings(
        class_ids=np.array(range(len(scores)) if class_ids is None else class_ids, np.int32),
        scores=np.array(scores, np.float32),
        boxes_px=np.tile(np.array([1, 2, 3, 4], np.float32), (len(scores), 1)),
    )


def test_a_score_at_the_rule_rejects() -> None:
    inspection = judge([findings(0.5, 0.5, 0.0), findings(1.0, 0.0, 0.0)], recipe(defective=0.5), CLASSES)
    assert (inspection.verdict, inspection.reason, inspection.score) == (Verdict.REJECT, Reason.DEFECT, 0.5)
    (defect,) = inspection.defects
    assert (defect.class_name, defect.score, defect.box_px) == ("defective", 0.5, (1.0, 2.0, 3.0, 4.0))


def test_a_score_below_the_rule_passes_and_is_told() -> None:
    inspection = judge([findings(1.0, 0.25, 0.9), findings(1.0, 0.375, 0.0)], recipe(defective=0.5), CLASSES)
    assert (inspection.verdict, inspection.reason, inspection.defects) == (Verdict.PASS, Reason.OK, ())
    assert inspection.score == 0.375, "the highest among the ruled classes"


def test_nothing_found_passes() -> None:
    assert judge([findings()], recipe(defective=0.5), CLASSES).verdict is Verdict.PASS


def test_nothing_looked_at_does_not_pass() -> None:
    inspection = judge([], recipe(defective=0.5), CLASSES)
    assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)
    assert isnan(inspection.score)


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_finding_of_no_class_does_not_pass(class_id: int) -> None:
    inspection = judge([findings(0.1, class_ids=[class_id])], recipe(defective=0.5), CLASSES)
    assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)


def test_a_rule_on_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="dented"):
        judge([findings(1.0, 0.0, 0.0)], recipe(dented=0.5), CLASSES)


SCORES = st.one_of(st.floats(0.0, 1.0, width=32), st.sampled_from([nan, inf, -inf]))
RULES = st.dictionaries(st.sampled_from(CLASSES), st.floats(0.001, 1.0), min_size=1)


@given(regions=st.lists(st.lists(SCORES, min_size=3, max_size=3), min_size=1, max_size=4), rules=RULES)
def test_a_defect_or_a_score_that_is_no_number_never_passes(
    regions: list[list[float]], rules: dict[str, float]
) -> None:
    inspection = judge([findings(*scores) for scores in regions], recipe(**rules), CLASSES)
    by_class = [(name, score) for scores in regions for name, score in zip(CLASSES, scores, strict=True)]
    if not all(isfinite(score) for _, score in by_class):
        assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)
    elif any(score >= rules[name] for name, score in by_class if name in rules):
        assert (inspection.verdict, inspection.reason) == (Verdict.REJECT, Reason.DEFECT)
        assert len(inspection.defects) == sum(score >= rules.get(name, inf) for name, score in by_class)
    else:
        assert (inspection.verdict, inspection.reason) == (Verdict.PASS, Reason.OK)
        assert inspection.score == max(score for name, score in by_class if name in rules)
