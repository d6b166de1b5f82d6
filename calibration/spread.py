"""How far values of one kind lie apart, and what nearly all of them keep to; for a normal distribution.

Intervals of a mean and of a standard deviation by Student's t and chi squared; tolerance limits by W. G. Howe, Two-sided tolerance
limits for normal populations, Journal of the American Statistical Association 64 (1969).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, ndtri, stdtrit

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
COVERED = 0.999
"""Share of a population that tolerance limits hold, with that confidence."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Places along one axis, in pixels against the nominal place: mean and standard deviation with 95 % intervals that hold for a
    normal distribution, and the farthest from nominal.
    """

    count: int
    mean_px: float
    mean_low_px: float
    mean_high_px: float
    spread_px: float
    spread_low_px: float
    spread_high_px: float
    farthest_px: float


def tolerance_factor(count: int, covered: float = COVERED, confidence: float = CONFIDENCE) -> float:
    """So many standard deviations around the mean of ``count`` values, 2 or more, hold that share of a normal population (Howe)."""
    freedom = count - 1
    middle = float(ndtri((1 + covered) / 2))
    return middle * sqrt(freedom * (1 + 1 / count) / float(chdtri(freedom, confidence)))


def spread_of(places_px: Floats, confidence: float = CONFIDENCE) -> Spread:
    """Of float64 (N,), N at least 2."""
    count, freedom = places_px.size, places_px.size - 1
    mean, deviation = float(places_px.mean()), float(places_px.std(ddof=1))
    tail = (1 - confidence) / 2
    half = float(stdtrit(freedom, 1 - tail)) * deviation / sqrt(count)
    return Spread(
        count=count,
        mean_px=mean,
        mean_low_px=mean - half,
        mean_high_px=mean + half,
        spread_px=deviation,
        spread_low_px=deviation * sqrt(freedom / float(chdtri(freedom, tail))),
        spread_high_px=deviation * sqrt(freedom / float(chdtri(freedom, 1 - tail))),
        farthest_px=float(np.abs(places_px).max()),
    )
