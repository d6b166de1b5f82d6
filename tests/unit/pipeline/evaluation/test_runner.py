"""Images through inspector, decoders and rules: what comes out, and which images should have been rejected."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import yaml
from onnx import numpy_helper
from PIL import Image

from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.data import DataSet, Sample
from pipeline.evaluation.figures import Figures, figures_of, result_of, worst_mistakes
from pipeline.evaluation.labels import are_defective, expect_labels_fit
from pipeline.evaluation.layouts import read_data_set
from pipeline.evaluation.metrics.pixels import PixelScores
from pipeline.evaluation.runner import Runner, mask_of
from tests.labelled import Box, write_folders, write_mvtec, write_yolo
from tests.models import write_nan_package, write_stub_package
from tests.seeing_models import BLOB_CLASSES, write_blob_package, write_heat_package, write_views_package
from vision.faults import FaultsError
from vision.inspector import RecipeError
from vision.package import load_package
from vision.recipe import Recipe
from vision.runtime import InferenceError
from vision.types import PixelFormat, Verdict

Pixels = npt.NDArray[np.uint8]
RUNTIME = RuntimeConfig(provider="cpu", warm_up_runs=1)


def grey(level: int, *, width: int = 64, height: int = 64) -> Pixels:
    return np.full((height, width), level, np.uint8)


def with_blobs(*corners: tuple[int, int], level: int = 230) -> Pixels:
    pixels = grey(100)
    for x, y in corners:
        pixels[y : y + 8, x : x + 8] = level
    return pixels


def blob(x: int, y: int, name: str = "bright") -> Box:
    """As the blob model boxes a cell."""
    return (name, x - 2, y - 2, x + 10, y + 10)


def recipe_of(changes: dict[str, Any]) -> Recipe:
    region = {"name": "all", "x_px": 0, "y_px": 0, "width_px": 64, "height_px": 64}
    content = {
        "recipe_id": "r",
        "recipe_version": "1",
        "model": "model",
        "views": [{"camera_id": "c", "regions": [region]}],
        "rules": [{"class": "bright", "reject_at_score": 0.5}],
    }
    return Recipe.model_validate({**content, **changes})


def run(model: Path, data_set: DataSet, recipe: Recipe | None = None) -> tuple[Runner, Figures]:
    package = load_package(model)
    expect_labels_fit(data_set, package.card)
    runner = Runner(package, recipe, RUNTIME, wants_candidates=data_set.has_boxes)
    runner.warm_up(data_set)
    is_defective = are_defective(data_set, package.card, runner.judge_of)
    pixels = PixelScores() if data_set.has_masks else None
    judged = list(runner.run(data_set, pixels=pixels))
    used = runner.recipe_for(data_set.samples[0])
    area = None if pixels is None else pixels.auroc()
    return runner, figures_of(judged, is_defective, package.card, used, iou_min=0.5, pixels=area)


def stub_set(folder: Path) -> DataSet:
    images = {
        "functional": {"a.png": grey(40), "b.png": grey(160, width=32)},
        "defective": {"a.png": grey(200), "b.png": grey(120), "c.png": np.dstack([grey(255, width=20)] * 3)},
    }
    return read_data_set(write_folders(folder, images))


def test_pictures_are_judged_as_the_view_that_their_folder_is_called_by(tmp_path: Path) -> None:
    model = write_views_package(tmp_path / "model", {"left": 0.3, "right": 0.7})
    for view, good, bad in (("left", 77, 179), ("right", 179, 77)):
        images = {"good": {"a.png": grey(good)}, "anomaly": {"b.png": grey(bad)}}
        data_set = read_data_set(write_folders(tmp_path / view, images))
        told = result_of(run(model, data_set)[1])
        assert [(each["image"], each["verdict"]) for each in told["per_image"]] == [
            ("anomaly/b.png", "REJECT"),
            ("good/a.png", "PASS"),
        ]
    elsewhere = read_data_set(write_folders(tmp_path / "elsewhere", images))
    with pytest.raises(FaultsError, match="a picture of no view"):
        run(model, elsewhere)


def test_a_classifier_on_images_of_several_sizes_and_colours(tmp_path: Path) -> None:
    _, figures = run(write_stub_package(tmp_path / "model"), stub_set(tmp_path / "data"))
    told = result_of(figures)
    assert [(each["image"], each["verdict"], each["reason"]) for each in told["per_image"]] == [
        ("defective/a.png", "REJECT", "DEFECT"),
        ("defective/b.png", "PASS", "OK"),
        ("defective/c.png", "REJECT", "DEFECT"),
        ("functional/a.png", "PASS", "OK"),
        ("functional/b.png", "REJECT", "DEFECT"),
    ]
    scores = [each["score"] for each in told["per_image"]]
    assert scores == pytest.approx([200 / 255, 120 / 255, 1, 40 / 255, 160 / 255], rel=1e-5)
    assert told["images"] == {"total": 5, "good": 2, "defective": 3, "passed": 2, "rejected": 3, "no_decision": 0}
    assert told["verdicts"]["false_accept"]["count"] == told["verdicts"]["false_reject"]["count"] == 1
    assert told["auroc"]["image"] == pytest.approx(5 / 6)
    assert told["classification"]["confusion"] == {"classes": ["functional", "defective"], "counts": [[1, 1], [1, 2]]}
    assert worst_mistakes(figures, 5) == ([1], [4])
    assert set(told["stages_us"]) == {"preprocess", "inference", "judge", "total"}


def test_a_camera_of_another_pixel_format_may_be_meant(tmp_path: Path) -> None:
    data_set = stub_set(tmp_path / "data").seen_as(PixelFormat.RGB8)
    _, figures = run(write_stub_package(tmp_path / "model"), data_set)
    assert figures.is_passed.tolist() == [False, True, False, True, False]


def test_classes_that_the_model_lacks(tmp_path: Path) -> None:
    card = load_package(write_stub_package(tmp_path / "model")).card
    folder = write_folders(tmp_path / "data", {"functional": {"a.png": grey(0)}, "scratch": {"a.png": grey(0)}})
    expected = "images of class 'scratch', expected one of the model's classes: functional, defective"
    with pytest.raises(FaultsError, match=expected):
        expect_labels_fit(read_data_set(folder), card)
    card = load_package(write_blob_package(tmp_path / "blobs")).card
    folder = write_yolo(tmp_path / "yolo", {"a.png": (grey(0), [blob(8, 8, "dust")])}, ["bright", "dark", "dust"])
    with pytest.raises(FaultsError, match="1 objects of class 'dust'"):
        expect_labels_fit(read_data_set(folder), card)


def blob_set(folder: Path) -> DataSet:
    labelled = {
        "found.png": (with_blobs((8, 8), (40, 40)), [blob(8, 8), blob(40, 40)]),
        "missed.png": (with_blobs((8, 8), level=110), [blob(8, 8)]),
        "nothing.png": (grey(100), []),
        "wrong.png": (with_blobs((24, 16)), []),
    }
    return read_data_set(write_yolo(folder, labelled, list(BLOB_CLASSES)))


def test_a_detector(tmp_path: Path) -> None:
    _, figures = run(write_blob_package(tmp_path / "model"), blob_set(tmp_path / "data"))
    told = result_of(figures)
    assert [(Path(each["image"]).stem, each["verdict"], len(each["defects"])) for each in told["per_image"]] == [
        ("found", "REJECT", 2),
        ("missed", "PASS", 0),
        ("nothing", "PASS", 0),
        ("wrong", "REJECT", 1),
    ]
    assert told["per_image"][0]["defects"][0]["box_px"] == [6.0, 6.0, 18.0, 18.0]
    (bright,) = (each for each in told["detection"]["classes"] if each["class"] == "bright")
    assert (bright["objects"], bright["threshold"], bright["found"]) == (3, 0.5, 3)
    assert (bright["precision"], bright["recall"]) == pytest.approx((2 / 3, 2 / 3))
    # The two found and the wrong one score alike; the missed one, at 110, comes before all plain background.
    assert bright["average_precision"] == pytest.approx(2 / 3 * 3 / 4 + 1 / 3 * 3 / 4)
    assert told["detection"]["mean_average_precision"] == bright["average_precision"]
    assert told["detection"]["confusion"] == {
        "classes": ["bright", "dark", None],
        "counts": [[2, 0, 1], [0, 0, 0], [1, 0, 0]],
    }
    assert figures.detected is not None
    assert figures.detected.wrong_counts.tolist() == [0, 1, 0, 1]


def test_findings_of_low_scores_change_no_verdict(tmp_path: Path) -> None:
    """Average precision looks below the card's ``score_min``; verdicts, scores and defects must not."""
    data_set = blob_set(tmp_path / "data")
    package = load_package(
        write_blob_package(tmp_path / "model", decoder={"kind": "yolov8", "score_min": 0.45, "iou_max": 0.1})
    )
    told = []
    for wants_candidates in (True, False):
        runner = Runner(package, None, RUNTIME, wants_candidates=wants_candidates)
        runner.warm_up(data_set)
        told.append([each.inspection for each in runner.run(data_set)])
    assert told[0] == told[1]
    assert told[0][1].score == 0.0
    runner = Runner(package, None, RUNTIME, wants_candidates=True)
    judged = runner.judged(data_set.samples[1])
    assert judged.candidates is not None
    assert judged.candidates.scores.max() == pytest.approx(110 / 255)
    assert [findings.scores.size for findings in runner.findings(data_set.samples[1])] == [0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [True, True, False, False]),
        ({"reject_at_count": 2}, [True, False, False, False]),
        ({"min_width_px": 13.0}, [False, False, False, False]),
        ({"zone": {"x_px": 32, "y_px": 32, "width_px": 32, "height_px": 32}}, [True, False, False, False]),
        ({"reject_at_total_area_px": 200.0}, [True, False, False, False]),
    ],
)
def test_defective_is_what_the_rules_would_reject_of_the_labels(
    tmp_path: Path, rule: dict[str, Any], expected: list[bool]
) -> None:
    recipe = recipe_of({"rules": [{"class": "bright", "reject_at_score": 0.5, **rule}]})
    _, figures = run(write_blob_package(tmp_path / "model"), blob_set(tmp_path / "data"), recipe)
    assert figures.is_defective.tolist() == expected


