from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision.judge import Judge
from vision.recipe import Recipe
from vision.types import Findings, Inspection, Reason, Verdict

CLASSES = ("functional", "defective", "scratched")
VIEW_PX = (0.0, 0.0, 8.0, 8.0)


def judge(regions: list[Findings], recipe: Recipe, camera_id: str = "top") -> Inspection:
    return Judge(recipe, camera_id, CLASSES, VIEW_PX).judge(regions)


def recipe(**reject_at: float) -> Recipe:
    return recipe_with([{"class": name, "reject_at_score": score} for name, score in reject_at.items()])


def recipe_with(rules: list[dict[str, Any]], required: list[dict[str, Any]] | None = None) -> Recipe:
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
            "rules": rules,
            "required": required or [],
        }
    )


def findings(*scores: float, class_ids: list[int] | None = None) -> Findings:
    return Findings(
        class_ids=np.array(range(len(scores)) if class_ids is None else class_ids, np.int32),
        scores=np.array(scores, np.float32),
        boxes_px=np.tile(np.array([1, 2, 3, 4], np.float32), (len(scores), 1)),
        areas_px=np.full(len(scores), 4, np.float32),
    )


def scratches(
    *found: tuple[float, tuple[float, float, float, float]], peaks: list[tuple[float, float]] | None = None
) -> Findings:
    """Findings of class scratched: (score, box); the area is the box's."""
    boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
    return Findings(
        class_ids=np.full(len(found), 2, np.int32),
        scores=np.array([score for score, _ in found], np.float32),
        boxes_px=boxes,
        areas_px=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        peaks_px=None if peaks is None else np.array(peaks, np.float32).reshape(-1, 2),
    )


def test_a_score_at_the_rule_rejects() -> None:
    inspection = judge([findings(0.5, 0.5, 0.0), findings(1.0, 0.0, 0.0)], recipe(defective=0.5))
    assert (inspection.verdict, inspection.reason, inspection.score) == (Verdict.REJECT, Reason.DEFECT, 0.5)
    (defect,) = inspection.defects
    assert (defect.class_name, defect.score, defect.box_px) == ("defective", 0.5, (1.0, 2.0, 3.0, 4.0))


def test_a_score_below_the_rule_passes_and_is_told() -> None:
    inspection = judge([findings(1.0, 0.25, 0.9), findings(1.0, 0.375, 0.0)], recipe(defective=0.5))
    assert (inspection.verdict, inspection.reason, inspection.defects) == (Verdict.PASS, Reason.OK, ())
    assert inspection.score == 0.375, "the highest among the ruled classes"


def test_nothing_found_passes() -> None:
    assert judge([findings()], recipe(defective=0.5)).verdict is Verdict.PASS


def test_nothing_looked_at_does_not_pass() -> None:
    inspection = judge([], recipe(defective=0.5))
    assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)
    assert isnan(inspection.score)


@pytest.mark.parametrize("class_id", [-1, 3])
def test_a_finding_of_no_class_does_not_pass(class_id: int) -> None:
    inspection = judge([findings(0.1, class_ids=[class_id])], recipe(defective=0.5))
    assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)


def test_a_rule_on_an_unknown_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="dented"):
        judge([findings(1.0, 0.0, 0.0)], recipe(dented=0.5))


SCORES = st.one_of(st.floats(0.0, 1.0, width=32), st.sampled_from([nan, inf, -inf]))
RULES = st.dictionaries(st.sampled_from(CLASSES), st.floats(0.001, 1.0), min_size=1)


@given(regions=st.lists(st.lists(SCORES, min_size=3, max_size=3), min_size=1, max_size=4), rules=RULES)
def test_a_defect_or_a_score_that_is_no_number_never_passes(
    regions: list[list[float]], rules: dict[str, float]
) -> None:
    inspection = judge([findings(*scores) for scores in regions], recipe(**rules))
    by_class = [(name, score) for scores in regions for name, score in zip(CLASSES, scores, strict=True)]
    if not all(isfinite(score) for _, score in by_class):
        assert (inspection.verdict, inspection.reason) == (Verdict.NO_DECISION, Reason.FAULT)
    elif any(score >= rules[name] for name, score in by_class if name in rules):
        assert (inspection.verdict, inspection.reason) == (Verdict.REJECT, Reason.DEFECT)
        assert len(inspection.defects) == sum(score >= rules.get(name, inf) for name, score in by_class)
    else:
        assert (inspection.verdict, inspection.reason) == (Verdict.PASS, Reason.OK)
        assert inspection.score == max(score for name, score in by_class if name in rules)


