"""Records stands still, as on a slow disk: what the line does meanwhile, what is said, and who is killed when."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.books import check_record, read_rows
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
_PTRACE_SEIZE = 0x4206


def wait_for_errors(service: Service, words: str) -> None:
    give_up_s = time.monotonic() + 60
    while words not in service.errors:
        assert time.monotonic() < give_up_s, service.errors
        time.sleep(0.01)  # polls a file


def write_impatient_line(folder: Path, port: int, **changes: Any) -> Path:
    return write_line(folder, port, **{"records": {"path": "records.db", "acknowledged_within_s": 1}, **changes})


def test_nothing_runs_long_without_a_record(tmp_path: Path, broker_port: int) -> None:
    with Service(write_impatient_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 5)
        records = workers_of(service.process.pid)["records"]
        records.send_signal(signal.SIGSTOP)
        service.wait_for("HALTED no record of verdicts: not acknowledged within 1.02 s")
        wait_for_errors(service, "records has been silent for 2 s; its disk may be slow; it is killed after 30 s")
        last = tap.bodies("verdict")[-1]["part_id"]
        tap.wait_count("verdict", 20)
        after = [body for body in tap.bodies("verdict") if body["part_id"] > last + 1]
        assert {body["reason"] for body in after} == {"NOT_RUNNING"}
        records.send_signal(signal.SIGCONT)
        service.wait_for("RUNNING")
        assert workers_of(service.process.pid)["records"].pid == records.pid
        tap.wait_until(
            lambda: bool(tap.bodies("alarm/silent-records")) and tap.bodies("alarm/silent-records")[-1] is None
        )
        summary = service.stop()
    rows = read_rows(tmp_path / "records.db")
    check_record(rows)
    assert len(rows) == summary["parts_triggered"]


def test_goes_on_and_says_so_where_told_to(tmp_path: Path, broker_port: int) -> None:
    records = {"path": "records.db", "acknowledged_within_s": 1, "on_record_fault": "continue"}
    with Service(write_line(tmp_path, broker_port, records=records)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        worker = workers_of(service.process.pid)["records"]
        worker.send_signal(signal.SIGSTOP)
        service.wait_for("RUNNING verdicts are not recorded: not acknowledged within 1.02 s")
        tap.wait_until(lambda: tap.bodies("verdict")[-1]["verdict"] == "PASS")
        worker.send_signal(signal.SIGCONT)
        tap.wait_until(lambda: tap.bodies("state")[-1]["reason"] == "")
        assert "HALTED" not in service.words
        service.stop()


def test_goes_on_without_a_records_process_where_told_to(tmp_path: Path, broker_port: int) -> None:
    records = {"path": "records.db", "on_record_fault": "continue"}
    line = write_line(tmp_path, broker_port, records=records, supervision={"records_silent_after_s": 1})
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 1)
        last = tap.bodies("verdict")[-1]["part_id"]
        workers_of(service.process.pid)["records"].send_signal(signal.SIGSTOP)
        service.wait_for("RUNNING verdicts are not recorded: the records process died")
        service.wait_for("RUNNING")
        summary = service.stop()
    assert "records was silent for 1 s and is killed" in service.errors
    assert "ERROR" not in service.words
    rows = read_rows(tmp_path / "records.db")
    check_record(rows)
    assert len(rows) == summary["parts_triggered"]
    assert "NOT_RUNNING" not in {row.reason for row in rows if row.part_id > last}


def test_records_is_replaced_at_the_end_of_its_own_patience(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, supervision={"silent_after_s": 2, "records_silent_after_s": 3})
    with Service(line) as service:
        service.wait_for("RUNNING")
        records = workers_of(service.process.pid)["records"]
        records.send_signal(signal.SIGSTOP)
        service.wait_for("RUNNING")
        assert "records was silent for 3 s and is killed" in service.errors
        assert workers_of(service.process.pid)["records"].pid != records.pid
        service.stop()
    check_record(read_rows(tmp_path / "records.db"))


def test_a_worker_that_does_not_die_holds_nobody_up(tmp_path: Path, broker_port: int) -> None:
    """As in the kernel on a broken disk: killed, it is not gone. Here its tracer keeps it from being buried."""
    line = write_line(tmp_path, broker_port, supervision={"records_silent_after_s": 1})
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        workers = workers_of(service.process.pid)
        records = workers["records"].pid
        if ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_SEIZE, records, None, None) != 0:
            pytest.skip(f"processes cannot be traced here: {os.strerror(ctypes.get_errno())}")
        try:
            workers["records"].send_signal(signal.SIGSTOP)
            service.wait_for("ERROR restarting records")
            wait_for_errors(service, "records was killed and does not die: stuck in the kernel")
            assert service.errors.count("records was silent for 1 s and is killed") == 1
            # The supervisor turns all the same.
            workers["inspection"].send_signal(signal.SIGKILL)
            wait_for_errors(service, "inspection killed by SIGKILL; restarting")
            service.wait_for("ERROR restarting records")
            beats = len(tap.bodies("heartbeat"))
            tap.wait_until(lambda: len(tap.bodies("heartbeat")) > beats + 5)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(timeout=60) == 1
            assert f"records (process {records}) does not die and is left behind" in service.errors
        finally:
            os.waitpid(records, 0x40000000)  # __WALL


def test_an_orphan_and_its_successor_do_not_fight_over_the_broker(tmp_path: Path, broker_port: int) -> None:
    """The supervisor dies while the record is locked: what it leaves waits for the record, and the next service runs meanwhile."""
    line = write_line(tmp_path, broker_port)
    with Service(line) as first:
        first.wait_for("RUNNING")
        with contextlib.closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None, timeout=10)) as locker:
            locker.execute("BEGIN IMMEDIATE")
            first.wait_for("HALTED no record of verdicts")
            signalling = workers_of(first.process.pid)["signalling"]
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            with Service(line) as second, Tap(broker_port, ROOT) as tap:
                second.wait_for("HALTED no record of verdicts")
                tap.wait_count("heartbeat", 20)
                signalling.wait(timeout=30)
                locker.execute("ROLLBACK")
                second.wait_for("RUNNING")
                second.stop()
            assert "the connection broke" not in second.errors
    check_record(read_rows(tmp_path / "records.db"))