def test_what_is_required_and_not_labelled_is_a_defect(tmp_path: Path) -> None:
    recipe = recipe_of({"rules": [], "required": [{"class": "bright", "found_at_score": 0.5, "count": 2}]})
    _, figures = run(write_blob_package(tmp_path / "model"), blob_set(tmp_path / "data"), recipe)
    assert figures.is_defective.tolist() == [False, True, True, True]
    assert figures.is_passed.tolist() == [True, False, False, False]


def heat_set(folder: Path, *, width: int = 64, height: int = 64) -> DataSet:
    spot, mask = grey(128, width=width, height=height), np.zeros((height, width), np.uint8)
    spot[16:32, 16:32], mask[16:32, 16:32] = 250, 255
    images = {"good": {"0.png": grey(128, width=width, height=height)}, "spot": {"0.png": spot}}
    return read_data_set(write_mvtec(folder, images, {"spot": {"0.png": mask}}))


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 80)])
def test_an_anomaly_model_with_masks(tmp_path: Path, width: int, height: int) -> None:
    _, figures = run(write_heat_package(tmp_path / "model"), heat_set(tmp_path / "data", width=width, height=height))
    told = result_of(figures)
    assert [(each["class"], each["is_defective"], each["verdict"]) for each in told["per_image"]] == [
        ("good", False, "PASS"),
        ("spot", True, "REJECT"),
    ]
    assert told["auroc"]["image"] == 1.0
    assert told["auroc"]["pixel"] > 0.98
    assert [(kind["name"], kind["rejected"]) for kind in told["kinds"]] == [("good", 0), ("spot", 1)]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16])
