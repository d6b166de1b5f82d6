"""Times and places at the gate: bounds that hold as often as stated, and windows that the truth lies in."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from calibration.timing import BeltRun, Station, pulses_per_mm, time_bound, time_station, timing_figures

STATION = Station(
    gate_mm=800.0,
    gate_tolerance_mm=2.0,
    speed_max_mm_s=1_000.0,
    part_length_mm=60.0,
    pitch_mm=150.0,
    controller_us=12_000.0,
    trigger_jitter_us=50.0,
)
RUNS = [BeltRun(1_000.0, 0.5, pulses) for pulses in (10_002, 9_999, 10_000)]


def test_a_bound_holds_as_often_as_it_is_stated() -> None:
    """1,000 calibrations of times with a heavy tail: the share beyond the bound is at most the stated one in 95 % of them."""
    generator = np.random.default_rng(3)
    share, held = 0.01, 0
    for _ in range(1_000):
        bound = time_bound(generator.pareto(2.0, 700) * 1_000.0, share=share)
        assert bound.bound_us is not None
        beyond = (1.0 + bound.bound_us / 1_000.0) ** -2.0
        held += beyond <= share
    assert held >= 950 or binomtest(held, 1_000, 0.95, alternative="less").pvalue > 0.001
    assert held < 1_000, "a bound that always holds is wider than need be"


@pytest.mark.parametrize(("count", "missing", "rank"), [(298, 1, 0), (299, 0, 1), (472, 0, 1), (473, 0, 2)])
def test_so_many_parts_show_one_in_a_hundred(count: int, missing: int, rank: int) -> None:
    bound = time_bound(np.arange(count, dtype=float), share=0.01)
    assert (bound.parts_missing, bound.rank) == (missing, rank)
    assert bound.bound_us == (None if missing else count - rank)


def test_a_part_that_never_came_is_the_longest() -> None:
    times = [1.0] * 472 + [inf]
    bound = time_bound(times, share=0.01)
    assert bound.bound_us == 1.0
    assert time_bound([*times, inf], share=0.01).bound_us == inf
    with pytest.raises(ValueError, match="NaN"):
        time_bound([float("nan")] * 300, share=0.01)


@given(
    true=st.floats(0.5, 100.0),
    tape=st.floats(-1.0, 1.0),
    phases=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=6),
)
def test_the_scale_is_within_its_error(true: float, tape: float, phases: list[float]) -> None:
    """With a tape that is wrong by all of its tolerance and counts that end anywhere within a pulse: both at their worst at once
    are further off than the 95 % of the error, by 1.6 at most.
    """
    runs = [BeltRun(1_000.0, 0.5, int(true * (1_000.0 + 0.5 * tape) + phase)) for phase in phases]
    found = pulses_per_mm(runs)
    assert abs(found.value - true) <= 1.6 * found.error


def test_more_runs_and_a_longer_way_make_the_scale_better() -> None:
    one = pulses_per_mm([BeltRun(100.0, 0.5, 1_000)]).error
    assert pulses_per_mm([BeltRun(1_000.0, 0.5, 10_000)]).error < one / 5
    with pytest.raises(ValueError, match="got none"):
        pulses_per_mm([])


@pytest.mark.parametrize("speed_share", [0.2, 0.5, 1.0, 1.5, 2.0])
def test_the_part_is_in_its_window_at_any_speed(speed_share: float) -> None:
    """Triggers late by up to the jitter, a gate elsewhere within its tolerance, a scale that is off within its error."""
    generator = np.random.default_rng(7)
    report = time_station(np.full(299, 4_000.0), np.full(299, 900.0), RUNS, STATION, share=0.01)
    assert not report.refusals
    speed_mm_us = STATION.speed_max_mm_s * speed_share / 1e6
    missed = 0
    for _ in range(20_000):
        scale = report.speed_pulses.value + generator.uniform(-1, 1) * report.speed_pulses.error
        gate_mm = STATION.gate_mm + generator.uniform(-1, 1) * STATION.gate_tolerance_mm
        late_mm = generator.uniform(0, STATION.trigger_jitter_us) * min(speed_mm_us, STATION.speed_max_mm_s / 1e6)
        latch = np.floor(generator.uniform(0, 1_000) + late_mm * scale)
        at_gate = np.floor(latch + (gate_mm - late_mm) * scale + generator.uniform(0, 1))
        missed += abs(at_gate - latch - report.reject_offset_pulses) > report.window_pulses
    assert missed == 0
    assert report.window_pulses < report.window_max_pulses / 10


def test_the_gate_is_as_near_as_the_verdicts_allow() -> None:
    report = time_station(np.full(299, 30_000.0), np.full(299, 1_000.4), RUNS, STATION, share=0.01)
    assert report.guard_us == 1_001
    assert report.gate_min_mm == pytest.approx((30_000 + 0.6 + 12_050) / 1_000 + 30 + 2)
    assert report.deadline_us == ((800 - 2 - 30) * 1_000 - 12_050)
    assert report.reject_offset_pulses == round(800 * report.speed_pulses.value)


@pytest.mark.parametrize(
    ("latency_us", "count", "changes", "reason"),
    [
        (4_000.0, 298, {}, "too few parts"),
        (inf, 299, {}, "parts not inspected"),
        (900_000.0, 299, {}, "gate too near"),
        (4_000.0, 299, {"pitch_mm": 5.0}, "window too wide"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    latency_us: float, count: int, changes: dict[str, float], reason: str
) -> None:
    report = time_station(
        np.full(count, latency_us), np.full(count, 900.0), RUNS, replace(STATION, **changes), share=0.01
    )
    assert [refusal.reason for refusal in report.refusals] == [reason]


def test_a_verdict_that_never_came_is_told_apart_from_a_part_that_was_cut_off() -> None:
    lost = time_station(np.full(299, inf), np.full(299, inf), RUNS, STATION, share=0.01)
    assert [refusal.reason for refusal in lost.refusals] == ["verdicts missing"]
    with pytest.raises(ValueError, match="refused"):
        timing_figures(lost, STATION)


@given(seed=st.integers(0, 2**32 - 1))
def test_with_the_shortest_deadline_no_more_parts_are_too_late_than_the_share(seed: int) -> None:
    """Of the parts measured themselves: late are those that could be decided only after the choice, or came behind the deadline."""
    generator = np.random.default_rng(seed)
    ready_us, arrivals_us = generator.gamma(2.0, 3_000.0, 600), generator.gamma(1.0, 400.0, 600)
    latencies_us = ready_us + arrivals_us
    report = time_station(latencies_us, arrivals_us, RUNS, STATION, share=0.01)
    assert not report.refusals
    assert report.guard_us is not None
    figures = timing_figures(report, STATION)
    late = (ready_us > figures.deadline_min_us - report.guard_us) | (latencies_us > figures.deadline_min_us)
    assert late.mean() <= 0.01
    assert figures.latency_us <= figures.deadline_min_us <= figures.deadline_max_us
    assert figures.gate_min_mm <= STATION.gate_mm


@pytest.mark.parametrize(
    "changes", [{"gate_mm": 0.0}, {"speed_max_mm_s": -1.0}, {"pitch_mm": float("nan")}, {"controller_us": -1.0}]
)
def test_a_station_that_cannot_be_is_none(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))}: got"):
        replace(STATION, **changes)
