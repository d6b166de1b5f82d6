"""The record is away for longer than the ledger carries: what is lost is counted, said, and fails the stop."""

from __future__ import annotations

import re
import signal
import sqlite3
from pathlib import Path

import yaml

from tests.chaos.books import read_rows
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
LEDGER_PARTS = 256


def _small_ledger(folder: Path, broker_port: int) -> Path:
    line = write_line(folder, broker_port, ledger_parts=LEDGER_PARTS)
    written = yaml.safe_load(line.read_text())
    written["cameras"][0]["parts_per_min"] = 6_000
    line.write_text(yaml.safe_dump(written))
    return line


def _lose_the_record(service: Service, tap: Tap, record: Path) -> sqlite3.Connection:
    """Somebody holds the database until the ledger is full."""
    service.wait_for("RUNNING")
    other = sqlite3.connect(record, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    service.wait_for("HALTED no record of verdicts")
    tap.wait_until(lambda: bool(tap.bodies("alarm/records-lost")))
    return other


def test_what_died_with_signalling_and_had_no_room_in_the_ledger(tmp_path: Path, broker_port: int) -> None:
    record = tmp_path / "records.db"
    with Service(_small_ledger(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        other = _lose_the_record(service, tap, record)
        tap.wait_count("verdict", LEDGER_PARTS)
        workers_of(service.process.pid)["signalling"].kill()
        service.wait_for("HALTED no record of verdicts")
        other.close()
        service.wait_for("RUNNING")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=30) == 1
        said = re.search(
            r"as many as (\d+) parts are lost to the record, as more than ledger_parts 256 came", service.errors
        )
    assert said is not None
    part_ids = [row.part_id for row in read_rows(record)]
    assert 0 < max(part_ids) - len(part_ids) <= int(said[1])
    told = [body["text"] for body in tap.bodies("alarm/records-lost") if body is not None]
    assert all("parts are lost to the record: more than ledger_parts 256 came" in text for text in told)


def test_what_signalling_lives_to_hand_over_is_not_lost(tmp_path: Path, broker_port: int) -> None:
    record = tmp_path / "records.db"
    with Service(_small_ledger(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        other = _lose_the_record(service, tap, record)
        other.close()
        tap.wait_until(lambda: tap.bodies("alarm/records-lost")[-1] is None)
        service.wait_for("RUNNING")
        service.stop()
    part_ids = [row.part_id for row in read_rows(record)]
    assert max(part_ids) == len(part_ids) > LEDGER_PARTS
