"""The service over its life: what it does when the record fails, when files change under it, and when it is told to stop."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml

from tests.models import write_stub_package
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"


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
    assert summary["no_decision"] <= 2


def test_dies_too_often_and_says_so(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, supervision={"restarts_max_count": 1})
    with Service(line) as service:
        for _ in range(2):
            service.wait_for("RUNNING")
            workers_of(service.process.pid)["records"].send_signal(signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1
        assert "records died 2 times within 60 s" in service.errors
        assert "Traceback" not in service.errors
