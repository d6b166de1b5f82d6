"""A running line whose camera is calibrated: what it judges, what it tells, and that a window of it runs again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from pipeline.calibration_file import CalibrationStore
from tests.calibrated import (
    CAMERA_ID,
    GEOMETRY,
    RECIPE_ID,
    SPOT_PX,
    keep_calibration,
    part_seen,
    write_calibrated_line,
)
from tests.service import Service, lineside, workers_of
from tests.tap import Tap
from tests.waiting import wait_until_recorded
from vision.camera_geometry import mm_from_undistorted

ROOT = "test/line"
SHIFT_PX = (7, -5)
FRAMES = [
    part_seen(),
    part_seen(spot=True),
    part_seen(shift_px=SHIFT_PX),
    part_seen(spot=True, shift_px=SHIFT_PX),
    part_seen(shift_px=(25, 0)),
]


def truth(shift_px: tuple[int, int]) -> tuple[list[float], list[float], float]:
    """Box in pixels, box in mm and area of the spot, as the model boxes it."""
    x, y = SPOT_PX[0] + shift_px[0], SPOT_PX[1] + shift_px[1]
    box = [x - 2.0, y - 2.0, x + 10.0, y + 10.0]
    corners = mm_from_undistorted(GEOMETRY, [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]])
    area_mm2 = float(cv2.contourArea(corners.astype(np.float32)))
    return box, [*corners.min(0), *corners.max(0)], area_mm2


def wanted(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One of each picture, in their order: shown in turn from the first part on."""
    by_picture = {result["part_id"] % len(FRAMES): result for result in results}
    return [by_picture[number % len(FRAMES)] for number in range(1, len(FRAMES) + 1)]


