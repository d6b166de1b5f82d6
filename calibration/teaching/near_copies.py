"""Pictures of one and the same part, which are nearer to each other than different parts are, though no pixel need be the same.

Counted as different parts they would make every promise false: each would be scored by a fit that has seen the part. Of 40 parts
with 8 pictures each, at most 1 % of good parts was promised to be rejected, and all fresh ones were.

Told by a gap: the next neighbours of such a picture are its part's others, and then for a long way nobody. Squared distances before
and after the gap, of 300 pictures: parts shown twice 0.21 to 0.34, eight times 0.22 to 0.39; parts shown once 0.82 and more, of
monocrystalline solar cells (many of one module) 1 % below a half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from calibration.teaching.fitting import PARTS_AT_ONCE, Features, Floats
from calibration.teaching.gaussian import Moments, shared_of
from calibration.teaching.windows import Layer, look, windows_of

GAP_MAX = 0.5
"""Of the squared distances before and after it."""

_NEAR_MAX = 0.5
"""Of the usual squared distance: what lies in a group of its own further than that is another kind of part, see ``kinds``."""

_PICTURES_MAX = 30
"""Of one part that are told: of more than 31 there is no telling a part from a kind of parts."""

_DIRECTIONS = 512
"""Distances along so many random directions are within some 6 % of the true ones."""

_ROWS_AT_ONCE = 256


def same_part(views: Sequence[Features], layers: Sequence[Layer]) -> npt.NDArray[np.intp]:
    """A number for each picture, (pictures,), from 0 on and the same for pictures of one part.

    ``views``: features of each view as in ``cross_fit``, the pictures in one order.
    """
    sketch = np.concatenate([_sketch(features, layers) for features in views], axis=1)
    squares = np.square(sketch).sum(axis=1)
    usual = 2 * float(np.median(squares))
    first = np.arange(len(sketch))
    for start in range(0, len(sketch), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(sketch)))
        distances = np.maximum(0.0, squares[rows, None] + squares - 2 * sketch[rows] @ sketch.T)
        distances[np.arange(len(rows)), rows] = np.inf
        for picture, near in _near(rows, distances, usual):
            group = np.append(near, picture)
            first[np.isin(first, first[group])] = first[group].min()
    return np.asarray(np.unique(first, return_inverse=True)[1], np.intp)


def _near(
    rows: npt.NDArray[np.intp], distances: Floats, usual: float
) -> Iterator[tuple[np.intp, npt.NDArray[np.intp]]]:
    """Of those pictures that have others of their part: which."""
    count = min(_PICTURES_MAX, distances.shape[1] - 2)
    if count < 1:
        return
    nearest = np.sort(np.partition(distances, count, axis=1)[:, : count + 1], axis=1)
    gaps = nearest[:, :-1] / np.maximum(nearest[:, 1:], np.finfo(np.float64).tiny)
    at = gaps.argmin(axis=1)
    everyone = np.arange(len(rows))
    within = nearest[everyone, at]
    for index in np.flatnonzero((gaps[everyone, at] < GAP_MAX) & (within < _NEAR_MAX * usual)):
        yield rows[index], np.flatnonzero(distances[index] <= within[index])


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
