"""Drift in the running service: calibrated by command, told over MQTT with what moved, and over when it is over."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from pipeline.calibration_file import CalibrationStore
from pipeline.drift_file import DriftFile
from tests.drifting import REGION, SIZE_PX, Station, keep_registration, write_frames, write_plate_line
from tests.hand_camera import HandCamera
from tests.operator_terminal import Operator
from tests.service import Service, lineside, workers_of
from tests.tap import Tap
from tests.waiting import wait_until

ROOT = "test/line"
GOOD_PARTS = 400
ALARM_PARTS = 200
"""So many at most until a change as large as these is told; it takes two or three blocks of about a dozen parts."""
WELL_PARTS = 600
"""So many at most until an alarm is taken back: twice the limit has to be gone down."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_frames(tmp_path_factory.mktemp("drift") / "good", Station(), range(GOOD_PARTS))


def calibrate(line: Path, *options: str | Path) -> Any:
    return lineside("calibrate", "drift", line, "--as", "Anna", *options)


class Plates:
    """Parts, one after the other, each after the verdict on the one before."""

    def __init__(self, camera: HandCamera, tap: Tap) -> None:
        self._camera = camera
        self._tap = tap
        self._next = 10_000

    def pass_by(self, station: Station, count: int) -> list[str]:
        """Their reasons."""
        first = len(self._tap.bodies("verdict"))
        for _ in range(count):
            self._one(station)
        return [body["reason"] for body in self._tap.bodies("verdict")[first:]]

    def until_alarm(self, station: Station, *words: str) -> str:
        """The text of the alarm, once it has these words."""
        for _ in range(ALARM_PARTS):
            if all(word in (text := told(self._tap)) for word in words):
                return text
            self._one(station)
        raise AssertionError(f"no alarm {words} after {ALARM_PARTS} parts, but {told(self._tap)!r}")

    def _one(self, station: Station) -> None:
        before = len(self._tap.bodies("verdict"))
        self._camera.picture(station.frame(self._next))
        self._next += 1
        self._tap.wait_until(lambda: len(self._tap.bodies("verdict")) > before)


def told(tap: Tap) -> str:
    """What the alarm says now, empty where there is none."""
    said = tap.bodies("alarm/drift")
    return said[-1]["text"] if said and said[-1] is not None else ""


def wait_for_state(tap: Tap, state: str) -> None:
    tap.wait_until(lambda: bool(tap.bodies("state")) and tap.bodies("state")[-1]["state"] == state)


@pytest.fixture
def camera(tmp_socket_dir: Path) -> Iterable[HandCamera]:
    with HandCamera(tmp_socket_dir, size_px=SIZE_PX) as camera:
        yield camera


@pytest.fixture
def line(tmp_path: Path, broker_port: int, camera: HandCamera) -> Path:
    return write_plate_line(tmp_path, broker_port, cameras=[camera.config])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, good: Path) -> Path:
    """The store of a line that was calibrated by command."""
    folder = tmp_path_factory.mktemp("calibrated")
    line = write_plate_line(folder, 1)
    done = calibrate(line, "--images", good, "--region", REGION, "--false-alarm-rate", "0.05")
    assert done.returncode == 0, done.stderr
    return folder / "calibrations"


@pytest.fixture
def watched(line: Path, tmp_path: Path, calibrated: Path) -> Path:
    shutil.rmtree(tmp_path / "calibrations")
    shutil.copytree(calibrated, tmp_path / "calibrations")
    return line


