"""The records worker by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.channel import Link, link_pair
from pipeline.clock import now_ns
from pipeline.config import load_line
from pipeline.messages import Alarm, Configure, Connect, EndOfParts, Halt, PartRecord
from pipeline.records import Records
from pipeline.worker import Supervised
from tests.service import write_line


def test_a_slow_commit_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.records._SLOW_NS", 0)
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
    records.open()
    records.run()
    alarms = [message for message in ours.drain() if isinstance(message, Alarm)]
    for link in (theirs, ours, signalling):
        link.close()
    (slow,) = (alarm for alarm in alarms if alarm.code == "record-slow")
    assert "records.db: a commit took 0.0 s; the disk is slow" in slow.text
