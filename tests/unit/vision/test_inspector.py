from __future__ import annotations

import re
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.models import write_nan_package, write_stub_package
from vision.inspector import Inspector, RecipeError, StageError, check_recipe
from vision.package import ModelCard, ModelPackage, load_package
from vision.part_mark import stamp
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Recipe
from vision.runtime import InferenceError, Session, open_session
from vision.types import Frame, PixelFormat, Reason, Verdict

FORMATS = {
    "top": FrameFormat(200, 100, PixelFormat.MONO8),
    "side": FrameFormat(160, 120, PixelFormat.BGR8),
}


def recipe_of(**changes: Any) -> Recipe:
    written: dict[str, Any] = {
        "recipe_id": "cells",
        "recipe_version": "1",
        "model": "model",
        "views": [
            {
                "camera_id": "top",
                "regions": [
                    {"name": "left", "x_px": 0, "y_px": 10, "width_px": 100, "height_px": 90},
                    {"name": "right", "x_px": 100, "y_px": 10, "width_px": 100, "height_px": 90},
                ],
                "part_mark": {"x_px": 0, "y_px": 0},
            },
            {
                "camera_id": "side",
                "regions": [{"name": "edge", "x_px": 10, "y_px": 20, "width_px": 60, "height_px": 60}],
            },
        ],
        "rules": [{"class": "defective", "reject_at_score": 0.5}],
    }
    return Recipe.model_validate(written | changes)


def session_of(package: ModelPackage, batch_rows: int = 3) -> Session:
    return open_session(
        package, provider="cpu", batch_rows=batch_rows, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )


def inspector_of(package: ModelPackage) -> Inspector:
    return Inspector(recipe_of(), package, session_of(package), FORMATS)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return load_package(write_stub_package(tmp_path / "stub"))


@pytest.fixture
def inspector(package: ModelPackage) -> Inspector:
    inspector = inspector_of(package)
    inspector.warm_up()
    return inspector


def frame(camera_id: str, level: int, pixels: npt.NDArray[np.uint8] | None = None) -> Frame:
    frame_format = FORMATS[camera_id]
    if pixels is None:
        pixels = np.full(frame_format.shape, level, np.uint8)
    return Frame(camera_id, 1, frame_format.pixel_format, pixels)


def test_each_view_is_judged_by_its_own_regions(inspector: Inspector) -> None:
    top = frame("top", 51)
    top.pixels[10:, 100:] = 204
    inspector.begin()
    inspector.load(top)
    inspector.load(frame("side", 102))
    inspector.infer()
    rejected, passed = inspector.judge("top"), inspector.judge("side")
    assert (rejected.verdict, rejected.reason) == (Verdict.REJECT, Reason.DEFECT)
    assert [(defect.class_name, defect.box_px) for defect in rejected.defects] == [
        ("defective", (100.0, 10.0, 200.0, 100.0))
    ]
    assert rejected.score == pytest.approx(0.8, abs=1e-5)
    assert (passed.verdict, passed.reason, passed.defects) == (Verdict.PASS, Reason.OK, ())
    assert passed.score == pytest.approx(0.4, abs=1e-5)


def test_a_view_without_a_frame_cannot_be_judged(inspector: Inspector) -> None:
    inspector.begin()
    inspector.load(frame("top", 50))
    inspector.load(frame("side", 50))
    inspector.infer()
    assert inspector.judge("side").verdict is Verdict.PASS
    inspector.begin()
    with pytest.raises(StageError, match="side"):
        inspector.judge("side")
    inspector.load(frame("top", 50))
    with pytest.raises(StageError, match="top"):
        inspector.judge("top")
    inspector.infer()
    assert inspector.judge("top").verdict is Verdict.PASS
    with pytest.raises(StageError, match="side"):
        inspector.judge("side")


def test_rows_without_a_frame_are_zero(package: ModelPackage) -> None:
    session = session_of(package)
    inspector = Inspector(recipe_of(), package, session, FORMATS)
    inspector.begin()
    inspector.load(frame("top", 200))
    inspector.load(frame("side", 200))
    inspector.infer()
    assert (session.input > 0).all()
    inspector.begin()
    inspector.load(frame("top", 200))
    inspector.infer()
    assert (session.input[:2] > 0).all()
    assert not session.input[2].any()


def test_a_frame_loaded_after_the_model_ran_is_not_judged_by_that_run(inspector: Inspector) -> None:
    inspector.begin()
    inspector.load(frame("top", 50))
    inspector.infer()
    inspector.load(frame("top", 250))
    with pytest.raises(StageError):
        inspector.judge("top")
    inspector.infer()
    assert inspector.judge("top").verdict is Verdict.REJECT


