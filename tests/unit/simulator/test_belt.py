from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.belt import Action, Agenda, Belt

SECOND_NS = 1_000_000_000


def test_the_belt_moves_at_its_speed() -> None:
    belt = Belt(speed_mm_s=1000.0, pulses_per_mm=10.0, now_ns=5)
    assert belt.position_pulses(5) == 0
    assert belt.position_pulses(5 + SECOND_NS) == pytest.approx(10_000)
    assert belt.reaches_at_ns(800) == pytest.approx(5 + 80_000_000, abs=1)


def test_a_standing_belt_reaches_nothing_and_goes_on_from_where_it_stood() -> None:
    belt = Belt(1000.0, 10.0, 0)
    belt.set_speed(0.0, SECOND_NS)
    assert belt.position_pulses(50 * SECOND_NS) == pytest.approx(10_000)
    assert belt.reaches_at_ns(10_500) is None
    belt.set_speed(500.0, 60 * SECOND_NS)
    assert belt.reaches_at_ns(10_500) == pytest.approx(60 * SECOND_NS + 100_000_000, abs=2)


@given(
    st.lists(st.tuples(st.floats(1.0, 5000.0), st.integers(0, 10 * SECOND_NS)), max_size=6),
    st.floats(0.0, 1e6),
)
def test_the_belt_is_there_when_it_says_it_will_be(changes: list[tuple[float, int]], ahead_pulses: float) -> None:
    now_ns = 0
    belt = Belt(1000.0, 10.0, now_ns)
    for speed_mm_s, later_ns in changes:
        now_ns += later_ns
        before = belt.position_pulses(now_ns)
        belt.set_speed(speed_mm_s, now_ns)
        assert belt.position_pulses(now_ns) == before
    target = belt.position_pulses(now_ns) + ahead_pulses
    due_ns = belt.reaches_at_ns(target)
    assert due_ns is not None
    assert due_ns >= now_ns
    # Due at the first whole nanosecond; floats leave a relative 1e-12 or so.
    assert belt.position_pulses(due_ns) == pytest.approx(target, rel=1e-9, abs=1e-3)


def test_what_is_due_comes_in_order_of_its_moment() -> None:
    belt = Belt(1000.0, 10.0, 0)  # a pulse each 100 us
    agenda = Agenda(belt)
    done: list[tuple[str, int]] = []

    def note(name: str, due_ns: int) -> None:
        done.append((name, due_ns))

    agenda.at_place(20, lambda due_ns: note("place 20", due_ns))
    agenda.at_moment(1_000_000, lambda due_ns: note("moment 1 ms", due_ns))
    agenda.at_place(5, lambda due_ns: note("place 5", due_ns))
    assert agenda.take_due(400_000) is None
    while (due := agenda.take_due(3_000_000)) is not None:
        due[1](due[0])
    assert done == [("place 5", 500_000), ("moment 1 ms", 1_000_000), ("place 20", 2_000_000)]
    assert agenda.next_due_ns() is None


def test_a_change_of_speed_moves_what_waits_for_a_place_and_nothing_else() -> None:
    belt = Belt(1000.0, 10.0, 0)
    agenda = Agenda(belt)
    agenda.at_place(100, lambda due_ns: None)
    assert agenda.next_due_ns() == 10_000_000
    belt.set_speed(0.0, 5_000_000)
    assert agenda.next_due_ns() is None
    agenda.at_moment(7_000_000, lambda due_ns: None)
    assert agenda.next_due_ns() == 7_000_000
    belt.set_speed(2000.0, 6_000_000)
    due = agenda.take_due(20_000_000)
    assert due is not None
    assert due[0] == 7_000_000
    assert agenda.next_due_ns() == 8_500_000


def test_a_belt_that_runs_back_comes_by_the_same_places_again() -> None:
    belt = Belt(1000.0, 10.0, 0)  # a pulse each 100 us
    agenda = Agenda(belt)
    done: list[str] = []

    def note(name: str) -> Action:
        return lambda due_ns: done.append(f"{name} at {due_ns // 1_000} us")

    for place in (10, 20, 30):
        agenda.at_place(place, note(f"first {place}"), note(f"again {place}"))
    agenda.at_place(15, note("once 15"))

    def until(now_ns: int) -> None:
        while (due := agenda.take_due(now_ns)) is not None:
            due_ns, action = due
            action(due_ns)

    until(2_500_000)
    assert done == ["first 10 at 1000 us", "once 15 at 1500 us", "first 20 at 2000 us"]
    done.clear()
    belt.set_speed(-1000.0, 2_500_000)
    until(3_600_000)  # back to 14
    assert done == ["again 20 at 3000 us"]
    done.clear()
    belt.set_speed(1000.0, 3_600_000)
    until(5_300_000)
    assert done == ["again 20 at 4200 us", "first 30 at 5200 us"]
