"""Which parts are the most central, by estimates that parts which are odd alike hardly move: a start for the fit.

At each place a part is held against the median of the parts, in medians of absolute deviations, whitened by the correlation of all
places of what is not far off. After P. J. Rousseeuw and K. Van Driessen, A fast algorithm for the minimum covariance determinant
estimator, Technometrics 41 (1999), who start from such a subset and fit again to the most central ones; and J. Raymaekers and
P. J. Rousseeuw, Fast robust correlation for high-dimensional data, Technometrics 63 (2021), for wrapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.teaching.fitting import PARTS_AT_ONCE, Features, Flags, Floats
from calibration.teaching.gaussian import Gaussian, Moments, shared_of
from calibration.teaching.windows import Layer, Windows, look, windows_of

CENTRAL_SHARE = 0.75
"""Of the parts: what is odd alike in more than a quarter of them is usual."""

_SAMPLE_PARTS = 300
"""Medians are those of so many, and memory does not grow with the parts."""

_USUAL_MAX, _FAR = 1.5, 4.0
"""In robust standard deviations: what is further off than the first is taken for that, than the second for nothing."""

_SPREAD_SHARE_MIN = 0.5
"""Of a feature's usual spread over the places: at some it hardly varies."""

_SPREAD_MIN = 1e-3

_MAD_TO_DEVIATION = 1.4826
"""Of a normal law."""


def most_central(strangeness: Floats) -> Flags:
    """The least strange of the parts, (parts,), ``CENTRAL_SHARE`` of them."""
    is_central = np.zeros(len(strangeness), np.bool_)
    is_central[np.argsort(strangeness, kind="stable")[: int(np.ceil(CENTRAL_SHARE * len(strangeness)))]] = True
    return is_central


def robust_strangeness(features: Features, layers: Sequence[Layer]) -> Floats:
    """How far off each part's furthest window lies, (parts,), in robust standard deviations.

    ``features``: as in ``cross_fit``, read in blocks.
    """
    count = len(features)
    sample = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE_PARTS])
    of_scales = []
    for windows in windows_of(layers, (features.shape[2], features.shape[3])):
        fit = _robust_gaussian(_looks(features, windows, sample), windows)
        strangeness = np.empty((count, windows.place_count))
        for first in range(0, count, PARTS_AT_ONCE):
            block = slice(first, first + PARTS_AT_ONCE)
            strangeness[block] = fit.strangeness(look(np.asarray(features[block]), windows))
        middle, spread = _middle_and_spread(strangeness)
        of_scales.append(_standardised(((strangeness - middle) / spread).max(axis=1)))
    return np.asarray(np.mean(of_scales, axis=0), np.float64)


def _looks(features: Features, windows: Windows, parts: npt.NDArray[np.int64]) -> Features:
    blocks = (parts[first : first + PARTS_AT_ONCE] for first in range(0, len(parts), PARTS_AT_ONCE))
    return np.concatenate([look(np.asarray(features[block]), windows).astype(np.float32) for block in blocks])


def _robust_gaussian(looks: Features, windows: Windows) -> Gaussian:
    """``looks``: (parts, places, features)."""
    middle, spread = _middle_and_spread(looks)
    spread = np.maximum(spread, _SPREAD_SHARE_MIN * np.median(spread, axis=0))
    moments = Moments.none(np.zeros(looks.shape[2]), windows.place_count)
    for first in range(0, len(looks), PARTS_AT_ONCE):
        off = (looks[first : first + PARTS_AT_ONCE] - middle) / spread
        moments.add(np.where(np.abs(off) > _FAR, 0.0, off.clip(-_USUAL_MAX, _USUAL_MAX)))
    shared = shared_of(moments, windows.separate_count)
    whitening = np.linalg.inv(np.linalg.cholesky(shared.correlation)) / shared.spread
    return Gaussian(middle, whitening / spread[:, None, :])


def _middle_and_spread(values: npt.NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Of each column: (parts, ...) -> (...)."""
    middle = np.asarray(np.median(values, axis=0), values.dtype)
    spread = _MAD_TO_DEVIATION * np.median(np.abs(values - middle), axis=0)
    return np.asarray(middle, np.float64), np.maximum(_SPREAD_MIN, np.asarray(spread, np.float64))


def _standardised(values: Floats) -> Floats:
    middle, spread = _middle_and_spread(values)
    return np.asarray((values - middle) / spread, np.float64)