def test_a_mask_may_be_of_any_depth(tmp_path: Path, dtype: type[np.generic]) -> None:
    data_set = heat_set(tmp_path / "data")
    spot = data_set.samples[1]
    assert spot.mask is not None
    expected = mask_of(spot)
    Image.fromarray(expected.astype(dtype)).save(spot.mask)
    (again,) = (one for one in read_data_set(tmp_path / "data").samples if one.mask is not None)
    assert (mask_of(again) == expected).all()
    assert expected.sum() == 256


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96)])
def test_the_map_lies_where_the_picture_is(tmp_path: Path, fit: str, width: int, height: int) -> None:
    data_set = heat_set(tmp_path / "data", width=width, height=height)
    package = load_package(write_heat_package(tmp_path / "model", input={"fit": fit}))
    runner = Runner(package, None, RUNTIME)
    spot = data_set.samples[1]
    runner.judged(spot)
    heat = runner.anomaly_map(spot)
    assert heat.shape == (height, width)
    # The middle 64 of 96 pixels are shown of a crop.
    assert np.isfinite(heat).all() == (fit != "crop")
    shown = heat[:, 16:80] if width > height else heat[16:80]
    assert np.isfinite(shown).all()
    hot_y, hot_x = np.nonzero(heat > 0.8)
    for hot in (hot_x, hot_y):
        assert (hot.min(), hot.max()) == pytest.approx((16, 31), abs=4)


