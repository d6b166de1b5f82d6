"""What is said of a line that is not calibrated as its files ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.calibrated_line import calibration_warnings, judged_by
from pipeline.calibration_file import CalibrationStore, ThresholdSection, made_now
from pipeline.config import load_line
from tests.calibrated import CAMERA_ID, keep_calibration, part_seen, write_calibrated_line


@pytest.fixture
def line_file(tmp_path: Path) -> Path:
    """A line whose score for ``bright`` is calibrated."""
    line = write_calibrated_line(tmp_path, 1, [part_seen()])
    change(tmp_path, rules=[{"class": "bright", "reject_at_score": 0.8, "is_calibrated": True}])
    before = keep_calibration(tmp_path / "calibrations")
    section = ThresholdSection(
        made=made_now("Anna", []),
        reject_at_score={"bright": 0.7},
        false_reject_max=0.01,
        confidence=0.95,
        good_count=299,
        judged_by=judged_by(load_line(line), CAMERA_ID),
    )
    CalibrationStore(tmp_path / "calibrations").keep(before.model_copy(update={"threshold": section}))
    return line


def change(folder: Path, **recipe: Any) -> None:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **recipe}))


def test_a_calibrated_line_has_nothing_said_of_it(line_file: Path) -> None:
    line = load_line(line_file)
    assert [rule.reject_at_score for rule in line.recipe.rules] == [0.7]
    assert calibration_warnings(line) == []


def test_the_recipes_own_score_may_change(line_file: Path) -> None:
    change(
        line_file.parent,
        recipe_version="2",
        rules=[{"class": "bright", "reject_at_score": 0.9, "is_calibrated": True, "camera_id": CAMERA_ID}],
    )
    assert calibration_warnings(load_line(line_file)) == []


@pytest.mark.parametrize(
    "recipe",
    [
        {"rules": [{"class": "bright", "reject_at_score": 0.8, "is_calibrated": True, "min_area_px": 200.0}]},
        {"required": [{"class": "dark", "found_at_score": 0.5}]},
        {
            "views": [
                {
                    "camera_id": CAMERA_ID,
                    "regions": [{"name": "right", "x_px": 140, "y_px": 140, "width_px": 64, "height_px": 64}],
                }
            ]
        },
    ],
)
def test_other_regions_or_rules_ask_for_the_threshold_again(line_file: Path, recipe: dict[str, Any]) -> None:
    change(line_file.parent, **recipe)
    (told,) = calibration_warnings(load_line(line_file))
    assert told == "camera cam0: threshold to be calibrated again, as the recipe's regions or rules are others since"


def test_a_score_that_is_to_be_calibrated_and_is_not_is_told(line_file: Path) -> None:
    change(
        line_file.parent,
        rules=[
            {"class": "bright", "reject_at_score": 0.8, "is_calibrated": True},
            {"class": "dark", "reject_at_score": 0.9, "is_calibrated": True},
        ],
    )
    told = calibration_warnings(load_line(line_file))
    words = "camera cam0: the score that rejects dark is not calibrated: reject_at_score 0.9 of the recipe holds"
    assert words in told


def test_a_camera_without_any_calibration_is_told(line_file: Path) -> None:
    (line_file.parent / "calibrations").rename(line_file.parent / "elsewhere")
    told = calibration_warnings(load_line(line_file))
    assert len(told) == 2
    assert told[0].startswith("camera cam0: not calibrated, as there is nothing of it for stub in ")
