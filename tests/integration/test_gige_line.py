"""The whole service with GigE Vision cameras on a cable of their own: Debian's fake camera, and the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from pipeline.cameras.aravis_library import AravisMissing, library
from pipeline.simulator.broker import BrokerOptions, BrokerProcess
from pipeline.simulator.camera_cable import CAMERA_ADDRESS, CameraCable
from tests.camera_cable import OurCamera, camera_cable, debians_camera
from tests.chaos.books import check_record, read_rows
from tests.deeppcb import MISSING, deeppcb_folder
from tests.service import Service, lineside, write_line
from tests.tap import Tap

# A deadline that a box busy with the tests themselves keeps.
DEADLINE_US = 400_000
MODEL = Path(__file__).parents[2] / "configs" / "models" / "solar-cell"


@pytest.fixture(autouse=True)
def _needs_aravis() -> None:
    try:
        library()
    except AravisMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def cable() -> Iterator[CameraCable]:
    with camera_cable() as laid:
        yield laid


@pytest.fixture
def broker(cable: CameraCable) -> Iterator[BrokerProcess]:
    with cable.at_the_line(), BrokerProcess(BrokerOptions()) as started:
        yield started


def line_of(folder: Path, port: int, **changes: Any) -> Path:
    camera = {
        "camera_id": "cam0",
        "kind": "aravis",
        "address": CAMERA_ADDRESS,
        "width_px": 256,
        "height_px": 256,
        "pixel_format": "Mono8",
        "trigger": "free_running",
        "frame_rate_hz": 120.0,
        "packet_timeout_us": 10_000,
        "frame_retention_us": 60_000,
    }
    return write_line(folder, port, cameras=[camera | changes], timing={"deadline_us": DEADLINE_US})


def expect_each_part_once(service: Service, summary: dict[str, Any], tap: Tap) -> dict[str, int]:
    """Every trigger has one verdict, on record and told; how many of each reason."""
    rows = read_rows(service.line.parent / "records.db")
    check_record(rows)
    assert summary["parts_triggered"] == len(rows) == summary["passed"] + summary["rejected"] + summary["no_decision"]
    told = [body["part_id"] for body in tap.bodies("verdict")]
    assert len(told) == len(set(told))
    return summary["reasons"]  # type: ignore[no-any-return]


def test_debians_camera_through_the_whole_service(cable: CameraCable, broker: BrokerProcess, tmp_path: Path) -> None:
    line = line_of(tmp_path, broker.port)
    with debians_camera(cable), cable.at_the_line(), Tap(broker.port, "test/line") as tap, Service(line) as service:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 400)
        summary = service.stop()
    reasons = expect_each_part_once(service, summary, tap)
    judged = reasons.get("OK", 0) + reasons.get("DEFECT", 0)
    assert judged >= 350, reasons


def test_packets_lost_by_chance_are_sent_again_or_their_part_is_a_bad_frame(
    cable: CameraCable, broker: BrokerProcess, tmp_path: Path
) -> None:
    line = line_of(tmp_path, broker.port, packet_size_bytes=1_500, frame_rate_hz=60.0)
    with (
        OurCamera(cable, "--width", "256", "--height", "256") as camera,
        cable.at_the_line(),
        Tap(broker.port, "test/line") as tap,
        Service(line) as service,
    ):
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 100)
        cable.lose(500)
        tap.wait_count("verdict", 300)
        state = camera.tell("state")
        summary = service.stop()
    reasons = expect_each_part_once(service, summary, tap)
    assert cable.packets_lost > 0
    assert state["packets_resent"] > 0
    # What came in the end was judged; what did not was not.
    assert reasons.get("OK", 0) + reasons.get("DEFECT", 0) >= 350, reasons
    assert set(reasons) <= {"OK", "DEFECT", "BAD_FRAME", "MISSED_FRAME", "DEADLINE", "NOT_RUNNING"}


def test_without_resend_a_frame_with_a_lost_packet_is_never_judged(
    cable: CameraCable, broker: BrokerProcess, tmp_path: Path
) -> None:
    line = line_of(tmp_path, broker.port, frame_rate_hz=60.0)
    cable.lose(50)
    with debians_camera(cable), cable.at_the_line(), Tap(broker.port, "test/line") as tap, Service(line) as service:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 300)
        summary = service.stop()
    reasons = expect_each_part_once(service, summary, tap)
    assert reasons["BAD_FRAME"] > 10, reasons
    assert reasons.get("OK", 0) + reasons.get("DEFECT", 0) > 10, reasons


def test_real_pictures_are_judged_as_evaluate_judges_them(
    cable: CameraCable, broker: BrokerProcess, tmp_path: Path
) -> None:
    folder = deeppcb_folder()
    if folder is None:
        pytest.skip(MISSING)
    pictures = sorted(folder.glob("PCBData/group*/*/*_test.jpg"))[::70]
    seen, raw = tmp_path / "seen" / "good", tmp_path / "raw"
    seen.mkdir(parents=True)
    raw.mkdir()
    for number, file in enumerate(pictures):
        pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        assert cv2.imwrite(str(seen / f"{number:03d}.png"), pixels)
        (raw / f"{number:03d}").write_bytes(pixels.tobytes())
    line = line_of(tmp_path, broker.port, width_px=640, height_px=640, frame_rate_hz=20.0)
    recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    recipe["model"] = str(MODEL)
    recipe["views"][0]["regions"][0] |= {"width_px": 640, "height_px": 640}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    evaluated = lineside(
        *("evaluate", "--model", MODEL, "--data", tmp_path / "seen", "--layout", "folders"),
        *("--line", line, "--json", tmp_path / "evaluated.json"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    told = json.loads((tmp_path / "evaluated.json").read_text())["per_image"]
    by_number = {int(Path(each["image"]).stem): (each["verdict"], each["score"]) for each in told}
    sent = tmp_path / "sent.jsonl"
    with (
        OurCamera(cable, "--width", "640", "--height", "640", "--frame-log", str(sent), "--do", f"pictures {raw}"),
        cable.at_the_line(),
        Tap(broker.port, "test/line") as tap,
        Service(line) as service,
    ):
        service.wait_for("RUNNING")
        tap.wait_count("result", 2 * len(pictures))
        service.stop()
        results = [body for body in tap.bodies("result") if body["reason"] in ("OK", "DEFECT")]
    first = json.loads(sent.read_text().splitlines()[0])["number"]
    judged = {
        ((first + view["frame_id"]) % len(pictures), result["verdict"], view["score"])
        for result in results
        for view in result["views"]
    }
    assert judged == {(number, *said) for number, said in by_number.items()}
    assert len({score for _, _, score in judged}) > len(pictures) // 2, "the pictures differ"


def test_a_camera_that_is_killed_and_a_cable_that_is_cut_end_nothing(
    cable: CameraCable, broker: BrokerProcess, tmp_path: Path
) -> None:
    line = line_of(tmp_path, broker.port, frame_rate_hz=60.0)
    with (
        debians_camera(cable) as camera,
        cable.at_the_line(),
        Tap(broker.port, "test/line") as tap,
        Service(line) as service,
    ):
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 50)
        camera.switch_off()
        service.wait_for("ERROR")
        tap.wait_until(lambda: "cam0" in tap.bodies("alarm/camera-cam0")[-1]["text"])
        camera.switch_on()
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 50)
        cable.cut()
        service.wait_for("ERROR")
        cable.mend()
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 50)
        summary = service.stop()
    reasons = expect_each_part_once(service, summary, tap)
    assert reasons.get("OK", 0) + reasons.get("DEFECT", 0) >= 140, reasons
    assert len({row.session_id for row in read_rows(tmp_path / "records.db")}) == 1


def test_a_cable_that_is_down_at_the_start_is_told_and_waited_for(
    cable: CameraCable, broker: BrokerProcess, tmp_path: Path
) -> None:
    line = line_of(tmp_path, broker.port, frame_rate_hz=60.0)
    cable.cut()
    with debians_camera(cable), cable.at_the_line(), Tap(broker.port, "test/line") as tap, Service(line) as service:
        tap.wait_until(lambda: "is the cable plugged in" in tap.bodies("alarm/camera-cam0")[-1]["text"])
        cable.mend()
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 20)
        service.stop()
    assert "Traceback" not in service.errors
