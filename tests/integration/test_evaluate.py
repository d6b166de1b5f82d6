"""``lineside evaluate``: the verdicts of the line, bit for bit; its result, its page, and what it says of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.payloads import ResultPayload
from pipeline.record.reader import read_rows
from pipeline.report.folder import MARK
from tests.labelled import write_image
from tests.models import write_nan_package, write_stub_package
from tests.seeing_models import write_blob_package, write_heat_package
from tests.service import Service, lineside, write_line

pytest.importorskip("sklearn")

WIDTH_PX, HEIGHT_PX = 96, 80
IMAGE_COUNT = 12


def pictures(*, is_colour: bool) -> list[npt.NDArray[np.uint8]]:
    """Uneven backgrounds of many levels, most of them with blobs of many levels on them."""
    generator = np.random.default_rng(11)
    found = []
    for at in range(IMAGE_COUNT):
        base = generator.normal(20 + 12 * at, 6, (HEIGHT_PX, WIDTH_PX, 3 if is_colour else 1))
        for _ in range(at % 4):
            x, y, side = *generator.integers(0, 64, 2), generator.integers(6, 20)
            base[y : y + side, x : x + side] += generator.normal(0, 90)
        found.append(np.clip(base, 0, 255).astype(np.uint8).squeeze())
    return found


def result_of(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    run = lineside("evaluate", *arguments, "--json", "-", timeout_s=120)
    assert run.returncode == status, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    return result


def fault_of(*arguments: str | Path) -> str:
    run = lineside("evaluate", *arguments, timeout_s=120)
    assert run.returncode == 2, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    return run.stderr


def played(line: Path) -> list[ResultPayload]:
    """What a run over the folder has on record of the parts that were judged."""
    with Service(line, "--parts", str(6 * IMAGE_COUNT)) as service:
        assert service.process.wait(timeout=60) == 0, service.errors
        rows = [row.result for row in read_rows(line.parent / "records.db")]
    return [each for each in rows if each.reason in ("OK", "DEFECT")]


MODELS: dict[str, tuple[Callable[..., Path], dict[str, Any], dict[str, Any]]] = {
    "classification": (write_stub_package, {}, {"class": "defective", "reject_at_score": 0.45}),
    "detection": (write_blob_package, {}, {"class": "bright", "reject_at_score": 0.5}),
    "anomaly": (write_heat_package, {}, {"class": "anomaly", "reject_at_score": 0.6}),
}


@pytest.mark.parametrize(
    ("kind", "has_recipe", "pixel_format"),
    [
        ("classification", True, "Mono8"),
        ("detection", True, "BGR8"),
        ("detection", False, "BGR8"),
        ("anomaly", True, "Mono8"),
        ("classification", True, "Mono12p"),
        ("anomaly", True, "BayerGR8"),
        ("classification", True, "YUV422_8"),
    ],
)
def test_the_line_gives_the_verdicts_of_the_evaluation(
    tmp_path: Path, broker_port: int, kind: str, has_recipe: bool, pixel_format: str
) -> None:
    """Image by image: verdict, reason, score and defects, to the last bit of each number."""
    write, changes, rule = MODELS[kind]
    suffix, is_colour = ".jpg" if kind == "detection" else ".png", not pixel_format.startswith("Mono")
    for at, pixels in enumerate(pictures(is_colour=is_colour)):
        if pixel_format == "Mono12p":
            # As the line keeps them, with levels that 8 bit have not.
            write_image(tmp_path / "data" / "good" / f"{at:03d}{suffix}", pixels * np.uint16(256) + np.uint16(at << 4))
            continue
        write_image(tmp_path / "data" / "good" / f"{at:03d}{suffix}", pixels)
    images = sorted((tmp_path / "data" / "good").iterdir())
    camera = {
        "camera_id": "cam0",
        "kind": "folder",
        "folder": "data/good",
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
        "pixel_format": pixel_format,
        "parts_per_min": 6000,
    }
    line = write_line(tmp_path, broker_port, cameras=[camera])
    regions = [{"name": "all", "x_px": 0, "y_px": 0, "width_px": WIDTH_PX, "height_px": HEIGHT_PX}]
    if has_recipe:
        regions = [
            {**regions[0], "width_px": 64},
            {"name": "more", "x_px": 30, "y_px": 10, "width_px": 66, "height_px": 50},
        ]
    model = write(tmp_path / "model", **changes)
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    if has_recipe:
        recipe["rules"] = [rule]
    else:
        thresholds = yaml.safe_load((model / "model.yaml").read_text())["thresholds"]
        recipe["rules"] = [{"class": name, "reject_at_score": at} for name, at in thresholds.items()]
    recipe["views"][0]["regions"] = regions
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    asked: list[str | Path] = ["--recipe", tmp_path / "recipe.yaml"] if has_recipe else []
    if pixel_format not in ("Mono8", "BGR8"):
        asked += ["--pixel-format", pixel_format]
    told = result_of("--model", model, "--data", tmp_path / "data", *asked)
    evaluated = {each["image"]: each for each in told["per_image"]}
    assert {each["verdict"] for each in told["per_image"]} == {"PASS", "REJECT"}

    seen = set()
    for result in played(line):
        (view,) = result.views
        image = images[view.frame_id % len(images)]
        expected = evaluated[f"good/{image.name}"]
        assert (result.verdict, result.reason) == (expected["verdict"], expected["reason"])
        assert view.score == expected["score"]
        defects = [
            {
                "class": each.class_name,
                "score": each.score,
                "box_px": list(each.box_px),
                "box_mm": each.box_mm,
                "area_mm2": each.area_mm2,
            }
            for each in result.defects
        ]
        assert defects == expected["defects"][: len(defects)]
        assert len(defects) == min(len(expected["defects"]), 32)
        seen.add(image.name)
    assert seen == {image.name for image in images}


def two_classes(folder: Path) -> Path:
    for name, levels in (("functional", (30, 60, 200)), ("defective", (100, 180, 250))):
        for level in levels:
            write_image(folder / name / f"{level}.png", np.full((32, 32), level, np.uint8))
    return folder


def test_the_result_and_the_page(tmp_path: Path) -> None:
    model, data = write_stub_package(tmp_path / "model"), two_classes(tmp_path / "data")
    report, result = tmp_path / "report", tmp_path / "result.json"
    run = lineside("evaluate", "--model", model, "--data", data, "--report", report, "--json", result, timeout_s=120)
    assert run.returncode == 0, run.stderr
    assert "false accepts, of the defective" in run.stdout
    assert "1 of 3: 33.33 % (95 %: 0.84 to 90.57)" in run.stdout
    page = (report / "index.html").read_text()
    assert page.startswith(MARK)
    assert "Worst mistakes" in page
    assert "functional/200.png" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    told = json.loads(result.read_text())
    assert told["model"]["sha256"] in page
    assert told["data"]["sha256"] in page
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_page_of_a_detector_and_of_an_anomaly_model(tmp_path: Path) -> None:
    spot = np.full((64, 64), 100, np.uint8)
    spot[8:16, 8:16] = 240
    write_image(tmp_path / "yolo" / "images" / "a.png", spot)
    write_image(tmp_path / "yolo" / "images" / "b.png", np.full((64, 64), 100, np.uint8))
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "labels" / "b.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "yolo" / "classes.txt").write_text("bright\n")
    model = write_blob_package(tmp_path / "blobs")
    told = result_of("--model", model, "--data", tmp_path / "yolo", "--report", tmp_path / "detector")
    assert told["detection"]["confusion"]["counts"] == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    page = (tmp_path / "detector" / "index.html").read_text()
    assert "mAP at IoU 0.5" in page
    assert "bright 0.94" in page

    write_image(tmp_path / "mvtec" / "train" / "good" / "0.png", np.full((64, 64), 128, np.uint8))
    write_image(tmp_path / "mvtec" / "test" / "good" / "0.png", spot)
    write_image(tmp_path / "mvtec" / "test" / "spot" / "0.png", np.full((64, 64), 128, np.uint8))
    write_image(tmp_path / "mvtec" / "ground_truth" / "spot" / "0_mask.png", (spot > 200).astype(np.uint8) * 255)
    model = write_heat_package(tmp_path / "heat")
    told = result_of("--model", model, "--data", tmp_path / "mvtec", "--report", tmp_path / "anomaly")
    assert told["auroc"]["image"] == 0.0
    assert told["auroc"]["pixel"] is not None
    page = (tmp_path / "anomaly" / "index.html").read_text()
    assert "heat from" in page
    assert "AUROC, pixel" in page


def test_bad_input_is_told_before_the_work(tmp_path: Path) -> None:
    model, data = write_stub_package(tmp_path / "model"), two_classes(tmp_path / "data")
    result, report = tmp_path / "result.json", tmp_path / "report"
    out = ("--json", result, "--report", report)
    (tmp_path / "empty").mkdir()
    assert "no labelled images" in fault_of("--model", model, "--data", tmp_path / "empty", *out)
    assert "no such folder" in fault_of("--model", model, "--data", tmp_path / "nothing", *out)
    assert "no such file" in fault_of("--model", data, "--data", data, *out)
    assert "expected a place outside" in fault_of("--model", model, "--data", data, "--report", data / "report")
    assert "expected a place outside" in fault_of("--model", model, "--data", data, "--json", model / "r.json")
    (data / "scratch").mkdir()
    write_image(data / "scratch" / "1.png", np.full((32, 32), 9, np.uint8))
    assert "images of class 'scratch'" in fault_of("--model", model, "--data", data, *out)
    assert cv2.imwrite(str(data / "scratch" / "1.png"), np.full((32, 32), 9, np.uint16))
    assert "16 bit a channel" in fault_of("--model", model, "--data", data, *out)
    (data / "scratch" / "1.png").rename(data / "defective" / "1.png")
    (data / "scratch").rmdir()
    (data / "defective" / "1.png").write_bytes(b"\x89PNG")
    assert "defective/1.png: got a file that is no image" in fault_of("--model", model, "--data", data, *out)
    (data / "defective" / "1.png").unlink()
    always = write_nan_package(tmp_path / "nan")
    assert "output is not finite" in fault_of("--model", always, "--data", data, *out)
    assert not result.exists()
    assert not report.exists()


def test_an_output_that_cannot_be_judged_is_told_with_the_figures(tmp_path: Path) -> None:
    model, data = write_nan_package(tmp_path / "model", only_when_bright=True), two_classes(tmp_path / "data")
    run = lineside("evaluate", "--model", model, "--data", data, "--json", "-", timeout_s=120)
    assert run.returncode == 2
    assert "cannot be judged for 3 of 6 images (defective/180.png, defective/250.png, functional/200.png)" in run.stderr
    told = json.loads(run.stdout)
    assert told["images"]["no_decision"] == 3
    assert told["verdicts"]["false_reject"]["count"] == 1
