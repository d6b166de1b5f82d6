"""``lineside calibrate``: what an operator does at changeover, by command, from rendered pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from calibration.board import Board
from pipeline.bench.board_setups import SetUp, random_setup
from pipeline.calibration_file import CalibrationStore
from tests.service import lineside, write_line

SEED = 3


@pytest.fixture(scope="module")
def setup() -> SetUp:
    return random_setup(SEED)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, setup: SetUp) -> Path:
    """``hand`` and ``belt``, as somebody took them."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, is_on_belt, picture in setup.pictures():
        place = folder / ("belt" if is_on_belt else "hand")
        place.mkdir(exist_ok=True)
        assert cv2.imwrite(str(place / f"{name}.png"), picture)
    return folder


def written_line(folder: Path, setup: SetUp) -> Path:
    """Whose camera delivers pictures of the set-up's size; its calibrations are in ``calibrations``."""
    line = write_line(folder, 1, calibrations="calibrations")
    written = yaml.safe_load(line.read_text())
    lens = setup.lens
    written["cameras"][0] |= {"width_px": lens.width_px, "height_px": lens.height_px}
    line.write_text(yaml.safe_dump(written))
    return line


def options(setup: SetUp, pictures: Path, folder: Path, **changes: Any) -> list[str | Path]:
    board, measured = setup.board, setup.measured
    given = {
        "images": pictures / "hand",
        "belt": pictures / "belt",
        "across-mm": measured.square_x_mm * board.squares_x,
        "down-mm": measured.square_y_mm * board.squares_y,
        "squares": f"{board.squares_x}x{board.squares_y}",
        "square-mm": board.square_mm,
        "marker-mm": board.marker_mm,
        "thickness-mm": measured.thickness_mm,
        "part-height-mm": setup.part.height_mm,
        "part-tolerance-mm": setup.part.uncertainty_mm,
        "reading-mm": 0.1,
        "as": "Anna",
    }
    line = written_line(folder, setup)
    return [str(line), *(str(word) for key, value in {**given, **changes}.items() for word in (f"--{key}", value))]


def test_a_geometry_is_found_kept_and_replaced(tmp_path: Path, setup: SetUp, pictures: Path) -> None:
    store = CalibrationStore(tmp_path / "calibrations")
    done = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path), "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    assert "hand/hand-01.png: " in done.stdout
    assert "anywhere" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    kept = store.current("stub", "cam0")
    assert kept is not None
    assert kept.geometry is not None
    assert kept.calibration_id == found["calibration_id"]
    assert kept.geometry.made.by == "Anna"
    assert kept.geometry.made.pictures_count == len(list(pictures.rglob("*.png")))
    assert kept.geometry.worst_error_mm <= 0.002 * setup.field_mm
    assert found["quality"]["field_mm"][0] == pytest.approx(setup.field_mm, rel=0.2)
    again = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path, **{"part-height-mm": 0.0}))
    assert again.returncode == 0, again.stderr
    replaced = store.current("stub", "cam0")
    assert replaced is not None
    assert replaced.replaces == kept.calibration_id
    assert store.kept("stub", "cam0", kept.calibration_id) == kept
    checked = lineside("check", tmp_path / "line.yaml")
    assert replaced.calibration_id in checked.stdout


def test_pictures_that_do_not_support_one_change_nothing(tmp_path: Path, setup: SetUp, pictures: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted((pictures / "hand").iterdir())[:3]:
        (few / file.name).write_bytes(file.read_bytes())
    done = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path, images=few))
    assert done.returncode == 1
    assert "refused " in done.stdout
    assert "not calibrated: " in done.stderr
    assert not (tmp_path / "calibrations").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"squares": "eleven"}, "--squares: got 'eleven', expected two counts"),
        ({"squares": "2x2"}, "board: squares_x: got 2"),
        ({"across-mm": -1.0}, "square_x_mm: got"),
        ({"camera-id": "cam7"}, "--camera-id: got cam7, expected one of the line's cameras: cam0"),
        ({"as": ""}, "--as: "),
        ({"images": "/nowhere"}, "/nowhere: got No such file or directory, expected a folder of pictures"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    tmp_path: Path, setup: SetUp, pictures: Path, changes: dict[str, Any], words: str
) -> None:
    done = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path, **changes))
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "calibrations").exists()


def test_a_board_is_a_page_in_true_millimetres(tmp_path: Path) -> None:
    file = tmp_path / "board.svg"
    done = lineside("calibrate", "board", file)
    assert done.returncode == 0, done.stderr
    assert Board().described() in done.stdout
    assert 'width="297mm" height="210mm"' in file.read_text()
    before = file.read_bytes()
    assert lineside("calibrate", "board", file).returncode == 2
    assert file.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["board.svg"]
    too_large = lineside("calibrate", "board", tmp_path / "large.svg", "--square-mm", "40")
    assert too_large.returncode == 2
    assert "expected at most" in too_large.stderr
