"""The wall clock may be set at any moment: what it noted is never taken for earlier than it was."""

from __future__ import annotations

import random

import pytest

from pipeline.cameras.wall_arrival import WallArrival

MS = 1_000_000


class Clocks:
    """Of a box; the wall clock is the test's to set and to slew."""

    def __init__(self) -> None:
        self.box_ns, self.ahead_ns = 50_000 * MS, 1_700_000_000_000 * MS

    def now(self) -> int:
        return self.box_ns

    def wall(self) -> int:
        return self.box_ns + self.ahead_ns


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def arrival_of(clocks: Clocks) -> WallArrival:
    return WallArrival(200 * MS, (clocks.now, clocks.wall))


def test_it_is_known_when_it_came(clocks: Clocks) -> None:
    arrival = arrival_of(clocks)
    for _ in range(50):
        noted, came_ns = clocks.wall(), clocks.box_ns
        clocks.box_ns += 20 * MS
        assert arrival.box_ns(noted) == came_ns
        clocks.box_ns += 5_000 * MS


@pytest.mark.parametrize("step_ns", [1_000 * MS, 70 * MS, 3 * MS, -3 * MS, -1_000 * MS])
def test_a_clock_that_is_set_while_something_is_on_its_way_makes_nothing_earlier(clocks: Clocks, step_ns: int) -> None:
    arrival = arrival_of(clocks)
    noted, came_ns = clocks.wall(), clocks.box_ns
    clocks.box_ns += 10 * MS
    clocks.ahead_ns += step_ns
    clocks.box_ns += 10 * MS
    assert came_ns <= arrival.box_ns(noted) <= clocks.box_ns
    # What was on its way at that moment may be asked for after others.
    clocks.box_ns += 100 * MS
    assert came_ns <= arrival.box_ns(noted) <= clocks.box_ns
    clocks.box_ns += 2_000 * MS
    noted, came_ns = clocks.wall(), clocks.box_ns
    clocks.box_ns += 20 * MS
    assert arrival.box_ns(noted) == came_ns


def test_whatever_is_done_to_the_clock_nothing_is_much_earlier_than_it_was(clocks: Clocks) -> None:
    dice = random.Random(3)
    arrival = arrival_of(clocks)
    on_way: list[tuple[int, int]] = []
    for _ in range(20_000):
        clocks.box_ns += dice.randrange(30 * MS)
        if dice.random() < 0.02:
            clocks.ahead_ns += round(dice.choice((-1, 1)) * 10 ** dice.uniform(3, 10))
        on_way.append((clocks.wall(), clocks.box_ns))
        while on_way and (dice.random() < 0.5 or on_way[0][1] < clocks.box_ns - 150 * MS):
            noted, came_ns = on_way.pop(0)
            # Steps so small that they could be noise are taken for that, one after the other.
            assert came_ns - 5 * MS <= arrival.box_ns(noted) <= clocks.box_ns
