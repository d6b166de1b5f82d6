"""The inspection worker towards an acquisition that does not listen for a while."""

from __future__ import annotations

import select
import threading
from pathlib import Path

import pytest

from pipeline.channel import Link, link_pair
from pipeline.config import load_line
from pipeline.drift_signals import DriftSignals
from pipeline.inspection import InspectionWorker
from pipeline.messages import Configure, Connect, FrameTicket, Halt, Release, RingOffer, Stop
from pipeline.ring import Ring, SlotHeader
from pipeline.worker import Supervised
from tests.service import write_line
from vision.inspector import Inspector
from vision.types import PixelFormat

SLOTS = 1_024


class Idle(Inspector):
    """These parts' time is over before they come: there is nothing to look at."""

    def __init__(self) -> None:
        pass

    def begin(self) -> None:
        pass


def test_every_slot_comes_back_from_an_inspection_whose_releases_find_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.channel._BUFFER_BYTES", 4_096)
    ours, theirs = (Link(end) for end in link_pair())
    one, other = link_pair()
    camera = Link(one)
    line = load_line(write_line(tmp_path, 1))
    worker = InspectionWorker(
        Supervised(theirs, Configure("inspection", 1, "s", "", None, 0, Halt(), True), line),
        Idle(),
        DriftSignals(line.config, {}),
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    ring = Ring("cam0", SLOTS, 64)
    with other:
        assert ours.send(Connect("acquisition", 1, "cam0"), (other.fileno(),))
    assert camera.send(RingOffer("cam0", 1, SLOTS, 64), (ring.descriptor,))
    for counter in range(SLOTS):
        slot = ring.loan()
        assert slot is not None
        ring.publish(slot, SlotHeader(counter, None, 0, 0, 8, 8, 8, PixelFormat.MONO8), reader=1)
        ticket = FrameTicket("cam0", 1, slot.index, slot.generation, counter, None, 0, 0)
        while not camera.send(ticket):
            select.select([], [camera], [])
    while ring.free_count < SLOTS:
        ready, _, _ = select.select([camera], [], [], 30)
        assert ready, f"{SLOTS - ring.free_count} slots never came back"
        for message in camera.drain():
            assert isinstance(message, Release)
            ring.release(message.slot, message.generation, reader=1)
    assert ours.send(Stop())
    thread.join()
    ring.close()
    for link in (ours, theirs, camera, *(held.link for held in worker._cameras.values())):
        link.close()
