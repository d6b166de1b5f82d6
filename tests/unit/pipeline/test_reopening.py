"""Opening the record again and again: what outlives its file, and what was damaged."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipeline.record.faults import RecordFault
from pipeline.record.lock import lock_record
from pipeline.record.verify import verify
from pipeline.reopening import RecordOpening
from tests.supervised import supervised_at
from tests.unit.pipeline.test_record_look import spoil_page_of
from tests.unit.pipeline.test_record_store import results


def test_totals_go_on_where_the_file_is_gone(tmp_path: Path) -> None:
    with supervised_at(tmp_path) as (supervised, heard):
        opening = RecordOpening(supervised)
        store = opening.open()
        store.commit(results(1, 3, "s"), [])
        opening.lose(store)
        (tmp_path / "records.db").unlink()
        again = opening.open()
        assert again.head()[0] == 0
        assert again.tally.summary()["parts_triggered"] == 3
        assert opening.tally is again.tally
        again.close()
        assert heard.alarms() == {}


def test_a_damaged_record_is_set_aside_and_said_in_every_session_that_did(tmp_path: Path) -> None:
    record = tmp_path / "records.db"
    with supervised_at(tmp_path) as (supervised, heard):
        store = RecordOpening(supervised).open()
        store.commit(results(1, 3, "s"), [])
        store.close()
        record.write_bytes(record.read_bytes()[:8_192] + b"x" * 40_960)
        store = RecordOpening(supervised).open()
        assert store.head()[0] == 0
        store.close()
        aside = tmp_path / "records.db.damaged-s-1"
        assert aside.exists()
        said = f"record {record} was damaged and is kept as {aside}; the record goes on in a new file"
        assert str(heard.alarms()["record-damaged"]).startswith(said)
    with supervised_at(tmp_path) as (supervised, heard):
        # To the successor of a records that was killed.
        RecordOpening(supervised).open().close()
        assert heard.alarms() == {"record-damaged": said}
    with supervised_at(tmp_path, session_id="t") as (supervised, heard):
        RecordOpening(supervised).open().close()
        assert heard.alarms() == {}


def test_damage_where_nothing_is_written_is_found_too(tmp_path: Path) -> None:
    """Rows that came after it would be sealed with it."""
    record = tmp_path / "records.db"
    with supervised_at(tmp_path) as (supervised, heard):
        store = RecordOpening(supervised).open()
        store.commit(results(1, 600, "before"), [])
        store.close()
        spoil_page_of(record, 100)
        assert "unreadable" in {finding.kind for finding in verify(record).findings}
        store = RecordOpening(supervised).open()
        store.commit(results(601, 610, "s"), [])
        store.close()
        assert "database is damaged: " in str(heard.alarms()["record-damaged"])
    assert verify(record).rows == 10
    assert verify(record).findings == []


class Unread(sqlite3.Connection):
    """A page that the disk does not give."""

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        if "quick_check" in statement:
            return super().execute("SELECT 'Tree 5 page 7: unable to get the page. error code=266'")
        return super().execute(statement, *arguments)


def test_a_page_that_the_disk_does_not_give_now_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    with supervised_at(tmp_path) as (supervised, heard):
        RecordOpening(supervised).open().close()
        with monkeypatch.context() as patched:
            patched.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Unread))
            RecordOpening(supervised).open().close()
        assert heard.alarms() == {}


def test_a_record_that_another_service_has_is_left_alone(tmp_path: Path) -> None:
    held = lock_record(tmp_path / "records.db")
    with supervised_at(tmp_path, has_lock=False) as (supervised, _):
        with pytest.raises(RecordFault, match="another service writes to it"):
            RecordOpening(supervised).open()
        os.close(held)
    assert not (tmp_path / "records.db").exists()
