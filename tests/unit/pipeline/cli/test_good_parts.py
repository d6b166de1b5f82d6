"""Good parts out of a recorded window."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml

from pipeline.calibrated_line import open_calibrated
from pipeline.cli.calibrate.good_parts import look_at, pictures_of_window
from pipeline.cli.calibrate.options import Station, station_of
from tests.windows import RecordedWindow, WindowLine, pictures, write_window_line
from vision.faults import FaultsError
from vision.frame_signals import SignalReader
from vision.package import load_package
from vision.recipe import Region


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> RecordedWindow:
    """Six parts, two of them while the line stood."""
    folder = tmp_path_factory.mktemp("window")
    line, rng = WindowLine(write_window_line(folder / "line"), folder / "window"), np.random.default_rng(5)
    for number, course in enumerate(("together", "not running", "together", "missed", "not running", "apart"), 1):
        line.run(pictures(number, rng), course)  # type: ignore[arg-type]
    return line.close()


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return station_of(write_window_line(tmp_path, calibrations="calibrations"), "top", "Anna")


def test_parts_of_a_window_are_looked_at_as_the_line_did(window: RecordedWindow, station: Station) -> None:
    line = station.line
    inspector, _ = open_calibrated(line, load_package(line.recipe.model))
    region = Region(name="r", x_px=10, y_px=10, width_px=40, height_px=30)
    reader = SignalReader("top", region, station.frame_format)
    parts = look_at(pictures_of_window(window.folder, station), station, inspector, reader)
    by_part = {result.part_id: result for result in window.results}
    assert [int(each.name.rpartition(" ")[2]) for each in parts.seen] == [1, 3, 4, 6]
    for each, part_id in zip(parts.seen, (1, 3, 4, 6), strict=True):
        recorded = [view.score for view in by_part[part_id].views if view.camera_id == "top"]
        assert each.score == pytest.approx(recorded[0], abs=1e-4)
        assert each.position is None
    assert len(set(parts.digests)) == 4
    values = parts.values(parts.tile_shares())
    assert list(values) == ["brightness", "evenness", "sharpness", "score"]
    assert not any(isnan(value) for each in values.values() for value in each)


def test_frames_of_another_format_are_refused(window: RecordedWindow, tmp_path: Path) -> None:
    line_file = write_window_line(tmp_path, calibrations="calibrations")
    written = yaml.safe_load(line_file.read_text())
    written["cameras"][0]["pixel_format"] = "BGR8"
    line_file.write_text(yaml.safe_dump(written))
    with pytest.raises(FaultsError, match="got frames of Mono8, expected BGR8"):
        next(pictures_of_window(window.folder, station_of(line_file, "top", "Anna")))


def test_what_is_no_window_ends_the_command(tmp_path: Path, station: Station) -> None:
    with pytest.raises(typer.Exit) as ended:
        next(pictures_of_window(tmp_path / "nowhere", station))
    assert ended.value.exit_code == 2
