"""The score of a class is the very score at which its rules begin to reject: tried by the judge itself."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nextafter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.part_scores import Outcome, PartScorer
from tests.seeing_models import write_blob_package
from vision.decoders.base import BadOutput
from vision.faults import FaultsError
from vision.inspector import Inspector
from vision.judge import Judge
from vision.package import ModelCard, load_package
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Recipe, with_thresholds
from vision.types import Findings, Frame, PixelFormat, Reason, Verdict

FRAMES = FrameFormat(64, 64, PixelFormat.MONO8)
WHOLE = (0.0, 0.0, 64.0, 64.0)
FRAME = np.zeros((64, 64), np.uint8)


class Found:
    """An inspector that found this, or fails so."""

    def __init__(self, found: list[Findings], failure: Exception | None = None) -> None:
        self._found, self._failure = found, failure

    def begin(self) -> None: ...

    def load(self, frame: Frame) -> None:
        if isinstance(self._failure, WrongFrame):
            raise self._failure

    def infer(self) -> None: ...

    def nominal_findings(self, camera_id: str) -> list[Findings]:
        if isinstance(self._failure, BadOutput):
            raise self._failure
        return self._found

    findings = nominal_findings


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return load_package(write_blob_package(tmp_path_factory.mktemp("model"))).card


def recipe_of(rules: list[dict[str, Any]], required: list[dict[str, Any]] | None = None) -> Recipe:
    region = {"name": "all", "x_px": 0, "y_px": 0, "width_px": 64, "height_px": 64}
    return Recipe.model_validate(
        {
            "recipe_id": "blobs",
            "recipe_version": "1",
            "model": Path("model"),
            "views": [{"camera_id": "top", "regions": [region]}, {"camera_id": "side", "regions": [region]}],
            "rules": rules,
            "required": required or [],
        }
    )


def scorer_of(recipe: Recipe, card: ModelCard, found: list[Findings], failure: Exception | None = None) -> PartScorer:
    inspector = cast(Inspector, Found(found, failure))
    return PartScorer(recipe, card, inspector, "top", FRAMES, recipe_file="recipe.yaml")


def findings_of(*found: tuple[int, float, float, float, float], dropped: float = 0.0) -> Findings:
    """Class, score, x, y, side."""
    boxes = np.array([(x, y, x + side, y + side) for _, _, x, y, side in found], np.float32).reshape(-1, 4)
    return Findings(
        class_ids=np.array([each[0] for each in found], np.int32),
        scores=np.array([each[1] for each in found], np.float32),
        boxes_px=boxes,
        areas_px=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        dropped_score=dropped,
    )


def calibrated(**given: Any) -> dict[str, Any]:
    return {"class": "bright", "reject_at_score": 0.5, "is_calibrated": True, **given}


ZONE = {"x_px": 0, "y_px": 0, "width_px": 32, "height_px": 64}
RULES = [
    calibrated(),
    calibrated(zone=ZONE, min_width_px=4.0),
    calibrated(reject_at_count=2, min_area_px=1.5),
    calibrated(reject_at_total_area_px=200.0, min_area_px=9.0),
    calibrated(reject_at_count=3, reject_at_total_area_px=400.0, min_area_px=2.5),
    calibrated(camera_id="top", min_height_px=6.0),
    calibrated(camera_id="side"),
    calibrated(**{"class": "dark", "zone": ZONE}),
    calibrated(**{"class": "dark", "min_area_px": 30.0, "reject_at_count": 2}),
]
FOUND = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.floats(0.3125, 1.0, width=32),
        *[st.floats(0, 50, width=32)] * 2,
        st.floats(1, 14, width=32),
    ),
    max_size=8,
)


@given(
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique_by=str),
    found=FOUND,
    dropped=st.sampled_from([0.0, 0.0, 0.35, 0.8]),
)
def test_a_part_passes_just_above_its_scores_and_no_lower(
    card: ModelCard, rules: list[dict[str, Any]], found: list[tuple[int, float, float, float, float]], dropped: float
) -> None:
    recipe = recipe_of(rules)
    if all(rule.get("camera_id") == "side" for rule in rules):
        return
    findings = [findings_of(*found, dropped=dropped)]
    scorer = scorer_of(recipe, card, findings)
    part = scorer.score(FRAME)
    assert part.outcome is Outcome.SCORED
    assert set(part.scores) == set(scorer.classes)

    def verdict(thresholds: dict[str, float]) -> Verdict:
        judge = Judge(with_thresholds(recipe, {"top": thresholds}), "top", card.classes, WHOLE)
        return judge.judge(findings).verdict

    above = {name: nextafter(score, inf) for name, score in part.scores.items()}
    assert verdict(above) is Verdict.PASS
    for name, score in part.scores.items():
        if score > 0.0:
            assert verdict({**above, name: score}) is not Verdict.PASS


def test_two_rules_on_one_class_share_their_score(card: ModelCard) -> None:
    found = [findings_of((0, 0.9, 40, 10, 8), (0, 0.6, 10, 10, 8))]
    part = scorer_of(recipe_of([calibrated(zone=ZONE), calibrated(min_width_px=20.0)]), card, found).score(FRAME)
    assert part.scores == {"bright": pytest.approx(0.6)}
    part = scorer_of(recipe_of([calibrated(zone=ZONE), calibrated()]), card, found).score(FRAME)
    assert part.scores == {"bright": pytest.approx(0.9)}
    assert [defect.score for defect in part.defects] == pytest.approx([0.9, 0.6])


def test_what_is_not_calibrated_rejects_at_every_threshold(card: ModelCard) -> None:
    fixed = {"class": "dark", "reject_at_score": 0.7}
    found = [findings_of((1, 0.8, 1, 1, 8), (0, 0.4, 1, 1, 8))]
    part = scorer_of(recipe_of([calibrated(), fixed]), card, found).score(FRAME)
    assert (part.outcome, part.scores, part.highest) == (Outcome.REJECTED, {}, inf)
    assert part.told.endswith("dark")
    below = scorer_of(recipe_of([calibrated(), {**fixed, "reject_at_score": 0.9}]), card, found).score(FRAME)
    assert below.outcome is Outcome.SCORED
    needed = recipe_of([calibrated()], [{"class": "dark", "found_at_score": 0.9}])
    assert scorer_of(needed, card, found).score(FRAME).told.endswith("missing dark")


@pytest.mark.parametrize(
    ("found", "failure", "told"),
    [
        ([], WrongFrame("the part is out of place"), "BAD_FRAME: the part is out of place"),
        ([], BadOutput("scores beyond 1"), "FAULT: scores beyond 1"),
        ([replace(findings_of((0, 0.5, 1, 1, 8)), dropped_score=float("nan"))], None, "FAULT"),
    ],
)
def test_a_part_without_a_judgement_says_why(
    card: ModelCard, found: list[Findings], failure: Exception | None, told: str
) -> None:
    part = scorer_of(recipe_of([calibrated()]), card, found, failure).score(FRAME)
    assert part.outcome is Outcome.UNJUDGED
    assert part.told.startswith(told)
    assert np.isnan(part.score("bright"))


def test_findings_without_room_beside_a_fixed_rule_leave_no_judgement(card: ModelCard) -> None:
    found = [findings_of((0, 0.4, 1, 1, 8), dropped=0.8)]
    rules = [calibrated(), {"class": "dark", "reject_at_score": 0.7}]
    assert scorer_of(recipe_of(rules), card, found).score(FRAME).outcome is Outcome.UNJUDGED
    judged = Judge(recipe_of(rules), "top", card.classes, WHOLE).judge(found)
    assert judged.reason is Reason.FAULT


@pytest.mark.parametrize("rules", [[{"class": "bright", "reject_at_score": 0.5}], [calibrated(camera_id="side")]])
def test_a_recipe_without_such_a_rule_is_told_what_to_write(card: ModelCard, rules: list[dict[str, Any]]) -> None:
    with pytest.raises(FaultsError, match=r"recipe.yaml: rules: .* camera top .*is_calibrated: true"):
        scorer_of(recipe_of(rules), card, [])
    floor = card.score_floor("bright")
    assert floor is not None
    assert scorer_of(recipe_of([calibrated()]), card, []).score_floors == {"bright": floor[1]}
