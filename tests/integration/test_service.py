"""The service over its life: what it does when the record fails, when files change under it, and when it is told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from pipeline.simulator.broker import start_broker
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from tests.chaos.books import check_record, read_rows
from tests.hand_camera import HandCamera
from tests.integration.test_record_faults import mounted
from tests.models import write_stub_package
from tests.service import Service, workers_of, write_line
from tests.tap import Tap
from vision.types import PixelFormat

ROOT = "test/line"


def no_byte_of(file: Path) -> contextlib.AbstractContextManager[None]:
    """A plain file whose first byte cannot be read, as on a failing disk: the memory of this process at address 0."""
    file.touch()
    return mounted(file, "--bind", f"/proc/{os.getpid()}/mem")


def test_no_pass_while_verdicts_cannot_be_recorded(tmp_path: Path, broker_port: int) -> None:
    (tmp_path / "file").write_text("not a folder")
    line = write_line(tmp_path, broker_port, records={"path": "file/records.db"})
    with Service(line) as service:
        service.wait_for("HALTED no record of verdicts")
        with Tap(broker_port, ROOT) as tap:
            tap.wait_count("verdict", 20)
            verdicts = tap.bodies("verdict")
            tap.wait_until(lambda: bool(tap.bodies("alarm/records")))
        assert {body["verdict"] for body in verdicts} == {"NO_DECISION"}
        # The disk is mended: it runs without being started again, and what waited is written down.
        (tmp_path / "file").unlink()
        service.wait_for("RUNNING")
        summary = service.stop()
    assert summary["reasons"]["NOT_RUNNING"] >= 20


def test_goes_on_unrecorded_where_told_to(tmp_path: Path, broker_port: int) -> None:
    (tmp_path / "file").write_text("not a folder")
    records = {"path": "file/records.db", "on_record_fault": "continue"}
    with Service(write_line(tmp_path, broker_port, records=records)) as service:
        service.wait_for("RUNNING")
        with Tap(broker_port, ROOT) as tap:
            tap.wait_until(lambda: any(body["verdict"] == "PASS" for body in tap.bodies("verdict")))


def test_a_changed_file_is_the_next_runs(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service:
        service.wait_for("RUNNING")
        recipe = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
        recipe["rules"][0]["reject_at_score"] = 1.0
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        service.wait_for("RUNNING")
        with Tap(broker_port, ROOT) as tap:
            tap.wait_until(lambda: any(body["verdict"] == "REJECT" for body in tap.bodies("verdict")))
        service.stop()


def test_a_replaced_model_ends_the_session(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service:
        service.wait_for("RUNNING")
        write_stub_package(tmp_path / "model", width_px=24, height_px=24)
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1
        assert "was replaced while the service ran" in service.errors
        assert "Traceback" not in service.errors


def test_a_model_that_cannot_be_read_for_a_while_is_waited_for(tmp_path: Path, broker_port: int) -> None:
    model = tmp_path / "model" / "model.onnx"
    kept = model.with_name("kept")
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        model.rename(kept)
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        tap.wait_until(
            lambda: any(
                body is not None and "inspection ended with status 3 (" in body["text"]
                for body in tap.bodies("alarm/worker")
            )
        )
        with no_byte_of(model):
            service_errors_have(service, "model.onnx: got Input/output error")
        kept.replace(model)
        service.wait_for("RUNNING")
        service.stop()
    assert "model.onnx: got no such file" in service.errors
    assert "Traceback" not in service.errors


@pytest.mark.parametrize(("fault", "status"), [("missing", 2), ("disk", 1)])
def test_a_start_without_its_model(fault: str, status: int, tmp_path: Path, broker_port: int) -> None:
    """Status 2 keeps systemd from trying again: right for what was forgotten, not for a disk."""
    line = write_line(tmp_path, broker_port)
    model = tmp_path / "model" / "model.onnx"
    model.unlink()
    with no_byte_of(model) if fault == "disk" else contextlib.nullcontext(), Service(line) as service:
        assert service.process.wait(timeout=60) == status
    assert "model.onnx: got " in service.errors
    assert "Traceback" not in service.errors


def test_a_hanging_inspection_is_killed_and_replaced(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service:
        service.wait_for("RUNNING")
        stopped = workers_of(service.process.pid)["inspection"]
        stopped.send_signal(signal.SIGSTOP)
        service.wait_for("RUNNING")
        assert "inspection was silent for 2 s and is killed" in service.errors
        assert workers_of(service.process.pid)["inspection"].pid != stopped.pid
        with Tap(broker_port, ROOT) as tap:
            tap.wait_until(lambda: any(body["verdict"] == "PASS" for body in tap.bodies("verdict")))
        summary = service.stop()
    # While it hung, every part ran out of time.
    assert summary["reasons"]["DEADLINE"] > 0


def test_a_pause_of_everything_is_nobodys_silence(tmp_path: Path, broker_port: int) -> None:
    """As when the box's virtual machine is paused: nobody is killed for it, also when the supervisor is the first to go on."""
    with Service(write_line(tmp_path, broker_port)) as service:
        service.wait_for("RUNNING")
        workers = workers_of(service.process.pid)
        for worker in workers.values():
            worker.send_signal(signal.SIGSTOP)
        service.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)  # the fault itself; silent_after_s is 2
        service.process.send_signal(signal.SIGCONT)
        for worker in workers.values():
            worker.send_signal(signal.SIGCONT)
        with Tap(broker_port, ROOT) as tap:
            tap.wait_until(lambda: any(body["verdict"] == "PASS" for body in tap.bodies("verdict")))
        assert workers_of(service.process.pid) == workers
        service.stop()
    assert "silent" not in service.errors


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path, broker_port: int) -> None:
    """The box has no descriptor to spare: the supervisor says so and lives on."""
    line = write_line(tmp_path, broker_port, supervision={"back_off_max_s": 0.2})
    with Service(line) as service:
        service.wait_for("RUNNING")
        supervisor = service.process.pid
        limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        in_use = len(list(Path(f"/proc/{supervisor}/fd").iterdir()))
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (in_use - 2, limits[1]))
        with Tap(broker_port, ROOT) as tap:
            workers_of(supervisor)["inspection"].kill()
            tap.wait_until(lambda: any("could not be started" in body["text"] for body in tap.bodies("alarm/worker")))
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
        service.wait_for("RUNNING")
        service.stop()
    check_record(read_rows(tmp_path / "records.db"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_in_order(number: signal.Signals, tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 20)
        workers = workers_of(service.process.pid)
        service.process.send_signal(number)
        assert service.process.wait(timeout=30) == 0
        assert not any(worker.is_running() for worker in workers.values())
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "OFFLINE")
        summary = json.loads(service.summary_file.read_text())
        tap.wait_until(lambda: len(tap.bodies("verdict")) == summary["parts_triggered"])
    assert summary["parts_triggered"] == summary["passed"] + summary["rejected"] + summary["no_decision"]
    # No more than may be under way at once: one comes every 50 ms, and has 200 ms.
    assert summary["no_decision"] <= 4


@pytest.mark.parametrize("role", ["acquisition", "signalling"])
def test_who_hangs_in_the_stop_is_killed_and_the_books_are_closed(role: str, tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port, supervision={"silent_after_s": 1})) as service:
        service.wait_for("RUNNING")
        workers_of(service.process.pid)[role].suspend()
        summary = service.stop()
    assert sum(summary[verdict] for verdict in ("passed", "rejected", "no_decision")) == summary["parts_triggered"]


