"""``scripts/calibrate.py``: from the first step to a line that judges, unattended and led in a terminal."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from pipeline.bench.example_station import HEIGHT_PX, WIDTH_PX, parts, write_example_station
from pipeline.calibration_file import CalibrationStore
from pipeline.image_reading import read_image
from tests.hand_camera import HandCamera
from tests.pseudo_terminal import PseudoTerminal
from tests.service import Service, lineside
from tests.tap import Tap
from vision.types import PixelFormat

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "calibrate.py"
ROOT = "test/line"
KINDS: list[dict[str, Any]] = [
    {"kind": "covered", "expected": "REJECT", "count": 3, "part_count": 3},
    {"kind": "good", "expected": "PASS", "count": 2, "part_count": 2},
]
TIMING: dict[str, Any] = {
    "belt_runs": "1000:0.5:1000 1000:0.5:1001",
    "gate_mm": 900.0,
    "gate_tolerance_mm": 1.0,
    "speed_max_mm_s": 300.0,
    "part_length_mm": 60.0,
    "pitch_mm": 120.0,
    "controller_us": 10_000.0,
    "trigger_jitter_us": 100.0,
    "share": 0.05,
}


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an example station, which no test changes."""
    folder = tmp_path_factory.mktemp("example") / "station"
    write_example_station(folder)
    return folder


@pytest.fixture
def camera(tmp_socket_dir: Path) -> Iterator[HandCamera]:
    with HandCamera(tmp_socket_dir, size_px=(WIDTH_PX, HEIGHT_PX)) as camera:
        yield camera


def line_of(folder: Path, station: Path, **changes: Any) -> Path:
    """The station's line with a record and calibrations of this test's own."""
    written = yaml.safe_load((station / "line.yaml").read_text())
    written["topic_root"] = ROOT
    written["recipe"] = str(station / "recipe.yaml")
    written["cameras"][0]["folder"] = str(station / "parts")
    file = folder / "line.yaml"
    file.write_text(yaml.safe_dump({**written, **changes}))
    return file


