"""Shares of parts and what so many parts leave possible.

The intervals are exact: C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the
binomial, Biometrika 26 (1934). With ``count`` among ``total`` the upper end is the ``confidence`` quantile of
Beta(count + 1, total - count): the rate at which so few would be seen with a probability of just ``1 - confidence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log1p

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``total``; ``low`` to ``high`` holds the true share with at least the wanted confidence. ``total`` is not 0."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.total


def share_of(count: int, total: int, confidence: float = CONFIDENCE) -> Share | None:
    """None where there is nothing to be a share of. Raises ValueError where ``count`` is not within 0 and ``total``."""
    _expect_within(count, total)
    if total == 0:
        return None
    low, high = intervals([count], [total], confidence)
    return Share(count, total, float(low[0]), float(high[0]))


def intervals(
    counts: Sequence[int], totals: Sequence[int], confidence: float = CONFIDENCE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lower and upper ends for many shares at once, float64 each. No total may be 0."""
    count, total = np.asarray(counts, np.float64), np.asarray(totals, np.float64)
    tail = (1 - confidence) / 2
    # At the ends of the scale one parameter would be 0, and the interval reaches the end itself.
    low = np.where(count > 0, betaincinv(np.maximum(count, 1), total - count + 1, tail), 0.0)
    high = np.where(count < total, betaincinv(count + 1, np.maximum(total - count, 1), 1 - tail), 1.0)
    return low, high


def upper_bound(count: float, total: int, confidence: float = CONFIDENCE) -> float:
    """The highest rate that ``count`` of ``total`` leave possible, to one side; 1 where there is nothing. Raises ValueError.

    ``count`` need not be whole: what is seen so often on average.
    """
    _expect_within(count, total)
    return 1.0 if count >= total else float(betaincinv(count + 1.0, total - count, confidence))


def confidence_of(count: int, total: int, rate: float) -> float:
    """The confidence with which ``count`` of ``total`` show a rate of at most ``rate`` (0..1). Raises ValueError."""
    _expect_within(count, total)
    return 0.0 if count == total else float(betainc(count + 1.0, total - count, rate))


def parts_needed(rate: float, confidence: float, count: int = 0) -> int:
    """So many parts, ``count`` of them bad, show a rate of at most ``rate``: 299 for 1 % at 95 % and none bad.

    ``rate`` and ``confidence`` above 0 and below 1.
    """
    if count == 0:
        return ceil(log1p(-confidence) / log1p(-rate) - 1e-9)
    few, enough = count, count + 1
    while confidence_of(count, enough, rate) < confidence:
        few, enough = enough, enough * 2
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if confidence_of(count, middle, rate) >= confidence else (middle, enough)
    return enough


def _expect_within(count: float, total: int) -> None:
    if not 0 <= count <= total:
        raise ValueError(f"got {count} of {total}, expected a count between 0 and the total")