def test_what_moves_is_told_by_name_and_over_when_it_is_over(
    watched: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    with Service(watched) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "RUNNING")
        plates = Plates(camera, tap)
        assert set(plates.pass_by(Station(), 60)) == {"OK"}
        assert tap.bodies("alarm/drift") == []

        light = plates.until_alarm(Station(light=0.9), "brightness")
        assert light.startswith("camera cam0: The light is not what it was")
        assert "(-10%)" in light

        # Another process goes on where the one before has stopped: begun anew, it would know of nothing yet.
        wait_until(lambda: "cam0" in DriftFile(tmp_path / "records.db").read())
        heard = len(tap.bodies("alarm/drift"))
        workers_of(service.process.pid)["records"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: len(tap.bodies("alarm/drift")) > heard and "The light is not" in told(tap))

        # So it does where inspection is killed.
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "ERROR")
        wait_for_state(tap, "RUNNING")
        assert "The light" in told(tap)
        for _ in range(WELL_PARTS // 20):
            plates.pass_by(Station(), 20)
            if not told(tap):
                break
        tap.wait_until(lambda: tap.bodies("alarm/drift")[-1] is None)

        position = plates.until_alarm(Station(shift_px=10.0), "position_x")
        assert position.startswith("camera cam0: The parts lie elsewhere in the picture")
        assert "position_y" not in position
        service.stop()
    # And where the service is: a new shift goes on with the state of the last one.
    with Service(watched) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        tap.wait_until(lambda: "The parts lie elsewhere" in told(tap))
        service.stop()


@pytest.mark.parametrize(
    ("station", "signal_name", "words"),
    [
        (Station(blur_px=1.0), "sharpness", "The picture is not as sharp as it was: look at the focus"),
        (Station(light=0.02), "brightness", "The light is gone: look at the strobe"),
        (Station(light=0.85, blur_px=1.5), "sharpness", "The window or the lens looks dirty or misted: clean it"),
    ],
)
def test_the_cause_is_named(
    watched: Path, broker_port: int, camera: HandCamera, station: Station, signal_name: str, words: str
) -> None:
    """With a dead strobe no part is found, and it is told all the same: the frames are there."""
    with Service(watched) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "RUNNING")
        plates = Plates(camera, tap)
        plates.pass_by(Station(), 30)
        assert tap.bodies("alarm/drift") == []
        plates.until_alarm(station, signal_name, words)
        service.stop()