def pictures_of(folder: Path, station: Path, steps: Sequence[str] | None = None, **answers: Any) -> Path:
    """The station's pictures of these steps, or of all, with further answers."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for each in (station / "pictures").iterdir():
        if each.is_dir() and (steps is None or each.name in steps):
            (pictures / each.name).symlink_to(each)
    written = yaml.safe_load((station / "pictures" / "answers.yaml").read_text())
    (pictures / "answers.yaml").write_text(yaml.safe_dump({**written, **answers}))
    return pictures


def guided(line: Path, *options: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(line), "--as", "Anna", *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(guide: subprocess.Popen[str], words: str) -> str:
    """What it says up to the line with these words."""
    assert guide.stdout is not None
    said = ""
    while words not in said:
        line = guide.stdout.readline()
        if not line:
            _, errors = guide.communicate()
            raise AssertionError(f"never said {words!r}, but {said!r} and {errors!r}")
        said += line
    return said


def statuses(file: Path) -> dict[str, str]:
    return {step["step"]: step["status"] for step in json.loads(file.read_text())["steps"]}


def test_from_the_first_step_to_running_with_nobody_there(
    tmp_path: Path, station: Path, broker_port: int, camera: HandCamera
) -> None:
    line = line_of(
        tmp_path,
        station,
        mqtt={"port": broker_port},
        cameras=[camera.config],
        encoder={"reject_offset_pulses": 900},
        challenge=KINDS,
        challenge_valid_hours=8.0,
    )
    pictures = pictures_of(tmp_path, station, timing=TIMING)
    store = CalibrationStore(tmp_path / "calibrations")
    good, covered = list(parts(60, seed=21)), list(parts(3, seed=22, defective_each=1))
    options = ("--images", pictures, "--line-wait-s", "120", "--json", tmp_path / "out.json")
    with guided(line, *options) as guide, Tap(broker_port, ROOT) as tap:
        read_until(guide, "waiting for the line")
        with Service(line) as service:
            camera.wait_connected()
            challenge(camera, tap, [*covered, *good[:2]])
            read_until(guide, "measuring 59 parts")
            measured = 0
            while store.current("plate", "cam0").timing is None:  # type: ignore[union-attr]
                send(camera, tap, good[measured % len(good)])
                measured += 1
            said, errors = guide.communicate(timeout=60)
            assert guide.returncode == 0, errors
            service.stop()
        # What timing found makes no other verdicts: the challenge still counts.
        with Service(line) as service:
            camera.wait_connected()
            calibration = store.current("plate", "cam0")
            assert calibration is not None
            running = ("RUNNING", calibration.calibration_id)
            tap.wait_until(lambda: running in [(said["state"], said["calibration_id"]) for said in tap.bodies("state")])
            assert send(camera, tap, covered[0]) == ("REJECT", "DEFECT")
            assert send(camera, tap, good[2]) == ("PASS", "OK")
            service.stop()
    assert "timing         done" in said
    assert set(statuses(tmp_path / "out.json").values()) <= {"done", "in force"}
    assert calibration.threshold is not None or "threshold" not in statuses(tmp_path / "out.json")
    with guided(line, "--images", pictures, "--json", tmp_path / "again.json") as again:
        again.communicate(timeout=60)
    assert again.returncode == 0
    assert store.current("plate", "cam0") == calibration, "what is in force of these very pictures is left as it is"


def challenge(camera: HandCamera, tap: Tap, known: list[Any]) -> None:
    """What the operator is asked for."""
    tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "CHALLENGE")
    for picture in known:
        assert send(camera, tap, picture) == ("REJECT", "CHALLENGE")
    tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "RUNNING")


def send(camera: HandCamera, tap: Tap, picture: Any) -> tuple[str, str]:
    """A part, and what was said of it."""
    before = len(tap.bodies("verdict"))
    camera.picture(picture)
    tap.wait_until(lambda: len(tap.bodies("verdict")) > before)
    body = tap.bodies("verdict")[before]
    return body["verdict"], body["reason"]


def show(camera: HandCamera, folder: Path) -> None:
    """Puts what these pictures show before the camera, again and again, until no more are wanted."""
    camera.wait_connected()
    pictures = [read_image(file, PixelFormat.MONO8) for file in sorted(folder.iterdir())]
    with contextlib.suppress(OSError):  # the guide hangs up
        for picture in itertools.cycle(pictures):
            assert picture is not None
            camera.picture(picture)


def test_an_operator_is_led_in_a_terminal_stops_and_goes_on(tmp_path: Path, station: Path, camera: HandCamera) -> None:
    line, shown = line_of(tmp_path, station, cameras=[camera.config]), station / "pictures"
    given = yaml.safe_load((shown / "answers.yaml").read_text())
    taken = tmp_path / "taken"
    store = CalibrationStore(tmp_path / "calibrations")
    command: list[str | Path] = [sys.executable, SCRIPT, line, "--as", "Anna", "--pictures", taken]
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("1 of 8: board")
        terminal.wait_for("[d] do it, [s] skip it, [q] stop here")
        terminal.type("d")
        terminal.wait_for("squares across and down")
        terminal.type(given["board"]["squares"])
        terminal.wait_for("a square's side")
        terminal.type("twenty")
        terminal.wait_for("got 'twenty', expected")
        terminal.wait_for("a square's side")
        terminal.type(str(given["board"]["square_mm"]))
        terminal.wait_for("a page of A3, not A4 (yes or no) [no]")
        terminal.type("")
        terminal.wait_for("take squares of at most 22 mm, fewer squares or a larger page")
        terminal.wait_for("Nothing was changed.")
        terminal.type("d")
        for answer in ("", "", "yes"):
            terminal.wait_for("]: ")
            terminal.type(answer)
        terminal.wait_for("2 of 8: light")
        terminal.wait_for("(Enter: d)")
        terminal.type("s")
        terminal.wait_for("skipped: by Anna")
        terminal.wait_for("3 of 8: geometry")
        assert (taken / "board.svg").exists()
        terminal.wait_for("(Enter: d)")
        terminal.type("")
        for key, value in given["geometry"].items():
            terminal.wait_for("mm")
            terminal.wait_for(": ")
            assert key
            terminal.type(str(value))
        terminal.wait_for("Hold the board into every corner")
        show(camera, shown / "geometry" / "hand")
        terminal.wait_for("Lay the board flat on the belt")
        show(camera, shown / "geometry" / "belt")
        terminal.wait_for("calibration_id ")
        terminal.wait_for("4 of 8: flat-field")
        terminal.wait_for("(Enter: d)")
        terminal.type("")
        terminal.wait_for("Put the cap on the lens")
        camera.wait_connected()
        camera.part(90)
        terminal.wait_for("not dark, put the cap on the lens and the light out")
        camera.part(3)
        terminal.wait_for("typical level 3 of 255")
        terminal.interrupt()
        terminal.wait_for("stopped. What is done is kept")
        assert terminal.wait() == 130
    assert len(list((taken / "flat-field" / "dark").iterdir())) == 1
    calibration = store.current("plate", "cam0")
    assert calibration is not None
    assert calibration.geometry is not None
    assert calibration.flat_field is None
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("in force: by Anna")
        terminal.wait_for("4 of 8: flat-field")
        terminal.wait_for("(Enter: d)")
        terminal.type("d")
        terminal.wait_for("1 pictures are in")
        terminal.type("n")
        terminal.wait_for("Put the cap on the lens")
        show(camera, shown / "flat-field" / "dark")
        terminal.wait_for("a clean, plain, matt sheet")
        show(camera, shown / "flat-field" / "bright")
        terminal.wait_for("calibration_id ")
        terminal.wait_for("5 of 8: registration")
        terminal.wait_for("(Enter: d)")
        terminal.type("q")
        terminal.wait_for("not ready: registration")
        assert terminal.wait() == 1
    calibration = store.current("plate", "cam0")
    assert calibration is not None
    assert calibration.flat_field is not None
    unattended = line_of(tmp_path, station, cameras=[camera.config], calibrations="again")
    with guided(unattended, "--images", taken, "--json", tmp_path / "again.json") as again:
        again.communicate(timeout=60)
    assert again.returncode == 1
    assert statuses(tmp_path / "again.json") == {
        "board": "in force",
        "geometry": "done",
        "flat-field": "done",
        "light": "skipped",
        "registration": "not done",
        "threshold": "not done",
        "repeatability": "not done",
        "drift": "not done",
    }
    repeated = CalibrationStore(tmp_path / "again").current("plate", "cam0")
    assert repeated is not None
    assert calibration.geometry is not None
    assert repeated.geometry is not None
    assert repeated.flat_field is not None
    assert repeated.geometry.camera == calibration.geometry.camera
    assert repeated.flat_field.flat_field == calibration.flat_field.flat_field


SKIPPED = {
    name: {"by": "Bert", "at_utc": "2026-11-22T06:00:00Z"}
    for name in ("light", "flat-field", "threshold", "repeatability", "drift")
}


def test_a_step_that_is_repeated_makes_others_old_and_the_page_says_so(tmp_path: Path, station: Path) -> None:
    line = line_of(tmp_path, station)
    pictures = pictures_of(tmp_path, station, ("geometry", "registration"), skipped=SKIPPED)
    out = tmp_path / "out.json"
    first = tmp_path / "first"
    with guided(line, "--images", pictures, "--json", out, "--report", first) as guide:
        said, errors = guide.communicate(timeout=60)
    assert guide.returncode == 0, errors
    assert statuses(out) == {
        "board": "done",
        "light": "skipped",
        "geometry": "done",
        "flat-field": "skipped",
        "registration": "done",
        "threshold": "skipped",
        "repeatability": "skipped",
        "drift": "skipped",
    }
    assert "skipped: by Bert, 2026-11-22T06:00:00Z" in said
    store = CalibrationStore(tmp_path / "calibrations")
    before = store.current("plate", "cam0")
    assert before is not None
    page = (first / "index.html").read_text()
    assert before.calibration_id in page
    assert "To be found again." not in page
    (pictures / "registration").unlink()
    with guided(line, "--images", pictures, "--json", out, "--from", "geometry") as guide:
        said, errors = guide.communicate(timeout=60)
    assert guide.returncode == 1
    assert "not ready: registration" in errors
    assert statuses(out)["geometry"] == "done"
    assert statuses(out)["registration"] == "not done"
    now = store.current("plate", "cam0")
    assert now is not None
    assert now.replaces == before.calibration_id
    done = lineside("calibrate", "report", line, "--report", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "index.html").read_text()
    assert "To be found again." in page
    for calibration in (before, now):
        assert calibration.calibration_id in page
    assert "a place may be off by" in page
    assert page.count("data:image/") >= 2, "where the board was seen, and what the part is found by"


def answer(pictures: Path, **changes: Any) -> None:
    """Somebody writes into the answers' file."""
    file = pictures / "answers.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))


