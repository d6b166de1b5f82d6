"""Whether pictures fall into a few tight groups that lie far apart: a few parts, each of them shown again and again.

Of parts that were shown 30 times and more under a moving light and place no picture need be much nearer to another than pictures
usually are, and there is no gap among its neighbours (``near_copies``). But what place, light and noise make is alike in all
groups, so that groups lie apart in the directions in which their pictures do not differ: k-means with one covariance for all groups
(a Gaussian mixture with a tied covariance, each picture in the group that it belongs to most).

Spreads between the middles of the two nearest groups: 2 to 10 parts shown 31 to 155 times 10.9 to 19.6; different parts (rendered
ones, circuit boards) 6.3 and less; solar cells of several modules 12.9, which nobody can tell from a few parts by looking at them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.teaching.fitting import Flags, Floats

SEPARATION_MIN = 8.0

GROUPS_MAX = 12
_PICTURES_MIN = 15
"""Of a group: of fewer ``near_copies`` tells by itself."""

_SHARE_MAX = 0.6
"""Of all pictures, in one group: a larger one is the usual kind of part beside another kind."""

_DIRECTIONS = 12
"""Of most variance, in which groups are sought."""

_ALL_MIN = 5 * _DIRECTIONS
"""Pictures: of 45 different ones one set in 16 falls into groups by chance, of 60 none of 64."""

_SEEN_MAX = 1_000
_TRIES, _STEPS = 8, 40
_FLOOR = 1e-3
"""Of the mean variance within groups, added to each."""


@dataclass(frozen=True, slots=True)
class Groups:
    """``count``: 0 where the pictures do not fall into groups; ``is_in_one``: (pictures,)."""

    count: int
    is_in_one: Flags


@dataclass(frozen=True, slots=True)
class _Mixture:
    """``middles``: (groups, directions); ``whitening``: (directions, directions), of what is within groups."""

    middles: Floats
    whitening: Floats

    def nearest(self, places: Floats) -> npt.NDArray[np.intp]:
        """The number of each one's group, (pictures,)."""
        left = (places @ self.whitening)[:, None] - (self.middles @ self.whitening)[None]
        return np.asarray(np.square(left).sum(axis=2).argmin(axis=1), np.intp)


def groups_of(sketch: Floats) -> Groups:
    """``sketch``: (pictures, numbers), of which Euclidean distances tell how unlike pictures are."""
    left = sketch - sketch.mean(axis=0)
    _, directions = np.linalg.eigh(left.T @ left)
    places = left @ directions[:, -_DIRECTIONS:]
    seen = places[np.unique(np.linspace(0, len(places) - 1, _SEEN_MAX).astype(int))]
    most = min(GROUPS_MAX, len(seen) // _PICTURES_MIN) if len(seen) >= _ALL_MIN else 0
    for count in range(most, 1, -1):
        tried = [_mixture(seen, count, np.random.default_rng(number)) for number in range(_TRIES)]
        sizable = [np.bincount(each.nearest(seen), minlength=count) >= _PICTURES_MIN for each in tried]
        separations = [_separation(each, which) for each, which in zip(tried, sizable, strict=True)]
        best = int(np.argmax(separations))
        if separations[best] > SEPARATION_MIN:
            group = tried[best].nearest(places)
            is_told = sizable[best] & (np.bincount(group, minlength=count) <= _SHARE_MAX * len(group))
            return Groups(int(sizable[best].sum()), is_told[group])
    return Groups(0, np.zeros(len(sketch), np.bool_))


def _mixture(places: Floats, count: int, chance: np.random.Generator) -> _Mixture:
    """By Lloyd's steps from middles far apart (k-means++), with the covariance within groups taken anew after each."""
    found = _Mixture(_far_apart(places, count, chance), np.eye(places.shape[1]))
    group = found.nearest(places)
    for _ in range(_STEPS):
        middles = np.stack(
            [
                places[group == each].mean(axis=0) if (group == each).any() else found.middles[each]
                for each in range(count)
            ]
        )
        found = _Mixture(middles, _whitening(places - middles[group]))
        before, group = group, found.nearest(places)
        if (group == before).all():
            break
    return found


def _far_apart(places: Floats, count: int, chance: np.random.Generator) -> Floats:
    chosen = [places[chance.integers(len(places))]]
    for _ in range(count - 1):
        distances = np.min([np.square(places - each).sum(axis=1) for each in chosen], axis=0)
        total = distances.sum()
        chosen.append(places[chance.choice(len(places), p=distances / total if total > 0 else None)])
    return np.stack(chosen)


def _whitening(within: Floats) -> Floats:
    covariance = within.T @ within / len(within)
    mean = max(float(np.trace(covariance)) / len(covariance), np.finfo(np.float64).tiny)
    variances, directions = np.linalg.eigh(covariance + _FLOOR * mean * np.eye(len(covariance)))
    return np.asarray(directions / np.sqrt(variances), np.float64)


def _separation(mixture: _Mixture, is_sizable: Flags) -> float:
    """In spreads within groups, of the two nearest; 0 of fewer than two groups."""
    middles = mixture.middles[is_sizable] @ mixture.whitening
    if len(middles) < 2:
        return 0.0
    distances = np.linalg.norm(middles[:, None] - middles[None], axis=2)
    return float(distances[~np.eye(len(middles), dtype=np.bool_)].min())