@pytest.mark.parametrize(
    "wrong",
    [
        Frame("top", 1, PixelFormat.MONO8, np.full((100, 199), 50, np.uint8)),
        Frame("top", 1, PixelFormat.BGR8, np.full((100, 200, 3), 50, np.uint8)),
        Frame("side", 1, PixelFormat.RGB8, np.full((120, 160, 3), 50, np.uint8)),
    ],
    ids=["size", "channels", "order"],
)
def test_a_wrong_frame_leaves_its_view_unjudged(inspector: Inspector, wrong: Frame) -> None:
    inspector.begin()
    inspector.load(frame("top", 50))
    inspector.load(frame("side", 50))
    with pytest.raises(WrongFrame, match=wrong.camera_id):
        inspector.load(wrong)
    inspector.infer()
    with pytest.raises(StageError):
        inspector.judge(wrong.camera_id)
    other = "side" if wrong.camera_id == "top" else "top"
    assert inspector.judge(other).verdict is Verdict.PASS


def test_a_failed_run_leaves_nothing_to_judge(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(package)
    inspector = Inspector(recipe_of(), package, session, FORMATS)
    inspector.begin()
    inspector.load(frame("top", 50))
    inspector.infer()

    def fail() -> None:
        raise InferenceError("the device is gone")

    monkeypatch.setattr(session, "run", fail)
    with pytest.raises(InferenceError):
        inspector.infer()
    with pytest.raises(StageError):
        inspector.judge("top")


def test_output_that_is_no_number_is_a_fault(tmp_path: Path) -> None:
    inspector = inspector_of(load_package(write_nan_package(tmp_path / "nan", only_when_bright=True)))
    inspector.begin()
    inspector.load(frame("top", 200))
    inspector.load(frame("side", 50))
    inspector.infer()
    inspection = inspector.judge("top")
    assert (inspection.verdict, inspection.reason, inspection.defects) == (Verdict.NO_DECISION, Reason.FAULT, ())
    assert isnan(inspection.score)
    assert inspector.judge("side").verdict is Verdict.PASS


def test_warm_up_refuses_a_model_that_answers_nan(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="not finite"):
        inspector_of(load_package(write_nan_package(tmp_path / "nan"))).warm_up()


def test_warm_up_leaves_nothing_to_judge(inspector: Inspector) -> None:
    for camera_id in FORMATS:
        with pytest.raises(StageError):
            inspector.judge(camera_id)


def test_equal_frames_get_equal_scores_whatever_came_before(inspector: Inspector) -> None:
    rng = np.random.default_rng(0)
    noise = frame("top", 0, rng.integers(0, 256, FORMATS["top"].shape, np.uint8))
    scores = []
    for others in ([], [frame("side", 255)], [frame("side", 3)]):
        inspector.begin()
        for other in others:
            inspector.load(other)
        inspector.load(noise)
        inspector.infer()
        scores.append(inspector.judge("top").score)
    assert len(set(scores)) == 1


def test_the_mark_is_read_where_the_recipe_has_one(inspector: Inspector) -> None:
    marked = frame("top", 50)
    assert inspector.read_mark(marked) is None
    stamp(marked.pixels, 48_211, x_px=0, y_px=0)
    assert inspector.read_mark(marked) == 48_211
    assert inspector.read_mark(frame("side", 50)) is None
    with pytest.raises(WrongFrame):
        inspector.read_mark(frame("top", 0, marked.pixels[:50]))


def test_a_camera_that_no_view_looks_through_is_refused(inspector: Inspector) -> None:
    stranger = Frame("rear", 1, PixelFormat.MONO8, np.zeros((4, 4), np.uint8))
    for call in (
        lambda: inspector.load(stranger),
        lambda: inspector.read_mark(stranger),
        lambda: inspector.judge("rear"),
    ):
        with pytest.raises(StageError, match="rear"):
            call()


def test_a_session_of_another_batch_is_refused(package: ModelPackage) -> None:
    with pytest.raises(ValueError, match="got 2 batch rows, expected 3"):
        Inspector(recipe_of(), package, session_of(package, batch_rows=2), FORMATS)


def test_every_mismatch_of_a_recipe_is_told_at_once(package: ModelPackage) -> None:
    recipe = recipe_of(
        views=[
            {
                "camera_id": "top",
                "regions": [
                    {"name": "fits", "x_px": 0, "y_px": 0, "width_px": 200, "height_px": 100},
                    {"name": "wide", "x_px": 150, "y_px": 0, "width_px": 51, "height_px": 100},
                    {"name": "beyond", "x_px": 200, "y_px": 100, "width_px": 1, "height_px": 1},
                ],
                "part_mark": {"x_px": 80, "y_px": 93},
            },
            {"camera_id": "rear", "regions": [{"name": "any", "x_px": 0, "y_px": 0, "width_px": 1, "height_px": 1}]},
        ],
        rules=[{"class": "defective", "reject_at_score": 0.5}, {"class": "dented", "reject_at_score": 0.5}],
    )
    faults = check_recipe(recipe, package.card, FORMATS, file="cells.yaml")
    assert [fault.key for fault in faults] == [
        "rules.1.class",
        "views.0.regions.1.x_px",
        "views.0.regions.2.x_px",
        "views.0.regions.2.y_px",
        "views.0.part_mark.x_px",
        "views.0.part_mark.y_px",
        "views.1.camera_id",
    ]
    assert str(faults[0]) == (
        "cells.yaml: rules.1.class: got 'dented', expected a class of the model: functional, defective"
    )
    with pytest.raises(RecipeError) as caught:
        Inspector(recipe, package, session_of(package, recipe.region_count), FORMATS)
    assert len(caught.value.faults) == len(faults)


def test_a_recipe_that_fits_has_no_faults(package: ModelPackage) -> None:
    assert check_recipe(recipe_of(), package.card, FORMATS) == []


def card_of(decoder: dict[str, Any], outputs: list[str], classes: list[str]) -> ModelCard:
    tasks = {"anomaly": "anomaly", "semantic_segmentation": "segmentation", "classification": "classification"}
    model_input = {"name": "image", "width_px": 64, "height_px": 64, "colour_order": "GRAY", "fit": "stretch"}
    return ModelCard.model_validate(
        {
            "name": "made",
            "version": "1",
            "task": tasks.get(decoder["kind"], "detection"),
            "input": model_input | {"scale": 1.0, "mean": [0.0], "std": [1.0]},
            "outputs": {role: role for role in outputs},
            "classes": classes,
            "decoder": decoder,
            "sha256": "0" * 64,
            "licence": "none",
        }
    )


SEGMENTING = card_of({"kind": "semantic_segmentation", "background": "good"}, ["scores"], ["good", "dent"])
DETECTING = card_of({"kind": "yolov8"}, ["predictions"], ["good", "dent"])
CLASSIFYING = card_of({"kind": "classification", "activation": "none"}, ["scores"], ["good", "dent"])
ANOMALY_CLASSES = ["anomaly", "hot_region"]
SCORE_ALONE = card_of({"kind": "anomaly"}, ["pred_score", "pred_label"], ANOMALY_CLASSES)
WITH_MAP = card_of({"kind": "anomaly", "area_min_px": 9_001.0}, ["anomaly_map", "pred_score"], ANOMALY_CLASSES)
WITH_MASK = card_of({"kind": "anomaly", "area_min_px": 9_000.0}, ["pred_mask"], ANOMALY_CLASSES)
REGION_OF_60 = {"name": "edge", "x_px": 10, "y_px": 20, "width_px": 60, "height_px": 60}
DENT = {"class": "dent", "reject_at_score": 0.6}
HOT = {"class": "hot_region", "reject_at_score": 0.6}
ANOMALY = {"class": "anomaly", "reject_at_score": 0.6}


def zone(x_px: int, y_px: int, width_px: int = 10, height_px: int = 10) -> dict[str, Any]:
    return {"zone": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px}}