def guided_to_the_end(line: Path, pictures: Path, *options: str) -> tuple[int, str, dict[str, str]]:
    out = line.parent / "out.json"
    with guided(line, "--images", pictures, "--json", out, *options) as guide:
        said, errors = guide.communicate(timeout=100)
    return guide.returncode, said + errors, statuses(out)


def test_a_step_with_other_answers_is_done_again(tmp_path: Path, station: Path) -> None:
    line = line_of(tmp_path, station)
    skipped = {**SKIPPED, "registration": SKIPPED["light"]}
    pictures = pictures_of(tmp_path, station, ("geometry",), skipped=skipped)
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["geometry"]) == (0, "done"), said
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["board"], steps["geometry"]) == (0, "in force", "in force"), said
    before = CalibrationStore(tmp_path / "calibrations").current("plate", "cam0")
    answers = yaml.safe_load((pictures / "answers.yaml").read_text())
    answer(pictures, geometry={**answers["geometry"], "part_height_mm": 9.0})
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["board"], steps["geometry"]) == (0, "in force", "done"), said
    after = CalibrationStore(tmp_path / "calibrations").current("plate", "cam0")
    assert before is not None
    assert after is not None
    assert after.replaces == before.calibration_id
    # Begun again at the geometry, what comes before it stands; of another product's folder nothing is taken.
    status, said, steps = guided_to_the_end(line, pictures, "--from", "geometry")
    assert (status, steps["board"], steps["geometry"]) == (0, "in force", "done"), said
    answer(pictures, recipe_id="bracket")
    with guided(line, "--images", pictures) as guide:
        _, errors = guide.communicate(timeout=60)
    assert guide.returncode == 2
    assert "recipe_id: got bracket, expected plate, the line's product: another folder" in errors
    answer(pictures, recipe_id="plate")
    # Another board: a page of its own, the old one put aside, and the geometry does not hold for it.
    page = (pictures / "board.svg").read_bytes()
    answer(pictures, board={**answers["board"], "squares": "10x8"})
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["board"], steps["geometry"]) == (1, "done", "refused"), said
    assert (pictures / "board.svg").read_bytes() != page
    (aside,) = pictures.glob("before/*/board.svg")
    assert aside.read_bytes() == page


