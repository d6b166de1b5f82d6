"""``lineside calibrate timing`` at a running line, at lines that misbehave, and at other belt speeds than it was calibrated at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.bench.calibrate_timing import calibrate_timing_suite
from pipeline.calibration_file import CalibrationStore
from pipeline.ledger_file import SHARED_MEMORY
from pipeline.payloads import HeartbeatPayload, ResultPayload, VerdictPayload, encode
from pipeline.simulator.broker import find_mosquitto, start_broker
from pipeline.simulator.images import SyntheticImages
from tests.models import write_stub_package
from tests.service import Service, lineside, write_line

ROOT = "test/line"
SESSION = f"timed{os.getpid()}"
"""Tests beside this one, in other processes, have ledgers of their own."""
STAGES = {"grab": 500, "handover": 50, "preprocess": 50, "inference": 500, "judge": 50, "decide": 100, "send": 20}


def options(line: Path, **changes: Any) -> list[str | Path]:
    given: dict[str, Any] = {
        "as": "Anna",
        "share": 0.2,
        "belt-run": "1000:0.5:9870",
        "gate-mm": 400.0,
        "gate-tolerance-mm": 0.5,
        "speed-max-mm-s": 1_000.0,
        "part-length-mm": 15.0,
        "pitch-mm": 45.0,
        "controller-us": 12_000.0,
        "trigger-jitter-us": 200.0,
    }
    words = [str(word) for key, value in {**given, **changes}.items() for word in (f"--{key}", value)]
    return ["calibrate", "timing", line, *words]


def kept(folder: Path) -> Any:
    calibration = CalibrationStore(folder / "calibrations").current("stub", "cam0")
    return None if calibration is None else calibration.timing


# --- the service itself ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_running_line_is_timed_and_its_file_is_compared(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, calibrations="calibrations", encoder={"reject_offset_pulses": 800})
    with Service(line) as service:
        service.wait_for("RUNNING")
        done = lineside(*options(line), "--json", tmp_path / "found.json", "--report", tmp_path / "report")
        service.stop()
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["parts"] == len(found["times_us"]) == 14, "as many as one in five at 95 % needs"
    assert found["fates"] == {"inspected": 14}
    for part in found["times_us"]:
        assert 0 < part["arrival"] < part["latency"] <= found["latency_us"]
    assert found["reject_offset_pulses"] == 3_948
    section = kept(tmp_path)
    assert section.made.by == "Anna"
    assert section.figures.guard_us == found["guard_us"]
    assert "set       encoder.reject_offset_pulses: 3948" in done.stdout
    assert "window" in (tmp_path / "report" / "index.html").read_text()

    checked = lineside("check", line)
    assert checked.returncode == 0, checked.stderr
    assert "calibrated by Anna" in checked.stdout
    assert "encoder.reject_offset_pulses: got 800, expected 3948" in checked.stdout
    written = yaml.safe_load(line.read_text())
    written["encoder"]["reject_offset_pulses"] = 3_948
    written["timing"] = {"deadline_us": found["deadline_max_us"], "guard_us": found["guard_us"]}
    line.write_text(yaml.safe_dump(written))
    assert "NOT AS CALIBRATED" not in lineside("check", line).stdout


def test_ctrl_c_ends_it_without_a_result(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, calibrations="calibrations")
    with Service(line) as service:
        service.wait_for("RUNNING")
        with told_to_run(*options(line, parts=100_000)) as command:
            wait_for_line(command, "measuring 100000 parts")
            wait_for_line(command, "the line judges production")
            command.send_signal(signal.SIGINT)
            out, _ = command.communicate(timeout=60)
        service.stop()
    assert command.returncode not in (0, 2)
    assert "of 100000 parts: nothing is changed" in out
    assert not (tmp_path / "calibrations").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"belt-run": "1000:0.5"}, "--belt-run: got '1000:0.5', expected DISTANCE_MM:TOLERANCE_MM:PULSES"),
        ({"belt-run": "1000:nan:5"}, "--belt-run: got '1000:nan:5'"),
        ({"belt-run": "1000:0.5:0"}, "expected a distance and pulses above 0"),
        ({"gate-mm": 0.0}, "gate_mm: got 0, expected more than 0"),
        ({"share": 0.0}, "share: got 0"),
        ({"parts": 13}, "--parts: got 13, expected at least 14 for a share of 0.2"),
        ({"as": ""}, "--as"),
    ],
)
def test_what_cannot_be_is_told_before_the_line_is_asked(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    line = write_line(tmp_path, 1, calibrations="calibrations")
    done = lineside(*options(line, **changes))
    assert done.returncode == 2
    assert words in done.stderr


def test_a_line_without_a_store_is_refused(tmp_path: Path) -> None:
    done = lineside(*options(write_line(tmp_path, 1)))
    assert done.returncode == 2
    assert "calibrations: got none" in done.stderr


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    done = lineside(*options(write_line(tmp_path, 1, calibrations="calibrations")))
    assert done.returncode == 1
    assert "broker 127.0.0.1:1" in done.stderr
    assert not (tmp_path / "calibrations").exists()


# --- lines that misbehave ----------------------------------------------------------------------------------------


class PlayedLine:
    """What a service would publish, as told: heartbeats, and a part every 5 ms with its verdict and result."""

    def __init__(self, port: int) -> None:
        self.session_id = SESSION
        self.state: Any = "RUNNING"
        self.change: Callable[[int], dict[str, Any] | None] = lambda seq: {}
        """Of the verdict and result of this number; None: its verdict is lost."""
        self._over = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._play)

    def __enter__(self) -> PlayedLine:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # paho closes its own pair of sockets only with the client

    def _play(self) -> None:
        seq = 0
        while not self._over.wait(0.005):
            seq += 1
            self._beat(seq)
            if self.state == "silent":
                continue
            change = self.change(seq)
            now_ns = time.monotonic_ns()
            common: dict[str, Any] = {
                "session_id": self.session_id,
                "seq": seq,
                "part_id": seq,
                "verdict": "PASS",
                "reason": "OK",
                "encoder_count": seq,
                "reject_at_encoder_count": None,
                "part_key": None,
                "age_us": 2_000,
                "valid_us": 190_000,
            }
            result: dict[str, Any] = {
                "trigger_utc": "2026-01-01T00:00:00.000000Z",
                "trigger_ns": now_ns - 2_000_000,
                "decided_ns": now_ns,
                "sent_ns": now_ns,
                "deadline_ns": now_ns + 190_000_000,
                "stages_us": STAGES,
                "recipe_id": "stub",
                "recipe_version": "1",
                "model_sha256": None,
                "calibration_id": None,
                "views": [],
                "defects": [],
                "is_simulated": True,
                "is_challenge": False,
                "image_ref": None,
                "row_hash": "",
            }
            changed = {**common, **result, **(change or {})}
            if change is not None:
                verdict = VerdictPayload(**{key: changed[key] for key in common})
                self._client.publish(f"{ROOT}/verdict", encode(verdict), 0)
            self._client.publish(f"{ROOT}/result", encode(ResultPayload(**changed)), 1)

    def _beat(self, count: int) -> None:
        beat = HeartbeatPayload(
            session_id=self.session_id,
            count=count,
            state="READY" if self.state == "READY" else "RUNNING",
            triggers_seen=count,
            last_part_id=count,
            open_parts=0,
        )
        self._client.publish(f"{ROOT}/heartbeat", encode(beat), 0)


@pytest.fixture
def ledger() -> Iterator[Path]:
    """Of the played session, on this box."""
    file = SHARED_MEMORY / f"lineside-0-test-{SESSION}.ledger"
    file.touch()
    yield file
    file.unlink()


@pytest.fixture
def played(broker_port: int, ledger: Path) -> Iterator[PlayedLine]:
    with PlayedLine(broker_port) as line:
        yield line


def refused(folder: Path, broker_port: int, **changes: Any) -> str:
    """All that it says; nothing is kept."""
    line = write_line(folder, broker_port, calibrations="calibrations")
    done = lineside(*options(line, **changes))
    assert done.returncode == 1, done.stdout + done.stderr
    assert not (folder / "calibrations").exists()
    return done.stdout + done.stderr


def test_a_played_line_is_timed(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    line = write_line(tmp_path, broker_port, calibrations="calibrations")
    done = lineside(*options(line, parts=200))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 inspected" in done.stdout
    assert kept(tmp_path).figures.latency_us >= 2_000


def test_lost_verdicts_are_told(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    played.change = lambda seq: None if seq % 4 == 0 else {}
    told = refused(tmp_path, broker_port, parts=100)
    assert "verdict lost" in told
    assert "refused   verdicts missing" in told
    assert "not calibrated: verdicts missing" in told


def test_parts_that_the_deadline_cut_off_are_told(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    def cut_off(seq: int) -> dict[str, Any]:
        now_ns = time.monotonic_ns()
        changes = {"verdict": "NO_DECISION", "reason": "DEADLINE", "stages_us": {}, "deadline_ns": now_ns + 3_000_000}
        return changes if seq % 4 == 0 else {}

    played.change = cut_off
    told = refused(tmp_path, broker_port, parts=100)
    assert "cut off: 25 DEADLINE" in told
    assert "parts not inspected" in told
    assert "timing.deadline_us" in told


def test_a_service_that_starts_again_begins_anew(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    line = write_line(tmp_path, broker_port, calibrations="calibrations")
    with told_to_run(*options(line, parts=100_000)) as command:
        wait_for_line(command, "the line judges production")
        played.session_id = "another0another0"
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "the service was started again" in errors
    assert not (tmp_path / "calibrations").exists()


def test_a_service_on_another_box_is_refused(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    played.session_id = "elsewhere0elsewhere0"
    told = refused(tmp_path, broker_port)
    assert "the service runs elsewhere: got session elsewhere0elsewhere0" in told
    assert "Run this on the service's box" in told


def test_moments_of_another_clock_are_refused(tmp_path: Path, broker_port: int, played: PlayedLine) -> None:
    played.change = lambda seq: {"decided_ns": time.monotonic_ns() + 10**12}
    assert "not one clock" in refused(tmp_path, broker_port)


def test_a_broker_that_goes_away_is_told(tmp_path: Path, ledger: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with start_broker("mosquitto") as broker, PlayedLine(broker.port):
        line = write_line(tmp_path, broker.port, calibrations="calibrations")
        with told_to_run(*options(line, parts=100_000, **{"give-up-s": 3.0})) as command:
            wait_for_line(command, "the line judges production")
            broker.halt()
            out, errors = command.communicate(timeout=60)
    assert command.returncode == 1
    assert "line      no connection to the broker" in out
    assert "no verdict came for 3 s: no connection to the broker" in errors
    assert not (tmp_path / "calibrations").exists()


def test_an_empty_belt_and_a_line_that_does_not_judge_are_told(
    tmp_path: Path, broker_port: int, played: PlayedLine
) -> None:
    played.state = "silent"
    silent = refused(tmp_path, broker_port, **{"give-up-s": 0.5})
    assert "no verdict came for 0.5 s: are there parts on the belt?" in silent
    played.state = "READY"
    played.change = lambda seq: {"verdict": "NO_DECISION", "reason": "NOT_RUNNING", "stages_us": {}}
    ready = refused(tmp_path, broker_port, **{"give-up-s": 0.5})
    assert "line      the line is READY: parts do not count until it is RUNNING" in ready


# --- other belt speeds -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_window_holds_at_other_belt_speeds(tmp_path: Path) -> None:
    result = calibrate_timing_suite(
        write_stub_package(tmp_path / "model"),
        SyntheticImages(),
        parts_each=20,
        calibration_parts=40,
        share=0.1,
        operators=100,
    )
    assert set(result["speeds"]) == {"0.2", "0.5", "1", "1.5", "2"}
    promises = result["broken_promises"]
    assert not {
        name: count for name, count in promises.items() if count and name != "speeds_with_more_late_than_stated"
    }
    slow, fast = (result["speeds"][speed]["error_pulses"] for speed in ("0.2", "2"))
    assert fast["max"] - fast["min"] > slow["max"] - slow["min"], "what triggers are late by is further at speed"


# --- processes ---------------------------------------------------------------------------------------------------


@contextmanager
def told_to_run(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The command, which is ended with the block."""
    words = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    command = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_ctrl_c
    )
    try:
        yield command
    finally:
        if command.poll() is None:
            command.kill()
            command.communicate()


def _heed_ctrl_c() -> None:
    """As in a terminal: pytest may have it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for_line(command: subprocess.Popen[str], words: str) -> None:
    assert command.stdout is not None
    for line in command.stdout:
        if words in line:
            return
    pytest.fail(f"it never said {words!r}")
