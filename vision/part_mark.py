"""A part number in the pixels: 32 bits and a checksum as black and white cells.

Two rows of 32 square cells. The first and last four cells of each row are the finder pattern, fixed; the 48 between
them carry the number and its CRC-16 (polynomial 0x1021, start 0xFFFF), most significant bit first, top row first.
White is a one. Read at the cells' inner pixels against the middle between the finder's own black and white, so that
exposure and gain do not matter. Noise passes finder and checksum once in 2**32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FLOATS, PIXELS, compiled, flat_rows

MARK_CELLS_WIDE = 32
MARK_CELLS_HIGH = 2

_FINDER_CELLS = 4
_FINDER = ((1, 0, 1, 1), (0, 1, 0, 0)), ((0, 1, 0, 0), (1, 0, 1, 1))
"""(left, right) of each row. Mixed on both sides, so that neither a plain area nor a shifted mark passes."""
_NUMBER_BITS = 32
_CRC_BITS = 16
_LARGEST = 2**_NUMBER_BITS - 1
_LEAST_CONTRAST = 24.0
"""Grey levels between the finder's black and white below which nothing is read."""


def stamp(pixels: npt.NDArray[np.uint8], part_number: int, *, x_px: int, y_px: int, cell_px: int = 4) -> None:
    """Writes the mark into ``pixels``, uint8 (H, W) or (H, W, 3), with its top left corner at (x_px, y_px).

    Raises ValueError where the mark is not inside the frame or the number is not 0..2**32-1.
    """
    _check_inside(pixels, x_px, y_px, cell_px)
    if not 0 <= part_number <= _LARGEST:
        raise ValueError(f"part number: got {part_number}, expected 0..{_LARGEST}")
    word = (part_number << _CRC_BITS) | _crc16(part_number)
    bits = [(word >> shift) & 1 for shift in range(_NUMBER_BITS + _CRC_BITS - 1, -1, -1)]
    half = len(bits) // 2
    rows = [[*left, *part, *right] for (left, right), part in zip(_FINDER, (bits[:half], bits[half:]), strict=True)]
    cells = np.asarray(rows, np.uint8).repeat(cell_px, axis=0).repeat(cell_px, axis=1) * np.uint8(255)
    target = pixels[y_px : y_px + cells.shape[0], x_px : x_px + cells.shape[1]]
    target[...] = cells if pixels.ndim == 2 else cells[:, :, None]


def read(pixels: npt.NDArray[np.uint8], *, x_px: int, y_px: int, cell_px: int = 4) -> int | None:
    """The number of the mark at (x_px, y_px), or None where there is none that checks.

    ``pixels``: uint8 (H, W) or (H, W, 3), rows may be strided. Raises ValueError where the mark is not inside the frame.
    """
    _check_inside(pixels, x_px, y_px, cell_px)
    flat, pitch = flat_rows(pixels)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    number: int = _read(flat, pitch, channels, x_px, y_px, cell_px, np.empty(MARK_CELLS_WIDE * MARK_CELLS_HIGH, np.float32))
    return None if number < 0 else number


def _check_inside(pixels: npt.NDArray[np.uint8], x_px: int, y_px: int, cell_px: int) -> None:
    right_px, bottom_px = x_px + MARK_CELLS_WIDE * cell_px, y_px + MARK_CELLS_HIGH * cell_px
    if cell_px < 1 or x_px < 0 or y_px < 0 or right_px > pixels.shape[1] or bottom_px > pixels.shape[0]:
        raise ValueError(
            f"part mark: got x {x_px}..{right_px}, y {y_px}..{bottom_px} px (cells of {cell_px} px), "
            f"expected inside the frame's {pixels.shape[1]} x {pixels.shape[0]} px"
        )


def _crc16(number: int) -> int:
    crc = 0xFFFF
    for shift in (24, 16, 8, 0):
        crc ^= ((number >> shift) & 0xFF) << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


_FINDER_BITS = np.asarray(
    [
        [bit for side in (0, 1) for bit in _FINDER[row][side]]
        for row in range(MARK_CELLS_HIGH)
    ],
    np.uint8,
)


@compiled(types.int64(PIXELS, types.int64, types.int64, types.int64, types.int64, types.int64, FLOATS))
def _read(flat, pitch, channels, x_px, y_px, cell_px, levels):
    """The number, or -1. ``levels``: scratch, float32, one mean grey level per cell."""
    margin = cell_px // 4
    inner = cell_px - 2 * margin
    black = np.float32(0.0)
    white = np.float32(0.0)
    edge = MARK_CELLS_WIDE - _FINDER_CELLS
    for row in range(MARK_CELLS_HIGH):
        for column in range(MARK_CELLS_WIDE):
            total = 0
            for y in range(inner):
                start = (y_px + row * cell_px + margin + y) * pitch + (x_px + column * cell_px + margin) * channels
                for i in range(inner * channels):
                    total += flat[start + i]
            level = np.float32(total) / np.float32(inner * inner * channels)
            levels[row * MARK_CELLS_WIDE + column] = level
            if column < _FINDER_CELLS or column >= edge:
                place = column if column < _FINDER_CELLS else column - edge + _FINDER_CELLS
                if _FINDER_BITS[row, place]:
                    white += level
                else:
                    black += level
    # As many finder cells are white as black: eight of each.
    white /= np.float32(2 * _FINDER_CELLS)
    black /= np.float32(2 * _FINDER_CELLS)
    if white - black < _LEAST_CONTRAST:
        return -1
    middle = (white + black) / np.float32(2.0)
    word = 0
    for row in range(MARK_CELLS_HIGH):
        for column in range(MARK_CELLS_WIDE):
            bit = 1 if levels[row * MARK_CELLS_WIDE + column] > middle else 0
            if column < _FINDER_CELLS or column >= edge:
                place = column if column < _FINDER_CELLS else column - edge + _FINDER_CELLS
                if bit != _FINDER_BITS[row, place]:
                    return -1
            else:
                word = (word << 1) | bit
    number = word >> _CRC_BITS
    crc = 0xFFFF
    for shift in (24, 16, 8, 0):
        crc ^= ((number >> shift) & 0xFF) << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return number if crc == word & 0xFFFF else -1