def test_an_anomaly_model_has_to_be_told_what_is_good(tmp_path: Path) -> None:
    package = load_package(write_heat_package(tmp_path / "model"))
    folder = write_folders(tmp_path / "a", {"fine": {"a.png": grey(0)}, "spot": {"a.png": grey(0)}})
    with pytest.raises(FaultsError, match="got the folders 'fine', 'spot', expected one called good"):
        expect_labels_fit(read_data_set(folder), package.card)
    folder = write_folders(tmp_path / "b", {"good": {"a.png": grey(128)}, "spot": {"a.png": grey(0)}})
    _, figures = run(tmp_path / "model", read_data_set(folder))
    assert figures.is_defective.tolist() == [False, True]


def test_labelled_objects_are_defects_to_an_anomaly_model(tmp_path: Path) -> None:
    labelled = {"a.png": (grey(0), [blob(8, 8, "dust")]), "b.png": (grey(128), [])}
    data_set = read_data_set(write_yolo(tmp_path / "a", labelled, ["dust"]))
    _, figures = run(write_heat_package(tmp_path / "model"), data_set)
    assert figures.is_defective.tolist() == [True, False]
    assert figures.detected is None


def test_with_a_recipe_all_images_are_of_one_camera(tmp_path: Path) -> None:
    package = load_package(write_stub_package(tmp_path / "model"))
    rules = {"rules": [{"class": "defective", "reject_at_score": 0.5}]}
    data_set = stub_set(tmp_path / "data")
    runner = Runner(package, recipe_of(rules), RUNTIME, recipe_file="recipe.yaml")
    with pytest.raises(FaultsError, match=r"c\.png: got 20x64 BGR8, expected 64x64 Mono8"):
        runner.warm_up(data_set)
    small = write_folders(tmp_path / "small", {"functional": {"a.png": grey(1, width=32)}})
    with pytest.raises(RecipeError, match=r"recipe\.yaml: views\.0\.regions\.0\.x_px: got 0 \(with 64 px from there"):
        runner.warm_up(read_data_set(small))
    two = [{**recipe_of({}).model_dump(by_alias=True)["views"][0], "camera_id": name} for name in "ab"]
    with pytest.raises(RecipeError, match="2 of them"):
        Runner(package, recipe_of({**rules, "views": two}), RUNTIME)


def test_a_card_without_thresholds_has_no_rules(tmp_path: Path) -> None:
    package = load_package(write_stub_package(tmp_path / "model", card={"thresholds": None}))
    with pytest.raises(FaultsError, match="thresholds: got none, expected"):
        Runner(package, None, RUNTIME)


def test_outputs_that_cannot_be_judged(tmp_path: Path) -> None:
    data_set = stub_set(tmp_path / "data")
    dark_first = replace(data_set, samples=data_set.samples[::-1])
    dark_first = replace(
        dark_first, samples=tuple(sorted(dark_first.samples, key=lambda one: one.name != "functional/a.png"))
    )
    _, figures = run(write_nan_package(tmp_path / "some", only_when_bright=True), dark_first)
    told = result_of(figures)
    unread = [each for each in told["per_image"] if each["verdict"] == Verdict.NO_DECISION.value]
    assert told["images"]["no_decision"] == figures.no_decision == len(unread) == 3
    assert {(each["reason"], each["score"]) for each in unread} == {("FAULT", None)}
    assert all("expected probabilities" in each["fault"] for each in unread)
    assert told["images"]["passed"] == 2
    runner = Runner(load_package(tmp_path / "some"), None, RUNTIME)
    with pytest.raises(InferenceError, match=r"defective/a\.png: scores: got"):
        runner.warm_up(data_set)
    with pytest.raises(InferenceError, match="not finite"):
        Runner(load_package(write_nan_package(tmp_path / "always")), None, RUNTIME).warm_up(data_set)


def test_an_image_that_breaks_after_it_was_checked(tmp_path: Path) -> None:
    data_set = stub_set(tmp_path / "data")
    runner = Runner(load_package(write_stub_package(tmp_path / "model")), None, RUNTIME)
    sample: Sample = data_set.samples[0]
    sample.image.write_bytes(sample.image.read_bytes()[:-30])
    with pytest.raises(FaultsError, match=r"a\.png: got an image that cannot be decoded"):
        runner.judged(sample)
    assert cv2.imwrite(str(sample.image), grey(9, width=10))
    with pytest.raises(FaultsError, match="pixels of shape"):
        runner.judged(sample)


