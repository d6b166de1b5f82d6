"""A ledger that is damaged, or has no file: the service runs, says so, and records all that can be read."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pipeline import ledger_file
from pipeline.config import load_line
from pipeline.ledger import Ledger, LedgerHead, TriggerKey
from pipeline.ledger_file import LedgerFile, damaged_ledgers, ledger_files
from pipeline.rules import Matching
from pipeline.supervisor import Supervisor
from tests.chaos.books import check_record, read_rows
from tests.service import Service, workers_of, write_line
from tests.tap import Tap
from vision.types import Reason, Verdict

ROOT = "test/line"


def texts_of(tap: Tap, code: str) -> list[str]:
    return [body["text"] for body in tap.bodies(f"alarm/{code}") if body is not None]


def damage(path: Path, part_id: int) -> None:
    """A verdict that is none."""
    with path.open("r+b") as file:
        ledger = Ledger(file.fileno())
        ledger._entries[part_id % ledger.head.part_count]["verdict"] = 200


def test_a_damaged_ledger_of_a_killed_session(tmp_path: Path, broker_port: int) -> None:
    record = tmp_path / "records.db"
    left = LedgerFile.create(
        record, LedgerHead("old", 256, 40_000_000, None, 0, "r", "1", False, 1, Matching(32, 5, 0))
    )
    assert left.path is not None
    ledger = Ledger(left.descriptor)
    for part_id in (1, 2, 3):
        ledger.open_part(part_id, None, part_id, TriggerKey(0, 1, part_id))
        ledger.decide(part_id, part_id, Verdict.PASS, Reason.OK, part_id)
    damage(left.path, 2)
    left.close()
    del ledger  # its mapping holds the lock as well
    aside = left.path.with_suffix(".damaged")
    try:
        with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("RUNNING")
            tap.wait_until(lambda: bool(texts_of(tap, "ledger")))
            workers_of(service.process.pid)["records"].kill()  # its successor says it as well
            tap.wait_until(lambda: len(texts_of(tap, "ledger")) > 1)
            service.wait_for("RUNNING")
            service.stop()
        first, *_, last = texts_of(tap, "ledger")
        assert first == f"ledger {left.path} is damaged and is kept as {aside}: 1 of its entries cannot be read"
        assert str(aside) in last
        assert damaged_ledgers(record) == [aside]
        assert ledger_files(record) == []
        assert [row.part_id for row in read_rows(record) if row.session_id == "old"] == [1, 3]
    finally:
        aside.unlink(missing_ok=True)


def test_no_room_for_a_ledger_file(tmp_path: Path, broker_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "SHARED_MEMORY", tmp_path / "none")
    line = load_line(write_line(tmp_path, broker_port))
    told: list[str] = []
    with Tap(broker_port, ROOT) as tap:
        Supervisor(line, lambda _state, _reason: None, told.append).run(parts=5, duration_s=None)
        tap.wait_until(lambda: bool(texts_of(tap, "ledger-file")))
    (text,) = texts_of(tap, "ledger-file")
    assert text.startswith(f"no ledger file in {tmp_path / 'none'} (No such file or directory): were every process")
    assert f"lineside: warning: {text}" in told
    assert len(read_rows(tmp_path / "records.db")) >= 5


def test_damage_to_the_ledger_that_is_in_use(tmp_path: Path, broker_port: int) -> None:
    record = tmp_path / "records.db"
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("result", 3)
        (path,) = ledger_files(record)
        damage(path, 1)
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: bool(texts_of(tap, "ledger")))
        service.wait_for("RUNNING")
        service.stop()
    assert texts_of(tap, "ledger") == [f"ledger {path}: 1 entries in it cannot be read"]
    check_record(read_rows(record))
