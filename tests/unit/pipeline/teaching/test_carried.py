"""What an engineer made of a taught package goes on into the next one, or is told as lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from calibration.teaching.backbone import feature_shape
from calibration.teaching.fitting import nothing_learnt
from calibration.teaching.graph import product_model
from pipeline.teaching.carried import Carried, carried
from pipeline.teaching.package_writer import LIMITATIONS, fixed_card, write_package
from pipeline.teaching.taught_file import FOLDER, KeptPart, KeptPicture, KeptView, Taught, WrittenCard
from vision.package import load_package
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

SHAPE = feature_shape(96, 96, is_grey=True, size_px=96, depth=2)
VIEWS = ("",)
TRAINING = {"method": "taught", "good_parts": 1}
ACCURACY = {"by": "nobody"}

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def model() -> bytes:
    return product_model(SHAPE, [nothing_learnt(SHAPE.layers, SHAPE.grid)], [0.0])


@pytest.fixture
def folder(tmp_path: Path, model: bytes) -> Path:
    """A package as it is written."""
    made = tmp_path / "plate"
    (made / FOLDER).mkdir(parents=True)
    write_package(made, SHAPE, VIEWS, model, "plate", TRAINING, ACCURACY)
    return made


def taught_of(folder: Path, **changes: Any) -> Taught:
    card = WrittenCard(values=fixed_card(SHAPE, VIEWS), keys={"training": tuple(TRAINING), "accuracy": tuple(ACCURACY)})
    taught = Taught(
        layout="lineside.taught/1",
        product="plate",
        sha256=load_package(folder).sha256,
        shape=SHAPE,
        false_reject_max=0.01,
        confidence=0.95,
        views=(KeptView(name="", frame=FrameFormat(96, 96, PixelFormat.MONO8), features_sha256=""),),
        parts=(KeptPart(name="0", score=0.1, pictures=(KeptPicture(name="0.png", pixels_sha256="0"),)),),
        parts_missing=None,
        auroc=None,
        card=card,
    )
    return taught.model_copy(update=changes)


def edit(folder: Path, change: Edit) -> None:
    card = yaml.safe_load((folder / "model.yaml").read_text())
    change(card)
    (folder / "model.yaml").write_text(yaml.safe_dump(card))


def of(folder: Path, **changes: Any) -> Carried:
    return carried(load_package(folder), taught_of(folder, **changes))


def test_of_a_package_as_it_was_written_there_is_nothing_to_tell(folder: Path) -> None:
    assert of(folder) == Carried()
    assert of(folder, card=None) == Carried()  # one that was taught before the card was kept


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("verification", {"flips_max": 2, "score_difference_max": 0.01}, "verification: kept as edited"),
        ("licence", "ours", "licence: kept as edited"),
        ("limitations", "for the left side alone", "limitations: kept as edited"),
        (
            "thresholds",
            {"anomaly": 0.62},
            "thresholds: kept as edited (0.62), while what is promised and counted here is for 0.5",
        ),
        ("decoder", {"kind": "anomaly", "hot_min": 0.7}, "decoder: kept as edited"),
    ],
)
@pytest.mark.parametrize("has_record", [True, False])
def test_what_still_holds_is_kept(
    tmp_path: Path, folder: Path, model: bytes, key: str, value: Any, words: str, has_record: bool
) -> None:
    edit(folder, lambda card: card.update({key: value}))
    kept = of(folder) if has_record else of(folder, card=None)
    assert kept.card == {key: value}
    assert kept.told == (words,)
    (tmp_path / "next").mkdir()
    write_package(tmp_path / "next", SHAPE, VIEWS, model, "plate", TRAINING, ACCURACY, kept.card, kept.version)
    written, before = load_package(tmp_path / "next").card, load_package(folder).card
    assert getattr(written, key) == getattr(before, key)
    assert written == before


def test_words_of_an_older_version_that_nobody_edited_are_renewed(folder: Path) -> None:
    edit(folder, lambda card: card.update(limitations="as it was told then"))
    record = WrittenCard(values={**fixed_card(SHAPE, VIEWS), "limitations": "as it was told then"}, keys={})
    assert of(folder, card=record) == Carried()
    assert fixed_card(SHAPE, VIEWS)["limitations"] == LIMITATIONS


def test_a_name_and_a_version_of_ones_own(folder: Path) -> None:
    edit(folder, lambda card: card.update(name="bracket", version="2.1"))
    kept = of(folder)
    assert kept.version == "2.1"
    assert kept.told == ("name: kept as edited; it was plate", "version: 2.1, with the hash of the model as it is now")


def test_notes_on_the_pictures_are_kept_and_those_on_the_old_model_are_not(folder: Path) -> None:
    def noted(card: dict[str, Any]) -> None:
        card["training"]["pictures_by"] = "the late shift"
        card["accuracy"]["field_test"] = 0.98
        card["derivation"] = {"by": "hand"}

    edit(folder, noted)
    kept = of(folder)
    assert kept.training == {"pictures_by": "the late shift"}
    assert kept.told == (
        "training.pictures_by: kept",
        "accuracy.field_test: REMOVED, it is of the model before",
        "derivation: REMOVED, it is of the model before",
    )


def test_what_the_model_needs_is_written_anew(folder: Path) -> None:
    edit(folder, lambda card: card["input"].update(scale=1.0))
    kept = of(folder)
    assert kept.card == {}
    assert kept.told == ("input: WRITTEN ANEW, as the model takes and gives it",)


def test_comments_are_told(folder: Path) -> None:
    card = folder / "model.yaml"
    card.write_text("# looked at by Meier\n" + card.read_text() + "  # and Huber\n")
    assert of(folder).told == (
        "comment in model.yaml: NOT KEPT: # looked at by Meier",
        "comment in model.yaml: NOT KEPT: # and Huber",
    )


def test_other_files_are_kept_and_the_verification_is_not(tmp_path: Path, folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("a")
    (folder / "LICENCE").write_text("ours")
    (folder / "link").symlink_to("nowhere")
    (folder / "verification.json").write_text("{}")
    (folder / ".verification.json.123").write_text("{")
    os.mkfifo(folder / "pipe")
    kept = of(folder)
    assert kept.told == (
        "LICENCE: kept",
        "link: kept",
        "notes: kept",
        "pipe: NOT KEPT: no file, folder or link",
        "verification.json: REMOVED, it is of the model before: run `lineside model verify`",
    )
    (tmp_path / "next").mkdir()
    kept.copy_files(tmp_path / "next")
    found = sorted(str(file.relative_to(tmp_path / "next")) for file in (tmp_path / "next").rglob("*"))
    assert found == ["LICENCE", "link", "notes", "notes/a.txt"]
    assert (tmp_path / "next" / "notes" / "a.txt").read_text() == "a"
