"""A camera that each notice fires, and what becomes of slots and losses."""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from pipeline.camera_config import DeviceCamera, TriggerNotices
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.clock import now_ns, seconds_until
from pipeline.line_config import LineConfig
from pipeline.noticed_camera import NoticedCamera
from pipeline.ring import Slot, SlotHeader
from tests.moved_clock import MovedClock
from tests.noticed import TriggerTeller
from vision.types import PixelFormat

PITCH_NS = 200_000_000
CONFIG = DeviceCamera(
    camera_id="cam0",
    width_px=8,
    height_px=8,
    pixel_format=PixelFormat.MONO8,
    trigger="software",
    trigger_notices=TriggerNotices(pitch_us=PITCH_NS // 1_000, topic="trigger/eye1"),
)


class FiredCamera:
    """Takes a picture when it is fired; ``is_ready`` and ``goes_when_fired`` are the test's to change."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._events: deque[CameraEvent] = deque()
        self.slots: deque[Slot] = deque()
        self._number = 0
        self.is_ready = self.is_there = True
        self.goes_when_fired = False

    def open(self) -> None:
        return

    def close(self) -> list[Slot]:
        unfilled = list(self.slots)
        self.slots.clear()
        return unfilled

    def queue(self, slot: Slot) -> None:
        self.slots.append(slot)

    def fileno(self) -> int | None:
        return self._receiver.fileno()

    def due_ns(self) -> int | None:
        return None

    def poll(self) -> Sequence[CameraEvent]:
        if not self.is_there:
            raise CameraUnavailable("camera cam0: unplugged")
        try:
            self._receiver.recv(4096)
        except BlockingIOError:
            return ()
        events = list(self._events)
        self._events.clear()
        return events

    def fire(self) -> bool:
        if self.goes_when_fired:
            self.is_there = False
            raise CameraUnavailable("camera cam0: unplugged")
        if self.is_ready:
            self.expose()
        return self.is_ready

    def expose(self) -> None:
        """Also without being told to."""
        self._number += 1
        taken_ns = self._clock()
        self._events.append(Triggered(self._number, None, taken_ns))
        if self.slots:
            header = SlotHeader(self._number, None, taken_ns, taken_ns, 8, 8, 8, PixelFormat.MONO8)
            self._events.append(Grabbed(self._number, taken_ns, self.slots.popleft(), header))
        else:
            self._events.append(NotGrabbed(self._number, "REFUSED", "no free slot"))
        self._sender.send(b"x")

    def unplug_for_good(self) -> None:
        self._receiver.close()
        self._sender.close()


class Bench:
    def __init__(self, port: int, others: tuple[str, ...] = (), *, is_fired: bool = True) -> None:
        """``others``: further cameras of the line."""
        self.is_fired = is_fired
        self.lag_ns = 0
        """Of messages; the camera that is not fired takes its frame at once."""
        self.clock = MovedClock()
        self.device = FiredCamera(self.clock)
        camera = {**CONFIG.model_dump(exclude={"trigger"}), "kind": "simulated"}
        line = LineConfig.model_validate(
            {
                "topic_root": "test/line",
                "recipe": "recipe.yaml",
                "cameras": [{**camera, "camera_id": name, "address": name} for name in ("cam0", *others)],
                "timing": {"deadline_us": 200_000},
                "mqtt": {"port": port, "client_id": "test"},
                "records": {"path": "records.db"},
            }
        )
        config = CONFIG if is_fired else CONFIG.model_copy(update={"trigger": "hardware"})
        self.camera = NoticedCamera(self.device, config, line, 0, clock=self.clock)
        self.teller = TriggerTeller(port, "test/line/trigger/eye1")
        self.count = 0

    def events_until(
        self, holds: Callable[[list[CameraEvent]], bool], *, time_passes: bool = True
    ) -> list[CameraEvent]:
        """``time_passes`` unless a message is under way: it would be late."""
        events: list[CameraEvent] = []
        while not holds(events):
            descriptor = self.camera.fileno()
            due_ns = self.clock.reach(self.camera.due_ns()) if time_passes else now_ns() + 100_000_000
            assert descriptor is not None
            assert due_ns is not None
            select.select([descriptor], [], [], seconds_until(due_ns))
            events += self.camera.poll()
        return events

    def part(self) -> list[CameraEvent]:
        """A trigger and what became of it."""
        self.clock.ns += PITCH_NS
        self.count += 1
        if not self.is_fired:
            self.device.expose()
            self.clock.ns += self.lag_ns
        self.teller.tell(self.count, encoder_count=100 * self.count)
        events = self.events_until(bool, time_passes=False)
        return events + self.events_until(lambda more: len(events) + len(more) >= 2)

    def measure(self) -> None:
        self.camera.open()
        self.events_until(lambda _: "measuring" in self.camera.not_ready()[0], time_passes=False)
        self.clock.ns += 2 * PITCH_NS
        for _ in range(20):
            _, outcome = self.part()
            assert isinstance(outcome, NotGrabbed)
            assert outcome.outcome == "MISSED"
        self.events_until(lambda _: self.camera.not_ready() == ("", False))

    def end(self) -> None:
        self.camera.close()
        self.teller.close()
        self.device.unplug_for_good()


@pytest.fixture
def bench(broker_port: int) -> Iterator[Bench]:
    made = Bench(broker_port)
    yield made
    made.end()


def slots(count: int) -> list[Slot]:
    return [Slot(index, 1, np.zeros(64, np.uint8)) for index in range(count)]


def test_each_notice_fires_the_camera_and_gets_that_picture(bench: Bench) -> None:
    bench.measure()
    for slot in slots(2):
        bench.camera.queue(slot)
    triggered, grabbed = bench.part()
    assert isinstance(triggered, Triggered)
    assert isinstance(grabbed, Grabbed)
    assert (triggered.trigger_counter, triggered.encoder_count) == (21, 2100)
    assert (grabbed.trigger_counter, grabbed.header.encoder_count, grabbed.slot.index) == (21, 2100, 0)
    assert triggered.trigger_ns == grabbed.trigger_ns <= grabbed.header.exposure_ns
    bench.device.is_ready = False
    _, outcome = bench.part()
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "MISSED"
    bench.device.is_ready = True
    _, grabbed = bench.part()
    assert isinstance(grabbed, Grabbed)
    assert grabbed.slot.index == 1
    _, outcome = bench.part()
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "REFUSED"


def test_a_frame_that_nobody_claims_gives_its_slot_back_to_the_camera(bench: Bench) -> None:
    bench.measure()
    (slot,) = slots(1)
    bench.camera.queue(slot)
    bench.device.expose()
    assert bench.events_until(lambda _: bool(bench.device.slots)) == []
    assert list(bench.device.slots) == [slot]
    assert bench.camera.counters["frames_unclaimed"] >= 1


def test_closing_gives_back_a_frame_that_waits_for_its_trigger(bench: Bench) -> None:
    bench.measure()
    one, other = slots(2)
    bench.camera.queue(one)
    bench.camera.queue(other)
    bench.device.expose()
    assert list(bench.camera.poll()) == []
    assert sorted(slot.index for slot in bench.camera.close()) == [0, 1]
    assert bench.camera.close() == []


def test_a_camera_that_is_gone_when_it_is_fired_is_told_after_its_trigger(bench: Bench) -> None:
    bench.measure()
    bench.device.goes_when_fired = True
    triggered, outcome = bench.part()
    assert isinstance(triggered, Triggered)
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "MISSED"
    with pytest.raises(CameraUnavailable, match="unplugged"):
        bench.events_until(bool)


def test_notices_that_have_become_late_are_told(broker_port: int) -> None:
    """The camera has its own trigger; by its frames each message is later than a tenth of the deadline."""
    bench = Bench(broker_port, is_fired=False)
    bench.measure()
    assert not bench.camera.trouble()
    bench.lag_ns = 30_000_000
    for _ in range(5):
        _, outcome = bench.part()
        assert isinstance(outcome, NotGrabbed)
        assert outcome.outcome == "MISSED"
    assert (
        "the notice of its trigger came 30000 us late, as did 4 before it; permitted are 20000"
        in bench.camera.trouble()
    )
    bench.end()


@pytest.mark.parametrize("is_measured", [False, True])
def test_frames_of_which_nobody_tells_are_told(broker_port: int, is_measured: bool) -> None:
    """Also before anything is known of the camera's numbers."""
    bench = Bench(broker_port, is_fired=False)
    if is_measured:
        bench.measure()
    else:
        bench.camera.open()
        bench.events_until(lambda _: "measuring" in bench.camera.not_ready()[0], time_passes=False)
    for _ in range(8):
        bench.clock.ns += PITCH_NS
        bench.device.expose()
        bench.camera.poll()
        assert not bench.camera.trouble()
    for _ in range(2):
        bench.clock.ns += PITCH_NS
        bench.device.expose()
        bench.camera.poll()
    words = "frames in a row were of no trigger that was told; does the controller publish to test/line/trigger/eye1"
    assert words in bench.camera.trouble()
    if not is_measured:
        text, is_under_way = bench.camera.not_ready()
        assert words in text
        assert not is_under_way
    bench.end()


@pytest.mark.parametrize("is_measured", [False, True])
def test_triggers_without_frames_are_told(broker_port: int, is_measured: bool) -> None:
    bench = Bench(broker_port)
    if is_measured:
        bench.measure()
    else:
        bench.camera.open()
        bench.events_until(lambda _: "measuring" in bench.camera.not_ready()[0], time_passes=False)
    bench.device.is_ready = False
    for _ in range(9):
        bench.part()
        assert not bench.camera.trouble()
    bench.part()
    assert "10 triggers in a row had no frame; does the signal reach the camera" in bench.camera.trouble()
    bench.device.is_ready = True
    bench.part()
    assert not bench.camera.trouble()
    bench.end()


def test_a_notice_that_says_nothing_of_its_part_is_refused_where_there_are_other_cameras(broker_port: int) -> None:
    bench = Bench(broker_port, others=("cam1",))
    bench.camera.open()
    bench.events_until(lambda _: "measuring" in bench.camera.not_ready()[0], time_passes=False)
    bench.teller.tell(1, encoder_count=100)
    bench.events_until(lambda _: bool(bench.camera.refusal), time_passes=False)
    assert (
        "expected part_key: nothing else says which views of the other cameras are of its part" in bench.camera.refusal
    )
    bench.teller.tell(2, part_key=7)
    (triggered, *_) = bench.events_until(bool, time_passes=False)
    assert isinstance(triggered, Triggered)
    assert (triggered.trigger_counter, triggered.part_key) == (1, 7)
    bench.clock.ns += PITCH_NS
    bench.teller.tell(3, part_key=7)
    bench.events_until(lambda _: "2 notices refused" in bench.camera.refusal, time_passes=False)
    assert "part_key: got 7 again, expected another one for each part" in bench.camera.refusal
    bench.teller.tell(4, part_key=8)
    (triggered, *_) = bench.events_until(bool, time_passes=False)
    assert isinstance(triggered, Triggered)
    assert triggered.part_key == 8
    bench.end()