@pytest.mark.parametrize(
    ("card", "rule", "key", "text"),
    [
        (SCORE_ALONE, HOT, "class", "no anomaly_map and no pred_mask"),
        (SCORE_ALONE, ANOMALY, "", ""),
        (WITH_MASK, HOT, "", ""),
        (WITH_MAP, HOT, "class", r"in regions of at most 9000 px, .* at least 9001 px: .*decoder\.area_min_px"),
        (WITH_MAP, ANOMALY, "", ""),
        (WITH_MAP, ANOMALY | zone(0, 10, 100, 90), "zone", "use class hot_region"),
        (WITH_MASK, HOT | zone(95, 15), "", ""),
        (SEGMENTING, DENT | {"class": "good"}, "class", r"decoder\.background"),
        (SEGMENTING, DENT, "", ""),
        (DETECTING, DENT | {"min_width_px": 100.0, "min_height_px": 90.0, "min_area_px": 9000.0}, "", ""),
        (
            DETECTING,
            DENT | {"min_width_px": 101.0},
            "min_width_px",
            "got 101, expected at most 100, the largest region",
        ),
        (DETECTING, DENT | {"min_height_px": 90.5}, "min_height_px", "at most 90"),
        (DETECTING, DENT | {"min_area_px": 1e6}, "min_area_px", "at most 9000"),
        (DETECTING, DENT | {"camera_id": "side", "min_width_px": 61.0}, "min_width_px", "at most 60"),
        (DETECTING, DENT | zone(60, 81, 40, 19), "", ""),
        (
            DETECTING,
            DENT | zone(50, 0),
            "zone",
            "a zone from 50, 0 to 60, 10, expected a part of what the model is shown",
        ),
        (DETECTING, DENT | zone(50, 1), "", ""),
        (
            DETECTING,
            DENT | {"camera_id": "side"} | zone(70, 30),
            "zone",
            "a part of what the model is shown of a region",
        ),
        (DETECTING, DENT | {"camera_id": "side"} | zone(69, 30), "", ""),
        (CLASSIFYING, DENT | zone(30, 40), "zone", "the middle of a region"),
        (CLASSIFYING, DENT | zone(50, 55), "", ""),
        (SCORE_ALONE, ANOMALY | zone(51, 55), "zone", "the middle of a region"),
    ],
)
def test_a_rule_that_no_finding_can_ever_meet_is_a_fault(
    card: ModelCard, rule: dict[str, Any], key: str, text: str
) -> None:
    usual = {"class": card.classes[0] if card is not SEGMENTING else "dent", "reject_at_score": 0.9}
    required = {"class": rule["class"], "found_at_score": 0.6}
    required |= {each: value for each, value in rule.items() if each != "reject_at_score"}
    for name, changes in (("rules", {"rules": [rule]}), ("required", {"rules": [usual], "required": [required]})):
        faults = check_recipe(recipe_of(**changes), card, FORMATS)
        faults = [fault for fault in faults if fault.key.startswith(f"{name}.0.")]
        assert [fault.key for fault in faults] == ([f"{name}.0.{key}"] if key else [])
        assert re.search(text, " ".join(map(str, faults)))


