"""Reads the number that ``vision.part_mark`` has stamped into the pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.kernels import flat_rows
from vision.kernels.mark import read_cells
from vision.part_mark import MARK_CELLS_HIGH, MARK_CELLS_WIDE, check_mark_inside


def read(pixels: npt.NDArray[np.uint8], *, x_px: int, y_px: int, cell_px: int = 4) -> int | None:
    """The number of the mark at (x_px, y_px), or None where there is none that checks.

    ``pixels``: uint8 (H, W) or (H, W, 3), rows may be apart. Raises ValueError where the mark is not inside the frame.
    """
    check_mark_inside(pixels, x_px, y_px, cell_px)
    flat, pitch = flat_rows(pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    levels = np.empty(MARK_CELLS_HIGH * MARK_CELLS_WIDE, np.float32)
    number = read_cells(flat, pitch, channels, x_px, y_px, cell_px, levels)
    return None if number < 0 else number
