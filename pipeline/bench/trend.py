"""Whether something grows: a slope with an interval that does not take neighbouring samples for independent ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

SAMPLES_MIN = 12
_RESAMPLES = 1_000
_PERSISTENCE_MAX = 0.995
_SETTLE_MAX_SAMPLES = 400
_S_PER_HOUR = 3_600.0

Told = Literal["flat", "grows", "shrinks", "not told"]


@dataclass(frozen=True, slots=True)
class Trend:
    """Least-squares slope with its 95 % interval, in the quantity's unit per hour."""

    per_hour: float
    low: float
    high: float

    def told(self, bound_per_hour: float) -> Told:
        """What the interval says, where less than ``bound_per_hour`` either way is of no consequence.

        ``flat``: all of it within the bound. ``grows``, ``shrinks``: all of it on one side of 0, and not all within the bound.
        ``not told``: 0 is within it, and so is more than the bound: a longer run would tell.
        """
        if -bound_per_hour <= self.low and self.high <= bound_per_hour:
            return "flat"
        if self.low > 0:
            return "grows"
        return "shrinks" if self.high < 0 else "not told"


def trend_per_hour(at_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """The trend of evenly spaced samples; None for fewer than SAMPLES_MIN.

    The residuals of the fit are taken apart into what each passes on to the next (first-order autoregression, its bias in short
    series made good) and innovations; the innovations are resampled in blocks of the cube root of their number and passed on again
    (percentile method, fixed seed). On noise without a slope the interval holds 0 in 94 % of series of 288 samples when they are
    independent, in 96 % at an autocorrelation of 0.9, in 91 % at 0.97; on a random walk in 74 %, where plain resampling of
    residuals in blocks holds it in 40 %.
    """
    count = len(values)
    if count < SAMPLES_MIN:
        return None
    moments = np.asarray(at_s, np.float64) / _S_PER_HOUR
    measured = np.asarray(values, np.float64)
    weights = moments - moments.mean()
    weights /= weights @ weights
    slope = float(weights @ measured)
    residuals = measured - measured.mean() - slope * (moments - moments.mean())
    persistence = _persistence(residuals)
    innovations = residuals[1:] - persistence * residuals[:-1]
    settle = min(_SETTLE_MAX_SAMPLES, int(5.0 / (1.0 - persistence)))
    played = _in_blocks(innovations - innovations.mean(), count + settle)
    state = np.zeros(_RESAMPLES)
    deviations = np.zeros(_RESAMPLES)
    for turn in range(count + settle):
        state = persistence * state + played[:, turn]
        if turn >= settle:
            deviations += weights[turn - settle] * state
    deviations -= deviations.mean()
    # Four numbers were fitted: level, slope, persistence and the innovations' mean.
    low, high = np.percentile(deviations, [2.5, 97.5]) * np.sqrt(count / (count - 4))
    return Trend(slope, slope + float(low), slope + float(high))


def _persistence(residuals: npt.NDArray[np.float64]) -> float:
    power = float(residuals[:-1] @ residuals[:-1])
    if power == 0.0:
        return 0.0
    fitted = float(residuals[1:] @ residuals[:-1]) / power
    return float(np.clip(fitted + (3.0 + 7.0 * fitted) / len(residuals), 0.0, _PERSISTENCE_MAX))


def _in_blocks(innovations: npt.NDArray[np.float64], length: int) -> npt.NDArray[np.float64]:
    """(_RESAMPLES, length)."""
    block = int(np.ceil(len(innovations) ** (1 / 3)))
    generator = np.random.default_rng(0)
    starts = generator.integers(0, len(innovations) - block + 1, (_RESAMPLES, -(-length // block)))
    chosen: npt.NDArray[np.int64] = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :length]
    return innovations[chosen]
