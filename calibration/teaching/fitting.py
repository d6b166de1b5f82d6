"""From maps of features of good parts to a product's fit and to scores of parts that the fit had not seen.

Parts are dealt into folds, and each fold is scored by a fit of the others (cross-fitting): such a score is what a new good part's
would be, but for the somewhat smaller number of parts fitted on, which makes it a little higher, if anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.teaching.gaussian import Gaussian, Moments, gaussian_of
from calibration.teaching.windows import Windows, look, windows_of

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]

FOLD_COUNT = 10
PARTS_MIN = 20
"""Fewer do not tell what is usual: each fold is scored by a fit of the others."""

_BLOCK_PARTS = 32
"""Parts in memory at once."""

_SPREAD_MIN = 1e-3
"""Of strangeness over good parts; usual is 0.1 to 0.3."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How strange good parts' windows of one size are: at each place ``offset``, (places,), on average; a part's strangest window,
    above that, ``location`` with a standard deviation of ``spread``.
    """

    offset: Floats
    location: float
    spread: float

    def excess(self, strangeness: Floats) -> Floats:
        """In standard deviations above a usual part's strangest window: (parts, places)."""
        return np.asarray((strangeness - self.offset - self.location) / self.spread, np.float64)


@dataclass(frozen=True, slots=True)
class ScaleFit:
    """Windows of one size."""

    windows: Windows
    gaussian: Gaussian
    usual: Usual


@dataclass(frozen=True, slots=True)
class ViewFit:
    """How a view of good parts looks. A part's excess is the mean over the scales of its strangest window's."""

    scales: tuple[ScaleFit, ...]

    def excess(self, features: Features) -> Floats:
        """(parts,) for features (parts, channels, rows, columns)."""
        found = [
            scale.usual.excess(scale.gaussian.strangeness(look(features, scale.windows))).max(axis=1)
            for scale in self.scales
        ]
        return np.asarray(np.mean(found, axis=0), np.float64)


@dataclass(frozen=True, slots=True)
class CrossFit:
    """``view``: the fit of all kept parts; ``excess``: (parts,), of every part by a fit that had not seen it."""

    view: ViewFit
    excess: Floats


def folds_of(part_count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """The fold of each part, (parts,): as even as can be."""
    folds = np.arange(part_count, dtype=np.int64) % min(FOLD_COUNT, part_count)
    np.random.default_rng(seed).shuffle(folds)
    return folds


def cross_fit(
    features: Features,
    folds: npt.NDArray[np.int64],
    is_kept: Flags,
) -> CrossFit:
    """Fit and scores; parts that are not kept are scored and not fitted on.

    ``features``: (parts, channels, rows, columns), read in blocks, so it may be mapped from a file. Raises ValueError where a fold
    leaves fewer than two kept parts.
    """
    scales, excess = [], []
    for windows in windows_of((features.shape[2], features.shape[3])):
        gaussian, strangeness = _strangeness(features, windows, folds, is_kept)
        highest = np.empty(len(features))
        for fold in np.unique(folds):
            usual = _usual(strangeness[is_kept & (folds != fold)])
            highest[folds == fold] = usual.excess(strangeness[folds == fold]).max(axis=1)
        scales.append(ScaleFit(windows, gaussian, _usual(strangeness[is_kept])))
        excess.append(highest)
    return CrossFit(ViewFit(tuple(scales)), np.asarray(np.mean(excess, axis=0), np.float64))


def _strangeness(
    features: Features,
    windows: Windows,
    folds: npt.NDArray[np.int64],
    is_kept: Flags,
) -> tuple[Gaussian, Floats]:
    """The fit of all kept parts, and each part's strangeness, (parts, places), by a fit without its fold."""
    numbers = np.unique(folds)
    origin = look(features[: min(_BLOCK_PARTS, len(features))], windows).mean(axis=(0, 1))
    moments = {int(fold): Moments.none(origin, windows.place_count) for fold in numbers}
    for block, looks in _looks(features, windows):
        for fold in numbers:
            chosen = (folds[block] == fold) & is_kept[block]
            if chosen.any():
                moments[int(fold)].add(looks[chosen])
    nothing = Moments.none(origin, windows.place_count)
    fits = {
        fold: gaussian_of(
            nothing.with_all_of(*(other for number, other in moments.items() if number != fold)), windows.separate_count
        )
        for fold in moments
    }
    strangeness = np.empty((len(features), windows.place_count))
    for block, looks in _looks(features, windows):
        for fold in numbers:
            chosen = folds[block] == fold
            if chosen.any():
                strangeness[block][chosen] = fits[int(fold)].strangeness(looks[chosen])
    return gaussian_of(nothing.with_all_of(*moments.values()), windows.separate_count), strangeness


def _looks(features: Features, windows: Windows) -> Iterator[tuple[slice, Floats]]:
    for first in range(0, len(features), _BLOCK_PARTS):
        block = slice(first, first + _BLOCK_PARTS)
        yield block, look(np.asarray(features[block]), windows)


def _usual(strangeness: Floats) -> Usual:
    offset = strangeness.mean(axis=0)
    highest = (strangeness - offset).max(axis=1)
    return Usual(offset, float(highest.mean()), max(_SPREAD_MIN, float(highest.std())))
