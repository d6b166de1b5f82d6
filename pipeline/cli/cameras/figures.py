"""What the time stamps of a camera's frames say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S, NS_PER_US


@dataclass(frozen=True, slots=True)
class Stamp:
    """Of one frame; times are CLOCK_MONOTONIC. Between two triggers with neighbouring counters there was no other."""

    trigger_counter: int
    exposure_ns: int
    grabbed_ns: int
    encoder_count: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    """``rate_hz``: of the camera, lost frames included; None where fewer than two frames or one moment say nothing.

    interval_us: from exposure to exposure of neighbours, ``min``, ``p50``, ``max``; jitter_us: how far they are off their median,
    ``p50``, ``p99``, ``max``; to_memory_us: from the exposure to the whole frame in memory, the same. Empty where nothing is known.
    """

    rate_hz: float | None
    interval_us: dict[str, float]
    jitter_us: dict[str, float]
    to_memory_us: dict[str, float]


def figures_of(stamps: Sequence[Stamp]) -> Figures:
    """``stamps`` in the order in which frames came."""
    counters = np.array([each.trigger_counter for each in stamps], np.int64)
    exposed_ns = np.array([each.exposure_ns for each in stamps], np.int64)
    grabbed_ns = np.array([each.grabbed_ns for each in stamps], np.int64)
    intervals_us = np.diff(exposed_ns)[np.diff(counters) == 1] / NS_PER_US
    rate_hz = None
    if len(stamps) > 1 and (span_ns := int(exposed_ns[-1] - exposed_ns[0])) > 0:
        rate_hz = float(counters[-1] - counters[0]) * NS_PER_S / span_ns
    if not len(intervals_us):
        return Figures(rate_hz, {}, {}, _told((grabbed_ns - exposed_ns) / NS_PER_US))
    median_us = float(np.median(intervals_us))
    interval_us = {"min": float(intervals_us.min()), "p50": median_us, "max": float(intervals_us.max())}
    return Figures(
        rate_hz,
        {name: round(value, 1) for name, value in interval_us.items()},
        _told(np.abs(intervals_us - median_us)),
        _told((grabbed_ns - exposed_ns) / NS_PER_US),
    )


def _told(values_us: npt.NDArray[np.float64]) -> dict[str, float]:
    if not len(values_us):
        return {}
    p50, p99 = np.percentile(values_us, [50, 99], method="higher")
    return {name: round(float(value), 1) for name, value in (("p50", p50), ("p99", p99), ("max", values_us.max()))}
