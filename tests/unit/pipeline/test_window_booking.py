"""One window at a time, from its command to its closing."""

from __future__ import annotations

from pipeline.clock import NS_PER_S
from pipeline.window.booking import WindowBooking


def state(booking: WindowBooking) -> tuple[bool, bool]:
    return booking.is_taken, booking.is_open


def test_a_command_that_waits_for_its_answer_keeps_others_out() -> None:
    booking = WindowBooking()
    assert state(booking) == (False, False)
    booking.ask("first", 2.0)
    assert state(booking) == (True, False)
    assert [booking.answered(other) for other in ("another", None)] == [None, None]
    assert state(booking) == (True, False)
    assert [booking.answered("first") for _ in range(2)] == [2.0, None]
    assert state(booking) == (False, False)


def test_it_is_taken_until_it_is_closed() -> None:
    booking = WindowBooking()
    booking.open(2.0, 100)
    assert booking.until_ns >= 100 + 2 * NS_PER_S
    booking.span(100 + 3 * NS_PER_S)
    assert booking.until_ns == 100 + 3 * NS_PER_S
    assert state(booking) == (True, True)
    booking.close()
    assert state(booking) == (False, False)
    assert booking.until_ns == 0


def test_what_is_said_of_a_closed_one_counts_no_more() -> None:
    booking = WindowBooking()
    booking.span(5)
    assert booking.until_ns == 0
