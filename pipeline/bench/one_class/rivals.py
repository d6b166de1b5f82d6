"""Known methods, each as plain as it is told of.

Their settings are those of a few tried that were best on the parts to choose by, on average over the data sets: stages, sizes, and
whether a picture is as strange as its strangest place or as all of it. Of memory banks there are two: the one that is best at small
defects, and the one that is best at solar cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from pipeline.bench.one_class.backbone import Backbone, Features, resized
from pipeline.bench.one_class.data import Pixels
from pipeline.bench.one_class.methods import Map, Method

Floats = npt.NDArray[Any]

_SEED = 0


def rivals() -> list[Method]:
    """All of them."""
    return [
        ChannelGaussian(),
        MemoryBank("memory bank, fine", ("block2", "block4"), 160, by_mean=False),
        MemoryBank("memory bank, coarse", ("block10",), 224, by_mean=True),
        PixelGaussian(),
    ]


class ChannelGaussian:
    """Means and standard deviations of each channel over the picture, and the Mahalanobis distance by a covariance shrunk after
    Ledoit and Wolf (2004). It has no map.
    """

    name = "channel statistics"

    def __init__(self) -> None:
        self._backbone = Backbone(("block2", "block4", "block10"), 160)

    def fit(self, good: Sequence[Pixels]) -> None:
        """At least two pictures."""
        rows = np.stack([self._statistics(picture) for picture in good])
        self._mean, self._deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-6
        covariance = LedoitWolf().fit((rows - self._mean) / self._deviation).covariance_
        self._whitener = np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        """The distance squared."""
        whitened = self._whitener @ ((self._statistics(picture) - self._mean) / self._deviation)
        return float(whitened @ whitened), None

    def _statistics(self, picture: Pixels) -> Features:
        pooled = []
        for stage in self._backbone.features(picture):
            flat = stage.reshape(len(stage), -1)
            pooled += [flat.mean(axis=1), flat.std(axis=1)]
        return np.concatenate(pooled)


class MemoryBank:
    """Patches of good pictures, thinned out to a greedy coreset; a patch is as strange as it is far from the nearest of them (after
    PatchCore: Roth et al. 2022, without its re-weighting by the neighbours).
    """

    def __init__(
        self,
        name: str,
        stages: tuple[str, ...],
        side_px: int,
        *,
        by_mean: bool,
        drawn: int = 20_000,
        kept: int = 2_000,
    ) -> None:
        """``by_mean``: a picture is as strange as its patches on average, not as the strangest. ``drawn`` patches are drawn by
        chance, of which ``kept`` are chosen, each the farthest from those before it.
        """
        self.name = name
        self._backbone = Backbone(stages, side_px)
        self._by_mean, self._drawn, self._kept = by_mean, drawn, kept

    def fit(self, good: Sequence[Pixels]) -> None:
        """One picture is enough."""
        generator = np.random.default_rng(_SEED)
        a_picture = max(1, self._drawn // len(good))
        rows = []
        for picture in good:
            patches, _ = self._patches(picture)
            rows.append(patches[generator.permutation(len(patches))[:a_picture]])
        bank = np.concatenate(rows)
        # Stages differ in their levels: in each channel's own spread they count alike.
        self._deviation = bank.std(axis=0) + 1e-6
        bank /= self._deviation
        self._bank = bank[_coreset(bank, self._kept, generator)]
        self._squares = (self._bank**2).sum(axis=1)

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        """Distances of patches to their nearest in the bank; the map is all of them."""
        patches, shape = self._patches(picture)
        patches /= self._deviation
        nearest = (self._squares - 2.0 * (patches @ self._bank.T)).min(axis=1) + (patches**2).sum(axis=1)
        distances = np.sqrt(np.maximum(nearest, 0.0)).astype(np.float32)
        return float(distances.mean() if self._by_mean else distances.max()), distances.reshape(shape)

    def _patches(self, picture: Pixels) -> tuple[Features, tuple[int, int]]:
        """float32 (h * w, channels), each the mean over 3 x 3 at the first stage's stride, and (h, w)."""
        planes = self._backbone.features(picture)
        high, wide = planes[0].shape[1:]
        columns = []
        for plane in planes:
            smooth = cv2.blur(plane.transpose(1, 2, 0), (3, 3))
            if smooth.shape[:2] != (high, wide):
                smooth = cv2.resize(smooth, (wide, high), interpolation=cv2.INTER_LINEAR)
            columns.append(smooth.reshape(high * wide, -1))
        return np.concatenate(columns, axis=1), (high, wide)


def _coreset(rows: Features, kept: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """The greedy k-centre choice, in a random projection to few dimensions."""
    if len(rows) <= kept:
        return np.arange(len(rows))
    few = rows @ generator.normal(0.0, 1.0, (rows.shape[1], 32)).astype(np.float32)
    squares = (few**2).sum(axis=1)
    chosen = [int(generator.integers(len(few)))]
    distances = np.full(len(few), np.inf, np.float32)
    for _ in range(kept - 1):
        last = chosen[-1]
        np.minimum(distances, squares - 2.0 * (few @ few[last]) + squares[last], out=distances)
        chosen.append(int(distances.argmax()))
    return np.array(chosen)


class PixelGaussian:
    """Each pixel's mean and standard deviation over the good pictures, blurred and small; a picture is as strange as its strangest
    pixel.
    """

    name = "pixel Gaussian"
    _SIDE_PX, _BLUR_PX = 128, 1.0

    def fit(self, good: Sequence[Pixels]) -> None:
        """At least two pictures."""
        levels = np.stack([self._levels(picture) for picture in good])
        self._mean = levels.mean(axis=0)
        self._deviation = np.maximum(levels.std(axis=0), 1.0)

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        """In standard deviations; the map is those of all pixels."""
        distances = np.abs(self._levels(picture) - self._mean) / self._deviation
        if distances.ndim == 3:
            distances = distances.max(axis=2)
        return float(distances.max()), distances

    def _levels(self, picture: Pixels) -> Features:
        small = resized(picture, self._SIDE_PX).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), self._BLUR_PX), np.float32)
