"""Device times in the box's clock by when frames arrive, against a device whose clock is known."""

from __future__ import annotations

import random
import re

import pytest

from pipeline.cameras.arrival_clock import ArrivalClock

BOX_BEGIN_NS = 5_000_000_000_000
DEVICE_BEGIN_NS = 777_000_000


class World:
    """A device whose clock runs ``drift_ppm`` slower than the box's, and a way that takes ``least_ns`` and now and then more."""

    def __init__(self, drift_ppm: float, least_ns: int, seed: int = 1) -> None:
        self._pace = 1 / (1 + drift_ppm * 1e-6)
        self._least_ns = least_ns
        self._random = random.Random(seed)

    def device_ns(self, box_ns: int) -> int:
        return DEVICE_BEGIN_NS + round((box_ns - BOX_BEGIN_NS) * self._pace)

    def arrived_ns(self, box_ns: int) -> int:
        return box_ns + self._least_ns + round(self._random.expovariate(1 / 300_000))

    def errors_ns(self, clock: ArrivalClock, seconds: float, rate_hz: float) -> list[int]:
        """How far each mapped time is from the truth."""
        errors = []
        for number in range(int(seconds * rate_hz)):
            box_ns = BOX_BEGIN_NS + round(number * 1e9 / rate_hz)
            errors.append(clock.box_ns(self.device_ns(box_ns), self.arrived_ns(box_ns)) - box_ns)
        return errors


@pytest.mark.parametrize("drift_ppm", [-100.0, 0.0, 20.0, 100.0])
@pytest.mark.parametrize("rate_hz", [5.0, 100.0])
def test_times_are_late_by_the_least_delay(drift_ppm: float, rate_hz: float) -> None:
    world, clock = World(drift_ppm, least_ns=2_600_000), ArrivalClock()
    errors = world.errors_ns(clock, 60, rate_hz)
    settled = errors[len(errors) // 2 :]
    # Few frames a second seldom have one that came with hardly any delay.
    limit_ns = 20_000 if rate_hz > 50 else 150_000
    assert max(abs(error - 2_600_000) for error in settled) < limit_ns
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=10)


def test_no_time_is_later_than_the_arrival() -> None:
    world = World(-300.0, least_ns=0)
    clock = ArrivalClock()
    for number in range(2_000):
        box_ns = BOX_BEGIN_NS + number * 10_000_000
        arrived_ns = world.arrived_ns(box_ns)
        assert clock.box_ns(world.device_ns(box_ns), arrived_ns) <= arrived_ns


def test_a_device_that_was_switched_off_and_on_begins_again() -> None:
    clock, world = ArrivalClock(), World(0.0, least_ns=1_000_000)
    world.errors_ns(clock, 20, 100.0)
    later_ns = BOX_BEGIN_NS + 60_000_000_000
    assert clock.box_ns(5_000, later_ns) == later_ns
    assert clock.drift_ppm is None
    assert clock.box_ns(1_000_005_000, later_ns + 1_000_700_000) == later_ns + 1_000_000_000


def test_a_busy_stretch_moves_nothing() -> None:
    clock, world = ArrivalClock(), World(0.0, least_ns=1_000_000)
    world.errors_ns(clock, 30, 100.0)
    errors = []
    for number in range(3_000, 3_500):
        box_ns = BOX_BEGIN_NS + number * 10_000_000
        errors.append(clock.box_ns(world.device_ns(box_ns), box_ns + 30_000_000) - box_ns)
    assert max(abs(error - 1_000_000) for error in errors) < 30_000


@pytest.mark.parametrize("rate_hz", [2.0, 50.0])
@pytest.mark.parametrize("seconds", [3, 30])
def test_a_clock_that_is_set_forward_is_followed_within_some_seconds(rate_hz: float, seconds: int) -> None:
    clock, world = ArrivalClock(), World(10.0, least_ns=1_000_000)
    world.errors_ns(clock, seconds, rate_hz)
    errors = []
    for number in range(int(seconds * rate_hz), int((seconds + 10) * rate_hz)):
        box_ns = BOX_BEGIN_NS + round(number * 1e9 / rate_hz)
        device_ns = world.device_ns(box_ns) + 400_000_000
        errors.append(clock.box_ns(device_ns, world.arrived_ns(box_ns)) - box_ns)
        assert not clock.trouble
    assert max(abs(error) for error in errors[int(3 * rate_hz) :]) < 5_000_000


