"""Shares of parts with their exact (Clopper-Pearson) intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total``; ``low`` and ``high`` hold the true share with at least 95 % confidence. ``total`` is not 0."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.total


def share_of(count: int, total: int) -> Share | None:
    """None where there is nothing to be a share of. Raises ValueError where ``count`` is not within 0 and ``total``."""
    if not 0 <= count <= total:
        raise ValueError(f"got {count} of {total}, expected a count between 0 and the total")
    if total == 0:
        return None
    low, high = intervals([count], [total])
    return Share(count, total, float(low[0]), float(high[0]))


def intervals(counts: Sequence[int], totals: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lower and upper ends for many shares at once, float64 each. No total may be 0."""
    count, total = np.asarray(counts, np.float64), np.asarray(totals, np.float64)
    tail = (1 - CONFIDENCE) / 2
    # At the ends of the scale one parameter would be 0, and the interval reaches the end itself.
    low = np.where(count > 0, betaincinv(np.maximum(count, 1), total - count + 1, tail), 0.0)
    high = np.where(count < total, betaincinv(count + 1, np.maximum(total - count, 1), 1 - tail), 1.0)
    return low, high


def percent(ratio: float | None) -> str:
    """As people read it, not to be broken: with more digits the nearer to 0 or 100 it is."""
    if ratio is None:
        return "-"
    edge = min(ratio, 1 - ratio)
    return f"{100 * ratio:.{1 if edge >= 0.1 else 2 if edge >= 0.001 or edge <= 0 else 3}f}\u00a0%"


def told(share: Share | None) -> str:
    """The share with its interval, in words."""
    if share is None:
        return "-"
    return f"{percent(share.value)} (95\u00a0%: {percent(share.low)} to {percent(share.high)})"