def test_known_parts_and_those_of_a_line_that_waits_do_not_count(
    watched: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    """Of the known parts the bright one is to be rejected; the dark ones would raise the alarm, did they count."""
    written = yaml.safe_load(watched.read_text())
    written["challenge"] = [
        {"kind": "bright", "expected": "REJECT", "count": 1},
        {"kind": "good", "expected": "PASS", "count": 59},
    ]
    written["challenge_valid_hours"] = 8.0
    watched.write_text(yaml.safe_dump(written))
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    recipe["rules"][0]["reject_at_score"] = 0.62
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    dark = Station(light=0.8)
    with (
        Service(watched) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        camera.wait_connected()
        wait_for_state(tap, "READY")
        plates = Plates(camera, tap)
        assert set(plates.pass_by(dark, 60)) == {"NOT_RUNNING"}
        assert operator.ask("start_challenge")["ok"]
        wait_for_state(tap, "CHALLENGE")
        assert set(plates.pass_by(Station(light=1.15), 1) + plates.pass_by(dark, 59)) == {"CHALLENGE"}
        wait_for_state(tap, "RUNNING")
        plates.pass_by(Station(), 5)
        assert tap.bodies("alarm/drift") == []
        plates.until_alarm(dark, "brightness")
        service.stop()


def test_a_baseline_of_another_registration_is_not_watched_and_that_is_said(
    watched: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    keep_registration(tmp_path / "calibrations", min_score=0.5)
    with Service(watched) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "RUNNING")
        tap.wait_until(lambda: "drift is not watched" in told(tap))
        assert "run lineside calibrate drift" in told(tap)
        Plates(camera, tap).pass_by(Station(light=0.8), 60)
        assert len(tap.bodies("alarm/drift")) == 1
        service.stop()


def test_without_a_baseline_nothing_is_watched(
    line: Path, tmp_path: Path, broker_port: int, camera: HandCamera
) -> None:
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        camera.wait_connected()
        wait_for_state(tap, "RUNNING")
        Plates(camera, tap).pass_by(Station(light=0.5), 60)
        assert tap.bodies("alarm/drift") == []
        service.stop()
    assert not (tmp_path / "records.db.drift").exists()


# --- the command -----------------------------------------------------------------------------------------------


def test_what_is_usual_is_kept_with_who_found_it(line: Path, tmp_path: Path, good: Path) -> None:
    store = CalibrationStore(tmp_path / "calibrations")
    before = store.current("stub", "cam0")
    assert before is not None
    done = calibrate(line, "--images", good, "--region", REGION, "--json", tmp_path / "o.json", "--shift-parts", "5000")
    assert done.returncode == 0, done.stderr
    kept = store.current("stub", "cam0")
    assert kept is not None
    assert kept.drift is not None
    assert kept.registration == before.registration
    assert (kept.replaces, kept.drift.made.by) == (before.calibration_id, "Anna")
    assert kept.drift.made.pictures_count == GOOD_PARTS
    result = json.loads((tmp_path / "o.json").read_text())
    assert result["calibration_id"] == kept.calibration_id
    assert result["baseline"]["shift_parts"] == 5_000
    assert [each["signal"] for each in result["baseline"]["signals"]] == [
        "brightness",
        "evenness",
        "sharpness",
        "position_x",
        "position_y",
        "score",
    ]
    # The region in force is used again where none is given.
    again = calibrate(line, "--images", good, "--false-alarm-rate", "0.05", "--report", tmp_path / "report")
    assert again.returncode == 0, again.stderr
    kept_again = store.current("stub", "cam0")
    assert kept_again is not None
    assert kept_again.drift is not None
    assert kept_again.drift.baseline.region == kept.drift.baseline.region
    page = (tmp_path / "report" / "index.html").read_text()
    assert kept_again.calibration_id in page
    assert "reference region" in page


@pytest.mark.parametrize(
    ("station", "count", "options", "reason"),
    [
        (Station(), 150, {}, "too few parts for a baseline"),
        (Station(shift_px=36.0), 60, {}, "too many parts not found or not judged"),
        (Station(light=0.1), 60, {}, "a reference region too dark"),
    ],
)
def test_parts_that_support_none_change_nothing(
    line: Path, tmp_path: Path, station: Station, count: int, options: dict[str, str], reason: str
) -> None:
    before = CalibrationStore(tmp_path / "calibrations").current("stub", "cam0")
    frames = write_frames(tmp_path / "few", station, range(count))
    done = calibrate(line, "--images", frames, "--region", REGION, "--report", tmp_path / "report")
    assert done.returncode == 1
    assert f"refused   {reason}" in done.stdout
    assert "not calibrated: " in done.stderr
    assert CalibrationStore(tmp_path / "calibrations").current("stub", "cam0") == before
    assert "nothing was changed" in (tmp_path / "report" / "index.html").read_text()


def test_parts_that_are_rejected_are_not_what_is_usual(line: Path, tmp_path: Path, good: Path) -> None:
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    recipe["rules"][0]["reject_at_score"] = 0.3
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = calibrate(line, "--images", good, "--region", REGION)
    assert done.returncode == 1
    assert f"too many parts rejected: got {GOOD_PARTS} of {GOOD_PARTS}" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--region", REGION], "--images, --window: got neither"),
        (["--images", "GOOD"], "--region: got none, expected X,Y,W,H"),
        (["--images", "GOOD", "--region", "1,2,3"], "--region: got '1,2,3', expected X,Y,W,H"),
        (
            ["--images", "GOOD", "--region", "300,8,64,32"],
            "--region: camera cam0, region reference: got x from 300 to 364",
        ),
        (["--images", "GOOD", "--region", "8,8,0,32"], "--region: width_px: got 0"),
        (["--images", "/nowhere", "--region", REGION], "/nowhere: got No such file or directory"),
        (["--window", "/nowhere", "--region", REGION], "window /nowhere: got no folder"),
        (["--images", "GOOD", "--region", REGION, "--camera-id", "cam7"], "--camera-id: got cam7"),
    ],
)
def test_what_cannot_be_is_told(line: Path, good: Path, options: list[str], words: str) -> None:
    done = calibrate(line, *(str(good) if each == "GOOD" else each for each in options))
    assert done.returncode == 2
    assert words in done.stderr


def test_copies_are_not_parts(line: Path, tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "copies", Station(), range(3))
    assert cv2.imwrite(str(frames / "again.png"), Station().frame(1))
    done = calibrate(line, "--images", frames, "--region", REGION)
    assert done.returncode == 2
    assert "again.png: got the same picture as" in done.stderr
