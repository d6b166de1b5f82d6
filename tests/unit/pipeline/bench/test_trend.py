"""Slopes and differences: intervals that hold what they say, on noise that remembers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.bench.statistics import Window, percentile_difference
from pipeline.bench.trend import SAMPLES_MIN, Trend, trend_per_hour

SERIES = 200
EVERY_S = 5.0
PER_HOUR = 720
"""Samples."""


def noise(persistence: float, count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """First-order autoregressive, settled."""
    values = np.zeros(count + 300)
    for index, shock in enumerate(generator.standard_normal(len(values))):
        values[index] = persistence * values[index - 1] + shock
    return values[300:]


@pytest.mark.parametrize(("persistence", "share"), [(0.0, 0.9), (0.5, 0.87), (0.9, 0.87)])
@pytest.mark.parametrize("slope_per_hour", [0.0, 12.0])
def test_the_interval_holds_the_slope(persistence: float, share: float, slope_per_hour: float) -> None:
    generator = np.random.default_rng(3)
    at_s = np.arange(288) * EVERY_S
    held = 0
    for _ in range(SERIES):
        trend = trend_per_hour(
            at_s.tolist(), (noise(persistence, len(at_s), generator) + slope_per_hour * at_s / 3_600).tolist()
        )
        assert trend is not None
        held += trend.low <= slope_per_hour <= trend.high
    assert held >= share * SERIES


def test_a_leak_is_told_from_noise() -> None:
    generator = np.random.default_rng(4)
    at_s = np.arange(288) * EVERY_S
    trend = trend_per_hour(at_s.tolist(), (noise(0.9, len(at_s), generator) + 200.0 * at_s / 3_600).tolist())
    assert trend is not None
    assert trend.told(1.0) == "grows"
    assert trend.low <= 200.0 <= trend.high


def test_what_never_changes_is_flat() -> None:
    trend = trend_per_hour(list(np.arange(SAMPLES_MIN) * EVERY_S), [12.0] * SAMPLES_MIN)
    assert trend is not None
    assert (trend.per_hour, trend.low, trend.high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert trend.told(1.0) == "flat"


def test_too_few_samples_tell_nothing() -> None:
    assert trend_per_hour([0.0] * (SAMPLES_MIN - 1), [0.0] * (SAMPLES_MIN - 1)) is None


@pytest.mark.parametrize(
    ("trend", "told"),
    [
        (Trend(0.0, -0.5, 0.5), "flat"),
        (Trend(0.6, 0.5, 0.7), "flat"),
        (Trend(0.0, -2.0, 0.5), "not told"),
        (Trend(2.0, 0.5, 3.0), "grows"),
        (Trend(-2.0, -3.0, -0.5), "shrinks"),
    ],
)
def test_what_is_told(trend: Trend, told: str) -> None:
    assert trend.told(1.0) == told


def windows(count: int, offset_us: float, generator: np.random.Generator, *, spread_us: float = 50.0) -> list[Window]:
    """Windows of a minute at 1,200 a minute, each with a level of its own, and a drift of some seconds within it."""
    made = []
    for index in range(count):
        window = Window()
        level = 3_000 + offset_us + spread_us * generator.standard_normal()
        drift = np.repeat(noise(0.5, 24, generator), 50) * 20
        for part in range(1_200):
            moment_ns = (index * 120_000 + part * 50) * 1_000_000
            window.add(moment_ns, level + drift[part] + generator.exponential(200))
        made.append(window)
    return made


def pairs(count: int, offset_us: float, generator: np.random.Generator) -> list[tuple[Window, Window]]:
    return list(zip(windows(count, offset_us, generator), windows(count, 0.0, generator), strict=True))


def test_no_difference_is_not_taken_for_one() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(20):
        found = percentile_difference(pairs(5, 0.0, generator), 50.0)
        assert found["low"] is not None
        assert found["high"] is not None
        held += found["low"] <= 0.0 <= found["high"]
    assert held >= 16


def test_a_difference_is_seen() -> None:
    found = percentile_difference(pairs(5, 1_000.0, np.random.default_rng(6)), 50.0)
    assert found["low"] is not None
    assert found["high"] is not None
    assert 0.0 < found["low"] <= 1_000.0 <= found["high"]


def test_one_pair_tells_no_interval() -> None:
    found = percentile_difference(pairs(1, 0.0, np.random.default_rng(7)), 50.0)
    assert (found["low"], found["high"]) == (None, None)