@pytest.mark.parametrize(
    ("card", "rule", "key", "text"),
    [
        (DETECTING, DENT | {"reject_at_count": 301}, "", ""),
        (DETECTING, DENT | {"camera_id": "side", "reject_at_count": 301}, "reject_at_count", "at most 300 in a view"),
        (CLASSIFYING, DENT | {"reject_at_count": 3}, "reject_at_count", "at most 2 in a view: one for each region"),
        (CLASSIFYING, DENT | {"reject_at_count": 2}, "", ""),
        (SCORE_ALONE, ANOMALY | {"camera_id": "side", "reject_at_count": 2}, "reject_at_count", "at most 1 in a view"),
        (DETECTING, DENT | {"reject_at_total_area_px": 1e12}, "reject_at_total_area_px", r"at most 5\.4e\+06"),
        (DETECTING, DENT | {"reject_at_total_area_px": 18_001.0}, "", ""),
        (SEGMENTING, DENT | {"reject_at_total_area_px": 18_001.0}, "reject_at_total_area_px", "at most 18000"),
        (CLASSIFYING, DENT | {"reject_at_total_area_px": 18_001.0}, "reject_at_total_area_px", "at most 18000"),
    ],
)
def test_so_many_or_so_much_as_a_view_cannot_have_is_a_fault(
    card: ModelCard, rule: dict[str, Any], key: str, text: str
) -> None:
    other = {"class": card.classes[1] if rule["class"] == card.classes[0] else card.classes[0], "reject_at_score": 0.9}
    rules = [rule] if "camera_id" not in rule else [rule, other]
    faults = [
        fault for fault in check_recipe(recipe_of(rules=rules), card, FORMATS) if fault.key.startswith("rules.0.")
    ]
    assert [fault.key for fault in faults] == ([f"rules.0.{key}"] if key else [])
    assert re.search(text, " ".join(map(str, faults)))


def test_what_a_crop_leaves_out_is_not_seen_by_any_rule() -> None:
    cropped = DETECTING.model_copy(update={"input": DETECTING.input.model_copy(update={"fit": "crop"})})
    recipe = recipe_of(views=[{"camera_id": "side", "regions": [REGION_OF_60]}], rules=[DENT | zone(10, 20, 4, 60)])
    assert not check_recipe(recipe, cropped, FORMATS)
    half = DETECTING.input.model_copy(update={"fit": "crop", "crop_fraction": 0.5})
    (fault,) = check_recipe(recipe, DETECTING.model_copy(update={"input": half}), FORMATS)
    assert fault.key == "rules.0.zone"
    wide = recipe_of(views=[{"camera_id": "side", "regions": [REGION_OF_60]}], rules=[DENT | {"min_width_px": 31.0}])
    (fault,) = check_recipe(wide, DETECTING.model_copy(update={"input": half}), FORMATS)
    assert (fault.key, fault.expected.split(",")[0]) == ("rules.0.min_width_px", "at most 30")
