"""Triggers that the line controller tells over MQTT, through the whole service: a part's verdict is of its own frame."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator.broker import find_mosquitto, start_broker
from tests.chaos.books import check_record, read_rows
from tests.hand_camera import HandCamera
from tests.noticed import TriggerTeller
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
GOOD, BAD = 40, 200
PASS, REJECT, IDLE = ("PASS", "OK"), ("REJECT", "DEFECT"), ("NO_DECISION", "NOT_RUNNING")
MISSED = ("NO_DECISION", "MISSED_FRAME")
PITCH_US = 1_000_000
"""Wide, so that no busy machine makes a fault of its own: a frame may be exposed 250 ms early or late. Parts that are sent sooner
after each other say how long ago they were there, where it counts.
"""
MS = 1_000_000


def line_of(folder: Path, port: int, camera: HandCamera, match: str = "window") -> Path:
    notices = {"pitch_us": PITCH_US, "match": match, "age_max_us": 1_000_000}
    return write_line(
        folder,
        port,
        cameras=[{**camera.config, "trigger_notices": notices}],
        timing={"deadline_us": 3_000_000},
        encoder={"reject_offset_pulses": 50},
    )


class Controller:
    """The line's controller and its parts. The count of part ``i`` is ``1000 * i``; the camera's own are others."""

    def __init__(self, teller: TriggerTeller, camera: HandCamera, tap: Tap) -> None:
        self.teller, self.camera, self.tap = teller, camera, tap
        self.count = 0
        self.is_measured = False
        self._at_s = time.monotonic()

    def space(self, ago_s: float = 0.0) -> None:
        """Until a part that was there ``ago_s`` ago is half a pitch behind the one before, and a little more."""
        while time.monotonic() - ago_s < self._at_s + 0.55 * PITCH_US / 1e6:
            self.tap.wait_count("heartbeat", 1)

    def tell(self, part: int, **changes: Any) -> None:
        self.teller.tell(part, encoder_count=1000 * part, part_key=7 * part, **changes)

    def told(self, **changes: Any) -> int:
        """The next part's trigger; its frame is for the caller."""
        self.count += 1
        self.tell(self.count, **changes)
        self._at_s = time.monotonic() - changes.get("age_us", 0) / 1e6
        return self.count

    def part(self, grey: int, *, exposed_ago_ns: int = 0) -> tuple[str, str]:
        """One whole part; its verdict."""
        if self.is_measured:
            self.space()
        part = self.told()
        self.camera.part(grey, exposed_ago_ns=exposed_ago_ns)
        return self.verdict(part)

    def verdict(self, part: int) -> tuple[str, str]:
        self.tap.wait_until(lambda: part in self.verdicts())
        return self.verdicts()[part]

    def verdicts(self) -> dict[int, tuple[str, str]]:
        """By part; one each."""
        bodies = self.tap.bodies("verdict")
        found = {body["encoder_count"] // 1000: (body["verdict"], body["reason"]) for body in bodies}
        assert len(found) == len(bodies), "two verdicts for a part"
        assert all(body["reject_at_encoder_count"] == body["encoder_count"] + 50 for body in bodies)
        assert all(body["part_key"] * 1000 == body["encoder_count"] * 7 for body in bodies)
        return found

    def measure(self, service: Service, *, count: int = 20) -> None:
        """Parts until it runs."""
        self.is_measured = False
        service.wait_for("READY camera cam0: measuring: 0 of 20 triggers")
        self.tap.wait_until(lambda: bool(self.tap.bodies("heartbeat")))
        for _ in range(count):
            assert self.part(GOOD) == IDLE
        self.is_measured = True


def lets_a_silence_pass(tap: Tap) -> None:
    """Of 1.5 pitches; heartbeats come every 50 ms."""
    tap.wait_count("heartbeat", 40)


@pytest.mark.parametrize("match", ["counter", "window"])
def test_every_part_gets_the_verdict_on_its_own_frame(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int, match: str
) -> None:
    with (
        HandCamera(tmp_socket_dir) as camera,
        Service(line_of(tmp_path, broker_port, camera, match)) as service,
        Tap(broker_port, ROOT) as tap,
        TriggerTeller(broker_port, f"{ROOT}/trigger/cam0") as teller,
    ):
        line = Controller(teller, camera, tap)
        camera.wait_connected()
        lets_a_silence_pass(tap)
        line.measure(service)
        service.wait_for("RUNNING")
        assert [line.part(grey) for grey in (GOOD, BAD, BAD, GOOD)] == [PASS, REJECT, REJECT, PASS]
        # A message that is delivered twice is one trigger.
        line.tell(line.count)
        assert line.part(BAD) == REJECT
        # The frame before its trigger's message.
        line.space()
        camera.part(BAD)
        assert line.verdict(line.told()) == REJECT
        # The frame is lost on its way: the next one is not taken for it.
        line.space(0.6)
        lost = line.told(age_us=600_000)
        camera.trigger()
        assert line.part(BAD) == REJECT
        assert line.verdict(lost) == MISSED
        # The message is lost: its frame is nobody's.
        camera.part(BAD, exposed_ago_ns=2_000 * MS)
        line.count += 1
        assert line.part(GOOD) == PASS
        # Messages out of order.
        line.space(0.6)
        camera.part(GOOD, exposed_ago_ns=600 * MS)
        line.tell(line.count + 2)
        line.tell(line.count + 1, age_us=600_000)
        assert line.verdict(line.count + 1) == PASS
        camera.part(BAD)
        assert line.verdict(line.count + 2) == REJECT
        line.count += 2
        # A message that is late by more than the window: no guess.
        lets_a_silence_pass(tap)
        late = line.told()
        camera.part(GOOD, exposed_ago_ns=600 * MS)
        assert line.verdict(late) == MISSED
        assert line.part(GOOD) == PASS
        summary = service.stop()
        tap.wait_until(lambda: len(tap.bodies("result")) == len(tap.bodies("verdict")))
        assert all(body["part_key"] * 1000 == body["encoder_count"] * 7 for body in tap.bodies("result"))
    assert summary["reasons"] == {"NOT_RUNNING": 20, "OK": 5, "DEFECT": 6, "MISSED_FRAME": 2}
    check_record(read_rows(tmp_path / "records.db"))


def test_jitter_beyond_a_quarter_of_the_window_does_not_run_until_it_is_gone(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    with (
        HandCamera(tmp_socket_dir) as camera,
        Service(line_of(tmp_path, broker_port, camera)) as service,
        Tap(broker_port, ROOT) as tap,
        TriggerTeller(broker_port, f"{ROOT}/trigger/cam0") as teller,
    ):
        line = Controller(teller, camera, tap)
        camera.wait_connected()
        lets_a_silence_pass(tap)
        service.wait_for("READY camera cam0: measuring: 0 of 20 triggers")
        for index in range(22):
            assert line.part(GOOD, exposed_ago_ns=300 * MS * (index % 2)) == IDLE
        words = r"camera cam0: the delay from trigger to exposure varies by \d{6} us, permitted are 125000 us at this pitch_us"
        tap.wait_until(lambda: re.match(words, tap.bodies("alarm/triggers-cam0")[-1]["text"]) is not None)
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "ERROR")
        for _ in range(21):
            assert line.part(GOOD) == IDLE
        line.is_measured = True
        service.wait_for("RUNNING")
        tap.wait_until(lambda: tap.bodies("alarm/triggers-cam0")[-1] is None)
        assert [line.part(grey) for grey in (GOOD, BAD)] == [PASS, REJECT]
        service.stop()


def test_a_part_keeps_its_key_over_the_death_of_everything(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    """Signalling's successor has it from the ledger; so has the next start, or from the journal."""
    with (
        HandCamera(tmp_socket_dir) as camera,
        Tap(broker_port, ROOT) as tap,
        TriggerTeller(broker_port, f"{ROOT}/trigger/cam0") as teller,
    ):
        line = Controller(teller, camera, tap)
        file = line_of(tmp_path, broker_port, camera)
        with Service(file) as service:
            camera.wait_connected()
            lets_a_silence_pass(tap)
            line.measure(service)
            service.wait_for("RUNNING")
            open_part = line.told()
            tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["open_parts"] == 1)
            workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
            # Its successor has no broker yet when it closes the part.
            tap.wait_until(lambda: tap.bodies("result")[-1]["part_key"] == 7 * open_part)
            assert tap.bodies("result")[-1]["reason"] == "FAULT"
            service.wait_for("RUNNING")
            workers = workers_of(service.process.pid)
            workers["signalling"].send_signal(signal.SIGSTOP)
            untold_part = line.told()
            # It is in the journal when the one that comes after it on the same way has been refused.
            teller.publish("nothing")
            tap.wait_until(lambda: bool(tap.bodies("alarm/notices-cam0")))
            service.process.send_signal(signal.SIGSTOP)  # It would start them again.
            for worker in workers.values():
                worker.kill()
            service.process.kill()
            service.process.wait()
            with Service(file) as successor:
                tap.wait_until(lambda: tap.bodies("history")[-1]["part_key"] == 7 * untold_part)
                left = tap.bodies("history")[-1]
                assert (left["encoder_count"], left["reason"]) == (1000 * untold_part, "FAULT")
                successor.wait_for("READY")
                successor.stop()


def test_a_broker_that_comes_back_needs_no_new_measurement(tmp_path: Path, tmp_socket_dir: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with (
        start_broker("mosquitto") as broker,
        HandCamera(tmp_socket_dir) as camera,
        Service(line_of(tmp_path, broker.port, camera)) as service,
    ):
        with Tap(broker.port, ROOT) as tap, TriggerTeller(broker.port, f"{ROOT}/trigger/cam0") as teller:
            line = Controller(teller, camera, tap)
            camera.wait_connected()
            lets_a_silence_pass(tap)
            line.measure(service)
            service.wait_for("RUNNING")
            assert line.part(BAD) == REJECT
        broker.halt()
        service.wait_for("ERROR camera cam0: no notices of triggers, broker 127.0.0.1")
        # Parts go by meanwhile.
        camera.part(BAD, exposed_ago_ns=600 * MS)
        line.count += 1
        broker.restart()
        service.wait_for("RUNNING")
        with Tap(broker.port, ROOT) as tap, TriggerTeller(broker.port, f"{ROOT}/trigger/cam0") as teller:
            line.tap, line.teller = tap, teller
            tap.wait_until(lambda: bool(tap.bodies("heartbeat")))
            assert [line.part(grey) for grey in (GOOD, BAD)] == [PASS, REJECT]
        service.stop()


def test_a_camera_that_comes_back_is_measured_anew(tmp_path: Path, tmp_socket_dir: Path, broker_port: int) -> None:
    with (
        HandCamera(tmp_socket_dir) as camera,
        Service(line_of(tmp_path, broker_port, camera)) as service,
        Tap(broker_port, ROOT) as tap,
        TriggerTeller(broker_port, f"{ROOT}/trigger/cam0") as teller,
    ):
        line = Controller(teller, camera, tap)
        camera.wait_connected()
        lets_a_silence_pass(tap)
        line.measure(service)
        service.wait_for("RUNNING")
        camera.wait_connected()
        lets_a_silence_pass(tap)
        line.measure(service)
        service.wait_for("RUNNING")
        assert [line.part(grey) for grey in (GOOD, BAD)] == [PASS, REJECT]
        service.stop()


def test_notices_that_are_none_are_refused_and_told(tmp_path: Path, tmp_socket_dir: Path, broker_port: int) -> None:
    retained = '{"schema":"lineside.trigger/1","trigger_counter":1,"encoder_count":1000,"age_us":0}'
    with TriggerTeller(broker_port, f"{ROOT}/trigger/cam0") as teller, HandCamera(tmp_socket_dir) as camera:
        teller.publish(retained, retain=True)
        with Service(line_of(tmp_path, broker_port, camera)) as service, Tap(broker_port, ROOT) as tap:
            camera.wait_connected()
            service.wait_for("READY camera cam0: measuring")

            def told() -> str:
                return "\n".join(body["text"] for body in tap.bodies("alarm/notices-cam0") if body)

            tap.wait_until(lambda: "publish them with retain off" in told())
            teller.publish(b"\xff nothing")
            tap.wait_until(lambda: "not a lineside.trigger/1" in told())
            teller.tell(5, age_us=1_000_001)
            tap.wait_until(lambda: "trigger 5 was sent 1000001 us late, expected at most 1000000" in told())
            assert "3 notices refused" in told()
            summary = service.stop()
    assert summary["parts_triggered"] == 0
