"""``lineside run`` on a runtime that was never verified."""

from __future__ import annotations

from pathlib import Path

from pipeline.simulator.broker import start_broker
from tests.service import Service, lineside, workers_of, write_line
from tests.tap import Tap

ALARM = "alarm/runtime-unverified"


def test_run_does_not_start_on_a_runtime_that_was_never_verified(tmp_path: Path) -> None:
    line = write_line(tmp_path, 1, runtime={"provider": "cpu"})
    done = lineside("run", line)
    assert done.returncode == 1
    assert "was never verified" in done.stderr
    assert f"lineside model verify {tmp_path / 'model'} --images DIR --config {line}" in done.stderr
    assert "READY" not in done.stdout
    assert "Traceback" not in done.stderr


def test_the_alarm_stands_for_as_long_as_the_service_runs(tmp_path: Path) -> None:
    with start_broker("auto") as broker:
        line = write_line(tmp_path, broker.port, runtime={"provider": "cpu", "on_unverified": "warn"})
        with Tap(broker.port, "test/line") as tap, Service(line) as service:
            service.wait_for("RUNNING")
            tap.wait_until(lambda: bool(tap.bodies(ALARM)))
            body = tap.bodies(ALARM)[0]
            assert body["severity"] == "warning"
            assert "was never verified" in body["text"]
            workers_of(service.process.pid)["inspection"].kill()
            # Verdicts again, after those that the killed one could not reach.
            tap.wait_until(lambda: any(each["verdict"] == "NO_DECISION" for each in tap.bodies("verdict")))
            tap.wait_until(lambda: tap.bodies("verdict")[-1]["verdict"] != "NO_DECISION")
            # Taken back with the one that died, and raised by the next.
            tap.wait_until(lambda: tap.bodies(ALARM)[-1] is not None)
            with Tap(broker.port, "test/line") as later:
                later.wait_until(lambda: later.bodies(ALARM)[-1:] not in ([], [None]))
                assert "was never verified" in later.bodies(ALARM)[-1]["text"]
            service.stop()


def test_run_says_so_where_it_may_and_says_nothing_once_it_is_verified(tmp_path: Path) -> None:
    with start_broker("auto") as broker:
        line = write_line(tmp_path, broker.port, runtime={"provider": "cpu", "on_unverified": "warn"})
        with Service(line, "--parts", "3") as service:
            service.wait_for("RUNNING")
            service.stop()
        assert "lineside: warning: model" in service.errors
        assert "was never verified" in service.errors
        verified = lineside("model", "verify", tmp_path / "model", "--images", tmp_path / "images", "--config", line)
        assert verified.returncode == 0, verified.stderr
        line = write_line(tmp_path, broker.port, runtime={"provider": "cpu"})
        with Service(line, "--parts", "3") as service:
            service.wait_for("RUNNING")
            service.stop()
        assert "never verified" not in service.errors