@pytest.mark.parametrize("rate_hz", [1.0, 2.0, 20.0])
@pytest.mark.parametrize("late_ns", [45_000_000, 600_000_000])
@pytest.mark.parametrize("seconds", [3, 30])
def test_a_link_that_lags_moves_nothing_and_is_told(rate_hz: float, late_ns: int, seconds: int) -> None:
    """As is a clock that was set back by less than lies between two frames."""
    clock, world = ArrivalClock(), World(10.0, least_ns=1_000_000)
    world.errors_ns(clock, seconds, rate_hz)
    errors, told = [], []
    for number in range(int(seconds * rate_hz), int((seconds + 6) * rate_hz)):
        box_ns = BOX_BEGIN_NS + round(number * 1e9 / rate_hz)
        errors.append(clock.box_ns(world.device_ns(box_ns), world.arrived_ns(box_ns) + late_ns) - box_ns)
        told.append(clock.trouble)
    assert max(abs(error) for error in errors) < 5_000_000
    assert told[0] == ""
    found = re.fullmatch(
        r"its frames come (\d+) ms later than their time stamps say, for a second and more: .*", told[-1]
    )
    assert found is not None
    assert int(found[1]) == pytest.approx(late_ns / 1e6, abs=5)
    box_ns += 1_000_000_000
    clock.box_ns(world.device_ns(box_ns), world.arrived_ns(box_ns))
    assert not clock.trouble


@pytest.mark.parametrize("before_s", [3, 9, 600])
@pytest.mark.parametrize("pause_s", [100, 900, 30_000])
def test_a_pause_is_no_lag(before_s: int, pause_s: int) -> None:
    """The drift changes meanwhile, or was not known yet."""
    clock, world = ArrivalClock(), World(40.0, least_ns=2_000_000)
    world.errors_ns(clock, before_s, 10.0)
    errors = []
    for number in range(200):
        box_ns = BOX_BEGIN_NS + (before_s + pause_s) * 1_000_000_000 + number * 100_000_000
        device_ns = world.device_ns(box_ns) - pause_s * 5_000
        errors.append(clock.box_ns(device_ns, world.arrived_ns(box_ns)) - box_ns)
        assert not clock.trouble
    assert max(abs(error) for error in errors) < 6_000_000


def test_a_part_now_and_then_is_dated_by_its_arrival() -> None:
    clock, world = ArrivalClock(), World(40.0, least_ns=2_000_000)
    for number in range(50):
        box_ns = BOX_BEGIN_NS + number * 600_000_000_000
        assert abs(clock.box_ns(world.device_ns(box_ns), world.arrived_ns(box_ns)) - box_ns) < 6_000_000
        assert not clock.trouble


def test_some_late_frames_are_nothing() -> None:
    clock, world = ArrivalClock(), World(10.0, least_ns=1_000_000)
    world.errors_ns(clock, 10, 100.0)
    for number in range(1_000, 3_000):
        box_ns = BOX_BEGIN_NS + number * 10_000_000
        late_ns = 200_000_000 if number % 100 < 90 else 0
        clock.box_ns(world.device_ns(box_ns), world.arrived_ns(box_ns) + late_ns)
        assert not clock.trouble


def test_time_stamps_that_stand_still_are_told() -> None:
    clock, world = ArrivalClock(), World(10.0, least_ns=1_000_000)
    world.errors_ns(clock, 5, 20.0)
    stands_ns = world.device_ns(BOX_BEGIN_NS + 5_000_000_000)
    for number in range(100, 125):
        clock.box_ns(stands_ns, BOX_BEGIN_NS + number * 50_000_000)
    assert "stands still" in clock.trouble


def test_two_frames_may_have_one_time_stamp() -> None:
    clock, world = ArrivalClock(), World(10.0, least_ns=1_000_000)
    for number in range(300):
        box_ns = BOX_BEGIN_NS + number * 500_000_000
        for _ in range(2):
            assert abs(clock.box_ns(world.device_ns(box_ns), world.arrived_ns(box_ns)) - box_ns) < 6_000_000
