"""Percentiles and their differences, as every suite reports them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 1_000


def percentiles_us(values_us: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, max and the count of measured times."""
    values = np.asarray(values_us, np.float64)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "p50": round(float(p50), 1),
        "p90": round(float(p90), 1),
        "p99": round(float(p99), 1),
        "max": round(float(values.max()), 1),
        "count": len(values),
    }


def median_ratio(numerator_us: Sequence[float], denominator_us: Sequence[float]) -> dict[str, float]:
    """The ratio of two medians with its 95 % bootstrap interval (percentile method, fixed seed)."""
    a, b = np.asarray(numerator_us, np.float64), np.asarray(denominator_us, np.float64)
    generator = np.random.default_rng(0)
    ratios = [
        np.median(generator.choice(a, len(a))) / np.median(generator.choice(b, len(b))) for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(ratios, [2.5, 97.5])
    ratio = float(np.median(a) / np.median(b))
    return {"ratio": round(ratio, 3), "low": round(float(low), 3), "high": round(float(high), 3)}
