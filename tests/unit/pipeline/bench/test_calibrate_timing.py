"""The books of a played line joined part by part, and operators who are off by no more than they state."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.timing import Station, pulses_per_mm, time_station
from pipeline.bench.calibrate_timing import inside, operator, parts_at_gate

MS = 1_000_000
LAP = 1 << 32


def books(**changes: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Two parts, one at each speed, the second one across the counter's wrap."""
    line: list[dict[str, Any]] = [
        {"event": "part", "part_number": 1, "encoder_count": 100, "sensed_ns": 0},
        {"event": "belt", "speed_mm_s": 1_000.0, "at_ns": 10 * MS},
        {"event": "part", "part_number": 2, "encoder_count": LAP - 50, "sensed_ns": 20 * MS},
        {"event": "gate", "part_number": 1, "encoder_count": 3_061, "gate_ns": 600 * MS},
        {"event": "gate", "part_number": 2, "encoder_count": 2_905, "gate_ns": 700 * MS},
    ]
    gate = [
        {"event": "gate", "gate_ns": 600 * MS, "latch": 100},
        {"event": "gate", "gate_ns": 700 * MS, "latch": changes.get("latch", LAP - 50)},
    ]
    wire = [
        {"event": "message", "topic": "verdict", "arrival_ns": 30 * MS, "payload": {"encoder_count": LAP - 50}},
        {"event": "message", "topic": "heartbeat", "arrival_ns": 31 * MS, "payload": {}},
    ]
    return line, gate, wire


def test_each_part_has_its_travel_and_its_verdict() -> None:
    first, second = parts_at_gate(*books(), speeds_mm_s=[100.0, 1_000.0], parts_each=1)
    assert (first.speed_mm_s, first.travel_pulses, first.matched, first.early_us) == (100.0, 2_961, True, None)
    assert (second.speed_mm_s, second.travel_pulses, second.latency_us) == (1_000.0, 2_955, 10_000.0)
    # At the gate 700 ms, less half a part of 15 mm at 1 mm/ms, and 12 ms for the controller.
    assert second.early_us == pytest.approx(700_000 - 30_000 - 7_500 - 12_000)
    _, taken_for_another = parts_at_gate(*books(latch=77), speeds_mm_s=[100.0, 1_000.0], parts_each=1)
    assert not taken_for_another.matched


def test_both_ends_of_a_window_are_inside() -> None:
    assert inside(np.array([87, 88, 112, 113]), 100, 12).tolist() == [False, True, True, False]


def test_an_operator_is_off_within_the_tolerance_and_a_careless_one_is_not() -> None:
    chance = random.Random(1)
    for _ in range(200):
        who = operator(chance)
        assert abs(who.gate_mm - 300.0) <= 0.5
        found = pulses_per_mm(who.belt_runs)
        assert abs(found.value - 9.87) <= 1.6 * found.error, "at the worst, where all is off at once"
        assert 4.0 < abs(operator(chance, is_careless=True).gate_mm - 300.0) <= 5.0


def test_a_careless_operators_window_misses_the_gate() -> None:
    station = Station(
        gate_mm=300.0,
        gate_tolerance_mm=0.5,
        speed_max_mm_s=1_000.0,
        part_length_mm=15.0,
        pitch_mm=22.5,
        controller_us=12_000.0,
        trigger_jitter_us=500.0,
    )
    travel = np.arange(2_956, 2_962)  # 2,961 at the gate, less what a late trigger has gone
    for is_careless in (False, True):
        who = operator(random.Random(2), is_careless=is_careless)
        report = time_station([0.0] * 5, [0.0] * 5, who.belt_runs, replace(station, gate_mm=who.gate_mm), share=0.5)
        found = inside(travel, report.reject_offset_pulses, report.window_pulses)
        assert found.any() != is_careless
        assert found.all() != is_careless
