"""No message that a worker can make is too long for a link; one that were so costs nobody's life."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.channel import MESSAGE_BYTES_MAX, Link, link_pair
from pipeline.config import load_line
from pipeline.inspection import _view_inspected
from pipeline.messages import Alarm, AnyMessage, Configure, Fatal, FrameKey, FrameTicket, Halt, PartRecord, Summary
from pipeline.worker import Supervised, refuse
from tests.service import write_line
from vision.types import Defect, Inspection, Reason, Verdict

BIGGEST = 2**63 - 1


@pytest.mark.parametrize("name", ["crack", "\U00010000" * 64, "x" * 10_000])
def test_a_part_with_any_number_of_defects_fits_a_link(name: str) -> None:
    box = (0.1, 0.1, 1e9, 1e9)
    found = tuple(Defect(name, 0.5 + 1 / (number + 3), box, 1e18, box, 1e18) for number in range(1_000))
    ticket = FrameTicket("c" * 32, BIGGEST, BIGGEST, BIGGEST, BIGGEST, BIGGEST, BIGGEST, BIGGEST)
    inspection = Inspection(Verdict.NO_DECISION, Reason.NOT_RUNNING, 0.9, found)
    view = _view_inspected(ticket, BIGGEST, BIGGEST, inspection, (BIGGEST, BIGGEST, BIGGEST), handed_on=False)
    assert len(view.defects) == min(32, 7_000 // (112 + len(name.encode())))
    assert [defect.score for defect in view.defects] == sorted((defect.score for defect in view.defects), reverse=True)
    numbers = (BIGGEST,) * 6
    frame = FrameKey("c" * 32, BIGGEST, BIGGEST)
    record = PartRecord(
        BIGGEST, BIGGEST, "NO_DECISION", "NOT_RUNNING", *numbers, BIGGEST, BIGGEST, (view,) * 8, (frame,) * 8
    )
    assert len(msgspec.msgpack.encode(record)) <= MESSAGE_BYTES_MAX


def supervised_of(control: Link, tmp_path: Path) -> Supervised:
    line = load_line(write_line(tmp_path, 1))
    return Supervised(control, Configure("records", 1, "s", "", None, 0, Halt(), True), line)


def test_a_worker_outlives_a_message_that_no_link_carries(tmp_path: Path) -> None:
    theirs, ours = (Link(end) for end in link_pair())
    worker = supervised_of(theirs, tmp_path)
    worker.post(Summary("x" * MESSAGE_BYTES_MAX, True))
    worker.post(Summary("short", True))
    heard: list[AnyMessage] = list(ours.drain())
    assert [type(message) for message in heard] == [Alarm, Summary]
    assert "records: Summary takes" in heard[0].text  # type: ignore[union-attr]
    for link in (theirs, ours):
        link.close()


def test_long_words_are_cut(tmp_path: Path) -> None:
    theirs, ours = (Link(end) for end in link_pair())
    worker = supervised_of(theirs, tmp_path)
    worker.alarm("a", "error", "x" * 100_000)
    worker.alarm("a", "error", "x" * 100_000)
    with pytest.raises(SystemExit):
        refuse(worker, "x" * 100_000, malformed=True)
    alarm, fatal = ours.drain()
    assert isinstance(alarm, Alarm)
    assert alarm.text == "x" * 1_000 + "..."
    assert isinstance(fatal, Fatal)
    assert len(fatal.text) == 10_003
    for link in (theirs, ours):
        link.close()
