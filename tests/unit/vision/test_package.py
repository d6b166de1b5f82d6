from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.exported import exported, output, ultralytics
from tests.models import write_stub_package
from vision.decoders.anomaly import AnomalySettings
from vision.package import PackageError, PackageUnreadable, load_package


def test_a_package_knows_its_card_and_its_hash(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    package = load_package(folder)
    assert package.sha256 == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest() == package.card.sha256
    assert package.card.input.row_shape == (1, 16, 16)
    assert package.card.classes == ["functional", "defective"]


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "model.onnx").unlink()
    with pytest.raises(PackageError, match=r"model\.onnx: got no such file") as caught:
        load_package(folder)
    assert [fault.file for fault in caught.value.faults] == [str(folder / "model.onnx")]


def test_without_a_card_what_the_file_does_not_say_is_asked(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "model.yaml").unlink()
    with pytest.raises(PackageError, match=r"model\.yaml: got no such file, expected the model's card") as caught:
        load_package(folder)
    assert {fault.file for fault in caught.value.faults} == {str(folder / "model.yaml")}
    asked = {"", "input.scale", "input.mean", "input.std", "input.fit", "decoder.activation", "classes"}
    assert {fault.key for fault in caught.value.faults} == asked


def test_a_card_with_gaps_is_completed_from_the_file(tmp_path: Path) -> None:
    folder = write_stub_package(
        tmp_path / "stub",
        card={
            "name": None,
            "version": None,
            "task": None,
            "outputs": None,
            "licence": None,
            "input": {"name": None, "width_px": None, "height_px": None, "colour_order": None, "layout": None},
        },
    )
    card = load_package(folder).card
    assert (card.name, card.task, card.outputs) == ("stub", "classification", {"scores": "probabilities"})
    assert (card.input.name, card.input.row_shape) == ("image", (1, 16, 16))
    assert card.version.startswith("sha256-")
    assert card.licence == "not stated"


