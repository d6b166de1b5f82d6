"""Software triggers: fired in order when the camera is ready, told when it was not, and never waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.software_trigger import Fired, SoftwareTrigger
from pipeline.clock import now_ns
from tests.waiting import PATIENCE_S, wait_until

LONG_US = int(PATIENCE_S * 1e6)


class StandInDevice:
    """Takes its pictures when it ``may``, once it ``answers``; counts those that it was told to take while it was not ready."""

    def __init__(self) -> None:
        self.may = threading.Semaphore(0)
        self.answers = threading.Event()
        self.answers.set()
        self.triggered = 0
        self.forgotten = 0
        self.is_lost = False
        self._is_ready = False

    def is_ready_for_trigger(self) -> bool:
        self.answers.wait()
        if self.is_lost:
            raise CameraUnavailable("camera cam0: no longer answers")
        self._is_ready = self._is_ready or self.may.acquire(blocking=False)
        return self._is_ready

    def trigger(self) -> None:
        self.triggered += 1
        self.forgotten += not self._is_ready
        self._is_ready = False


class Bench:
    def __init__(self) -> None:
        self.device = StandInDevice()
        self.told = threading.Semaphore(0)
        self.triggers: list[SoftwareTrigger] = []

    def trigger(self, timeout_us: int) -> SoftwareTrigger:
        self.triggers.append(SoftwareTrigger(self.device, timeout_us, self.told.release, "fire"))
        return self.triggers[-1]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for trigger in made.triggers:
        trigger.end()


def answers(trigger: SoftwareTrigger, bench: Bench, count: int) -> list[Fired]:
    for _ in range(count):
        assert bench.told.acquire(timeout=PATIENCE_S)
    return trigger.fired()


def test_each_waits_until_the_camera_is_ready_and_they_stay_in_order(bench: Bench) -> None:
    trigger = bench.trigger(LONG_US)
    asked_ns = now_ns()
    for number in (7, 8, 9):
        trigger.fire(number)
    assert trigger.fired() == [], "nobody waited, and the camera was not ready"
    for _ in range(3):
        bench.device.may.release()
    fired = answers(trigger, bench, 3)
    assert [each.number for each in fired] == [7, 8, 9]
    times = [each.fired_ns or 0 for each in fired]
    assert times == sorted(times)
    assert times[0] >= asked_ns
    assert (bench.device.triggered, bench.device.forgotten) == (3, 0)
    assert trigger.fired() == []


def test_what_the_camera_is_not_ready_for_is_not_fired_and_told(bench: Bench) -> None:
    trigger = bench.trigger(1_000)
    trigger.fire(1)
    trigger.fire(2)
    text = "not ready for a trigger within 1000 us"
    assert answers(trigger, bench, 2) == [Fired(1, None, text), Fired(2, None, text)]
    bench.device.may.release()
    assert bench.device.triggered == 0


def test_those_that_had_to_wait_too_long_are_not_fired_though_the_camera_is_ready_now(bench: Bench) -> None:
    """Their parts have passed."""
    trigger = bench.trigger(1_000)
    bench.device.answers.clear()
    for number in range(3):
        trigger.fire(number)
    too_late_ns = now_ns() + 2_000_000
    wait_until(lambda: now_ns() > too_late_ns)
    for _ in range(3):
        bench.device.may.release()
    bench.device.answers.set()
    assert [(each.number, each.fired_ns) for each in answers(trigger, bench, 3)] == [(0, None), (1, None), (2, None)]
    assert bench.device.triggered == 0


def test_a_camera_that_went_away_is_the_reason(bench: Bench) -> None:
    trigger = bench.trigger(LONG_US)
    bench.device.is_lost = True
    trigger.fire(3)
    assert answers(trigger, bench, 1) == [Fired(3, None, "camera cam0: no longer answers")]


def test_what_nobody_asks_for_is_not_kept_for_months(bench: Bench) -> None:
    trigger = bench.trigger(0)
    for number in range(1_500):
        trigger.fire(number)
    assert [each.number for each in answers(trigger, bench, 1_500)] == list(range(500, 1_500))


def test_the_end_waits_for_nothing_and_fires_nothing_more(bench: Bench) -> None:
    trigger = bench.trigger(LONG_US)
    for number in range(3):
        trigger.fire(number)
    trigger.end()
    for _ in range(3):
        bench.device.may.release()
    assert bench.device.triggered == 0
    assert all(each.fired_ns is None for each in trigger.fired())
