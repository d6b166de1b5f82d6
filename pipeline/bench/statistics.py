"""Percentiles and their differences, as every suite reports them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S

_RESAMPLES = 1_000
_Z_95 = 1.959964
_BLOCK_NS = 5 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Window:
    """Times measured in one window of a run, with their moments, in order."""

    moments_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, moment_ns: int, value: float) -> None:
        self.moments_ns.append(moment_ns)
        self.values.append(value)

    def blocks(self) -> list[npt.NDArray[np.float64]]:
        """The values, cut at every five seconds from the first."""
        moments = np.asarray(self.moments_ns)
        cuts = np.flatnonzero(np.diff((moments - moments[0]) // _BLOCK_NS)) + 1
        return np.split(np.asarray(self.values, np.float64), cuts)


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


def percentile_difference(first: Sequence[Window], second: Sequence[Window], percent: float) -> dict[str, float]:
    """A percentile of ``first`` less that of ``second``, with a 95 % interval (fixed seed). Both must hold values.

    Neighbours in time are alike, and so are the times of one window: windows are resampled, and in each its blocks of five seconds.
    So few windows understate how much windows differ, which a factor of sqrt(n / (n - 1)) makes good.
    """
    generator = np.random.default_rng(0)
    sides = [[window.blocks() for window in side if window.values] for side in (first, second)]
    fewest = min(map(len, sides))
    found = [
        float(np.percentile(np.concatenate([block for blocks in side for block in blocks]), percent)) for side in sides
    ]
    difference = found[0] - found[1]
    drawn = [
        _drawn_percentile(sides[0], percent, generator) - _drawn_percentile(sides[1], percent, generator)
        for _ in range(_RESAMPLES)
    ]
    wider = np.sqrt(fewest / (fewest - 1)) if fewest > 1 else 1.0
    low, high = difference + (np.percentile(drawn, [2.5, 97.5]) - difference) * wider
    return {"difference": round(difference, 1), "low": round(float(low), 1), "high": round(float(high), 1)}


def _drawn_percentile(
    windows: list[list[npt.NDArray[np.float64]]], percent: float, generator: np.random.Generator
) -> float:
    drawn: list[npt.NDArray[np.float64]] = []
    for window in generator.integers(0, len(windows), len(windows)):
        blocks = windows[window]
        drawn += [blocks[block] for block in generator.integers(0, len(blocks), len(blocks))]
    return float(np.percentile(np.concatenate(drawn), percent))


def share_interval(count: int, total: int) -> dict[str, float | int | None]:
    """A share of parts with its 95 % interval (Wilson's score, which holds for shares near 0 too)."""
    if total == 0:
        return {"count": count, "total": total, "share": None, "low": None, "high": None}
    share = count / total
    spread = 1.0 + _Z_95**2 / total
    middle = (share + _Z_95**2 / (2 * total)) / spread
    half = _Z_95 / spread * math.sqrt(share * (1 - share) / total + _Z_95**2 / (4 * total**2))
    return {
        "count": count,
        "total": total,
        "share": round(share, 6),
        "low": round(max(0.0, middle - half), 6),
        "high": round(min(1.0, middle + half), 6),
    }
