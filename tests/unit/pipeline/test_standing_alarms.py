"""Alarms on their way to the broker: each as it stands now, and none lost while the broker is away."""

from __future__ import annotations

import json

from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import Alarm
from pipeline.standing_alarms import StandingAlarms


def told(alarms: StandingAlarms, takes: int = 100) -> list[tuple[str, str | None]]:
    """Code and text of what goes out to a broker that takes so many; None where it is taken back."""
    out: list[tuple[str, str | None]] = []

    def send(code: str, payload: bytes) -> bool:
        if len(out) == takes:
            return False
        out.append((code, json.loads(payload)["text"] if payload else None))
        return True

    alarms.tell(send)
    return out


def test_each_is_told_once_as_it_stands_now() -> None:
    alarms = StandingAlarms("s")
    alarms.take(Alarm("b", "error", "first", raised=True), now_ns())
    alarms.take(Alarm("b", "error", "second", raised=True), now_ns())
    alarms.take(Alarm("a", "warning", "other", raised=True), now_ns())
    alarms.take(Alarm("c", "warning", "never raised", raised=False), now_ns())
    assert told(alarms) == [("a", "other"), ("b", "second")]
    assert told(alarms) == []
    alarms.take(Alarm("b", "warning", "", raised=False), now_ns())
    assert told(alarms) == [("b", None)]


def test_what_the_broker_does_not_take_goes_out_later_and_all_again_on_a_new_connection() -> None:
    alarms = StandingAlarms("s")
    for code in "abc":
        alarms.take(Alarm(code, "error", code, raised=True), now_ns())
    assert told(alarms, takes=1) == [("a", "a")]
    alarms.take(Alarm("b", "error", "", raised=False), now_ns())
    assert told(alarms) == [("b", None), ("c", "c")]
    alarms.tell_again()
    assert told(alarms) == [("a", "a"), ("c", "c")]


def test_one_of_an_earlier_run_is_taken_back_unless_it_stands() -> None:
    alarms = StandingAlarms("s")
    alarms.take(Alarm("a", "error", "a", raised=True), now_ns())
    assert told(alarms) == [("a", "a")]
    alarms.found_retained("a")
    alarms.found_retained("old")
    assert told(alarms) == [("old", None)]


def test_it_stands_since_it_was_raised_first() -> None:
    alarms, now, since = StandingAlarms("s"), now_ns(), []

    def send(_code: str, payload: bytes) -> bool:
        since.append(json.loads(payload)["since"])
        return True

    for text, at_ns in (("one", now), ("two", now + 5 * NS_PER_S)):
        alarms.take(Alarm("a", "error", text, raised=True), at_ns)
        alarms.tell(send)
    assert since[0] == since[1]
