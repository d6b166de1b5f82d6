from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.models import write_stub_package
from vision.package import PackageError, PackageUnreadable, load_package


def test_a_package_knows_its_card_and_its_hash(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    package = load_package(folder)
    assert package.sha256 == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest() == package.card.sha256
    assert package.card.input.row_shape == (1, 16, 16)
    assert package.card.classes == ["functional", "defective"]


@pytest.mark.parametrize("name", ["model.yaml", "model.onnx"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / name).unlink()
    with pytest.raises(PackageError, match=name) as caught:
        load_package(folder)
    assert [fault.file for fault in caught.value.faults] == [str(folder / name)]


def test_a_missing_folder_misses_both_files(tmp_path: Path) -> None:
    with pytest.raises(PackageError) as caught:
        load_package(tmp_path / "nowhere")
    assert len(caught.value.faults) == 2


def test_a_changed_model_is_refused_with_both_hashes(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    written = load_package(folder).sha256
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    (fault,) = caught.value.faults
    assert (fault.file, fault.key) == (str(folder / "model.yaml"), "sha256")
    assert hashlib.sha256(model.read_bytes()).hexdigest() in fault.got
    assert written in fault.expected
    assert "fetch the package again" in fault.expected


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"version": 1.0}, "version", "got 1.0, expected a valid string"),
        ({"classes": None}, "classes", "got nothing, expected a value"),
        ({"colour": "red"}, "colour", "got an unknown key"),
        (
            {"task": "detection"},
            "task",
            "got 'detection', expected classification, which decoder classification serves",
        ),
        (
            {"outputs": {"scores": "probabilities", "mask": "mask"}},
            "outputs",
            "got the roles mask, expected only scores",
        ),
        ({"outputs": {"logits": "probabilities"}}, "outputs", "expected also the roles scores"),
        ({"task": "divination"}, "task", "got 'divination'"),
        ({"decoder": "yolo"}, "decoder.kind", "got 'yolo', expected one of 'classification', 'yolov5'"),
        ({"decoder": {"activation": "none"}}, "decoder.kind", "got nothing, expected a value"),
        ({"decoder": {"kind": "yolov8", "score_min": 7.0}}, "decoder.score_min", "got 7.0, expected less than 1"),
        ({"decoder": {"kind": "yolov8", "iou": 0.5}}, "decoder.iou", "got an unknown key"),
        ({"decoder": "yolov8"}, "task", "got 'classification', expected detection, which decoder yolov8 serves"),
        ({"classes": ["a", "a"], "thresholds": {}}, "classes", "expected every class once"),
        ({"thresholds": {"scratch": 0.5}}, "thresholds", "not of ['scratch']"),
        ({"thresholds": {"defective": 1.5}}, "thresholds.defective", "less than or equal to 1"),
        ({"input": {"width_px": "16"}}, "input.width_px", "got '16', expected a valid integer"),
        ({"input": {"height_px": 0}}, "input.height_px", "greater than 0"),
        ({"input": {"colour_order": "RBG"}}, "input.colour_order", "'GRAY', 'RGB' or 'BGR'"),
        ({"input": {"layout": "NHWC"}}, "input.layout", "expected 'NCHW'"),
        ({"input": {"fit": "squeeze"}}, "input.fit", "'stretch', 'letterbox' or 'crop'"),
        ({"input": {"crop_fraction": 1.5}}, "input.crop_fraction", "less than or equal to 1"),
        ({"input": {"dtype": "uint8"}}, "input.scale", "a uint8 input takes the pixels as they are"),
        ({"input": {"mean": [0.1, 0.2, 0.3]}}, "input.mean", "1 numbers, one per channel of GRAY"),
        ({"input": {"std": [0.0]}}, "input.std.0", "greater than 0"),
        ({"input": {"scale": float("nan")}}, "input.scale", "finite"),
        ({"input": {"pad_value": 256}}, "input.pad_value", "less than or equal to 255"),
    ],
)
def test_a_fault_in_the_card_is_named_by_its_key(tmp_path: Path, changes: dict[str, Any], key: str, text: str) -> None:
    folder = write_stub_package(tmp_path / "stub", card=changes)
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert [(fault.file, fault.key) for fault in caught.value.faults] == [(str(folder / "model.yaml"), key)]
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{folder / 'model.yaml'}: {key}: got ")


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub", card={"name": "", "licence": None, "input": {"width_px": -1}})
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert sorted(fault.key for fault in caught.value.faults) == ["input.width_px", "licence", "name"]


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"name: [", "not YAML"), (b"\xff\xfe\x00", "not YAML"), (b"- a\n", "a mapping"), (b"", "a mapping")],
)
def test_a_card_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "model.yaml").write_bytes(content)
    with pytest.raises(PackageError, match=text):
        load_package(folder)


@pytest.mark.parametrize("name", ["model.yaml", "model.onnx"])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(PackageError, match=name):
        load_package(folder)


@pytest.mark.parametrize("name", ["model.yaml", "model.onnx"])
def test_a_failing_disk_is_not_the_packages_fault(tmp_path: Path, name: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / name).unlink()
    (folder / name).symlink_to("/proc/self/mem")  # a plain file; its first byte cannot be read
    with pytest.raises(PackageUnreadable, match=f"{name}: got Input/output error, expected a readable file"):
        load_package(folder)


def test_a_folder_that_cannot_be_looked_into_is_not_the_packages_fault(tmp_path: Path) -> None:
    with pytest.raises(PackageUnreadable, match="got File name too long"):
        load_package(tmp_path / ("x" * 256))
