"""``lineside model info``: what is known is told with where from, what is not is asked, and nothing is half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exported import exported, output, ultralytics
from tests.hostile_models import deep, elsewhere, endless_loop, model_of, with_weight
from tests.models import stub_card, write_nan_package, write_package, write_stub_package
from tests.service import lineside
from vision.package import PackageError, load_package


def test_a_whole_package_is_told_and_runs(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    done = lineside("model", "info", folder, "--json", tmp_path / "info.json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((tmp_path / "info.json").read_text())
    assert result["questions"] == result["faults"] == []
    assert result["known"]["task"] == {"value": "classification", "from": "card"}
    assert result["run"]["row_shapes"] == {"scores": [2]}
    assert result["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 1, 16, 16]}]
    assert "runs " in done.stdout


def test_what_is_asked_is_answered_in_the_card_that_it_writes(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "model.yaml").unlink()
    card = tmp_path / "begun.yaml"
    done = lineside("model", "info", folder / "model.onnx", "--card", card)
    assert done.returncode == 2
    assert "input.scale: the file does not say" in done.stdout
    begun = card.read_text()
    written = yaml.safe_load(begun)
    assert written["input"]["width_px"] == 16
    left_open = {"input.scale", "input.mean", "input.std", "input.fit", "classes", "decoder.activation"}
    flat = {**written, **{f"{at}.{key}": value for at in ("input", "decoder") for key, value in written[at].items()}}
    assert {key for key, value in flat.items() if value is None} == left_open

    (folder / "model.yaml").write_text(begun)
    done = lineside("model", "info", folder)
    assert done.returncode == 2
    assert all(f"  {key}: " in done.stdout for key in left_open)

    answers = {"scale": 1 / 255, "mean": [0.0], "std": [1.0], "fit": "stretch"}
    answered = {**written, "input": {**written["input"], **answers}, "classes": ["good", "bad"]}
    answered["decoder"] = {**written["decoder"], "activation": "none"}
    (folder / "model.yaml").write_text(yaml.safe_dump(answered))
    assert lineside("model", "info", folder).returncode == 0
    assert load_package(folder).card.classes == ["good", "bad"]


def test_a_file_alone_that_does_not_say_everything_is_to_become_a_package(tmp_path: Path) -> None:
    """What lies beside a file of another name is not its card: to say so is not to send anybody in a circle."""
    folder = write_stub_package(tmp_path / "stub")
    file = (folder / "model.onnx").rename(folder / "stub.onnx")
    done = lineside("model", "info", file, "--card", tmp_path / "begun.yaml")
    assert done.returncode == 2
    place = "in a folder with this file as model.onnx"
    assert f"keys to set in the card (model.yaml, {place})" in " ".join(done.stdout.split())
    with pytest.raises(PackageError) as caught:
        load_package(file)
    first, *others = caught.value.faults
    assert first.file == str(file)
    assert first.expected.startswith("a folder with this file as model.onnx and its card as model.yaml")
    assert {fault.key for fault in others} > {"classes", "input.scale"}


def test_a_file_with_metadata_needs_no_card(tmp_path: Path) -> None:
    file = tmp_path / "yolo.onnx"
    file.write_bytes(exported(output("output0", (1, 84, 8400)), metadata=ultralytics()))
    done = lineside("model", "info", file, "--no-run", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["known"]["decoder.kind"]["value"] == "yolov8"
    assert load_package(file).card.decoder.kind == "yolov8"


def test_another_file_is_never_written_over(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    before = (folder / "model.yaml").read_bytes()
    done = lineside("model", "info", folder, "--card", folder / "model.yaml")
    assert done.returncode == 2
    assert "expected a new file in an existing folder" in done.stderr
    assert (folder / "model.yaml").read_bytes() == before


def truncated(folder: Path) -> Path:
    write_stub_package(folder)
    (folder / "model.yaml").unlink()
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])
    return folder


def of_another_hash(folder: Path) -> Path:
    write_stub_package(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])
    return folder


def newer_opset(folder: Path) -> Path:
    model = model_of(
        with_weight(lambda weight: None).graph.node,
        initializers=with_weight(lambda weight: None).graph.initializer,
        opset=99,
    )
    return write_package(folder, model, stub_card(16, 16, 1))


def weights_missing(folder: Path) -> Path:
    return write_package(folder, with_weight(elsewhere("weights.bin")), stub_card(16, 16, 1))


def weights_outside(folder: Path) -> Path:
    return write_package(folder, with_weight(elsewhere("../../../etc/passwd")), stub_card(16, 16, 1))


def link_out(folder: Path) -> Path:
    write_stub_package(folder)
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to("../elsewhere.onnx")
    return folder


def wrong_classes(folder: Path) -> Path:
    return write_stub_package(folder, card={"classes": ["a", "b", "c"], "thresholds": {}})


def answers_nan(folder: Path) -> Path:
    return write_nan_package(folder)


def too_deep(folder: Path) -> Path:
    return write_package(folder, deep(20), stub_card(16, 16, 1))


def nothing_there(folder: Path) -> Path:
    return folder / "nothing"


def test_the_card_is_checked_also_where_nothing_is_run(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub", card={"thresholds": {"nonsense": 2}})
    done = lineside("model", "info", folder, "--no-run")
    assert done.returncode == 2
    assert "model.yaml: thresholds.nonsense: got 2" in done.stdout


@pytest.mark.parametrize("time_max", ["0", "inf", "nan", "1e300"])
def test_the_time_is_bounded(tmp_path: Path, time_max: str) -> None:
    done = lineside("model", "info", write_stub_package(tmp_path / "stub"), "--time-max", time_max)
    assert done.returncode == 2
    assert "--time-max" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (truncated, "model.onnx: got a file that does not parse"),
        (of_another_hash, "model.yaml: sha256: got a model.onnx with"),
        (newer_opset, "model.onnx: opset of ai.onnx: got 99, expected at most"),
        (weights_missing, "got weights in another file (weights.bin), expected weights inside the ONNX file"),
        (weights_outside, "got weights in another file (../../../etc/passwd)"),
        (link_out, "model.onnx: got a link, expected a plain file in this place"),
        (wrong_classes, "model.yaml: classes: got 3 classes, expected 2, as probabilities is N x 2"),
        (answers_nan, "the model's output is not finite"),
        (too_deep, "got graphs 9 deep, expected at most 8 inside one another"),
        (nothing_there, "nothing: got no such file or folder, expected a folder with model.onnx"),
    ],
)
def test_bad_files_are_told_in_a_line_with_status_2(tmp_path: Path, make: Any, text: str) -> None:
    folder = make(tmp_path / "bad")
    before = sorted(tmp_path.rglob("*"))
    done = lineside("model", "info", folder)
    assert done.returncode == 2
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_that_never_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_package(tmp_path / "endless", endless_loop(), stub_card(16, 16, 1))
    done = lineside("model", "info", folder, "--time-max", "5")
    assert done.returncode == 2
    assert "time: got no result after 5 s" in done.stdout
