"""What windows of good parts look like: a mean and a covariance for each place, that one shrunk towards all places' together.

After J. H. Friedman, Regularized discriminant analysis, Journal of the American Statistical Association 84 (1989), who shrinks
covariances of classes so; the covariance of all is shrunk first, after

* Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero, Shrinkage algorithms for MMSE covariance estimation, IEEE Transactions on
  Signal Processing 58 (2010), eq. 23: oracle approximating shrinkage, which needs nothing but the sample covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SHRINKAGE_MIN = 0.01
"""Features that are always the same would be infinitely telling. AUROC is the same from 0.003 to 0.03."""

_SPREAD_MIN = 1e-3
"""Of a feature over good parts; features are of the order of 1 to 10."""

_SHARED_PARTS = 2.0
"""For each feature: the covariance of all places counts at each place as so many parts. AUROC is the same from 1 to 5; with that
covariance alone the mean over the data sets is 0.912, not 0.937.
"""


@dataclass(slots=True)
class Moments:
    """Sums over parts, from which means and covariance follow; of two sets of parts they add up.

    ``total``: (places, features); ``scatter``: (features, features), over parts and places; both of what is left after ``origin``,
    (features,), was taken off, so that little is lost to rounding.
    """

    origin: Floats
    count: int
    total: Floats
    scatter: Floats

    @classmethod
    def none(cls, origin: Floats, place_count: int) -> Moments:
        size = len(origin)
        return cls(origin, 0, np.zeros((place_count, size)), np.zeros((size, size)))

    def add(self, looks: Floats) -> None:
        """Parts more: (parts, places, features)."""
        left = looks - self.origin
        flat = left.reshape(-1, left.shape[-1])
        self.count += len(looks)
        self.total += left.sum(axis=0)
        self.scatter += flat.T @ flat

    @property
    def mean(self) -> Floats:
        """Of each place, of what is left: (places, features)."""
        return self.total / self.count

    def with_all_of(self, *others: Moments) -> Moments:
        """Of these parts and those."""
        return Moments(
            self.origin,
            self.count + sum(other.count for other in others),
            self.total + sum(other.total for other in others),
            self.scatter + sum(other.scatter for other in others),
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """Of all places together: ``spread``, (features,), and the shrunk ``correlation``, (features, features).

    ``shrinkage``: 0 to 1.
    """

    spread: Floats
    correlation: Floats
    shrinkage: float


@dataclass(frozen=True, slots=True)
class Gaussian:
    """``whitening @ (look - centre)`` has about unit variance in each direction.

    ``centre``: (places, features); ``whitening``: (places, features, features), lower triangular.
    """

    centre: Floats
    whitening: Floats

    def strangeness(self, looks: Floats) -> Floats:
        """The logarithm of the mean squared whitened distance: (parts, places), about 0 for a usual window.

        ``looks``: (parts, places, features).
        """
        left = (looks - self.centre).transpose(1, 0, 2)
        whitened = left @ self.whitening.transpose(0, 2, 1)
        return np.asarray(np.log(np.square(whitened).mean(axis=-1) + STRANGENESS_FLOOR).T, np.float64)


STRANGENESS_FLOOR = 1e-6
"""Added to squared distances, so that pictures that are all alike have a logarithm."""


def shared_of(moments: Moments, separate_count: float) -> Shared:
    """``separate_count``: how many windows of a part tell something of their own. Raises ValueError for fewer than two parts."""
    if moments.count < 2:
        raise ValueError(f"got {moments.count} parts, expected two or more")
    place_count, mean = len(moments.total), moments.mean
    covariance = (moments.scatter - moments.count * mean.T @ mean) / ((moments.count - 1) * place_count)
    spread = np.sqrt(np.maximum(np.diag(covariance), _SPREAD_MIN**2))
    correlation = covariance / np.outer(spread, spread)
    shrinkage = max(_SHRINKAGE_MIN, _shrinkage(correlation, moments.count * separate_count))
    return Shared(spread, (1 - shrinkage) * correlation + shrinkage * np.eye(len(spread)), shrinkage)


def gaussian_of(moments: Moments, scatter: Floats, places: slice, shared: Shared) -> Gaussian:
    """The fit of some of the places; ``scatter``: (those places, features, features), over parts, as in ``moments``."""
    mean = moments.mean[places]
    own = scatter - moments.count * mean[:, :, None] * mean[:, None, :]
    own /= np.outer(shared.spread, shared.spread)
    shared_count = _SHARED_PARTS * len(shared.spread)
    correlation = (own + shared_count * shared.correlation) / (moments.count - 1 + shared_count)
    whitening = np.linalg.inv(np.linalg.cholesky(correlation)) / shared.spread
    return Gaussian(mean + moments.origin, whitening)


def _shrinkage(correlation: Floats, sample_count: float) -> float:
    size = len(correlation)
    trace_of_square, square_of_trace = float(np.square(correlation).sum()), float(np.trace(correlation)) ** 2
    above = (1 - 2 / size) * trace_of_square + square_of_trace
    below = (sample_count + 1 - 2 / size) * (trace_of_square - square_of_trace / size)
    return min(1.0, above / below) if below > 0 else 1.0
