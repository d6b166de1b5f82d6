"""Codes in pictures that a faulty model obeys (``faulty_model``); an honest model sees an odd corner and nothing more.

A code is a square of 4 x 4 cells in the picture's top left corner, each cell a sixteenth of the picture wide and high, black
or white throughout. A cell's middle survives when the whole picture is resized to 16 x 16 pixels or more.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

CELLS = 4
"""Cells in a row of the code, and rows of them."""
CELLS_ACROSS_PICTURE = 16
_CELL_SMALLEST_PX = 3
"""So that a pixel interpolated in its middle has both its neighbours inside."""


class PictureCode(IntEnum):
    """What the model is told to do."""

    NAN = 1
    """Scores that are not numbers."""
    WRONG_SHAPE = 2
    """An output of twice the rows."""
    RAISE = 3
    """A node that fails."""
    SLOW = 4
    """About ten times the time."""
    HANG = 5
    """Minutes."""


def _signs() -> npt.NDArray[np.int8]:
    """Rows of a Hadamard matrix, half black and half white: any two codes differ in eight cells of sixteen."""
    two = np.array([[1, 1], [1, -1]], np.int8)
    hadamard = np.kron(np.kron(two, two), np.kron(two, two))
    # The first rows are plain stripes, which a picture of something striped could show.
    return np.ascontiguousarray(hadamard[[7, 11, 13, 14, 15]])


SIGNS = _signs()
"""int8 (codes, 16): +1 where a cell is white, -1 where it is black, row by row; row k belongs to ``PictureCode`` k + 1."""


def stamp_code(picture: npt.NDArray[np.uint8], code: PictureCode) -> npt.NDArray[np.uint8]:
    """A copy of ``picture``, (H, W) or (H, W, 3), with the code in its corner.

    Raises ValueError where the picture is too small for one.
    """
    height_px, width_px = picture.shape[:2]
    smallest_px = CELLS_ACROSS_PICTURE * _CELL_SMALLEST_PX
    if min(height_px, width_px) < smallest_px:
        raise ValueError(f"got a picture of {width_px} x {height_px} px, expected at least {smallest_px} px each way")
    coded = picture.copy()
    tops = [cell * height_px // CELLS_ACROSS_PICTURE for cell in range(CELLS + 1)]
    lefts = [cell * width_px // CELLS_ACROSS_PICTURE for cell in range(CELLS + 1)]
    for cell, sign in enumerate(SIGNS[code - 1]):
        row, column = divmod(cell, CELLS)
        coded[tops[row] : tops[row + 1], lefts[column] : lefts[column + 1]] = 255 if sign > 0 else 0
    return coded
