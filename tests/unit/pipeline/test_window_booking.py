"""One window at a time, from its command to its closing."""

from __future__ import annotations

from pipeline.clock import NS_PER_S
from pipeline.window_booking import WindowBooking


def test_a_command_that_waits_for_its_answer_keeps_others_out() -> None:
    booking = WindowBooking()
    assert not booking.is_taken
    booking.ask("first", 2.0)
    assert booking.is_taken
    assert not booking.is_open
    assert booking.answered("another") is None
    assert booking.answered(None) is None
    assert booking.is_taken
    assert booking.answered("first") == 2.0
    assert not booking.is_taken
    assert booking.answered("first") is None


def test_it_is_taken_until_it_is_closed() -> None:
    booking = WindowBooking()
    booking.open(2.0, 100)
    assert booking.until_ns >= 100 + 2 * NS_PER_S
    booking.span(100 + 3 * NS_PER_S)
    assert booking.until_ns == 100 + 3 * NS_PER_S
    assert booking.is_taken
    booking.close()
    assert not booking.is_taken
    assert booking.until_ns == 0


def test_what_is_said_of_a_closed_one_counts_no_more() -> None:
    booking = WindowBooking()
    booking.span(5)
    assert booking.until_ns == 0
