"""What Lineside makes of real exports without a card: right, or a question, never wrong.

    LINESIDE_EXPORTS=DIR python -m pytest tests/conformance/test_real_exports_identified.py

See ``test_real_exports.py``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.models import write_package
from tests.real_exports import MISSING, Export, export_names, findings_in_input
from vision.package import Look, PackageError, load_package, look_at

REFUSED = ("timm-half", "v8n-obb", "v8n-pose")
IN_TWO_FILES = [name for name in export_names() if (Export(name).folder / f"{name}.onnx.data").is_file()]
NAMES = [name for name in export_names() if name not in REFUSED]
# What these leave open: the size; whether the scores are normalised; what the pixels are.
OPEN = {
    "yolov5n-dynamic": {"input.height_px", "input.width_px", "decoder.kind"},
    "anomalib2-padim-raw": {"decoder.normalisation"},
    "anomalib2-padim-no-post": {"decoder.normalisation"},
    "anomalib2-padim-no-pre": {"input.colour_order", "input.scale", "input.mean", "input.std", "input.fit"},
}
SAY_ALL = [
    name
    for name in NAMES
    if Export(name).story["exporter"].startswith(("ultralytics", "anomalib", "yolov5"))
    and not name.startswith("stripped")
    and name not in OPEN
]
# What the maker of a card chooses: nobody can be wrong about it.
CHOSEN = {"name", "version", "licence", "decoder.score_min", "decoder.iou_max", "decoder.max_findings"}


def each(names: list[str]) -> pytest.MarkDecorator:
    skip = pytest.mark.skip(reason=MISSING)
    return pytest.mark.parametrize("name", names or [pytest.param("none", marks=skip)])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Emptied at once, as the files are large."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def looked_at(export: Export, folder: Path) -> Look:
    """The export in one file, with Anomalib 1's `metadata.json` where it has one, and nothing else."""
    path = folder / "model.onnx"
    onnx.save(export.model(), str(path))
    beside = export.folder / f"{export.name}.metadata.json"
    if beside.is_file():
        shutil.copyfile(beside, folder / "metadata.json")
    return look_at(path)


@each(NAMES)
def test_what_is_known_is_right_and_the_rest_is_asked(name: str, folder: Path) -> None:
    export = Export(name)
    truth = dict(_flat(export.card()))
    if export.task == "classify":
        truth["input.fit"] = "crop"  # the tests feed the classifier's input as it is
    if name == "anomalib2-padim-any-size":  # the size that its graph resizes to; the exporter was shown another
        truth |= {"input.width_px": 160, "input.height_px": 160}
    identification = looked_at(export, folder).identification
    known = {known.key: known.value for known in identification.known if known.key not in CHOSEN}
    assert {key: value for key, value in known.items() if key in truth and value != truth[key]} == {}
    assert identification.faults == ()
    needed = {key for key in truth if key not in CHOSEN and key != "sha256"}
    asked = {question.key for question in identification.questions}
    if "decoder.kind" in asked:  # whose answer other keys wait for
        needed -= {key for key in needed if key.startswith(("decoder.", "outputs.")) or key in ("task", "classes")}
        asked.discard("decoder.kind")
    assert needed <= known.keys() | asked


@each(SAY_ALL)
def test_an_export_that_says_all_runs_without_a_card(name: str, folder: Path) -> None:
    """Its findings are those of the card that somebody wrote by hand."""
    export = Export(name)
    identification = looked_at(export, folder).identification
    assert identification.is_complete, identification.questions
    card = identification.card()
    by_hand = export.card()
    card["decoder"] |= {key: value for key, value in by_hand["decoder"].items() if f"decoder.{key}" in CHOSEN}
    card["version"] = "1.0.0"
    package = load_package(write_package(folder / "told", export.model(), card))
    if package.card.input.row_shape != export.input.shape[1:]:
        pytest.skip("takes any size: the exporter was shown another")
    expected = findings_in_input(export, folder / "by-hand")
    found = findings_in_input(export, folder, package)
    assert found.class_ids.tolist() == expected.class_ids.tolist()
    np.testing.assert_array_equal(found.boxes_px, expected.boxes_px)
    np.testing.assert_array_equal(found.scores, expected.scores)


@each([name for name in OPEN if name in NAMES])
def test_what_an_export_leaves_open_is_asked(name: str, folder: Path) -> None:
    asked = {question.key for question in looked_at(Export(name), folder).identification.questions}
    assert asked == OPEN[name]


@each(IN_TWO_FILES)
def test_weights_in_another_file_are_a_fault_that_says_how_to_mend_it(name: str, folder: Path) -> None:
    export = Export(name)
    for suffix in (".onnx", ".onnx.data"):
        shutil.copyfile(export.folder / f"{name}{suffix}", folder / f"{name}{suffix}")
    with pytest.raises(PackageError, match=rf"weights in another file \({name}\.onnx\.data\)"):
        look_at(folder / f"{name}.onnx")


@each([name for name in REFUSED if name in export_names()])
def test_what_no_decoder_reads_is_refused(name: str, folder: Path) -> None:
    assert looked_at(Export(name), folder).identification.faults


def _flat(card: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in card.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            yield key, value
