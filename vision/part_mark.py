"""A part number in the pixels: 32 bits and a checksum as black and white cells.

Two rows of 32 square cells. The first and last four cells of each row are the finder pattern, fixed; the 48 between
them carry the number and its CRC-16, most significant bit first, top row first. White is a one. Cells are read at their
inner pixels against the middle between the finder's own white and black, so that exposure and gain do not matter. Of
random cells, one pattern in 2**32 passes finder and checksum.

Whoever stamps parts needs no kernel: those are imported to read them (``vision.part_mark_reader``).
"""

from __future__ import annotations

from binascii import crc_hqx

import numpy as np
import numpy.typing as npt

# The kernel has these compiled in. Who changes one changes vision/kernels/mark.py too, by whose time numba knows that what it
# has kept is old.
MARK_CELLS_WIDE = 32
MARK_CELLS_HIGH = 2
FINDER_CELLS = 4
CRC_BITS = 16

# Left and right finder of each row. As many white cells as black ones; mixed, so that neither a plain area nor a
# shifted mark passes.
FINDER = np.array([[1, 0, 1, 1, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0, 1, 1]], np.uint8)
FINDER_WHITE_CELLS = 8

_NUMBER_BITS = 32
_LARGEST = 2**_NUMBER_BITS - 1


def stamp(pixels: npt.NDArray[np.uint8], part_number: int, *, x_px: int, y_px: int, cell_px: int = 4) -> None:
    """Writes the mark into ``pixels``, uint8 (H, W) or (H, W, 3), with its top left corner at (x_px, y_px).

    Raises ValueError where the mark is not inside the frame or the number is not 0..2**32-1.
    """
    check_mark_inside(pixels, x_px, y_px, cell_px)
    if not 0 <= part_number <= _LARGEST:
        raise ValueError(f"part number: got {part_number}, expected 0..{_LARGEST}")
    crc = crc_hqx(part_number.to_bytes(_NUMBER_BITS // 8, "big"), 0xFFFF)
    word = (part_number << CRC_BITS) | crc
    bits = np.array([(word >> shift) & 1 for shift in reversed(range(_NUMBER_BITS + CRC_BITS))], np.uint8)
    cells = np.hstack([FINDER[:, :FINDER_CELLS], bits.reshape(MARK_CELLS_HIGH, -1), FINDER[:, FINDER_CELLS:]])
    mark = cells.repeat(cell_px, axis=0).repeat(cell_px, axis=1) * np.uint8(255)
    target = pixels[y_px : y_px + mark.shape[0], x_px : x_px + mark.shape[1]]
    target[...] = mark if pixels.ndim == 2 else mark[:, :, None]


def check_mark_inside(pixels: npt.NDArray[np.uint8], x_px: int, y_px: int, cell_px: int) -> None:
    """Raises ValueError where a mark with its top left corner at (x_px, y_px) is not inside the frame."""
    right_px, bottom_px = x_px + MARK_CELLS_WIDE * cell_px, y_px + MARK_CELLS_HIGH * cell_px
    if cell_px < 1 or x_px < 0 or y_px < 0 or right_px > pixels.shape[1] or bottom_px > pixels.shape[0]:
        raise ValueError(
            f"part mark: got x {x_px}..{right_px}, y {y_px}..{bottom_px} px (cells of {cell_px} px), "
            f"expected inside the frame's {pixels.shape[1]} x {pixels.shape[0]} px"
        )
