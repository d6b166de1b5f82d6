"""Windows over maps of features: what a patch of the picture looks like is the mean of its features.

Small windows of a shallow block see small defects, larger ones of a deep block larger defects. Chosen on the parts to choose by of
the benchmark's data sets. There, of pictures of about 160 px, three splits, AUROC of solar cells and on average over the data sets,
and the share of defects that the highest of the map hits:

======================================================  =====  =====  =====  =====
windows                                                 mono   poly   all    hit
======================================================  =====  =====  =====  =====
means and spreads of 0.3, 0.4 and 0.6 of the picture,
block 10, one covariance for all places                 0.938  0.909  0.881  0.32
1 and 3 features of block 4, 2 of block 10              0.954  0.916  0.939  0.91
2 features of block 4, 2 of block 10                    0.958  0.918  0.941  0.88
======================================================  =====  =====  =====  =====
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layer:
    """Features of one block among all that are kept of a picture, (n, channels, rows, columns).

    They are the ``kept_count`` channels from ``first`` on. Those of a block with ``fineness`` times as many rows and columns are
    kept as ONNX's SpaceToDepth lays them out. Windows of ``sides`` features, ``step`` apart, are looked at.
    """

    name: str
    first: int
    channel_count: int
    fineness: int
    sides: tuple[int, ...]
    step: int

    @property
    def kept_count(self) -> int:
        return self.channel_count * self.fineness**2

    def map_of(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n, channel_count, fineness * rows, fineness * columns)."""
        kept = features[:, self.first : self.first + self.kept_count]
        count, _, rows, columns = kept.shape
        fineness = self.fineness
        parted = kept.reshape(count, fineness, fineness, self.channel_count, rows, columns).transpose(0, 3, 4, 1, 5, 2)
        return parted.reshape(count, self.channel_count, fineness * rows, fineness * columns)


@dataclass(frozen=True, slots=True)
class Windows:
    """Squares of ``side`` features, ``step`` apart, inside a layer's map of ``grid`` (rows, columns)."""

    layer: Layer
    side: int
    step: int
    grid: tuple[int, int]

    @property
    def places(self) -> tuple[int, int]:
        """Rows and columns of windows."""
        rows, columns = self.grid
        return (rows - self.side) // self.step + 1, (columns - self.side) // self.step + 1

    @property
    def place_count(self) -> int:
        rows, columns = self.places
        return rows * columns

    @property
    def separate_count(self) -> float:
        """How many windows beside each other the map has room for: so much does one picture tell."""
        rows, columns = self.grid
        return rows * columns / self.side**2


def windows_of(layers: Sequence[Layer], grid: tuple[int, int]) -> tuple[Windows, ...]:
    """The windows of each layer and size; ``grid``: rows and columns of the kept features."""
    found = []
    for layer in layers:
        rows, columns = (layer.fineness * length for length in grid)
        for side in layer.sides:
            held = min(side, rows, columns)
            found.append(Windows(layer, held, _step(held, layer.step, (rows, columns)), (rows, columns)))
    return tuple(found)


def _step(side: int, wanted: int, grid: tuple[int, int]) -> int:
    """As wanted, or less, so that the windows reach to the map's ends and are a whole number of steps wide."""
    return next(step for step in range(wanted, 0, -1) if all(length % step == side % step == 0 for length in grid))


def look(features: npt.NDArray[np.float32], windows: Windows) -> Floats:
    """Means of the layer's features in each window: (n, places, layer.channel_count).

    ``features``: all that are kept, (n, channels, rows, columns).
    """
    mean = _window_means(windows.layer.map_of(features).astype(np.float64), windows)
    return np.ascontiguousarray(mean.reshape(*mean.shape[:2], -1).transpose(0, 2, 1))


def _window_means(features: Floats, windows: Windows) -> Floats:
    """By a summed-area table."""
    side, step = windows.side, windows.step
    if side == 1:
        return features[:, :, ::step, ::step]
    sums = np.zeros((*features.shape[:2], features.shape[2] + 1, features.shape[3] + 1))
    sums[:, :, 1:, 1:] = features.cumsum(axis=2).cumsum(axis=3)
    below, above = sums[:, :, side::step], sums[:, :, : sums.shape[2] - side : step]
    inside = below[..., side::step] - below[..., : sums.shape[3] - side : step]
    inside -= above[..., side::step] - above[..., : sums.shape[3] - side : step]
    means: Floats = inside / side**2
    return means
