"""Whether pictures are of one kind: of two products, or a product lying in two ways, each would be taught as usual."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.teaching.fitting import Features, Flags, Floats

SEPARATION_MAX = 6.0
"""Standard deviations between the middles of two groups; one normal group comes to 3.2, an even spread to 3.5."""

_SHARE_MIN, _PARTS_MIN = 0.05, 3
"""A group smaller than that is a matter of suspects."""

_BLOCK_PARTS = 32


@dataclass(frozen=True, slots=True)
class Kinds:
    """The best cut of the parts into two groups. ``separation``: see ``SEPARATION_MAX``; ``is_second``, (parts,)."""

    separation: float
    is_second: Flags

    @property
    def are_two(self) -> bool:
        return self.separation > SEPARATION_MAX

    @property
    def is_smaller(self) -> Flags:
        """The smaller group, (parts,)."""
        return self.is_second if 2 * self.is_second.sum() <= len(self.is_second) else ~self.is_second


def kinds_of(features: Features, which: Flags | None = None) -> Kinds:
    """Along the direction in which the pictures' mean features differ most. ``features``: (parts, channels, rows, columns);
    ``which``, (parts,): of these parts alone, as if the others were not there.
    """
    means = np.concatenate(
        [
            np.asarray(features[first : first + _BLOCK_PARTS]).mean(axis=(2, 3), dtype=np.float64)
            for first in range(0, len(features), _BLOCK_PARTS)
        ]
    )
    if which is not None:
        means = means[which]
    left = means - means.mean(axis=0)
    _, _, directions = np.linalg.svd(left, full_matrices=False)
    return _best_cut(left @ directions[0])


def _best_cut(places: Floats) -> Kinds:
    order = np.argsort(places)
    smallest = max(_PARTS_MIN, round(_SHARE_MIN * len(places)))
    best = Kinds(0.0, np.zeros(len(places), np.bool_))
    for count in range(smallest, len(places) - smallest + 1):
        one, other = places[order[:count]], places[order[count:]]
        spread = ((one.var() + other.var()) / 2) ** 0.5
        separation = float((other.mean() - one.mean()) / max(spread, np.finfo(np.float64).tiny))
        if separation > best.separation:
            is_second = np.zeros(len(places), np.bool_)
            is_second[order[count:]] = True
            best = Kinds(separation, is_second)
    return best
