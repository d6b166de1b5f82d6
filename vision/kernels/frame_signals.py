"""Brightness and slopes of a rectangle of a frame, in one pass over some of its rows."""

from __future__ import annotations

import numpy as np
from numba import types

from vision.kernels import FLOATS, PIXELS, FloatArray, PixelArray, compiled
from vision.reference_region import TILES, TILES_HIGH, TILES_WIDE


@compiled(types.float64(PIXELS, types.int64, types.int64, types.int64, types.int64, types.int64, types.int64, FLOATS))
def tiles_and_slope(
    flat: PixelArray, pitch: int, step: int, start: int, width: int, height: int, row_step: int, tiles: FloatArray
) -> float:
    """The mean square of the grey levels' differences, to the right and downward together, over the pixels looked at.

    ``flat``, ``pitch``: as in ``vision.kernels.flat_rows``; ``step``: bytes from pixel to pixel; ``start``: the byte of the
    rectangle's first pixel. Every ``row_step``-th row is looked at; the last row and column only as neighbours.
    ``tiles``, float32 (TILES_HIGH * TILES_WIDE,): gets the mean grey level of each tile, row by row. Nothing is checked here: the
    rectangle must lie inside the frame, and each tile must have a pixel that is looked at.
    """
    counts = np.zeros(TILES, np.int64)
    sums = np.zeros(TILES, np.int64)
    squares = np.int64(0)
    rows = height - 1
    columns = width - 1
    for y in range(0, rows, row_step):
        row = start + y * pitch
        first_tile = (y * TILES_HIGH // rows) * TILES_WIDE
        for tile_column in range(TILES_WIDE):
            first = tile_column * columns // TILES_WIDE
            last = (tile_column + 1) * columns // TILES_WIDE
            total = np.int64(0)
            for x in range(first, last):
                here = np.int64(flat[row + x * step])
                right = np.int64(flat[row + (x + 1) * step]) - here
                below = np.int64(flat[row + pitch + x * step]) - here
                total += here
                squares += right * right + below * below
            sums[first_tile + tile_column] += total
            counts[first_tile + tile_column] += last - first
    for tile in range(TILES):
        tiles[tile] = sums[tile] / counts[tile]
    return float(squares / counts.sum())