def test_in_mvtec_all_but_good_is_defective_also_where_the_model_has_a_class_of_that_name(tmp_path: Path) -> None:
    images = {"good": {"0.png": grey(100)}, "bright": {"0.png": grey(200)}, "dark": {"0.png": grey(10)}}
    data_set = read_data_set(write_mvtec(tmp_path / "data", images, {}))
    _, figures = run(write_blob_package(tmp_path / "model"), data_set)
    told = [(each["class"], each["is_defective"], each["verdict"]) for each in result_of(figures)["per_image"]]
    assert told == [("bright", True, "REJECT"), ("dark", True, "PASS"), ("good", False, "PASS")]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"reject_at_count": 2},
        {"reject_at_total_area_px": 9000.0},
        {"min_width_px": 64.0, "min_height_px": 64.0, "min_area_px": 4096.0},
        {"zone": {"x_px": 0, "y_px": 0, "width_px": 30, "height_px": 30}},
    ],
)
def test_of_a_folder_its_class_alone_decides(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Not how many there are, where and how large: a folder does not say."""
    recipe = recipe_of({"rules": [{"class": "bright", "reject_at_score": 0.5, **asked}]})
    images = {"bright": {"0.png": grey(100)}, "dark": {"0.png": grey(100)}, "good": {"0.png": grey(100)}}
    data_set = read_data_set(write_folders(tmp_path / "data", images))
    _, figures = run(write_blob_package(tmp_path / "model"), data_set, recipe)
    assert figures.is_defective.tolist() == [True, False, False]


@pytest.mark.parametrize("asked", [{}, {"count": 3}, {"min_area_px": 4096.0}])
def test_of_a_folder_its_class_is_there_and_no_other_that_is_required(tmp_path: Path, asked: dict[str, Any]) -> None:
    recipe = recipe_of({"rules": [], "required": [{"class": "bright", "found_at_score": 0.5, **asked}]})
    images = {"bright": {"0.png": grey(100)}, "dark": {"0.png": grey(100)}, "good": {"0.png": grey(100)}}
    data_set = read_data_set(write_folders(tmp_path / "data", images))
    _, figures = run(write_blob_package(tmp_path / "model"), data_set, recipe)
    assert figures.is_defective.tolist() == [False, True, False]


def turn_last_box_inside_out(model: Path) -> None:
    """In every image, whatever its score."""
    graph = onnx.load(str(model / "model.onnx"))
    (boxes,) = (one for one in graph.graph.initializer if one.name == "boxes")
    numbers = numpy_helper.to_array(boxes).copy()
    numbers[0, 2, -1] *= -1
    boxes.CopyFrom(numpy_helper.from_array(numbers, "boxes"))
    content = graph.SerializeToString()
    (model / "model.onnx").write_bytes(content)
    card = yaml.safe_load((model / "model.yaml").read_text())
    (model / "model.yaml").write_text(yaml.safe_dump({**card, "sha256": hashlib.sha256(content).hexdigest()}))


def test_a_box_inside_out_that_the_line_never_looks_at_is_no_reason_not_to_judge(tmp_path: Path) -> None:
    seen, bad_corner = grey(64), grey(64)
    seen[8:16, 8:16], bad_corner[8:16, 8:16], bad_corner[-8:, -8:] = 230, 230, 0
    labelled = {"a.png": (seen, [blob(8, 8)]), "b.png": (bad_corner, [blob(8, 8)])}
    data_set = read_data_set(write_yolo(tmp_path / "data", labelled, list(BLOB_CLASSES)))
    model = write_blob_package(tmp_path / "model")
    turn_last_box_inside_out(model)
    _, figures = run(model, replace(data_set, samples=data_set.samples[:1]))
    told = result_of(figures)
    assert [(each["verdict"], each["reason"], len(each["defects"])) for each in told["per_image"]] == [
        ("REJECT", "DEFECT", 1)
    ]
    assert told["detection"]["images_without_low_scores"] == 1
    assert told["detection"]["mean_average_precision"] == 1.0
    # Where the line looks at it, at a score above score_min, it is a fault as ever.
    _, figures = run(model, data_set)
    assert [each["reason"] for each in result_of(figures)["per_image"]] == ["DEFECT", "FAULT"]
    _, figures = run(write_blob_package(tmp_path / "sound"), data_set)
    assert result_of(figures)["detection"]["images_without_low_scores"] == 0
