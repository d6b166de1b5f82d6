"""Windows over a map of features: what a patch of the picture looks like is the mean and spread of its features.

Windows of several sizes see defects of several sizes. Chosen on a part of the solar cells, together with everything else here
that could be chosen: AUROC of windows of 0.3, 0.4 and 0.6 of the picture 0.939 (mono) and 0.911 (poly), of the whole picture
alone 0.923 and 0.893.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RELATIVE_SIDES = (0.3, 0.4, 0.6)
"""Of the square root of the map's area."""

_SIDE_MIN = 2
"""Of one feature alone there is no spread."""

VARIANCE_MIN = 1e-6
"""Against rounding where features are all alike: features are of the order of 1 to 10."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Squares of ``side`` features, ``step`` apart, inside a map of ``grid`` (rows, columns)."""

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


def windows_of(grid: tuple[int, int]) -> tuple[Windows, ...]:
    """The windows of each size, the smallest first; sizes that come out alike are one."""
    rows, columns = grid
    sides = {
        min(rows, columns, max(_SIDE_MIN, round(relative * (rows * columns) ** 0.5))) for relative in RELATIVE_SIDES
    }
    return tuple(Windows(side, _step(side, grid), grid) for side in sorted(sides))


def _step(side: int, grid: tuple[int, int]) -> int:
    """A third of a window at most, so that the windows reach to the map's ends."""
    return next(step for step in range(max(1, side // 3), 0, -1) if all((length - side) % step == 0 for length in grid))


def look(features: npt.NDArray[np.float32], windows: Windows) -> Floats:
    """Means, then standard deviations, of the features in each window: (n, places, 2 * channels).

    ``features``: (n, channels, rows, columns).
    """
    exact = features.astype(np.float64)
    mean = _window_means(exact, windows)
    variance = _window_means(np.square(exact), windows) - np.square(mean)
    both = np.concatenate([mean, np.sqrt(np.maximum(variance, VARIANCE_MIN))], axis=1)
    return np.ascontiguousarray(both.reshape(*both.shape[:2], -1).transpose(0, 2, 1))


def _window_means(features: Floats, windows: Windows) -> Floats:
    """By a summed-area table."""
    side, step = windows.side, windows.step
    sums = np.zeros((*features.shape[:2], features.shape[2] + 1, features.shape[3] + 1))
    sums[:, :, 1:, 1:] = features.cumsum(axis=2).cumsum(axis=3)
    below, above = sums[:, :, side::step], sums[:, :, : sums.shape[2] - side : step]
    inside = below[..., side::step] - below[..., : sums.shape[3] - side : step]
    inside -= above[..., side::step] - above[..., : sums.shape[3] - side : step]
    means: Floats = inside / side**2
    return means
