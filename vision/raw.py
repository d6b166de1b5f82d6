"""Raw frames as pictures: what a camera sent, decoded; for whatever is shown or kept, off the line's hot path."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vision.kernels import flat_rows
from vision.kernels.raw import (
    BAYER,
    DENSE_10,
    DENSE_12,
    PACKED_10,
    PACKED_12,
    UNPACKED_10,
    UNPACKED_12,
    UYVY,
    YUYV,
    decode,
)
from vision.types import PixelFormat

LAYOUTS = {
    PixelFormat.MONO10: UNPACKED_10,
    PixelFormat.MONO12: UNPACKED_12,
    PixelFormat.MONO10_PACKED: PACKED_10,
    PixelFormat.MONO12_PACKED: PACKED_12,
    PixelFormat.MONO10P: DENSE_10,
    PixelFormat.MONO12P: DENSE_12,
    PixelFormat.YUV422_8: YUYV,
    PixelFormat.YUV422_8_UYVY: UYVY,
    PixelFormat.BAYER_RG8: BAYER,
    PixelFormat.BAYER_GR8: BAYER + 1,
    PixelFormat.BAYER_GB8: BAYER + 2,
    PixelFormat.BAYER_BG8: BAYER + 3,
}
"""The kernels' number of each raw format."""
FINE_LEVELS_PER_LEVEL = 256
"""Of ``fine_pixels``."""


def whole_groups(pixel_format: PixelFormat, x_px: int, width_px: int) -> tuple[int, int, int]:
    """The pixels that must be read for some of a row: the first, how many come before those wanted, and their count."""
    step = pixel_format.group_px
    skip = x_px % step
    return x_px - skip, skip, -(-(skip + width_px) // step) * step


def decoded_pixels(pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[np.uint8]:
    """A frame's ``pixels`` in ``pixel_format.decoded``: themselves where they are so, else a new uint8 array (height, width) or
    (height, width, 3). Of 10 and 12 bit the high 8.

    Raises ValueError where these are no pixels of such a frame.
    """
    return _decoded(pixels, pixel_format, np.dtype(np.uint8), 1) if pixel_format.is_raw else pixels


def fine_pixels(pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[np.uint16]:
    """The same of more than 8 bit with nothing lost: uint16 (height, width), 256 for each grey level. Raises ValueError."""
    return _decoded(pixels, pixel_format, np.dtype(np.uint16), FINE_LEVELS_PER_LEVEL)


def _decoded(
    pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat, dtype: np.dtype[Any], scale: int
) -> npt.NDArray[Any]:
    if pixels.ndim != 2 or not pixels.size or pixels.shape[1] % pixel_format.row_bytes(pixel_format.width_step_px):
        raise ValueError(f"pixels: got shape {pixels.shape}, expected rows of {pixel_format.value}")
    width_px, height_px = pixel_format.width_px(pixels.shape[1]), len(pixels)
    if height_px % pixel_format.height_step_px:
        raise ValueError(f"pixels: got {height_px} rows, expected a multiple of {pixel_format.height_step_px}")
    flat, pitch = flat_rows(pixels)
    channels = pixel_format.channel_count
    out = np.empty((height_px, width_px, channels), dtype)
    line = np.zeros((channels, width_px), np.float32)
    decode(LAYOUTS[pixel_format], flat, pitch, width_px, height_px, 0, 0, 0, width_px, line, scale, out)
    return out[:, :, 0] if channels == 1 else out