def test_a_threshold_of_another_model_is_found_again(tmp_path: Path, station: Path) -> None:
    own = tmp_path / "station"
    shutil.copytree(station / "model", own / "model")
    shutil.copyfile(station / "recipe.yaml", own / "recipe.yaml")
    line = line_of(tmp_path, station, recipe=str(own / "recipe.yaml"))
    others = ("geometry", "registration", "repeatability", "flat-field", "light", "drift")
    pictures = pictures_of(tmp_path, station, ("threshold",), skipped=dict.fromkeys(others, SKIPPED["light"]))
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["threshold"]) == (0, "done"), said
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["threshold"]) == (0, "in force"), said
    file, card = own / "model" / "model.onnx", own / "model" / "model.yaml"
    model = onnx.load(file)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    model.doc_string = "trained anew"
    onnx.save(model, file)
    card.write_text(card.read_text().replace(before, hashlib.sha256(file.read_bytes()).hexdigest()))
    assert lineside("check", line).returncode == 2
    status, said, steps = guided_to_the_end(line, pictures)
    assert (status, steps["threshold"]) == (0, "done"), said
    assert lineside("check", line).returncode == 0


def test_what_pictures_do_not_support_is_told_and_what_builds_on_it_is_left(tmp_path: Path, station: Path) -> None:
    line = line_of(tmp_path, station)
    pictures = pictures_of(tmp_path, station, ("registration",), skipped=SKIPPED)
    for name, count in (("hand", 3), ("belt", 3)):
        folder = pictures / "geometry" / name
        folder.mkdir(parents=True)
        for file in sorted((station / "pictures" / "geometry" / name).iterdir())[:count]:
            (folder / file.name).symlink_to(file)
    with guided(line, "--images", pictures, "--json", tmp_path / "out.json") as guide:
        _, errors = guide.communicate(timeout=60)
    assert guide.returncode == 1
    assert "not calibrated: too few pictures" in errors
    assert "not ready: geometry, registration" in errors
    told = {step["step"]: step["told"] for step in json.loads((tmp_path / "out.json").read_text())["steps"]}
    assert "too few pictures" in told["geometry"]
    assert told["registration"] == "it builds on geometry"
    assert not (tmp_path / "calibrations").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", "colour"), "--from: got colour, expected one of board, light, geometry"),
        (("--pictures", "there"), "--images and --pictures: give one of them"),
        (("--images", "nowhere"), "--images: got nowhere, expected a folder with answers.yaml"),
        ((), "geometry.across_mm: got 'wide', expected a valid number"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    tmp_path: Path, station: Path, options: tuple[str, ...], words: str
) -> None:
    line = line_of(tmp_path, station)
    pictures = pictures_of(tmp_path, station, (), geometry={"across_mm": "wide", "down_mm": 180.0})
    with guided(line, *(("--images", pictures) if "--images" not in options else ()), *options) as guide:
        _, errors = guide.communicate(timeout=60)
    assert guide.returncode == 2
    assert words in errors


def test_nobody_is_asked_where_there_is_no_terminal(tmp_path: Path, station: Path) -> None:
    command = [sys.executable, SCRIPT, line_of(tmp_path, station), "--as", "Anna"]
    done = subprocess.run(
        [*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--images: got none and no terminal to ask at" in done.stderr
