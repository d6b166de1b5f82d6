"""Where in the picture the board has been, and which views a lens is found from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.geometry.detection import BoardView

CELLS = 5
"""A side: the picture is looked at in 5 x 5 parts."""
CORNERS_A_CELL = 4
"""That a part of the picture has to have seen."""
HELD_OUT_EACH = 4
"""One in so many views is kept from the fit, to test it."""

_ACROSS = ("left", "left", "middle", "right", "right")
_DOWN = ("upper", "upper", "middle", "lower", "lower")


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """``counts``: of corners in each part of the picture, int64 (5, 5), rows from the top. ``missing``: the places that need
    more.
    """

    counts: npt.NDArray[np.int64]
    missing: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the parts of the picture that have seen enough."""
        return float((self.counts >= CORNERS_A_CELL).mean())


def fitted_and_held_out(views: Sequence[BoardView]) -> tuple[list[BoardView], list[BoardView]]:
    """Of each four views in turn one is held out: the one whose places the others have seen best, the last of several."""
    seen = [_counts(view) for view in views]
    left = sum(seen, np.zeros((CELLS, CELLS), np.int64))
    held_out: set[int] = set()
    for first in range(0, len(views) - HELD_OUT_EACH + 1, HELD_OUT_EACH):
        # Somebody who goes over the picture row by row would else lose, with every fourth, all pictures of one corner.
        lost = {
            number: int(((left >= CORNERS_A_CELL) & (left - seen[number] < CORNERS_A_CELL)).sum())
            for number in range(first + HELD_OUT_EACH - 1, first - 1, -1)
        }
        chosen = min(lost, key=lambda number: lost[number])
        held_out.add(chosen)
        left = left - seen[chosen]
    return (
        [view for number, view in enumerate(views) if number not in held_out],
        [view for number, view in enumerate(views) if number in held_out],
    )


def coverage(views: Sequence[BoardView]) -> Coverage:
    """Of those usable views that the lens will be found from: the others prove nothing of the places that they alone have seen."""
    fitted, _ = fitted_and_held_out([view for view in views if view.is_usable])
    counts = sum(map(_counts, fitted), np.zeros((CELLS, CELLS), np.int64))
    return Coverage(counts, _missing(counts))


def _counts(view: BoardView) -> npt.NDArray[np.int64]:
    """Corners in each part of the picture, (5, 5)."""
    counts = np.zeros((CELLS, CELLS), np.int64)
    column = np.clip(view.corners_px[:, 0] / view.width_px * CELLS, 0, CELLS - 1).astype(int)
    row = np.clip(view.corners_px[:, 1] / view.height_px * CELLS, 0, CELLS - 1).astype(int)
    np.add.at(counts, (row, column), 1)
    return counts


def _missing(counts: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """In words, each once."""
    told: list[str] = []
    for row, column in np.argwhere(counts < CORNERS_A_CELL):
        down, across = _DOWN[row], _ACROSS[column]
        if (down, across) == ("middle", "middle"):
            place = "the middle"
        elif across == "middle":
            place = f"the {down} middle"
        elif down == "middle":
            place = f"the {across} middle"
        else:
            place = f"the {down} {across} corner"
        if place not in told:
            told.append(place)
    return tuple(told)
