"""Device times in the box's clock by asking, against a device whose clock is known."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.cameras.asked_clock import Asked, AskedClock, AskedLine, ask, ask_features
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from tests.waiting import wait_until

BOX_BEGIN_NS = 5_000 * NS_PER_S
DEVICE_BEGIN_NS = 777 * NS_PER_MS


class World:
    """A device whose clock runs ``drift_ppm`` slower than the box's, and answers within ``doubt_ns`` or more."""

    def __init__(self, drift_ppm: float, doubt_ns: int = 100_000, seed: int = 1) -> None:
        self._pace = 1 / (1 + drift_ppm * 1e-6)
        self._doubt_ns = doubt_ns
        self._random = random.Random(seed)
        self.set_by_ns = 0

    def device_ns(self, box_ns: int) -> int:
        return DEVICE_BEGIN_NS + round((box_ns - BOX_BEGIN_NS) * self._pace) + self.set_by_ns

    def asked(self, box_ns: int) -> Asked:
        doubt_ns = self._doubt_ns + round(self._random.expovariate(1 / self._doubt_ns))
        return Asked(self.device_ns(box_ns), box_ns + self._random.randint(-doubt_ns, doubt_ns), doubt_ns)


@pytest.mark.parametrize("drift_ppm", [-100.0, 0.0, 20.0, 100.0])
@pytest.mark.parametrize("every_s", [1, 20])
def test_times_are_as_right_as_the_answers(drift_ppm: float, every_s: int) -> None:
    """From the first one on, whenever a frame comes, and however many answers are lost."""
    world = World(drift_ppm)
    line = AskedLine(world.asked(BOX_BEGIN_NS))
    errors: list[list[int]] = []
    for second in range(0, 200 * every_s, every_s):
        if second:
            assert line.take(world.asked(BOX_BEGIN_NS + second * NS_PER_S)) == 0
        moments = [BOX_BEGIN_NS + second * NS_PER_S + tenth * every_s * NS_PER_S // 10 for tenth in range(10)]
        errors.append([abs(line.box_ns(world.device_ns(moment)) - moment) for moment in moments])
    assert max(max(each) for each in errors[:10]) < 500_000 + 300_000 * every_s
    assert max(max(each) for each in errors[100:]) < 600_000


@pytest.mark.parametrize("set_by_ms", [-5_000, -28, -5, 5, 28, 90_000])
@pytest.mark.parametrize("after_s", [1, 5, 100])
def test_a_clock_that_is_set_is_told_by_how_much(set_by_ms: int, after_s: int) -> None:
    world = World(40.0)
    line = AskedLine(world.asked(BOX_BEGIN_NS))
    for second in range(1, after_s):
        assert line.take(world.asked(BOX_BEGIN_NS + second * NS_PER_S)) == 0
    world.set_by_ns = set_by_ms * NS_PER_MS
    back_ns = line.take(world.asked(BOX_BEGIN_NS + after_s * NS_PER_S))
    assert back_ns == pytest.approx(-set_by_ms * NS_PER_MS, abs=5 * NS_PER_MS)


def test_a_clock_that_is_steered_is_followed() -> None:
    world = World(0.0)
    line = AskedLine(world.asked(BOX_BEGIN_NS))
    for second in range(1, 60):
        world.set_by_ns += 500_000 if second < 30 else 0
        moment = BOX_BEGIN_NS + second * NS_PER_S
        assert line.take(world.asked(moment)) == 0
        assert abs(line.box_ns(world.device_ns(moment)) - moment) < 4 * NS_PER_MS


def test_a_slow_answer_takes_no_time_off() -> None:
    world = World(20.0)
    line = AskedLine(world.asked(BOX_BEGIN_NS))
    for second in range(1, 100):
        moment = BOX_BEGIN_NS + second * NS_PER_S
        slow = Asked(world.device_ns(moment - 20 * NS_PER_MS), moment, 25 * NS_PER_MS)
        assert line.take(slow if second % 3 else world.asked(moment)) == 0
        assert abs(line.box_ns(world.device_ns(moment)) - moment) < 800_000


class Device:
    """Its clock is the box's and ``ahead_ns``; it answers while ``answers``."""

    def __init__(self) -> None:
        self.ahead_ns = 90 * NS_PER_S
        self.answers, self.fails = True, False
        self.count = 0
        self.stands_ns: int | None = None
        self._latched_ns = 0

    def latch(self) -> None:
        self._latched_ns = self.clock_ns()

    def latched_ns(self) -> int:
        return self._latched_ns

    def clock_ns(self) -> int:
        return now_ns() + self.ahead_ns if self.stands_ns is None else self.stands_ns

    def ask(self) -> Asked | None:
        self.count += 1
        if self.fails:
            raise RuntimeError("the node map is gone")
        return ask(self.latch, self.latched_ns) if self.answers else None


@contextmanager
def clock_of(device: Device, every_s: float = 3_600.0) -> Iterator[tuple[AskedClock, threading.Event]]:
    told = threading.Event()
    first = device.ask()
    assert first is not None
    clock = AskedClock(first, device.ask, told.set, every_s)
    try:
        yield clock, told
    finally:
        clock.end()


def test_an_answer_is_a_moment_by_both_clocks() -> None:
    asked = Device().ask()
    assert asked is not None
    assert abs(asked.device_ns - asked.box_ns - 90 * NS_PER_S) <= asked.doubt_ns + 1


def test_a_clock_that_stands_still_is_none() -> None:
    device = Device()
    device.stands_ns = 4_711
    assert device.ask() is None


def test_it_is_asked_again_and_again() -> None:
    device = Device()
    with clock_of(device, every_s=0.01) as (clock, told):
        wait_until(lambda: device.count > 5)
        assert not clock.trouble
    count = device.count
    assert count > 5
    assert not told.is_set()


@pytest.mark.parametrize(("by_ms", "words"), [(-28, "behind"), (3, "ahead")])
def test_a_frame_that_took_another_time_has_it_asked_at_once(by_ms: int, words: str) -> None:
    """Otherwise it would be in an hour."""
    device = Device()
    with clock_of(device) as (clock, told):
        for _ in range(100):
            moment = now_ns()
            assert abs(clock.box_ns(moment + device.ahead_ns, moment + 5 * NS_PER_MS) - moment) < NS_PER_MS
        assert device.count == 1
        device.ahead_ns += by_ms * NS_PER_MS
        moment = now_ns()
        clock.box_ns(moment + device.ahead_ns, moment + 5 * NS_PER_MS)
        assert told.wait(30)
        found = re.match(r"its clock is (\d+\.\d) ms (\w+)(?: of)? where it was to be after ", clock.trouble)
        assert found is not None
        assert float(found[1]) == pytest.approx(abs(by_ms), abs=0.5)
        assert found[2] == words


def test_no_time_is_later_than_the_arrival() -> None:
    device = Device()
    with clock_of(device) as (clock, _told):
        moment = now_ns()
        assert clock.box_ns(moment + device.ahead_ns + 50 * NS_PER_MS, moment) == moment


def test_a_device_that_does_not_answer_for_a_minute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr("pipeline.cameras.asked_clock._SILENT_NS", 50 * NS_PER_MS)
    with clock_of(device, every_s=0.001) as (clock, told):
        device.answers = False
        assert told.wait(30)
        assert clock.trouble == "its clock has not answered for 0 s"


def test_a_frame_from_the_future_tells_at_once_that_the_clock_was_set() -> None:
    device = Device()
    with clock_of(device) as (clock, _told):
        moment = now_ns()
        clock.box_ns(moment + device.ahead_ns + 50 * NS_PER_MS, moment + 5 * NS_PER_MS)
        assert clock.trouble.endswith(" ms ahead: its clock was set")


def test_frames_that_always_take_long_are_not_late() -> None:
    """Long exposures, slow lines of a line scan."""
    device = Device()
    with clock_of(device) as (clock, _told):
        begin = now_ns()
        for number in range(60):
            moment = begin + number * 200 * NS_PER_MS
            clock.box_ns(moment + device.ahead_ns, moment + 4 * NS_PER_S)
        assert not clock.trouble


def test_a_box_whose_clock_is_slewed_is_no_device_whose_clock_was_set() -> None:
    """By 500 ppm, from one second to the next, with answers of all speeds."""
    world, chance = World(0.0), random.Random(3)
    line = AskedLine(world.asked(BOX_BEGIN_NS))
    for second in range(1, 400):
        world.set_by_ns += 500_000 if second % 100 > 50 else 0
        moment = BOX_BEGIN_NS + second * NS_PER_S
        doubt_ns = chance.choice((30_000, 200_000, 900_000))
        asked = Asked(world.device_ns(moment), moment + chance.randint(-doubt_ns, doubt_ns), doubt_ns)
        assert line.take(asked) == 0


def test_whatever_a_driver_raises_is_an_answer_that_did_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr("pipeline.cameras.asked_clock._SILENT_NS", 50 * NS_PER_MS)
    with clock_of(device, every_s=0.001) as (clock, told):
        device.fails = True
        assert told.wait(30)
        assert clock.trouble == "its clock has not answered for 0 s (the node map is gone)"


def test_slow_answers_are_no_clock_that_was_set() -> None:
    """The device notes its time at once and answers 20 ms later; frames take half a millisecond."""
    first = Asked(777 * NS_PER_MS, BOX_BEGIN_NS + 10 * NS_PER_MS, 10 * NS_PER_MS)
    clock = AskedClock(first, lambda: None, lambda: None, 3_600.0)
    try:
        for number in range(100):
            moment = BOX_BEGIN_NS + number * 50 * NS_PER_MS
            clock.box_ns(moment - BOX_BEGIN_NS + 777 * NS_PER_MS, moment + 500_000)
        assert not clock.trouble
    finally:
        clock.end()


def test_time_stamps_that_stand_still_are_told() -> None:
    device = Device()
    with clock_of(device) as (clock, _told):
        begin = now_ns()
        for number in range(60):
            clock.box_ns(begin + device.ahead_ns, begin + number * 50 * NS_PER_MS)
        assert clock.trouble == "its time stamps stand still"


class StandInFeatures:
    def __init__(self, latch: str, value: str, ticks_per_s: int, offset_ns: int) -> None:
        self._names, self._ticks_per_s, self._offset_ns = (latch, value), ticks_per_s, offset_ns
        self._latched = 0

    def kind(self, name: str) -> str | None:
        return "COMMAND" if name in self._names else None

    def execute(self, name: str) -> None:
        assert name == self._names[0]
        self._latched = (now_ns() - self._offset_ns) * self._ticks_per_s // NS_PER_S

    def get(self, name: str) -> int:
        assert name == self._names[1]
        return self._latched


@pytest.mark.parametrize(
    ("latch", "value", "ticks_per_s"),
    [
        ("TimestampLatch", "TimestampLatchValue", NS_PER_S),
        ("GevTimestampControlLatch", "GevTimestampValue", 125_000_000),
    ],
)
def test_it_is_asked_by_its_features(latch: str, value: str, ticks_per_s: int) -> None:
    offset_ns = now_ns() - 90 * NS_PER_S
    features = StandInFeatures(latch, value, ticks_per_s, offset_ns)
    found = ask_features(features, ticks_per_s)  # type: ignore[arg-type]
    assert found is not None
    assert abs(found.box_ns - found.device_ns - offset_ns) <= found.doubt_ns + 8


def test_without_such_features_there_is_no_answer() -> None:
    nothing = StandInFeatures("Latch", "Value", NS_PER_S, 0)
    assert ask_features(nothing, NS_PER_S) is None  # type: ignore[arg-type]
