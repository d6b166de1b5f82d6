"""Triggers that the line controller tells, with cameras on the real protocol and pylon's emulator: through the whole service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.camera_config import AravisCamera, PylonCamera
from pipeline.cameras import missing
from tests.chaos.books import check_record, read_rows
from tests.gige_vision.camera import GigEVisionCamera
from tests.gige_vision.loopback import loopback_address
from tests.noticed import TriggerTeller
from tests.pylon_emulator import PylonEmulator
from tests.service import Service, write_images, write_line
from tests.tap import Tap
from tests.waiting import wait_until
from vision.types import PixelFormat

ROOT = "test/line"
SIDE_PX = 32
GOOD, BAD = 40, 200
IDLE = ("NO_DECISION", "NOT_RUNNING")
PITCH_US = 1_000_000
"""Wide, so that no busy machine makes a fault of its own."""
PARTS = 24
MEASURED = 20
TIMING = {"deadline_us": 3_000_000}


def told_line(folder: Path, port: int, camera: dict[str, Any], match: str) -> Path:
    notices = {"pitch_us": PITCH_US, "match": match, "age_max_us": 1_000_000}
    common = {"camera_id": "cam0", "width_px": SIDE_PX, "height_px": SIDE_PX, "pixel_format": "Mono8"}
    return write_line(
        folder,
        port,
        cameras=[{**common, **camera, "trigger_notices": notices}],
        timing=TIMING,
        encoder={"reject_offset_pulses": 50},
    )


class Controller:
    """Tells of part after part, each when the verdict on the one before is there. The count of part ``i`` is ``1000 * i``."""

    def __init__(self, port: int, line: Path) -> None:
        self._port = port
        self._line = line
        self.count = 0

    def run(self, pull: Callable[[int], None], parts: int) -> list[tuple[str, str]]:
        """``pull`` is what else happens at part ``i``. The verdicts on the parts that came while it ran, in order."""
        with (
            Service(self._line) as service,
            Tap(self._port, ROOT) as tap,
            TriggerTeller(self._port, f"{ROOT}/trigger/cam0") as teller,
        ):
            service.wait_for("READY camera cam0: measuring: 0 of 20 triggers")
            # A silence before the first part, by which the measurement begins.
            tap.wait_count("heartbeat", 40)
            said: list[tuple[str, str]] = []
            while len(said) < parts:
                if self.count == MEASURED:
                    service.wait_for("RUNNING")
                self.count += 1
                teller.tell(self.count, encoder_count=1000 * self.count, part_key=7 * self.count)
                pull(self.count)
                # A camera that is fired again before it has taken its picture takes none; parts are half a pitch apart, and more.
                tap.wait_count("heartbeat", 4 if self.count < MEASURED else 13)
                tap.wait_until(lambda: len(tap.bodies("verdict")) == self.count)
                body = tap.bodies("verdict")[-1]
                assert (body["encoder_count"], body["part_key"]) == (1000 * self.count, 7 * self.count)
                if self.count > MEASURED:
                    said.append((body["verdict"], body["reason"]))
                else:
                    assert (body["verdict"], body["reason"]) == IDLE
            service.stop()
        check_record(read_rows(self._line.parent / "records.db"))
        return said


def frame_of(grey: int) -> bytes:
    return bytes([grey]) * SIDE_PX**2


def expected(number: int) -> tuple[str, str]:
    """Every third part is bad."""
    return ("REJECT", "DEFECT") if number % 3 == 0 else ("PASS", "OK")


def grey_of(number: int) -> int:
    return BAD if number % 3 == 0 else GOOD


@pytest.fixture
def device() -> Any:
    config = AravisCamera(
        camera_id="a",
        kind="aravis",
        serial="1",
        width_px=2,
        height_px=2,
        pixel_format=PixelFormat.MONO8,
        trigger="free_running",
    )
    if (text := missing(config)) is not None:
        pytest.skip(text)
    with GigEVisionCamera(loopback_address(), width_px=SIDE_PX, height_px=SIDE_PX) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("match", ["counter", "window"])
def test_a_gige_camera_on_the_same_photo_eye(
    tmp_path: Path, broker_port: int, device: GigEVisionCamera, match: str
) -> None:
    camera = {"kind": "aravis", "address": device.address, "packet_timeout_us": 50_000, "frame_retention_us": 500_000}
    if match == "counter":
        camera["trigger_counter_chunk"] = "ChunkCounterValue"

    def pull(number: int) -> None:
        wait_until(lambda: device.waits_for_trigger)
        device.trigger(picture=frame_of(grey_of(number)))

    line = told_line(tmp_path, broker_port, camera, match)
    said = Controller(broker_port, line).run(pull, PARTS)
    assert said == [expected(number) for number in range(MEASURED + 1, MEASURED + PARTS + 1)]


@pytest.mark.slow
def test_a_gige_camera_that_is_fired_by_the_notice(tmp_path: Path, broker_port: int, device: GigEVisionCamera) -> None:
    shown = iter(range(1, MEASURED + PARTS + 1))
    device.pictures = lambda _: frame_of(grey_of(next(shown)))
    camera = {
        "kind": "aravis",
        "address": device.address,
        "trigger": "software",
        "packet_timeout_us": 50_000,
        "frame_retention_us": 500_000,
    }
    line = told_line(tmp_path, broker_port, camera, "window")
    said = Controller(broker_port, line).run(lambda number: wait_until(lambda: len(device.sent) >= number), PARTS)
    assert said == [expected(number) for number in range(MEASURED + 1, MEASURED + PARTS + 1)]


@pytest.mark.slow
def test_a_basler_camera_that_is_fired_by_the_notice(tmp_path: Path, broker_port: int) -> None:
    config = PylonCamera(
        camera_id="a",
        kind="pylon",
        serial="1",
        width_px=2,
        height_px=2,
        pixel_format=PixelFormat.MONO8,
        trigger="free_running",
    )
    if (text := missing(config)) is not None:
        pytest.skip(text)
    write_images(tmp_path / "played", [GOOD, GOOD, BAD], size_px=SIDE_PX)
    emulator = PylonEmulator()
    try:
        features = {**emulator.plays(tmp_path / "played")}
        camera = {"kind": "pylon", "serial": emulator.serial, "trigger": "software", "features": features}
        line = told_line(tmp_path, broker_port, camera, "window")
        said = Controller(broker_port, line).run(lambda _: None, PARTS)
    finally:
        emulator.close()
    assert said == [expected(number) for number in range(MEASURED + 1, MEASURED + PARTS + 1)]