def test_dies_too_often_and_says_so(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, supervision={"restarts_max_count": 1})
    with Service(line) as service:
        for _ in range(2):
            service.wait_for("RUNNING")
            workers_of(service.process.pid)["records"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1
        assert "records died 2 times within 60 s" in service.errors
        assert "Traceback" not in service.errors


def test_signalling_killed_during_the_stop_still_closes_its_parts(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, timing={"deadline_us": 1_500_000})
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 5)
        workers = workers_of(service.process.pid)
        workers["inspection"].send_signal(signal.SIGSTOP)
        beats = len(tap.bodies("heartbeat"))
        tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["open_parts"] >= 10)
        assert len(tap.bodies("heartbeat")) > beats
        service.process.send_signal(signal.SIGTERM)
        workers["signalling"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=30) == 0, service.errors
    rows = read_rows(tmp_path / "records.db")
    check_record(rows)
    assert sum(row.reason == "FAULT" for row in rows) >= 10


def test_records_killed_at_the_end_of_the_stop_still_closes_the_books(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    """Signalling has ended and is not started again; who takes the place of records has to be told to stop."""
    with (
        HandCamera(tmp_socket_dir) as camera,
        Service(write_line(tmp_path, broker_port, cameras=[camera.config])) as service,
        Tap(broker_port, ROOT) as tap,
    ):
        camera.wait_connected()
        service.wait_for("RUNNING")
        camera.part(40)
        tap.wait_count("result", 1)
        workers = workers_of(service.process.pid)
        workers["records"].send_signal(signal.SIGSTOP)
        service.process.send_signal(signal.SIGTERM)
        workers["signalling"].wait(timeout=30)
        workers["records"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=30) == 0, service.errors
    assert json.loads(service.summary_file.read_text())["passed"] == 1
    check_record(read_rows(tmp_path / "records.db"))


def test_a_fatal_end_leaves_the_record_whole(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, supervision={"restarts_max_count": 0})
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 20)
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1
        heard = {(body["part_id"], body["verdict"]) for body in tap.bodies("verdict")}
    rows = read_rows(tmp_path / "records.db")
    check_record(rows)
    assert heard <= {(row.part_id, row.verdict) for row in rows}