def scratched(reject_at_score: float = 0.5, **more: Any) -> Recipe:
    return recipe_with([{"class": "scratched", "reject_at_score": reject_at_score, **more}])


SQUARE = (0.0, 0.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("more", "box", "is_rejected"),
    [
        ({"min_width_px": 4.0}, SQUARE, True),
        ({"min_width_px": 4.5}, SQUARE, False),
        ({"min_height_px": 4.0}, SQUARE, True),
        ({"min_height_px": 4.5}, SQUARE, False),
        ({"min_area_px": 16.0}, SQUARE, True),
        ({"min_area_px": 16.5}, SQUARE, False),
        ({"zone": {"x_px": 0, "y_px": 0, "width_px": 3, "height_px": 3}}, SQUARE, True),
        ({"zone": {"x_px": 2, "y_px": 2, "width_px": 3, "height_px": 3}}, SQUARE, True),
        ({"zone": {"x_px": 0, "y_px": 0, "width_px": 2, "height_px": 3}}, SQUARE, False),
        ({"zone": {"x_px": 3, "y_px": 0, "width_px": 3, "height_px": 3}}, SQUARE, False),
        ({"camera_id": "top"}, SQUARE, True),
    ],
)
def test_a_rule_means_findings_so_large_and_seen_there(more: dict[str, Any], box: Any, is_rejected: bool) -> None:
    inspection = judge([scratches((0.75, box))], scratched(**more))
    assert (inspection.verdict is Verdict.REJECT) is is_rejected
    assert inspection.score == (0.75 if is_rejected else 0.0)
    assert inspection.headroom == (-0.25 if is_rejected else 0.5)


def test_a_rule_for_another_camera_does_not_hold() -> None:
    both = recipe_with(
        [
            {"class": "scratched", "reject_at_score": 0.5, "camera_id": "side"},
            {"class": "defective", "reject_at_score": 0.5},
        ]
    )
    assert judge([scratches((0.9, SQUARE))], both).verdict is Verdict.PASS
    assert judge([scratches((0.9, SQUARE))], both, "side").verdict is Verdict.REJECT


def test_an_anomaly_is_where_its_peak_is() -> None:
    zone: dict[str, Any] = {"zone": {"x_px": 4, "y_px": 4, "width_px": 4, "height_px": 4}}
    assert judge([scratches((0.9, (0, 0, 8, 8)), peaks=[(5, 6)])], scratched(**zone)).verdict is Verdict.REJECT
    assert judge([scratches((0.9, (3, 3, 8, 8)), peaks=[(3, 6)])], scratched(**zone)).verdict is Verdict.PASS


def test_several_findings_count_over_all_regions() -> None:
    three = scratched(reject_at_count=3)
    one, two = scratches((0.9, SQUARE)), scratches((0.6, SQUARE), (0.4, SQUARE))
    passed = judge([one, two], three)
    assert (passed.verdict, passed.defects) == (Verdict.PASS, ())
    assert passed.score == pytest.approx(0.4), "three findings reach this"
    assert passed.headroom == pytest.approx(0.1)
    rejected = judge([one, two, scratches((0.5, SQUARE))], three)
    assert rejected.verdict is Verdict.REJECT
    assert [defect.score for defect in rejected.defects] == pytest.approx([0.9, 0.6, 0.5])


def test_findings_that_cover_too_much_together_reject() -> None:
    rule = scratched(reject_at_total_area_px=40.0)
    assert judge([scratches((0.9, SQUARE), (0.8, SQUARE), (0.4, SQUARE))], rule).verdict is Verdict.PASS
    rejected = judge([scratches((0.9, SQUARE), (0.8, SQUARE), (0.5, SQUARE))], rule)
    assert (rejected.verdict, len(rejected.defects), rejected.score) == (Verdict.REJECT, 3, 0.5)
    either = scratched(reject_at_total_area_px=40.0, reject_at_count=2)
    assert judge([scratches((0.9, SQUARE), (0.8, SQUARE))], either).verdict is Verdict.REJECT


def test_what_is_required_and_not_there_rejects() -> None:
    zone = {"x_px": 1, "y_px": 2, "width_px": 5, "height_px": 6}
    two = {"class": "scratched", "found_at_score": 0.5, "count": 2}
    missing = judge([scratches((0.9, SQUARE), (0.25, SQUARE))], recipe_with([], [two]))
    (defect,) = missing.defects
    assert (missing.verdict, missing.score, missing.headroom) == (Verdict.REJECT, 0.75, -0.25)
    assert (defect.class_name, defect.score, defect.box_px) == ("missing scratched", 0.75, VIEW_PX)
    there = judge([scratches((0.9, SQUARE), (0.75, SQUARE))], recipe_with([], [two]))
    assert (there.verdict, there.score, there.headroom) == (Verdict.PASS, 0.25, 0.25)
    (defect,) = judge([findings()], recipe_with([], [two | {"zone": zone}])).defects
    assert (defect.score, defect.box_px) == (1.0, (1.0, 2.0, 6.0, 8.0))


