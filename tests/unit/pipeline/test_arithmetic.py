"""Encoder counts that wrap, the line's two rules of time and place, and latency histograms."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.encoder import distance_pulses, wrap
from pipeline.latency import PERCENTILES, LatencyHistogram
from pipeline.line_config import LineConfig
from pipeline.rules import Matching, Timing

COUNTS = st.integers(-(2**70), 2**70)
BITS = st.integers(1, 63)
STEADY = settings(max_examples=200, derandomize=True, database=None, deadline=None)


@given(count=COUNTS, turns=st.integers(-3, 3), bits=BITS)
@STEADY
def test_counts_wrap(count: int, turns: int, bits: int) -> None:
    assert wrap(count, bits) == count % 2**bits == wrap(count + turns * 2**bits, bits)


@given(a=COUNTS, b=COUNTS, bits=BITS)
@STEADY
def test_distance_is_the_shorter_way_round(a: int, b: int, bits: int) -> None:
    distance = distance_pulses(a, b, bits)
    assert 0 <= distance <= 2**bits // 2
    assert distance == distance_pulses(b, a, bits)
    assert wrap(b + distance, bits) == wrap(a, bits) or wrap(b - distance, bits) == wrap(a, bits)


@given(a=COUNTS, step=st.integers(0, 100), bits=st.integers(8, 63))
@STEADY
def test_distance_to_a_count_ahead(a: int, step: int, bits: int) -> None:
    assert distance_pulses(wrap(a + step, bits), wrap(a, bits), bits) == step


def config(**changes: Any) -> LineConfig:
    camera = {"camera_id": "c", "kind": "simulated", "address": "s", "width_px": 8, "height_px": 8}
    timing = {"deadline_us": 40_000, "guard_us": 3_000}
    whole = {
        "topic_root": "a",
        "recipe": "r",
        "cameras": [{**camera, "pixel_format": "Mono8"}],
        "timing": timing,
        "records": {"path": "r.db"},
    }
    return LineConfig.model_validate({**whole, **changes})


def test_the_choice_falls_a_guard_before_the_deadline() -> None:
    assert Timing.of(config()).choice_ns(5_000_000_000) == 5_037_000_000


@pytest.mark.parametrize(
    ("a_count", "b_count", "matches"),
    [(100, 103, True), (100, 104, False), (1, 255, True), (2, 254, False), (None, 100, False), (None, None, False)],
)
def test_parts_match_by_encoder(a_count: int | None, b_count: int | None, matches: bool) -> None:
    """Where one camera has no count, time decides."""
    encoder = {"bits": 8, "reject_offset_pulses": 5, "match_pulses": 3}
    matching = Matching.of(config(encoder=encoder, view_wait_us=10))
    assert matching.same_part(a_count, 0, b_count, 10_001) is matches


@pytest.mark.parametrize(("apart_ns", "matches"), [(10_000, True), (-10_000, True), (10_001, False)])
def test_parts_match_by_time_without_an_encoder(apart_ns: int, matches: bool) -> None:
    assert Matching.of(config(view_wait_us=10)).same_part(None, 50_000, None, 50_000 + apart_ns) is matches


def test_a_count_says_nothing_where_there_is_no_encoder() -> None:
    matching = Matching.of(config(view_wait_us=10))
    assert matching.same_part(0, 50_000, 0, 50_000)
    assert not matching.same_part(0, 50_000, 0, 60_001)


LATENCIES = st.lists(
    st.one_of(st.integers(0, 3_000), st.integers(0, 10**6), st.integers(0, 2**36 - 1)), min_size=1, max_size=300
)


def filled(values: list[int]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(values=LATENCIES)
@STEADY
def test_percentiles_are_within_a_fifth_of_a_percent(values: list[int]) -> None:
    found = filled(values).percentiles_us()
    for name, share in PERCENTILES.items():
        exact = int(np.percentile(np.array(values, np.int64), share * 100, method="inverted_cdf"))
        assert exact <= found[name] <= exact * 1.002, name
        if exact < 1_024:
            assert found[name] == exact
    assert found["max"] == max(values)


@given(values=LATENCIES)
@STEADY
def test_histograms_can_be_stored(values: list[int]) -> None:
    histogram = filled(values)
    again = LatencyHistogram.from_json(json.loads(json.dumps(histogram.to_json())))
    assert again.percentiles_us() == histogram.percentiles_us()
    assert again.count == len(values)
    again.add(7)
    assert again.count == len(values) + 1


def test_an_empty_histogram_and_values_off_the_scale() -> None:
    assert LatencyHistogram().percentiles_us() == {"p50": 0, "p90": 0, "p99": 0, "p999": 0, "max": 0}
    assert LatencyHistogram.from_json(LatencyHistogram().to_json()).count == 0
    assert filled([-5]).percentiles_us()["max"] == 0
    assert filled([2**50]).percentiles_us()["max"] == 2**50