def test_a_full_log_stops_nothing(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    command = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "run",
        str(line),
        "--parts",
        "20",
        "--json",
        str(tmp_path / "s.json"),
    ]
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run(command, stdout=full, stderr=full, timeout=60, check=False).returncode == 0
    assert json.loads((tmp_path / "s.json").read_text())["passed"] > 0


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path, broker_port: int) -> None:
    """The pipe is full from the first word on: workers are replaced, and SIGTERM is heard, all the same."""
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(sender, b"x" * 4_096)
    os.set_blocking(sender, True)
    line, summary = write_line(tmp_path, broker_port), tmp_path / "s.json"
    command = [sys.executable, "-m", "pipeline.cli", "run", str(line), "--json", str(summary)]
    with Tap(broker_port, ROOT) as tap, subprocess.Popen(command, stdout=sender, stderr=sender) as service:
        try:
            tap.wait_until(lambda: any(body["verdict"] == "PASS" for body in tap.bodies("verdict")))
            workers_of(service.pid)["inspection"].send_signal(signal.SIGKILL)
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "ERROR")
            tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "RUNNING")
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=60) == 0
        finally:
            service.kill()
    for descriptor in (receiver, sender):
        os.close(descriptor)
    assert json.loads(summary.read_text())["passed"] > 0


def test_a_deleted_record_is_noticed_and_begun_anew(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 10)
        for file in tmp_path.glob("records.db*"):
            file.unlink()
        service.wait_for("HALTED no record of verdicts")
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 10)
        summary = service.stop()
    assert "was deleted or replaced" in service.errors
    rows = read_rows(tmp_path / "records.db")
    assert 10 <= len(rows) < summary["parts_triggered"]


def test_an_alarm_ends_with_the_worker_that_raised_it(tmp_path: Path) -> None:
    with start_broker("auto") as broker, Service(write_line(tmp_path, broker.port)) as service:
        service.wait_for("RUNNING")
        broker.halt()
        service.wait_for("ERROR broker")
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        broker.restart()
        service.wait_for("RUNNING")
        with Tap(broker.port, ROOT) as tap:
            tap.wait_count("verdict", 10)
            raised = {topic for topic in (heard.topic for heard in tap.heard if heard.payload) if "/alarm/" in topic}
        service.stop()
    assert f"{ROOT}/alarm/broker" not in raised


def test_lost_triggers_are_alarmed_until_they_are_taken_down_again(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, ledger_parts=256, supervision={"silent_after_s": 60})
    line.write_text(line.read_text().replace("parts_per_min: 1200", "parts_per_min: 6000"))
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        signalling = workers_of(service.process.pid)["signalling"]
        signalling.send_signal(signal.SIGSTOP)
        tap.wait_until(lambda: bool(tap.bodies("alarm/triggers-lost-cam0")))
        assert "triggers lost, signalling was away too long" in tap.bodies("alarm/triggers-lost-cam0")[0]["text"]
        signalling.send_signal(signal.SIGCONT)
        tap.wait_until(lambda: tap.bodies("alarm/triggers-lost-cam0")[-1] is None)
        service.stop()


def test_packages_in_the_working_directory_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    line = write_line(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    command = [str(Path(sys.executable).with_name("lineside")), "run", str(line), "--parts", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_camera_switched_off_and_on_counts_from_one_again(
    tmp_path: Path, tmp_socket_dir: Path, broker_port: int
) -> None:
    address = tmp_socket_dir / "camera.sock"
    camera = {
        "camera_id": "cam0",
        "kind": "simulated",
        "address": str(address),
        "width_px": 32,
        "height_px": 32,
        "pixel_format": "Mono8",
    }
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(1)
        with Service(write_line(tmp_path, broker_port, cameras=[camera])) as service, Tap(broker_port, ROOT) as tap:
            for grey, verdict in ((40, "PASS"), (200, "REJECT")):
                device, _ = listener.accept()
                service.wait_for("RUNNING")
                with device:
                    for counter in range(1, 6):
                        now = time.monotonic_ns()
                        trigger = DeviceMessage(MessageKind.TRIGGER, PixelFormat.MONO8, counter, counter, now)
                        frame = replace(
                            trigger,
                            kind=MessageKind.FRAME,
                            frame_id=counter,
                            width=32,
                            height=32,
                            stride=32,
                            payload_bytes=1024,
                        )
                        pixels = bytes([grey]) * 1024
                        device.sendall(encode_header(trigger) + encode_header(frame) + pixels)
                        device.sendall(encode_frame_end(frame.trigger_counter))
                    tap.wait_until(partial(_has_five, tap, verdict))
            summary = service.stop()
    assert summary["parts_triggered"] == 10


def _has_five(tap: Tap, verdict: str) -> bool:
    return [body["verdict"] for body in tap.bodies("verdict")].count(verdict) == 5


def service_errors_have(service: Service, words: str) -> None:
    give_up_s = time.monotonic() + 60
    while words not in service.errors:
        assert time.monotonic() < give_up_s, service.errors
        time.sleep(0.01)  # polls a file
