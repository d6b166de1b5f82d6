"""From maps of features of good parts to a product's fit and to scores of parts that the fit had not seen.

Parts are dealt into folds, and each fold is scored by a fit of the others (cross-fitting): such a score is what a new good part's
would be, but for the somewhat smaller number of parts fitted on, which makes it a little higher, if anything.
What is usual of strangeness is that of the other folds' parts, whose fits have seen the part: that makes it higher, too (with 40
parts by 0.1 to 0.2 standard deviations of good parts).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.teaching.gaussian import Gaussian, Moments, Shared, gaussian_of, shared_of
from calibration.teaching.windows import Layer, Windows, look, windows_of

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]

FOLD_COUNT = 10
PARTS_MIN = 20
"""Fewer do not tell what is usual: each fold is scored by a fit of the others."""

PARTS_AT_ONCE = 32
"""Parts in memory at once."""

_SCATTER_BYTES = 128_000_000
"""In memory at once: a covariance for each place and fold."""

_SPREAD_MIN = 1e-3
"""Of strangeness over good parts; usual is 0.1 to 0.3."""


@dataclass(frozen=True, slots=True)
class Usual:
    """How strange good parts' windows of one size are: at each place ``offset`` on average, with a standard deviation of
    ``deviation``, (places,) each; a part's strangest window, in those deviations above that, ``location`` with a standard
    deviation of ``spread``.
    """

    offset: Floats
    deviation: Floats
    location: float
    spread: float

    def excess(self, strangeness: Floats) -> Floats:
        """In standard deviations above a usual part's strangest window: (parts, places)."""
        above = (strangeness - self.offset) / self.deviation
        return np.asarray((above - self.location) / self.spread, np.float64)


@dataclass(frozen=True, slots=True)
class ScaleFit:
    """Windows of one layer and size. ``shrinkage``: of the covariance of all places, 0 to 1."""

    windows: Windows
    gaussian: Gaussian
    usual: Usual
    shrinkage: float


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
    layers: Sequence[Layer],
    folds: npt.NDArray[np.int64],
    is_kept: Flags,
) -> CrossFit:
    """Fit and scores; parts that are not kept are scored and not fitted on.

    ``features``: (parts, channels, rows, columns), made up of ``layers``, read in blocks, so it may be mapped from a file.
    Raises ValueError where a fold leaves fewer than two kept parts.
    """
    scales, excess = [], []
    for windows in windows_of(layers, (features.shape[2], features.shape[3])):
        gaussian, shared, strangeness = _strangeness(features, windows, folds, is_kept)
        highest = np.empty(len(features))
        for fold in np.unique(folds):
            usual = _usual(strangeness[is_kept & (folds != fold)])
            highest[folds == fold] = usual.excess(strangeness[folds == fold]).max(axis=1)
        scales.append(ScaleFit(windows, gaussian, _usual(strangeness[is_kept]), shared.shrinkage))
        excess.append(highest)
    return CrossFit(ViewFit(tuple(scales)), np.asarray(np.mean(excess, axis=0), np.float64))


def nothing_learnt(layers: Sequence[Layer], grid: tuple[int, int]) -> ViewFit:
    """Of the same size as any fit; ``grid``: rows and columns of the kept features."""
    scales = []
    for windows in windows_of(layers, grid):
        count, size = windows.place_count, windows.layer.channel_count
        gaussian = Gaussian(np.zeros((count, size)), np.broadcast_to(np.eye(size), (count, size, size)))
        scales.append(ScaleFit(windows, gaussian, Usual(np.zeros(count), np.ones(count), 0.0, 1.0), 1.0))
    return ViewFit(tuple(scales))


def _strangeness(
    features: Features,
    windows: Windows,
    folds: npt.NDArray[np.int64],
    is_kept: Flags,
) -> tuple[Gaussian, Shared, Floats]:
    """The fit of all kept parts, and each part's strangeness, (parts, places), by a fit without its fold."""
    numbers = [int(fold) for fold in np.unique(folds)]
    everyone = np.arange(len(features))
    origin = look(np.asarray(features[everyone[is_kept][:PARTS_AT_ONCE]]), windows).mean(axis=(0, 1))
    nothing = Moments.none(origin, windows.place_count)
    moments = {fold: Moments.none(origin, windows.place_count) for fold in numbers}
    for block, looks in _looks(features, windows, everyone):
        for fold in numbers:
            chosen = (folds[block] == fold) & is_kept[block]
            if chosen.any():
                moments[fold].add(looks[chosen])
    whole = nothing.with_all_of(*moments.values())
    others = {fold: nothing.with_all_of(*(moments[each] for each in numbers if each != fold)) for fold in numbers}
    shared = {fold: shared_of(others[fold], windows.separate_count) for fold in numbers}
    shared_by_all = shared_of(whole, windows.separate_count)

    strangeness = np.empty((len(features), windows.place_count))
    fits = []
    for places in _chunks(windows, len(numbers)):
        scatters = _scatters(features, windows, folds, is_kept, places, origin)
        scatter = np.sum(list(scatters.values()), axis=0)
        fits.append(gaussian_of(whole, scatter, places, shared_by_all))
        for fold in numbers:
            fit = gaussian_of(others[fold], scatter - scatters[fold], places, shared[fold])
            for block, looks in _looks(features, windows, everyone[folds == fold]):
                strangeness[block, places] = fit.strangeness(looks[:, places])
    centre, whitening = (
        np.concatenate(each) for each in zip(*((fit.centre, fit.whitening) for fit in fits), strict=True)
    )
    return Gaussian(centre, whitening), shared_by_all, strangeness


def _scatters(
    features: Features,
    windows: Windows,
    folds: npt.NDArray[np.int64],
    is_kept: Flags,
    places: slice,
    origin: Floats,
) -> dict[int, Floats]:
    """Of each fold's kept parts, at each of these places: (places, features, features)."""
    size = (places.stop - places.start, len(origin), len(origin))
    scatters = {int(fold): np.zeros(size) for fold in np.unique(folds)}
    for fold, scatter in scatters.items():
        for _, looks in _looks(features, windows, np.flatnonzero((folds == fold) & is_kept)):
            left = (looks[:, places] - origin).transpose(1, 2, 0)
            scatter += left @ left.transpose(0, 2, 1)
    return scatters


def _chunks(windows: Windows, fold_count: int) -> list[slice]:
    """Places in their order, so many at once as memory is meant for."""
    of_one = 8 * windows.layer.channel_count**2 * (fold_count + 4)
    count = max(1, _SCATTER_BYTES // of_one)
    return [slice(first, min(first + count, windows.place_count)) for first in range(0, windows.place_count, count)]


def _looks(
    features: Features, windows: Windows, parts: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Of these parts, some at a time: which, and their looks."""
    for first in range(0, len(parts), PARTS_AT_ONCE):
        block = parts[first : first + PARTS_AT_ONCE]
        yield block, look(np.asarray(features[block]), windows)


def _usual(strangeness: Floats) -> Usual:
    offset, deviation = strangeness.mean(axis=0), np.maximum(_SPREAD_MIN, strangeness.std(axis=0))
    highest = ((strangeness - offset) / deviation).max(axis=1)
    return Usual(offset, deviation, float(highest.mean()), max(_SPREAD_MIN, float(highest.std())))
