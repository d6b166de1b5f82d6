"""The page of everything that is calibrated of a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.calibration_file import CalibrationStore, CameraCalibration, RegisteredSection, ThresholdSection, made_now
from pipeline.calibration_report.station import shown_of, station_page
from pipeline.calibration_store import NEW
from pipeline.config import load_line
from pipeline.line_inspector import frame_formats
from pipeline.report.page import render
from tests.service import write_line
from vision.registration import RegistrationSection, TemplateRegion


@pytest.fixture
def store(tmp_path: Path) -> CalibrationStore:
    """Of a line in ``tmp_path``: three calibrations of its camera, the last one by somebody with a hostile name."""
    write_line(tmp_path, 1, calibrations="calibrations")
    store = CalibrationStore(tmp_path / "calibrations")
    kept = CameraCalibration(calibration_id=NEW, recipe_id="stub", camera_id="cam0", width_px=32, height_px=32)
    for by, score in (("Anna", 0.5), ("Bert", 0.6)):
        threshold = ThresholdSection(
            made=made_now(by, [b"picture"]),
            reject_at_score={"defective": score},
            false_reject_max=0.01,
            confidence=0.95,
            good_count=299,
        )
        kept = store.keep(kept.model_copy(update={"threshold": threshold}))
    section = RegistrationSection(
        template=TemplateRegion(x_px=0, y_px=0, width_px=32, height_px=32),
        template_sha256="0" * 64,
        search_x_px=8,
        search_y_px=8,
        tolerance_x_px=2.0,
        tolerance_y_px=2.0,
        min_score=0.5,
        min_contrast=2.0,
        levels=0,
    )
    found = RegisteredSection(made=made_now("<script>x</script>", []), registration=section)
    store.keep(kept.model_copy(update={"registration": found, "outdated": ["threshold"]}))
    return store


def page_of(folder: Path, store: CalibrationStore) -> str:
    line = load_line(folder / "line.yaml")
    cameras = [shown_of(line, store, name, frames) for name, frames in frame_formats(line.config).items()]
    return render(station_page(line, store, cameras, None))


def test_all_that_ever_was_is_on_the_page(tmp_path: Path, store: CalibrationStore) -> None:
    page = page_of(tmp_path, store)
    for each in (tmp_path / "calibrations" / "stub" / "cam0").iterdir():
        assert each.stem == "in_force" or each.stem in page
    assert "Anna" in page
    assert "Bert" in page
    assert "<script>" not in page
    assert "defective is rejected from 0.6 on" in page
    assert "from 299 good parts" in page
    assert "To be found again." in page
    assert "The template cannot be read." in page


def test_what_was_taken_away_from_the_store_costs_no_page(tmp_path: Path, store: CalibrationStore) -> None:
    current = store.current("stub", "cam0")
    assert current is not None
    assert current.replaces is not None
    store.kept_path("stub", "cam0", current.replaces).unlink()
    page = page_of(tmp_path, store)
    assert current.calibration_id in page
    assert "Anna" not in page


def test_of_a_camera_without_a_calibration_it_says_so(tmp_path: Path) -> None:
    write_line(tmp_path, 1, calibrations="calibrations")
    assert "Nothing is calibrated of this camera yet." in page_of(tmp_path, CalibrationStore(tmp_path / "none"))
