"""Session ids sort by time, and none comes twice on a record."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from pipeline.ledger import LedgerHead
from pipeline.ledger_file import LedgerFile
from pipeline.record.store import RecordStore
from pipeline.rules import Matching
from pipeline.session import new_session_id
from tests.unit.pipeline.test_payloads import RESULT

BOOT_S = 1_800_000_000
AT_BOOT, AFTER_IT = "tro8w0", "tro8w1"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "a #1.db"


@pytest.fixture(autouse=True)
def _boots_at_the_same_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.session.time.time", lambda: float(BOOT_S))
    monkeypatch.setattr("pipeline.session.secrets.choice", lambda characters: characters[0])


def test_session_ids_sort_by_time(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for moment_s in (1_800_000_000, 1_800_000_001, 2_000_000_000):
        monkeypatch.setattr("pipeline.session.time.time", lambda moment_s=moment_s: float(moment_s))
        ids.append(new_session_id(record))
    assert ids == sorted(ids)
    assert {len(session_id) for session_id in ids} == {8}


def test_an_id_on_record_is_drawn_again(record: Path) -> None:
    store = RecordStore(record, AT_BOOT + "00", budget_us=1, deadline_us=2)
    assert new_session_id(record) == AT_BOOT + "00"
    store.commit([msgspec.structs.replace(RESULT, session_id=AT_BOOT + "00")], [])
    assert new_session_id(record) == AFTER_IT + "00"
    store.close()


def test_an_id_of_a_session_without_parts_is_drawn_again(record: Path) -> None:
    store = RecordStore(record, AT_BOOT + "00", budget_us=1, deadline_us=2)
    store.save_tally()
    store.close()
    assert new_session_id(record) == AFTER_IT + "00"


def test_an_id_whose_ledger_waits_is_drawn_again(record: Path) -> None:
    head = LedgerHead(AT_BOOT + "00", 256, 1, None, 0, "r", "1", False, 1, Matching(16, 5, 0))
    file = LedgerFile.create(record, head)
    assert new_session_id(record) == AFTER_IT + "00"
    file.remove()
    file.close()


def test_a_record_that_cannot_be_read_is_left_out(record: Path) -> None:
    assert new_session_id(record) == AT_BOOT + "00"
    record.write_bytes(b"no database" * 100)
    assert new_session_id(record) == AT_BOOT + "00"
    record.unlink()
    record.mkdir()
    assert new_session_id(record) == AT_BOOT + "00"


def test_a_locked_record_is_left_out(record: Path) -> None:
    RecordStore(record, AT_BOOT + "00", budget_us=1, deadline_us=2).close()
    with contextlib.closing(sqlite3.connect(record, isolation_level=None)) as locker:
        locker.execute("PRAGMA locking_mode = EXCLUSIVE")
        locker.execute("BEGIN EXCLUSIVE")
        assert new_session_id(record) == AT_BOOT + "00"
        locker.execute("ROLLBACK")
