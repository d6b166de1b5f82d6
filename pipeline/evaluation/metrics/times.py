"""Times of the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
"""As ``lineside run`` tells them."""


def percentiles_us(times_ns: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """By stage; a stage without a time is left out. Nearest rank, so that each is a time that was measured."""
    return {
        stage: {
            name: float(np.percentile(times, percent, method="inverted_cdf")) / 1e3
            for name, percent in PERCENTILES.items()
        }
        for stage, times in times_ns.items()
        if len(times)
    }