def test_a_calibrated_line_judges_what_is_there_and_says_where(tmp_path: Path, broker_port: int) -> None:
    line = write_calibrated_line(
        tmp_path,
        broker_port,
        FRAMES,
        images={"path": "kept", "free_min_gib": 0.0, "memory_mib": 64},
        recording={"path": "windows", "free_min_gib": 0.0},
    )
    kept = keep_calibration(tmp_path / "calibrations")
    with Service(line, "--record-s", "60") as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        wait_until_recorded(tmp_path / "windows")
        tap.wait_count("result", 3 * len(FRAMES))
        service.stop()
        results = [body for body in tap.bodies("result") if body["reason"] != "NOT_RUNNING"]
        states = [body for body in tap.bodies("state") if body["state"] == "RUNNING"]
    assert {body["calibration_id"] for body in (*results, *states)} == {kept.calibration_id}
    good, bad, moved_good, moved_bad, away = wanted(results)
    for result in (good, moved_good):
        assert (result["verdict"], result["reason"], result["defects"]) == ("PASS", "OK", [])
    for result, shift_px in ((bad, (0, 0)), (moved_bad, SHIFT_PX)):
        assert (result["verdict"], result["reason"]) == ("REJECT", "DEFECT")
        (defect,) = result["defects"]
        box_px, box_mm, area_mm2 = truth(shift_px)
        assert defect["box_px"] == pytest.approx(box_px, abs=0.01)
        assert defect["box_mm"] == pytest.approx(box_mm, abs=0.1)
        assert defect["area_mm2"] == pytest.approx(area_mm2, rel=0.01)
    assert (away["verdict"], away["reason"]) == ("NO_DECISION", "BAD_FRAME")
    seen = tmp_path / "seen" / "good"
    seen.mkdir(parents=True)
    for number, frame in enumerate(FRAMES):
        assert cv2.imwrite(str(seen / f"{number}.png"), frame)
    evaluated = lineside(
        *("evaluate", "--model", tmp_path / "spots", "--data", tmp_path / "seen", "--layout", "folders"),
        *("--line", line, "--json", tmp_path / "evaluated.json"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    told = json.loads((tmp_path / "evaluated.json").read_text())
    assert told["calibration_id"] == kept.calibration_id
    (kind,) = told["kinds"]
    assert (kind["passed"], kind["rejected"], kind["no_decision"]) == (2, 2, 1)
    (window,) = (tmp_path / "windows").iterdir()
    # With what it holds itself: the station's own is gone, and so is the camera's.
    (tmp_path / "calibrations").rename(tmp_path / "elsewhere")
    replayed = lineside("replay", window, "--json", tmp_path / "replay.json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    figures = json.loads((tmp_path / "replay.json").read_text())
    assert figures["must_be_identical"]
    assert figures["identical"] == figures["compared"] >= 2 * len(FRAMES)
    assert kept.registration is not None
    template = CalibrationStore(window / "calibrations").file_path(kept.registration.registration.template_sha256)
    template.unlink()
    broken = lineside("replay", window)
    assert broken.returncode == 2
    assert f"{template}: got no such file" in broken.stderr


def test_another_calibration_is_the_next_starts(tmp_path: Path, broker_port: int) -> None:
    line = write_calibrated_line(tmp_path, broker_port, FRAMES)
    first = keep_calibration(tmp_path / "calibrations")
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        store = CalibrationStore(tmp_path / "calibrations")
        second = store.keep(first.model_copy(update={"registration": None, "outdated": ["threshold"]}))
        tap.wait_count("result", 2 * len(FRAMES))
        service.stop()
        assert {body["calibration_id"] for body in tap.bodies("result")} == {first.calibration_id}
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_until(lambda: any(body["calibration_id"] == second.calibration_id for body in tap.bodies("result")))
        tap.wait_until(lambda: bool(tap.bodies("alarm/calibration")))
        assert "camera cam0: threshold to be calibrated again" in tap.bodies("alarm/calibration")[0]["text"]
        service.stop()


def test_a_calibration_that_is_lost_while_the_line_runs_is_named(tmp_path: Path, broker_port: int) -> None:
    line = write_calibrated_line(tmp_path, broker_port, FRAMES)
    calibration = keep_calibration(tmp_path / "calibrations")
    kept = CalibrationStore(tmp_path / "calibrations").kept_path(RECIPE_ID, CAMERA_ID, calibration.calibration_id)
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        away = kept.rename(tmp_path / "away.yaml")
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: any(str(kept) in body["text"] for body in tap.bodies("alarm/worker")))
        away.rename(kept)
        service.wait_for("RUNNING")
        service.stop()
    assert {body["calibration_id"] for body in tap.bodies("result")} == {calibration.calibration_id}


def spoilt(name: str, folder: Path) -> None:
    store = CalibrationStore(folder)
    path = store.path(RECIPE_ID, CAMERA_ID)
    if name == "by hand":
        path.write_text(path.read_text().replace("by: Anna", "by: Otto"))
    elif name == "in force":
        path.unlink()
    elif name == "the kept one":
        current = store.current(RECIPE_ID, CAMERA_ID)
        assert current is not None
        store.kept_path(RECIPE_ID, CAMERA_ID, current.calibration_id).unlink()
    else:
        for file in (folder / "files").iterdir():
            file.write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("by hand", "it was changed by hand, or on disk"),
        ("in force", "in_force.yaml: got no such file, expected the one of the 1 beside it"),
        ("the kept one", "got no such file, expected the calibration"),
        ("files", "calibrate again"),
    ],
)
def test_a_calibration_that_cannot_be_used_is_told_and_nothing_runs(tmp_path: Path, name: str, words: str) -> None:
    line = write_calibrated_line(tmp_path, 1, FRAMES)
    keep_calibration(tmp_path / "calibrations")
    checked = lineside("check", line)
    assert checked.returncode == 0
    assert ": geometry, flat field, registration\n" in checked.stdout
    spoilt(name, tmp_path / "calibrations")
    for command in ("check", "run"):
        done = lineside(command, line)
        assert done.returncode == 2, (command, done.stdout, done.stderr)
        assert words in done.stderr
        assert str(tmp_path / "calibrations") in done.stderr
        assert "Traceback" not in done.stderr


def test_a_camera_of_another_size_is_told(tmp_path: Path) -> None:
    line = write_calibrated_line(tmp_path, 1, FRAMES)
    keep_calibration(tmp_path / "calibrations")
    written = yaml.safe_load(line.read_text())
    written["cameras"][0]["width_px"] = 400
    line.write_text(yaml.safe_dump(written))
    done = lineside("check", line)
    assert done.returncode == 2
    assert "cameras.0.width_px: got 400x300 px, expected 360x300, as in " in done.stderr


def test_a_camera_that_was_never_calibrated_is_said_to_be(tmp_path: Path) -> None:
    line = write_calibrated_line(tmp_path, 1, FRAMES)
    done = lineside("check", line)
    assert done.returncode == 0, done.stderr
    assert ", calibration NONE" in done.stdout
    assert "NOT AS CALIBRATED: camera cam0: not calibrated, as there is nothing of it for stub in " in done.stdout
    assert not (tmp_path / "calibrations").exists()
