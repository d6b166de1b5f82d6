"""The records worker by itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.channel import Link, link_pair
from pipeline.clock import now_ns
from pipeline.config import load_line
from pipeline.messages import Alarm, Configure, Connect, EndOfParts, Halt, PartRecord
from pipeline.records import Records
from pipeline.worker import Supervised
from tests.service import write_line


@dataclass
class Worker:
    """Records with one part told to it, and both ends of its link to the supervisor."""

    records: Records
    supervisor: Link
    record: Path

    def alarms(self) -> list[Alarm]:
        return [message for message in self.supervisor.drain() if isinstance(message, Alarm)]


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    theirs, ours = (Link(end) for end in link_pair())
    one, other = link_pair()
    line = load_line(write_line(tmp_path, 1, degraded={"platform_interval_s": None}))
    records = Records(Supervised(theirs, Configure("records", 1, "s", "", None, 0, Halt()), line))
    with one:
        ours.send(Connect("signalling", 1, None), (one.fileno(),))
    signalling = Link(other)
    now = now_ns()
    signalling.send(PartRecord(1, 1, "PASS", "OK", None, None, now, now, now, now, 0, 0, ()))
    signalling.send(EndOfParts())
    yield Worker(records, ours, line.config.records.path)
    for link in (theirs, ours, signalling):
        link.close()


def test_a_slow_commit_is_said(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.records._SLOW_NS", 0)
    worker.records.open()
    worker.records.run()
    (slow,) = (alarm for alarm in worker.alarms() if alarm.code == "record-slow")
    assert "records.db: a commit took 0.0 s; the disk is slow" in slow.text


def test_a_folder_that_cannot_be_read_is_waited_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path) -> Iterator[Path]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", refuse)
        worker.records.open()
    (fault,) = worker.alarms()
    assert fault.code == "records"
    assert "records.db: its folder cannot be read: Input/output error" in fault.text
    worker.records.run()
    assert [(alarm.code, alarm.raised) for alarm in worker.alarms()] == [("records", False)]
    with contextlib.closing(sqlite3.connect(worker.record)) as database:
        assert database.execute("SELECT part_id FROM part").fetchall() == [(1,)]