def test_a_card_without_a_hash_is_told_the_hash(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    sha256 = load_package(folder).sha256
    lines = (folder / "model.yaml").read_text().splitlines()
    (folder / "model.yaml").write_text("\n".join(line for line in lines if not line.startswith("sha256")))
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    (fault,) = caught.value.faults
    assert (fault.key, fault.got) == ("sha256", "nothing")
    assert fault.expected.startswith(sha256)


def test_a_whole_card_is_written_and_read_again(tmp_path: Path) -> None:
    package = load_package(write_stub_package(tmp_path / "stub"))
    package.card_path.write_text(package.card_text())
    assert load_package(package.folder).card == package.card


def test_a_whole_card_does_not_hide_what_the_file_says(tmp_path: Path) -> None:
    """Its author is held to the file as whoever left a gap is."""
    content = exported(output("output0", (1, 6, 8400)), metadata=ultralytics(classes=2))
    (tmp_path / "model.onnx").write_bytes(content)
    whole = load_package(tmp_path).card.model_dump(mode="json")
    posing = exported(output("output0", (1, 6, 8400)), metadata=ultralytics("pose", classes=2))
    (tmp_path / "model.onnx").write_bytes(posing)
    card = {**whole, "sha256": hashlib.sha256(posing).hexdigest()}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(PackageError, match=r"model\.onnx: metadata task: got 'pose'") as caught:
        load_package(tmp_path)
    assert len(caught.value.faults) == 1


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="nowhere: got no such file or folder") as caught:
        load_package(tmp_path / "nowhere")
    assert len(caught.value.faults) == 1


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
        ({"classes": None}, "classes", "got nothing, expected a value: 2 names, in the order of"),
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
        ({"decoder": "yolo"}, "decoder.kind", "got 'yolo', expected one of 'classification', 'yolov5', 'yolov8'"),
        ({"decoder": {"kind": "yolov8", "iou_max": 2}}, "decoder.iou_max", "got 2, expected less than 1"),
        ({"classes": ["a", "a"], "thresholds": {}}, "classes", "expected every class once"),
        ({"thresholds": {"scratch": 0.5}}, "thresholds", "not of ['scratch']"),
        (
            {
                "task": "detection",
                "decoder": "yolov8",
                "outputs": {"predictions": "probabilities"},
                "thresholds": {"defective": 0.25},
            },
            "thresholds.defective",
            "got 0.25, expected more than 0.25: findings up to that are dropped (decoder.score_min)",
        ),
        ({"thresholds": {"defective": 1.5}}, "thresholds.defective", "less than or equal to 1"),
        ({"input": {"width_px": "16"}}, "input.width_px", "got '16', expected a valid integer"),
        ({"input": {"width_px": 10**10}}, "input.width_px", "less than or equal to 16384"),
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
    folder = write_stub_package(tmp_path / "stub", card={"name": "", "licence": 5, "input": {"width_px": -1}})
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
def test_a_failing_disk_is_not_the_packages_fault(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_stub_package(tmp_path / "stub")
    opens = os.open

    def failing(path: Path, flags: int) -> int:
        if path.name == name:
            raise OSError(errno.EIO, "Input/output error")
        return opens(path, flags)

    monkeypatch.setattr("vision.plain_file.os.open", failing)
    with pytest.raises(PackageUnreadable, match=f"{name}: got Input/output error, expected a readable file"):
        load_package(folder)


@pytest.mark.parametrize("name", ["model.yaml", "model.onnx"])
@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "a link"),
        (lambda path: path.symlink_to("../elsewhere/" + path.name), "a link"),
        (lambda path: path.symlink_to("nowhere"), "a link"),
        (lambda path: os.mkfifo(path), "a pipe"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "a socket"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_plain_file_is_not_opened(
    tmp_path: Path, name: str, make: Callable[[Path], None], got: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    folder = write_stub_package(Path("stub"))
    write_stub_package(Path("elsewhere"))
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(PackageError, match=f"{name}: got {got}, expected a plain file"):
        load_package(folder)


def test_a_file_that_is_named_itself_may_be_a_link(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    link = tmp_path / "this.onnx"
    link.symlink_to(folder / "model.onnx")
    assert load_package(link).card_path == folder / "model.yaml"


def test_what_anomalib_writes_beside_its_file_is_read(tmp_path: Path) -> None:
    content = exported(
        output("output", (1, 1, 256, 256), "Add"), image=(1, 3, 256, 256), subtracts=[0.485, 0.456, 0.406]
    )
    (tmp_path / "model.onnx").write_bytes(content)
    sidecar = {"image_threshold": 12.5, "pixel_threshold": 13.5, "min": 0.5, "max": 40.0}
    (tmp_path / "metadata.json").write_text(json.dumps(sidecar))
    decoder = load_package(tmp_path).card.decoder
    assert isinstance(decoder, AnomalySettings)
    assert decoder.normalisation is not None
    assert (decoder.normalisation.image_threshold, decoder.normalisation.pixel_max) == (12.5, 40.0)


def test_what_lies_beside_a_file_of_another_name_is_not_its_own(tmp_path: Path) -> None:
    content = exported(output("output", (1, 1, 256, 256), "Add"), subtracts=[0.485, 0.456, 0.406])
    (tmp_path / "other.onnx").write_bytes(content)
    (tmp_path / "metadata.json").write_text(json.dumps({"image_threshold": 12.5, "min": 0.5, "max": 40.0}))
    with pytest.raises(PackageError) as caught:
        load_package(tmp_path / "other.onnx")
    assert "decoder.kind" in {fault.key for fault in caught.value.faults}


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "\x00"])
def test_another_file_of_that_name_is_left_alone(tmp_path: Path, text: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "metadata.json").write_text(text)
    assert load_package(folder).card.name == "stub"


def test_a_card_of_aliases_is_refused(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    bomb = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    bomb += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    (folder / "model.yaml").write_text("\n".join([*bomb, "name: *a11"]))
    with pytest.raises(PackageError, match=r"got an alias"):
        load_package(folder)


@pytest.mark.parametrize("line", ["classes: [a, b]", "input: {scale: 1.0, scale: 2.0}", "decoder: {kind: x, kind: y}"])
def test_a_card_says_everything_once(tmp_path: Path, line: str) -> None:
    folder = write_stub_package(tmp_path / "stub")
    with (folder / "model.yaml").open("a") as card:
        card.write(line + "\n")
    with pytest.raises(
        PackageError, match=r"model\.yaml: got text that is not YAML \(key '\w+' stands twice in .*line"
    ):
        load_package(folder)


def test_a_card_too_large_is_not_read(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    os.truncate(folder / "model.yaml", 2 << 30)
    with pytest.raises(PackageError, match=r"model\.yaml: got 2147483648 bytes, expected at most 1048576 bytes"):
        load_package(folder)


ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "a", [], [1], ["a", "a"], {}, {"a": 1}, "classification", "NCHW", "yolov8"]
)
ODD_KEYS = st.sampled_from(
    ["name", "kind", "layout", "width_px", "colour_order", "scores", "boxes", "fit", "scale", "predictions"]
)


@given(
    card=st.dictionaries(
        st.sampled_from(["name", "input", "outputs", "decoder", "classes", "task", "sha256", "input.name", "colour"]),
        ODD | st.dictionaries(ODD_KEYS, ODD, max_size=4),
    )
)
def test_any_card_is_told_its_faults(tmp_path_factory: pytest.TempPathFactory, card: dict[str, Any]) -> None:
    folder = write_stub_package(tmp_path_factory.mktemp("any"))
    (folder / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    assert all(fault.got and fault.expected for fault in caught.value.faults)


def test_a_folder_that_cannot_be_looked_into_is_not_the_packages_fault(tmp_path: Path) -> None:
    with pytest.raises(PackageUnreadable, match="got File name too long"):
        load_package(tmp_path / ("x" * 256))
