from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.trigger_inbox import BadNotice, told_trigger

NOTICE: dict[str, Any] = {"schema": "lineside.trigger/1", "trigger_counter": 7, "encoder_count": 800, "age_us": 1_500}
ARRIVED_NS = 10_000_000


def take(payload: bytes, *, retain: bool = False) -> Any:
    return told_trigger(payload, retain=retain, arrived_ns=ARRIVED_NS, age_max_us=2_000)


def test_its_time_is_the_arrival_less_its_age() -> None:
    told = take(json.dumps({**NOTICE, "part_key": 12, "one_day": "more"}).encode())
    assert (told.trigger_counter, told.encoder_count, told.part_key) == (7, 800, 12)
    assert told.trigger_ns == told.at_ns == 8_500_000


def test_what_a_controller_has_not_is_left_out() -> None:
    told = take(b'{"schema":"lineside.trigger/1","trigger_counter":0,"age_us":0}')
    assert (told.encoder_count, told.part_key) == (None, None)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"age_us": 2_001}, "trigger 7 was sent 2001 us late, expected at most 2000"),
        ({"age_us": -1}, "Expected `int` >= 0"),
        ({"age_us": 1.5}, "Expected `int`, got `float`"),
        ({"trigger_counter": 2**32}, "Expected `int` <= 4294967295"),
        ({"encoder_count": -1}, "Expected `int` >= 0"),
        ({"part_key": "A7"}, "Expected `int | null`, got `str`"),
        ({"schema": "lineside.trigger/2"}, "Invalid enum value"),
        ({"more": "x" * 2_000}, "bytes, expected at most 1024"),
    ],
)
def test_what_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadNotice) as caught:
        take(json.dumps({**NOTICE, **change}).encode())
    assert fault in str(caught.value)


def test_a_retained_notice_is_of_a_part_long_gone() -> None:
    with pytest.raises(BadNotice, match="retain off"):
        take(json.dumps(NOTICE).encode(), retain=True)


@given(st.binary(max_size=200))
def test_whatever_comes_is_at_most_refused(payload: bytes) -> None:
    with pytest.raises(BadNotice):
        take(payload)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(BadNotice):
        take(b'{"more":' + b"[" * 1_000)
