"""Reading a part mark's cells, for ``vision.part_mark_reader``; their layout is explained in ``vision.part_mark``."""

from __future__ import annotations

import numpy as np
from numba import types

from vision.kernels import FLOATS, PIXELS, FloatArray, PixelArray, compiled
from vision.part_mark import CRC_BITS, FINDER, FINDER_CELLS, FINDER_WHITE_CELLS
from vision.part_mark import MARK_CELLS_HIGH as CELLS_HIGH
from vision.part_mark import MARK_CELLS_WIDE as CELLS_WIDE

LEAST_CONTRAST = 24.0
"""Grey levels between the finder's white and black below which nothing is read."""


@compiled(types.int64(types.int64))
def crc16(number: int) -> int:
    """CRC-16 of a 32-bit number, most significant byte first: polynomial 0x1021, start 0xFFFF, not reflected."""
    crc = 0xFFFF
    for shift in (24, 16, 8, 0):
        crc ^= ((number >> shift) & 0xFF) << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc


@compiled(types.int64(PIXELS, types.int64, types.int64, types.int64, types.int64, types.int64, FLOATS))
def read_cells(
    flat: PixelArray, pitch: int, channels: int, x_px: int, y_px: int, cell_px: int, levels: FloatArray
) -> int:
    """The number of the mark at (x_px, y_px), or -1; ``levels`` (CELLS_HIGH * CELLS_WIDE,): scratch, one per cell.

    Nothing is checked here: the mark must lie inside the frame.
    """
    margin = cell_px // 4
    inner = cell_px - 2 * margin
    right_finder = CELLS_WIDE - FINDER_CELLS
    white = np.float32(0.0)
    black = np.float32(0.0)
    for row in range(CELLS_HIGH):
        for column in range(CELLS_WIDE):
            total = 0
            for y in range(inner):
                start = (y_px + row * cell_px + margin + y) * pitch + (x_px + column * cell_px + margin) * channels
                for i in range(inner * channels):
                    total += flat[start + i]
            level = np.float32(total) / np.float32(inner * inner * channels)
            levels[row * CELLS_WIDE + column] = level
            if column < FINDER_CELLS or column >= right_finder:
                if FINDER[row, column if column < FINDER_CELLS else column - right_finder + FINDER_CELLS]:
                    white += level
                else:
                    black += level
    white /= np.float32(FINDER_WHITE_CELLS)
    black /= np.float32(FINDER_WHITE_CELLS)
    if white - black < LEAST_CONTRAST:
        return -1
    middle = (white + black) / np.float32(2.0)
    word = 0
    for row in range(CELLS_HIGH):
        for column in range(CELLS_WIDE):
            bit = 1 if levels[row * CELLS_WIDE + column] > middle else 0
            if column < FINDER_CELLS or column >= right_finder:
                if bit != FINDER[row, column if column < FINDER_CELLS else column - right_finder + FINDER_CELLS]:
                    return -1
            else:
                word = (word << 1) | bit
    number = word >> CRC_BITS
    return number if crc16(number) == word & 0xFFFF else -1
