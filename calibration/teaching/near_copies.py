"""Pictures of one and the same part, which are nearer to each other than different parts are, though no pixel need be the same.

Counted as different parts they would make every promise false: each would be scored by a fit that has seen the part. Of 40 parts
with 8 pictures each, at most 1 % of good parts was promised to be rejected, and all fresh ones were.

Told by a gap: the next neighbours of such a picture are its part's others, and then for a long way nobody. Squared distances before
and after the gap, of 300 pictures: parts shown twice 0.21 to 0.34, eight times 0.22 to 0.39; parts shown once 0.82 and more, of
monocrystalline solar cells (many of one module) 1 % below a half.

Of a part that was put down anew for each picture there is often no gap: 40 parts with 8 pictures each, moved by 2 px and by 0.6
degrees and under light that differs by 5 %, were taken for 297 parts. But most of these pictures (three of four) have one that is
nearer than half the usual distance, less what place and light make; so have those of a part that is shown more often than can be
told, and of different parts none (rendered parts, boards in place). Of solar cells, many of one module, it is a quarter to a half:
whether pictures show one part or what was cut from one piece they cannot tell, and somebody has to say.

Neither does this find a dozen parts that are shown again and again, since they differ by no more directions than place and light
do: of these ``few_parts`` tells; nor a single one, of which all that can be told is that its pictures differ little (``variety``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.teaching.few_parts import groups_of
from calibration.teaching.fitting import PARTS_AT_ONCE, Features, Floats
from calibration.teaching.gaussian import Moments, shared_of
from calibration.teaching.windows import Layer, look, windows_of

GAP_MAX = 0.5
"""Of the squared distances before and after it."""

_NEAR_MAX = 0.5
"""Of the usual squared distance."""

_PICTURES_MAX = 30
"""Of one part that are told: of more than 31 there is no telling a part from a kind of parts."""

_DIRECTIONS = 512
"""Distances along so many random directions are within some 6 % of the true ones."""

_ROWS_AT_ONCE = 256

_SHARE_MAX = 0.25
"""Of all pictures, in a group of which it is told that they are near: a larger one is a kind of parts."""

_COMMON_DIRECTIONS = 8

_SEEN_FOR_VARIETY = 64

VARIETY_USUAL_MIN = 0.15
"""Of one part under a noisy camera 0.07 to 0.13, of different ones 0.17 to 0.8."""


@dataclass(frozen=True, slots=True)
class NearCopies:
    """``part``: a number for each picture, (pictures,), from 0 on and the same for pictures of one part, where that can be told.

    ``may_repeat``, (pictures,): taken for the only one of its part, but another is nearer than ``_NEAR_MAX`` of the usual squared
    distance, or it lies in a group of more pictures than can be told from a kind of parts; or whatever it is taken for, it lies in
    one of a few groups (``few_parts``, there are ``groups_count``), or all pictures differ little.
    """

    part: npt.NDArray[np.intp]
    may_repeat: npt.NDArray[np.bool_]
    groups_count: int


def near_copies(views: Sequence[Features], layers: Sequence[Layer]) -> NearCopies:
    """``views``: features of each view as in ``cross_fit``, the pictures in one order."""
    sketch = np.concatenate([_sketch(features, layers) for features in views], axis=1)
    first, groups = np.arange(len(sketch)), groups_of(sketch)
    has_near = np.zeros(len(sketch), np.bool_)
    usual = _usual(sketch)
    for rows, distances in _distances(sketch):
        within = _within_gap(distances, min(_PICTURES_MAX, distances.shape[1] - 2), usual)
        for index in np.flatnonzero(np.isfinite(within)):
            group = np.append(np.flatnonzero(distances[index] <= within[index]), rows[index])
            first[np.isin(first, first[group])] = first[group].min()
        has_near[rows] |= np.isfinite(_within_gap(distances, int(_SHARE_MAX * len(sketch)), usual))
    for rows, distances in _distances(_own(sketch)):
        has_near[rows] |= (distances < _NEAR_MAX * 2.0).any(axis=1)  # 2 of those at right angles
    part = np.unique(first, return_inverse=True)[1]
    has_near &= np.bincount(part)[part] == 1
    differ_little = all(variety(features) < VARIETY_USUAL_MIN for features in views)
    return NearCopies(np.asarray(part, np.intp), has_near | groups.is_in_one | differ_little, groups.count)


def _own(sketch: Floats) -> Floats:
    """Less what pictures differ by most: place and light are few numbers, by which different parts may be near each other, too.

    Of unit length: of a part that is odd little is left, which would be near to everything.
    """
    left = sketch - sketch.mean(axis=0)
    _, directions = np.linalg.eigh(left.T @ left)
    most = directions[:, -_COMMON_DIRECTIONS:]
    left = left - left @ most @ most.T
    return np.asarray(left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9), np.float64)


def _usual(sketch: Floats) -> float:
    """The squared distance of two pictures."""
    return 2 * float(np.median(np.square(sketch).sum(axis=1)))


def _distances(sketch: Floats) -> Iterator[tuple[npt.NDArray[np.intp], Floats]]:
    """Some pictures at a time, and their squared distances from all, (some, pictures), from themselves infinite."""
    squares = np.square(sketch).sum(axis=1)
    for start in range(0, len(sketch), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(sketch)))
        distances = np.maximum(0.0, squares[rows, None] + squares - 2 * sketch[rows] @ sketch.T)
        distances[np.arange(len(rows)), rows] = np.inf
        yield rows, distances


def variety(features: Features) -> float:
    """How much pictures differ, as a share of what they show: the median of their features' distance from the middle of all, over
    those features' own length. Of different parts some 0.3; of one part under a camera whose pixels differ by a grey level 0.06.
    """
    rows = np.unique(np.linspace(0, len(features) - 1, _SEEN_FOR_VARIETY).astype(int))
    seen = np.stack([np.asarray(features[row], np.float64) for row in rows])
    length = float(np.sqrt(np.square(seen).mean()))
    apart = np.sqrt(np.square(seen - np.median(seen, axis=0)).mean(axis=(1, 2, 3)))
    return float(np.median(apart)) / max(length, np.finfo(np.float64).tiny)


def _within_gap(distances: Floats, count: int, usual: float) -> Floats:
    """(some,): of each picture the distance of the last one before a gap among the next ``count`` neighbours; infinite without one.

    What lies in a group of its own further than ``_NEAR_MAX`` is another kind of part, see ``kinds``.
    """
    if count < 1:
        return np.full(len(distances), np.inf)
    nearest = np.sort(np.partition(distances, count, axis=1)[:, : count + 1], axis=1)
    gaps = nearest[:, :-1] / np.maximum(nearest[:, 1:], np.finfo(np.float64).tiny)
    at = gaps.argmin(axis=1)
    everyone = np.arange(len(distances))
    within = nearest[everyone, at]
    return np.asarray(
        np.where((gaps[everyone, at] < GAP_MAX) & (within < _NEAR_MAX * usual), within, np.inf), np.float64
    )


def _sketch(features: Features, layers: Sequence[Layer]) -> Floats:
    """Of the deepest layer's windows, whitened by the covariance of all places, along random directions: (pictures, directions).

    Scaled to unit variance, so that views count alike.
    """
    windows = windows_of(layers, (features.shape[2], features.shape[3]))[-1]
    blocks = [slice(first, first + PARTS_AT_ONCE) for first in range(0, len(features), PARTS_AT_ONCE)]
    origin = look(np.asarray(features[blocks[0]]), windows).mean(axis=(0, 1))
    moments = Moments.none(origin, windows.place_count)
    for block in blocks:
        moments.add(look(np.asarray(features[block]), windows))
    shared = shared_of(moments, windows.separate_count)
    whitening = np.linalg.inv(np.linalg.cholesky(shared.correlation)) / shared.spread
    size = windows.place_count * len(origin)
    directions = np.random.default_rng(0).standard_normal((size, _DIRECTIONS), np.float32) / np.sqrt(size * _DIRECTIONS)
    sketch = np.empty((len(features), _DIRECTIONS))
    for block in blocks:
        left = look(np.asarray(features[block]), windows) - origin - moments.mean
        sketch[block] = (left @ whitening.T).reshape(len(left), size) @ directions
    return np.asarray(sketch / max(float(np.sqrt(np.square(sketch).sum(axis=1).mean())), 1e-9), np.float64)
