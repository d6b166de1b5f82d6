"""``lineside calibrate threshold`` and ``repeatability``: by command, through the model, from pictures of known parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import betabinom

from pipeline.calibration_file import CalibrationStore, CameraCalibration
from pipeline.record.reader import read_rows
from pipeline.report.folder import MARK
from tests.labelled import write_image
from tests.models import write_nan_package
from tests.seeing_models import write_blob_package
from tests.service import Service, lineside, write_line
from vision.package import load_package

SIDE_PX = 32
GOOD_MEAN, DEFECTIVE_MEAN, SPREAD = 90.0, 150.0, 15.0
RATE = 0.05


def write_parts(folder: Path, count: int, mean: float, *, seed: int) -> Path:
    """Noise of a level of its own each; the stub model scores its mean."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        level = generator.normal(mean, SPREAD)
        pixels = generator.normal(level, 12.0, (SIDE_PX, SIDE_PX))
        write_image(folder / f"{number:03d}.png", np.clip(pixels, 0, 255).astype(np.uint8))
    return folder


def calibrated_line(folder: Path, port: int = 1, *, rules: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    """A line over ``images`` whose rules are to be calibrated."""
    line = write_line(folder, port, **{"calibrations": "calibrations", **changes})
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["rules"] = rules or [{"class": "defective", "reject_at_score": 0.99, "is_calibrated": True}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return line


def in_force(folder: Path) -> CameraCalibration:
    found = CalibrationStore(folder / "calibrations").current("stub", "cam0")
    assert found is not None
    return found


def asked(line: Path, good: Path, *others: str | Path, rate: float = RATE) -> list[str | Path]:
    return ["threshold", line, "--good", good, "--false-reject-max", str(rate), "--as", "Anna", *others]


def test_what_is_promised_is_kept_by_the_line(tmp_path: Path, broker_port: int) -> None:
    good = write_parts(tmp_path / "good", 120, GOOD_MEAN, seed=1)
    defective = write_parts(tmp_path / "defective", 30, DEFECTIVE_MEAN, seed=2)
    (good / "copy.png").write_bytes((good / "007.png").read_bytes())
    fresh = write_parts(tmp_path / "images", 60, GOOD_MEAN, seed=3)
    line = calibrated_line(tmp_path, broker_port)
    options = asked(
        line, good, "--defective", defective, "--report", tmp_path / "page", "--json", tmp_path / "found.json"
    )
    done = lineside("calibrate", *options)
    assert done.returncode == 0, done.stderr
    assert "copy      good/copy.png is good/007.png: NOT COUNTED" in done.stdout
    assert "at most 5 % of good parts are rejected, with 95 % confidence" in done.stdout
    assert "assumes   The good parts are a fair sample of the lots to come (exchangeable with them)" in done.stdout
    assert "that no part was among them was not checked" in done.stdout
    assert (tmp_path / "page" / "index.html").read_text().startswith(MARK)
    found = json.loads((tmp_path / "found.json").read_text())
    kept = in_force(tmp_path)
    section = kept.threshold
    assert section is not None
    assert kept.calibration_id == found["calibration_id"]
    assert (section.good_count, section.defective_count, section.made.pictures_count) == (120, 30, 150)
    assert (section.made.by, section.false_reject_max, section.rank) == ("Anna", RATE, found["good"]["rank"])
    assert section.model_sha256 == load_package(tmp_path / "model").sha256
    accept = section.false_accept
    assert accept is not None
    assert accept.low <= accept.count / accept.total <= accept.high
    threshold = section.reject_at_score["defective"]
    scores = {part["picture"]: part["scores"]["defective"] for part in found["parts"]}
    assert (
        sum(score >= threshold for name, score in scores.items() if name.startswith("good")) == section.rejected_count
    )
    passed = sum(score < threshold for name, score in scores.items() if name.startswith("defective"))
    assert passed == accept.count
    # The part with the very score that the threshold lies above is one that passes.
    assert max(score for name, score in scores.items() if name.startswith("good") and score < threshold) < threshold

    checked = lineside("check", line)
    assert f"defective at {threshold:g} or more" in checked.stdout
    with Service(line, "--parts", "120") as service:
        assert service.process.wait(timeout=60) == 0, service.errors
        rows = [row.result for row in read_rows(tmp_path / "records.db")]
    judged = [each for each in rows if each.reason in ("OK", "DEFECT")]
    assert len(judged) > 60
    for each in judged:
        (view,) = each.views
        assert view.score is not None
        assert (each.verdict == "REJECT") == (view.score >= threshold)
    assert {each.verdict for each in judged} <= {"PASS", "REJECT"}
    assert len(list(fresh.iterdir())) == 60


def test_held_out_parts_are_rejected_no_more_often_than_promised(tmp_path: Path) -> None:
    """More parts of their kind, judged by the line's rules: as many are rejected as the order statistic's law allows."""
    pytest.importorskip("sklearn")
    good = write_parts(tmp_path / "good", 200, GOOD_MEAN, seed=4)
    write_parts(tmp_path / "held" / "good", 400, GOOD_MEAN, seed=5)
    line = calibrated_line(tmp_path)
    assert lineside("calibrate", *asked(line, good, "--json", tmp_path / "found.json")).returncode == 0
    found = json.loads((tmp_path / "found.json").read_text())
    options: list[str | Path] = [
        "--model",
        tmp_path / "model",
        "--line",
        line,
        "--data",
        tmp_path / "held",
        "--layout",
        "folders",
    ]
    judged = lineside("evaluate", *options, "--json", tmp_path / "judged.json")
    assert judged.returncode == 0, judged.stderr
    result = json.loads((tmp_path / "judged.json").read_text())
    assert [rule["reject_at_score"] for rule in result["rules"]] == list(found["thresholds"].values())
    rejected = result["verdicts"]["false_reject"]["count"]
    law = betabinom(400, found["good"]["rank"], 201 - found["good"]["rank"])
    assert law.ppf(0.0005) <= rejected <= law.ppf(0.9995)
    assert found["expected_false_reject"] <= RATE


def test_each_camera_is_calibrated_by_itself(tmp_path: Path) -> None:
    line = calibrated_line(tmp_path)
    written, recipe = yaml.safe_load(line.read_text()), yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    written["cameras"].append({**written["cameras"][0], "camera_id": "cam1"})
    recipe["views"].append({**recipe["views"][0], "camera_id": "cam1"})
    line.write_text(yaml.safe_dump(written))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    good = write_parts(tmp_path / "good", 60, GOOD_MEAN, seed=1)
    assert lineside("calibrate", *asked(line, good)).returncode == 2
    done = lineside("calibrate", *asked(line, good, "--camera-id", "cam1"))
    assert done.returncode == 0, done.stderr
    assert "assumes   The promise is of camera cam1 alone: what the line's 2 cameras reject adds up." in done.stdout
    kept = CalibrationStore(tmp_path / "calibrations").current("stub", "cam1")
    assert kept is not None
    assert kept.threshold is not None
    checked = lineside("check", line).stdout
    assert "defective at 0.99 or more, seen by cam0" in checked
    assert f"defective at {kept.threshold.reject_at_score['defective']:g} or more, seen by cam1" in checked


def test_a_second_calibration_takes_the_first_ones_place(tmp_path: Path) -> None:
    good = write_parts(tmp_path / "good", 60, GOOD_MEAN, seed=1)
    line = calibrated_line(tmp_path)
    assert lineside("calibrate", *asked(line, good)).returncode == 0
    first = in_force(tmp_path)
    again = lineside("calibrate", *asked(line, good, "--json", "-"))
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["calibration_id"] == in_force(tmp_path).calibration_id
    second = in_force(tmp_path)
    assert first.threshold is not None
    assert second.threshold is not None
    assert second.threshold.reject_at_score == first.threshold.reject_at_score, "what is in force has no say in it"
    write_parts(good, 61, 200.0, seed=9)
    assert lineside("calibrate", *asked(line, good)).returncode == 0
    third = in_force(tmp_path)
    assert third.replaces == second.calibration_id
    assert third.threshold is not None
    assert third.threshold.reject_at_score["defective"] > second.threshold.reject_at_score["defective"]


def test_thresholds_of_another_model_are_not_used(tmp_path: Path) -> None:
    good = write_parts(tmp_path / "good", 60, GOOD_MEAN, seed=1)
    line = calibrated_line(tmp_path)
    assert lineside("calibrate", *asked(line, good)).returncode == 0
    write_nan_package(tmp_path / "model", only_when_bright=True)
    checked = lineside("check", line)
    assert checked.returncode == 2
    assert "threshold of camera cam0: got one found with the model " in checked.stderr
    assert lineside("calibrate", *asked(line, good)).returncode == 0
    assert lineside("check", line).returncode == 0


def copied(good: Path, defective: Path) -> None:
    (defective / "same.png").write_bytes((good / "000.png").read_bytes())


def bright_good(good: Path, defective: Path) -> None:
    for number in range(6):
        write_image(good / f"bright{number}.png", np.full((SIDE_PX, SIDE_PX), 250 - number, np.uint8))


@pytest.mark.parametrize(
    ("change", "rate", "words"),
    [
        (
            None,
            0.01,
            "too few good parts: got 80 good parts, expected 299 to promise 1 % with 95 % confidence. Add 219 good",
        ),
        (copied, RATE, "the same picture in two folders: got 1 ("),
        (bright_good, RATE, "too few good parts: got 86 good parts, 6 of which are rejected"),
        (None, 0.0, "wanted rate: got 0, expected more than 0"),
    ],
)
def test_parts_that_do_not_support_the_promise_change_nothing(
    tmp_path: Path, change: Any, rate: float, words: str
) -> None:
    good = write_parts(tmp_path / "good", 80, GOOD_MEAN, seed=1)
    defective = write_parts(tmp_path / "defective", 5, DEFECTIVE_MEAN, seed=2)
    if change is not None:
        change(good, defective)
    rules = [
        {"class": "defective", "reject_at_score": 0.9, "is_calibrated": True},
        {"class": "defective", "reject_at_score": 0.95, "min_width_px": 2.0},
    ]
    line = calibrated_line(tmp_path, rules=rules)
    options = asked(line, good, "--defective", defective, "--json", tmp_path / "no.json", rate=rate)
    done = lineside("calibrate", *options, "--report", tmp_path / "page")
    assert done.returncode == 1, done.stderr
    assert f"refused   {words}" in done.stdout
    assert "lineside: not calibrated: " in done.stderr
    assert not (tmp_path / "calibrations").exists()
    result = json.loads((tmp_path / "no.json").read_text())
    assert result["calibration_id"] is None
    assert result["thresholds"] == {}
    assert result["refusals"][0]["advice"]
    assert "No threshold" in (tmp_path / "page" / "index.html").read_text()


def test_one_folder_is_not_good_and_defective(tmp_path: Path) -> None:
    """Also where both have the same name."""
    good = write_parts(tmp_path / "good", 60, GOOD_MEAN, seed=1)
    line = calibrated_line(tmp_path)
    same = lineside("calibrate", *asked(line, good, "--defective", good))
    assert same.returncode == 1
    assert "the same picture in two folders: got 60 (" in same.stdout
    copy = tmp_path / "elsewhere" / "good"
    copy.mkdir(parents=True)
    (copy / "000.png").write_bytes((good / "000.png").read_bytes())
    copied = lineside("calibrate", *asked(line, good, "--defective", copy))
    assert copied.returncode == 1
    assert f"the same picture in two folders: got 1 ({copy / '000.png'} is {good / '000.png'})" in copied.stdout


def test_a_picture_that_the_model_was_fitted_on_is_refused(tmp_path: Path) -> None:
    good = write_parts(tmp_path / "good", 80, GOOD_MEAN, seed=1)
    line = calibrated_line(tmp_path)
    card_file = tmp_path / "model" / "model.yaml"
    card = yaml.safe_load(card_file.read_text())
    digest = hashlib.sha256((good / "003.png").read_bytes()).hexdigest()
    card_file.write_text(yaml.safe_dump({**card, "training": {"images": [{"name": "x.png", "sha256": digest}]}}))
    done = lineside("calibrate", *asked(line, good))
    assert done.returncode == 1
    assert "refused   pictures that the model was fitted on: got 1 (good/003.png)" in done.stdout
    (good / "003.png").unlink()
    done = lineside("calibrate", *asked(line, good))
    assert done.returncode == 0, done.stderr
    assert "None of the pictures is among the 1 that the model's package names" in done.stdout


def test_parts_without_a_judgement_are_told_and_count_as_rejected(tmp_path: Path) -> None:
    line = calibrated_line(tmp_path)
    write_nan_package(tmp_path / "model", only_when_bright=True)
    good = write_parts(tmp_path / "good", 100, GOOD_MEAN, seed=1)
    write_image(good / "bright.png", np.full((SIDE_PX, SIDE_PX), 240, np.uint8))
    done = lineside("calibrate", *asked(line, good, "--json", tmp_path / "found.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [part["picture"] for part in found["parts"] if part["outcome"] == "unjudged"] == ["good/bright.png"]
    assert "unjudged  good/bright.png: FAULT: " in done.stdout
    assert "1 good parts could not be judged (NO_DECISION) and count as rejected." in done.stdout
    section = in_force(tmp_path).threshold
    assert section is not None
    assert (section.good_count, section.unjudged_count) == (101, 1)
    assert section.rejected_count >= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rules": [{"class": "defective", "reject_at_score": 0.5}]}, "is_calibrated: true in each rule whose score"),
        ({"calibrations": None}, "calibrations: got none"),
        ({"good": "/nowhere"}, "/nowhere: got No such file or directory"),
        ({"size_px": 40}, "got 40x40 px, expected 32x32 px"),
        ({"as": ""}, "--as: "),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    good = write_parts(tmp_path / "good", 3, GOOD_MEAN, seed=1)
    if side_px := changes.get("size_px"):
        write_image(good / "large.png", np.zeros((side_px, side_px), np.uint8))
    others: dict[str, Any] = {"calibrations": None} if "calibrations" in changes else {}
    line = calibrated_line(tmp_path, rules=changes.get("rules"), **others)
    who = changes.get("as", "Anna")
    done = lineside("calibrate", "threshold", line, "--good", changes.get("good", good), "--as", who)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "calibrations").exists()


def write_showings(folder: Path, parts: int, times: int) -> Path:
    """Parts of levels from 60 on, 12 apart; each showing a little lighter or darker."""
    generator = np.random.default_rng(3)
    for part in range(parts):
        for number in range(times):
            level = 60 + 12 * part + generator.normal(0, 3)
            pixels = generator.normal(level, 10, (SIDE_PX, SIDE_PX))
            write_image(folder / f"part{part:02d}" / f"{number}.png", np.clip(pixels, 0, 255).astype(np.uint8))
    return folder


def study(line: Path, images: Path, *others: str | Path) -> list[str | Path]:
    return ["calibrate", "repeatability", line, "--images", images, "--as", "Anna", *others]


def test_repeats_of_parts_are_studied_and_kept(tmp_path: Path) -> None:
    images = write_showings(tmp_path / "shown", 12, 4)
    (images / "part00" / "copy.png").write_bytes((images / "part00" / "0.png").read_bytes())
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "part;label\n" + "".join(f"part{part:02d};{'defective' if part > 5 else 'good'}\n" for part in range(12))
    )
    line = calibrated_line(tmp_path, rules=[{"class": "defective", "reject_at_score": 0.5}])
    options: list[str | Path] = ["--labels", labels, "--report", tmp_path / "page", "--json", tmp_path / "found.json"]
    done = lineside(*study(line, images, *options))
    assert done.returncode == 0, done.stderr
    assert "parts     12, shown 48 times together" in done.stdout
    assert "copy      part00/copy.png is part00/0.png: NOT COUNTED" in done.stdout
    assert "size      no part has a defect that was measured twice" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    section = in_force(tmp_path).repeatability
    assert section is not None
    figures = section.figures
    # 3 levels and the mean of 1024 pixels' noise of 10.
    assert figures.score.repeatability == pytest.approx(3 / 255, rel=0.35)
    assert figures.score.repeatability_low < figures.score.repeatability < figures.score.repeatability_high
    assert figures.score.share == found["score"]["share"]
    assert (figures.parts_count, figures.shown_count, figures.labelled_count, figures.size) == (12, 48, 12, None)
    assert figures.kappa == found["kappa"]["value"]
    assert figures.kappa is not None
    assert figures.kappa > 0.6
    assert "Spread of the score" in (tmp_path / "page" / "index.html").read_text()


def test_sizes_of_defects_are_studied(tmp_path: Path) -> None:
    """Blobs in three places: the detector's boxes are 12 x 12 pixels, each showing of a part in its own place."""
    line = calibrated_line(tmp_path, rules=[{"class": "bright", "reject_at_score": 0.5}])
    write_blob_package(tmp_path / "model")
    for part in range(3):
        for number in range(3):
            pixels = np.full((SIDE_PX, SIDE_PX), 10 + number, np.uint8)
            pixels[4 * part : 4 * part + 8, 8:16] = 250
            write_image(tmp_path / "shown" / str(part) / f"{number}.png", pixels)
    done = lineside(*study(line, tmp_path / "shown", "--json", tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["size_unit"] == "px"
    assert found["size"]["values_count"] == 9
    assert {each["size"] for each in found["showings"]} == {6.0}, "12 of the model's pixels are 6 of the frame's"
    assert found["size"]["repeatability"] == 0.0
    assert found["kappa"] is None


@pytest.mark.parametrize(
    ("pictures", "labels", "status", "words"),
    [
        ({"a": ["0"], "b": ["1"]}, None, 1, "too few repeats: got 2 values of 2 parts"),
        ({"a": ["0", "0"], "b": ["1"]}, None, 1, "too few repeats"),
        (
            {"a": ["0", "1"], "b": ["0", "2"]},
            None,
            1,
            "b/0-0.png is ",
        ),
        ({}, None, 2, "no folder in it"),
        ({"a": ["0", "1"]}, "name,label\n", 2, "line 1: got 'name,label', expected part,label"),
        ({"a": ["0", "1"]}, "part,label\na,bad\n", 2, "line 2: got 'a,bad', expected a part and good or defective"),
        ({"a": ["0", "1"]}, "part,label\nb,good\n", 2, "line 2: got part 'b', expected a folder of pictures"),
        ({"a": ["0", "1"]}, "part,label\na,good\na,good\n", 2, "line 3: got part 'a' again"),
        ({"a": ["0", "1"], "b": ["2"]}, "part,label\na,good\n", 2, "got no label of part b"),
    ],
)
def test_studies_that_say_nothing_are_refused(
    tmp_path: Path, pictures: dict[str, list[str]], labels: str | None, status: int, words: str
) -> None:
    images = tmp_path / "shown"
    images.mkdir()
    for part, seeds in pictures.items():
        for number, seed in enumerate(seeds):
            pixels = np.random.default_rng(int(seed)).integers(0, 255, (SIDE_PX, SIDE_PX)).astype(np.uint8)
            write_image(images / part / f"{number}-{seed}.png", pixels)
    options: list[str | Path] = []
    if labels is not None:
        (tmp_path / "labels.csv").write_text(labels)
        options = ["--labels", tmp_path / "labels.csv"]
    done = lineside(*study(calibrated_line(tmp_path), images, *options))
    assert done.returncode == status, done.stdout + done.stderr
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "calibrations").exists()
