"""``lineside model quantize`` from images to package, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from pipeline.cli.model import model as model_commands
from tests.labelled import write_folders
from tests.models import OPSET, stub_card, write_package, write_stub_package
from vision.faults import FaultsError
from vision.package import load_package

GOOD, DEFECTIVE = "functional", "defective"


def write_conv_package(folder: Path, *, sharpness: float = 8.0, middle: float = 127.5) -> Path:
    """P(defective) rises with the mean grey level and is one half at ``middle``: a convolution that sums, then a sigmoid."""
    weight = np.full((1, 1, 16, 16), sharpness / 256, np.float32)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["image", "weight", "bias"], ["sum"], name="conv"),
                helper.make_node("Flatten", ["sum"], ["level"], name="flatten"),
                helper.make_node("Sigmoid", ["level"], ["defective"], name="sigmoid"),
                helper.make_node("Sub", ["one", "defective"], ["functional"], name="rest"),
                helper.make_node("Concat", ["functional", "defective"], ["probabilities"], axis=1, name="both"),
            ],
            "conv",
            [helper.make_tensor_value_info("image", 1, ["N", 1, 16, 16])],
            [helper.make_tensor_value_info("probabilities", 1, ["N", 2])],
            [
                numpy_helper.from_array(weight, "weight"),
                numpy_helper.from_array(np.array([-sharpness * middle / 255], np.float32), "bias"),
                numpy_helper.from_array(np.array([1.0], np.float32), "one"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    return write_package(folder, model, stub_card(16, 16, 1))


def write_data(folder: Path, *, each: int = 20, good: int = 60, defective: int = 200, size_px: int = 16) -> Path:
    """Noise about two levels, no image twice."""
    generator = np.random.default_rng(0)

    def of_level(level: int) -> dict[str, Any]:
        return {
            f"{index:03d}.png": generator.integers(level - 20, level + 20, (size_px, size_px), np.uint8)
            for index in range(each)
        }

    return write_folders(folder, {GOOD: of_level(good), DEFECTIVE: of_level(defective)})


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def quantize(folder: Path, *arguments: str | Path) -> Done:
    """In this process: the libraries take seconds to load."""
    asked = {"--data": folder / "data", "--out": folder / "out"}
    command = ["quantize", *(str(part) for pair in asked.items() if pair[0] not in arguments for part in pair)]
    result = CliRunner().invoke(model_commands, [*command, *map(str, arguments)])
    faults = f"{result.exception}\n" if isinstance(result.exception, FaultsError) else ""
    if result.exception is not None and not isinstance(result.exception, SystemExit | FaultsError):
        raise result.exception
    return Done(2 if faults else result.exit_code, result.stdout, result.stderr + faults)


LOOSE = ("--new-escapes-max", "0.2", "--new-false-rejects-max", "0.2")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    return write_conv_package(tmp_path / "model")


@pytest.mark.parametrize(
    ("what", "version"),
    [
        (["--fp16"], "fp16"),
        (["--int8"], "int8"),
        (["--fold-input"], "uint8"),
        (["--int8", "--fold-input"], "int8.uint8"),
    ],
)
def test_what_passes_is_a_package_that_says_what_was_done(
    tmp_path: Path, model: Path, what: list[str], version: str
) -> None:
    done = quantize(tmp_path, "--model", model, *what, *LOOSE, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stderr
    parent, package = load_package(model), load_package(tmp_path / "out")
    card = package.card
    assert card.version == f"1.0.0+{version}"
    assert (card.input.dtype == "uint8") == ("--fold-input" in what)
    derivation = card.derivation
    assert derivation["parent_sha256"] == parent.sha256
    assert derivation["gate"]["outcome"] == "passed"
    assert derivation["gate"]["new_escapes"]["count"] == 0
    judged, calibrated = derivation["gate"]["judged_images"], 0
    if "--int8" in what:
        calibrated = derivation["calibration"]["images"]
        assert 0 < calibrated < 40
    assert judged + calibrated == 40
    assert card.accuracy["auroc"] == 1.0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["outcome"] == "passed"
    written = yaml.safe_load((tmp_path / "out" / "model.yaml").read_text())
    assert written["decoder"] == {"kind": "classification", "activation": "none"}
    assert {file.name for file in tmp_path.iterdir()} == {"data", "model", "out", "result.json"}


@pytest.mark.parametrize("has_recipe", [False, True])
def test_the_card_says_by_what_rules_it_was_judged(tmp_path: Path, model: Path, has_recipe: bool) -> None:
    region = {"name": "all", "x_px": 0, "y_px": 0, "width_px": 16, "height_px": 16}
    rules = [{"class": "defective", "reject_at_score": 0.25}]
    recipe = {"recipe_id": "cells", "recipe_version": "7", "model": "model", "rules": rules}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({**recipe, "views": [{"camera_id": "cam0", "regions": [region]}]})
    )
    given = ("--recipe", tmp_path / "recipe.yaml") if has_recipe else ()
    done = quantize(tmp_path, "--model", model, "--fp16", *given, *LOOSE)
    assert done.returncode == 0, done.stderr
    gate = load_package(tmp_path / "out").card.derivation["gate"]
    assert (gate["layout"], gate["split"]) == ("folders", None)
    assert (gate["recipe_id"], gate["recipe_version"]) == (("cells", "7") if has_recipe else (None, None))
    assert gate["rules"] == (rules if has_recipe else [{"class": "defective", "reject_at_score": 0.5}])


def test_too_few_images_say_how_many_are_needed_and_write_nothing(tmp_path: Path, model: Path) -> None:
    done = quantize(tmp_path, "--model", model, "--fp16")
    assert done.returncode == 1
    assert "too few images to decide with 95% confidence" in done.stderr
    assert "20 defective ones of the 299" in done.stderr
    assert "20 good ones of the 299" in done.stderr
    assert not (tmp_path / "out").exists()


def test_copies_of_an_image_are_no_further_evidence(tmp_path: Path) -> None:
    """One image of each kind, three hundred times."""
    write_folders(
        tmp_path / "data",
        {
            name: {f"{at:03d}.png": np.full((16, 16), level, np.uint8) for at in range(300)}
            for name, level in ((GOOD, 60), (DEFECTIVE, 200))
        },
    )
    done = quantize(tmp_path, "--model", write_conv_package(tmp_path / "model"), "--fp16")
    assert done.returncode == 1
    assert "1 defective ones of the 299" in done.stderr
    assert "1 good ones of the 299" in done.stderr
    assert "598 copies of other images do not count" in done.stderr
    assert not (tmp_path / "out").exists()


def test_copies_are_told_and_change_no_count(tmp_path: Path, model: Path) -> None:
    for file in list((tmp_path / "data").rglob("*.png")):
        shutil.copy(file, file.with_name(f"copy_{file.name}"))
    done = quantize(tmp_path, "--model", model, "--fp16", *LOOSE)
    assert done.returncode == 0, done.stderr
    assert "40 copies of other images" in done.stdout
    gate = load_package(tmp_path / "out").card.derivation["gate"]
    assert (gate["defective"], gate["good"], gate["copies_left_out"], gate["judged_images"]) == (20, 20, 40, 80)
    assert gate["new_escapes"]["of"] == gate["new_false_rejects"]["of"] == 20


def test_a_model_that_loses_defects_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """All there is to tell lies within one grey level, which raw pixels do not have."""
    generator = np.random.default_rng(1)
    images = {
        name: {f"{at}.png": blocks(generator, odd) for at in range(30)} for name, odd in ((GOOD, 127), (DEFECTIVE, 129))
    }
    write_folders(tmp_path / "data", images)
    # Between the means of 127.75 and 128.25; rounded they are 128 both, and pass.
    write_conv_package(tmp_path / "model", sharpness=20_000.0, middle=128.1)
    done = quantize(tmp_path, "--model", tmp_path / "model", "--fold-input", *LOOSE)
    assert done.returncode == 1, done.stdout
    assert "refused: new escapes: 30 of 30 defective images" in done.stderr
    assert "Nothing was written" in done.stderr
    assert {file.name for file in tmp_path.iterdir()} == {"data", "model"}


def blocks(generator: np.random.Generator, odd: int) -> Any:
    """32x32 pixels in blocks of 2x2, of which each has one of level ``odd`` somewhere and three of 128."""
    image = np.full((16, 2, 16, 2), 128, np.uint8)
    for row in range(16):
        for column in range(16):
            image[row, generator.integers(2), column, generator.integers(2)] = odd
    return image.reshape(32, 32)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "got nothing to do"),
        (["--fp16", "--int8"], "got both"),
        (["--fp16", "--symmetric"], "--symmetric: expected --int8 as well"),
        (["--fp16", "--calibration", "x"], "--calibration: expected --int8 as well"),
        (["--fp16", "--colour-order", "BGR"], "--colour-order: expected --fold-input as well"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, model: Path, arguments: list[str], text: str) -> None:
    done = quantize(tmp_path, "--model", model, *arguments)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_place_that_is_taken_is_left_alone(tmp_path: Path, model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    done = quantize(tmp_path, "--model", model, "--fp16", *LOOSE)
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_working_directory_may_take_the_package(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = quantize(tmp_path, "--model", model, "--fp16", "--out", ".", *LOOSE)
    assert done.returncode == 0, done.stderr
    assert load_package(tmp_path / "empty").card.version == "1.0.0+fp16"


def test_a_link_to_an_empty_folder_is_refused_at_once(tmp_path: Path, model: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    done = quantize(tmp_path, "--model", model, "--fp16", "--out", tmp_path / "link")
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("name", ["data/labels.json", "model/old.json", "calibration/list.json", "recipe.yaml"])
def test_the_result_never_takes_the_place_of_what_is_read(tmp_path: Path, model: Path, name: str) -> None:
    (tmp_path / "calibration").mkdir()
    target = tmp_path / name
    target.write_text('{\n  "images": []\n}\n')  # as an earlier result begins, and any indented JSON
    given = (
        "--model",
        model,
        "--int8",
        "--calibration",
        tmp_path / "calibration",
        "--recipe",
        tmp_path / "recipe.yaml",
    )
    done = quantize(tmp_path, *given, "--json", target, *LOOSE)
    assert done.returncode == 2
    assert "--json" in done.stderr
    assert "expected a place outside" in done.stderr
    assert target.read_text() == '{\n  "images": []\n}\n'
    done = quantize(tmp_path, "--model", model, "--fp16", "--out", tmp_path / "data" / "out", *LOOSE)
    assert done.returncode == 2
    assert "--out" in done.stderr


def test_calibrating_with_the_images_that_judge_is_refused(tmp_path: Path, model: Path) -> None:
    done = quantize(tmp_path, "--model", model, "--int8", "--calibration", tmp_path / "data", *LOOSE)
    assert done.returncode == 2
    assert "40 images, all of them among those that judge" in done.stderr


def test_a_model_for_raw_pixels_is_not_folded_again(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    assert quantize(tmp_path, "--model", write_conv_package(tmp_path / "model"), "--fold-input", *LOOSE).returncode == 0
    again = quantize(tmp_path, "--model", tmp_path / "out", "--out", tmp_path / "twice", "--fold-input", *LOOSE)
    assert again.returncode == 2
    assert "raw pixels already" in again.stderr
    assert not (tmp_path / "twice").exists()


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    folder = write_stub_package(tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"no model")
    done = quantize(tmp_path, "--model", folder, "--fp16")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