def test_a_box_or_area_that_is_no_number_does_not_pass() -> None:
    for broken in (
        scratches((0.1, (nan, 0, 1, 1))),
        scratches((0.1, (0, 0, inf, 1))),
        scratches((0.1, SQUARE), peaks=[(nan, 1.0)]),
    ):
        assert judge([broken], scratched()).reason is Reason.FAULT


FOUND = st.lists(
    st.tuples(
        st.floats(0.0, 1.0, width=16),
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6)),
    ),
    max_size=6,
)


@given(
    found=st.lists(FOUND, min_size=1, max_size=3),
    threshold=st.floats(0.0625, 1.0, width=16),
    count=st.none() | st.integers(1, 4),
    area_px=st.none() | st.integers(1, 60),
    min_width_px=st.integers(0, 4),
    zone=st.none() | st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 8), st.integers(1, 8)),
)
def test_a_rule_rejects_what_its_words_say(
    found: list[list[tuple[float, tuple[int, int, int, int]]]],
    threshold: float,
    count: int | None,
    area_px: int | None,
    min_width_px: int,
    zone: tuple[int, int, int, int] | None,
) -> None:
    regions = [scratches(*((score, (x, y, x + w, y + h)) for score, (x, y, w, h) in one)) for one in found]
    rule: dict[str, Any] = {"min_width_px": float(min_width_px), "reject_at_count": count}
    if area_px is not None:
        rule["reject_at_total_area_px"] = float(area_px)
    if zone is not None:
        rule["zone"] = dict(zip(("x_px", "y_px", "width_px", "height_px"), zone, strict=True))
    meant = [
        (score, w * h)
        for one in found
        for score, (x, y, w, h) in one
        if w >= min_width_px
        and (zone is None or (zone[0] <= x + w / 2 < zone[0] + zone[2] and zone[1] <= y + h / 2 < zone[1] + zone[3]))
    ]
    enough = [(score, area) for score, area in meant if score >= threshold]
    is_met = area_px is not None and sum(area for _, area in enough) >= area_px
    if count is not None or area_px is None:
        is_met = is_met or len(enough) >= (count or 1)
    inspection = judge(regions, scratched(threshold, **rule))
    assert (inspection.verdict is Verdict.REJECT) is is_met
    assert len(inspection.defects) == (len(enough) if is_met else 0)
    assert (inspection.headroom > 0) is not is_met
    assert (inspection.score >= threshold) is is_met


def dropping(findings: Findings, dropped_score: float) -> Findings:
    return replace(findings, dropped_score=dropped_score)


@pytest.mark.parametrize(
    ("dropped_score", "passes"), [(0.0, True), (0.49, True), (0.5, False), (1.0, False), (nan, False)]
)
def test_what_was_dropped_and_might_reject_does_not_pass(dropped_score: float, passes: bool) -> None:
    calm = scratches((0.2, SQUARE))
    for regions in (
        [dropping(calm, dropped_score)],
        [dropping(calm, dropped_score), calm],
        [calm, dropping(calm, dropped_score)],
    ):
        inspection = judge(regions, scratched())
        expected = (Verdict.PASS, Reason.OK) if passes else (Verdict.NO_DECISION, Reason.FAULT)
        assert (inspection.verdict, inspection.reason) == expected


def test_what_was_dropped_takes_no_defect_back_and_makes_nothing_missing_there() -> None:
    assert judge([dropping(scratches((0.9, SQUARE)), 0.8)], scratched()).verdict is Verdict.REJECT
    wanted = recipe_with([], [{"class": "scratched", "found_at_score": 0.5, "count": 2}])
    assert judge([dropping(scratches((0.9, SQUARE)), 0.8)], wanted).verdict is Verdict.REJECT
    assert judge([dropping(scratches((0.9, SQUARE), (0.9, SQUARE)), 0.8)], wanted).verdict is Verdict.PASS


def test_two_rules_for_the_same_findings_are_refused() -> None:
    scratch = {"class": "scratched", "reject_at_score": 0.5}
    with pytest.raises(ValueError, match="mean the same findings"):
        recipe_with([scratch, scratch | {"reject_at_score": 0.7, "reject_at_count": 3}])
    recipe_with([scratch, scratch | {"min_area_px": 50.0, "reject_at_score": 0.3}])


def test_a_recipe_that_passes_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="all parts would pass"):
        recipe_with([])
