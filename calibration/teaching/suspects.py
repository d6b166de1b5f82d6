"""Which of the "good" parts are unlike the others, so that somebody looks at them.

* Y. Benjamini and Y. Hochberg, Controlling the false discovery rate, Journal of the Royal Statistical Society B 57 (1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from calibration.teaching.central import most_central, robust_strangeness
from calibration.teaching.fitting import CrossFit, Features, Flags, Floats, cross_fit
from calibration.teaching.kinds import kinds_of
from calibration.teaching.windows import Layer

FALSE_SHARE = 0.1
"""Of the suspects, so many at most are good parts, were good parts' excess normal; its tail is often longer.

Of few parts the spread is uncertain: among 50 good ones there is a suspect in 20 of 100 cases, among 500 in 12.
"""

_SPREAD_MIN = 1e-3
"""Of excess, which is in standard deviations."""

_UPPER_SHARE = norm.cdf(1.0)
"""So many lie below one standard deviation."""

ROUNDS_MAX = 5
"""Each fits anew without those found so far, which may have hidden others."""

_FREE_ROUNDS = 3
"""After them suspects become fewer alone: of some parts each is a suspect as long as it is fitted on and none once it is not."""

_START_FOLDS = 3
"""Of the first fit, which only tells which parts are central."""


@dataclass(frozen=True, slots=True)
class RobustFit:
    """``cross``: fitted without the suspects, ``is_suspect``, (parts,).

    ``p_values``, (parts,): how often a good part would be as strange; 0 of another kind.
    """

    cross: CrossFit
    is_suspect: Flags
    p_values: Floats


def suspicious(excess: Floats) -> tuple[Flags, Floats]:
    """Which parts are suspects, and each part's p-value, (parts,), one-sided against a normal law whose middle and upper spread are
    the quantiles of what there is: a few bad ones move those little.
    """
    middle, upper = np.quantile(excess, [0.5, _UPPER_SHARE])
    spread = max(float(upper - middle), _SPREAD_MIN)
    p_values = np.asarray(norm.sf((excess - middle) / spread), np.float64)
    order = np.argsort(p_values)
    is_below = p_values[order] <= FALSE_SHARE * np.arange(1, len(excess) + 1) / len(excess)
    is_suspect = np.zeros(len(excess), np.bool_)
    if is_below.any():
        is_suspect[order[: int(np.flatnonzero(is_below)[-1]) + 1]] = True
    return is_suspect, p_values


def robust_fit(
    features: Features,
    layers: Sequence[Layer],
    folds: npt.NDArray[np.int64],
    is_said_good: Flags | None = None,
    is_held: Flags | None = None,
) -> RobustFit:
    """``cross_fit`` without those parts that look unlike the others, but with those of which somebody said that they are good,
    (parts,); ``is_held``, (parts,): a suspect whatever the others are like.

    It starts from the most central parts, since parts that are odd alike are usual to a fit that has seen them. The fewer ones of
    two kinds are suspects, each of them: what they are somebody has to say. Raises ValueError as ``cross_fit`` does.
    """
    if is_said_good is None:
        is_said_good = np.zeros(len(features), np.bool_)
    is_other_kind = np.zeros(len(features), np.bool_) if is_held is None else is_held & ~is_said_good
    is_open = ~is_other_kind
    # Held parts might be so many that they were the usual ones.
    kinds = kinds_of(features, is_open)
    if kinds.are_two:
        is_other_kind[np.flatnonzero(is_open)[kinds.is_smaller]] = True
        is_other_kind &= ~is_said_good
    found = np.zeros(len(features), np.bool_)
    if not is_said_good.all():
        found = ~_central(features, layers, folds, ~is_other_kind) & ~is_said_good
    for number in range(ROUNDS_MAX):
        is_suspect = found
        cross = cross_fit(features, layers, folds, ~is_suspect)
        # The other kind's excess says nothing of the spread of this one's, and would hide its suspects.
        p_values = np.zeros(len(features))
        found = is_other_kind.copy()
        found[~is_other_kind], p_values[~is_other_kind] = suspicious(cross.excess[~is_other_kind])
        found &= ~is_said_good
        if number >= _FREE_ROUNDS:
            found &= is_suspect
        if (found == is_suspect).all():
            break
    return RobustFit(cross, is_suspect, p_values)


def _central(features: Features, layers: Sequence[Layer], folds: npt.NDArray[np.int64], is_of_kind: Flags) -> Flags:
    """Those of the kind to start from, (parts,)."""
    cross = cross_fit(
        features, layers, folds % _START_FOLDS, most_central(robust_strangeness(features, layers)) & is_of_kind
    )
    return most_central(cross.excess) & is_of_kind
