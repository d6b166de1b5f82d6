"""``lineside calibrate``: what an operator does at changeover, by command, from rendered pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from calibration.board import Board
from pipeline.bench.board_setups import SetUp, random_setup
from pipeline.calibration_file import CalibrationStore
from tests.service import lineside

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


def options(setup: SetUp, pictures: Path, store: Path, **changes: Any) -> list[str | Path]:
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
        "store": store,
        "recipe-id": "housing",
        "camera-id": "cam0",
        "as": "Anna",
    }
    return [str(word) for key, value in {**given, **changes}.items() for word in (f"--{key}", value)]


def test_a_geometry_is_found_kept_and_replaced(tmp_path: Path, setup: SetUp, pictures: Path) -> None:
    store = tmp_path / "calibrations"
    done = lineside("calibrate", "geometry", *options(setup, pictures, store), "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    assert "hand/hand-01.png: " in done.stdout
    assert "anywhere" in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    kept = CalibrationStore(store).current("housing", "cam0")
    assert kept is not None
    assert kept.geometry is not None
    assert kept.calibration_id == found["calibration_id"]
    assert kept.geometry.made.by == "Anna"
    assert kept.geometry.made.pictures_count == len(list(pictures.rglob("*.png")))
    assert kept.geometry.worst_error_mm <= 0.002 * setup.field_mm
    assert found["quality"]["field_mm"][0] == pytest.approx(setup.field_mm, rel=0.2)
    again = lineside("calibrate", "geometry", *options(setup, pictures, store, **{"part-height-mm": 0.0}))
    assert again.returncode == 0, again.stderr
    assert [before.calibration_id for before in CalibrationStore(store).earlier("housing", "cam0")] == [
        kept.calibration_id
    ]


def test_pictures_that_do_not_support_one_change_nothing(tmp_path: Path, setup: SetUp, pictures: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted((pictures / "hand").iterdir())[:3]:
        (few / file.name).write_bytes(file.read_bytes())
    done = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path / "store", images=few))
    assert done.returncode == 1
    assert "refused " in done.stdout
    assert "not calibrated: " in done.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"squares": "eleven"}, "--squares: got 'eleven', expected two counts"),
        ({"squares": "2x2"}, "board: squares_x: got 2"),
        ({"across-mm": -1.0}, "square_x_mm: got"),
        ({"images": "/nowhere"}, "/nowhere: got No such file or directory, expected a folder of pictures"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    tmp_path: Path, setup: SetUp, pictures: Path, changes: dict[str, Any], words: str
) -> None:
    done = lineside("calibrate", "geometry", *options(setup, pictures, tmp_path / "store", **changes))
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "store").exists()


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
