"""A picture as a camera would send it in a raw format: for cameras that are none, and for files of pictures that were kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vision.types import PixelFormat

_PATTERNS = {
    PixelFormat.BAYER_RG8: "RGGB",
    PixelFormat.BAYER_GR8: "GRBG",
    PixelFormat.BAYER_GB8: "GBRG",
    PixelFormat.BAYER_BG8: "BGGR",
}
_FINE_BITS = 16


def raw_pixels(picture: npt.NDArray[Any], pixel_format: PixelFormat) -> npt.NDArray[np.uint8]:
    """``Frame.pixels`` of a picture in ``pixel_format.decoded``, new memory; the picture itself where the format is no raw one.

    ``picture``: uint8 (height, width) or (height, width, 3); where the format has more than 8 bit also uint16 (height, width), 256
    for each grey level. Decoded, it is the same again, except that in YUV two neighbours share their colour. Raises ValueError
    where the format has no frames of that size.
    """
    if not pixel_format.is_raw:
        return np.ascontiguousarray(picture, np.uint8)
    height_px, width_px = picture.shape[:2]
    if width_px % pixel_format.width_step_px or height_px % pixel_format.height_step_px:
        steps = f"{pixel_format.width_step_px} and {pixel_format.height_step_px}"
        raise ValueError(f"picture: got {width_px}x{height_px} px, expected multiples of {steps}: {pixel_format.value}")
    if pixel_format in _PATTERNS:
        return _mosaic(picture, _PATTERNS[pixel_format])
    if pixel_format.channel_count == 3:
        return _yuv(picture, luma=0 if pixel_format is PixelFormat.YUV422_8 else 1)
    depth = pixel_format.bit_depth
    values = picture >> (_FINE_BITS - depth) if picture.dtype == np.uint16 else picture.astype(np.uint16) << (depth - 8)
    return _packed(values.astype(np.uint16), pixel_format)


def _mosaic(picture: npt.NDArray[Any], pattern: str) -> npt.NDArray[np.uint8]:
    raw = np.empty(picture.shape[:2], np.uint8)
    for number, colour in enumerate(pattern):
        places = np.s_[number // 2 :: 2, number % 2 :: 2]
        raw[places] = picture[:, :, "BGR".index(colour)][places]
    return raw


def _yuv(picture: npt.NDArray[Any], luma: int) -> npt.NDArray[np.uint8]:
    """BT.601 over the full range, as the kernel reads it."""
    blue, green, red = np.moveaxis(picture.astype(np.float64), 2, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    raw = np.empty((len(picture), 2 * picture.shape[1]), np.float64)
    raw[:, luma::2] = y
    for place, difference in ((1 - luma, (blue - y) / 1.772), (3 - luma, (red - y) / 1.402)):
        raw[:, place::4] = 128 + (difference[:, ::2] + difference[:, 1::2]) / 2
    return np.rint(raw).clip(0, 255).astype(np.uint8)


def _packed(values: npt.NDArray[np.uint16], pixel_format: PixelFormat) -> npt.NDArray[np.uint8]:
    """``values``: the levels as the camera counts them, 0..1023 or 0..4095."""
    height_px, width_px = values.shape
    if pixel_format in (PixelFormat.MONO10, PixelFormat.MONO12):
        return values.astype("<u2").view(np.uint8)
    if pixel_format in (PixelFormat.MONO10P, PixelFormat.MONO12P):
        bits = np.unpackbits(
            values.astype("<u2").view(np.uint8).reshape(height_px, width_px, 2), axis=2, bitorder="little"
        )
        dense = bits[:, :, : pixel_format.bit_depth].reshape(height_px, -1)
        return np.packbits(dense, axis=1, bitorder="little")
    low_bits = pixel_format.bit_depth - 8
    low = (values & ((1 << low_bits) - 1)).astype(np.uint8)
    raw = np.empty((height_px, width_px // 2, 3), np.uint8)
    raw[:, :, 0], raw[:, :, 2] = values[:, ::2] >> low_bits, values[:, 1::2] >> low_bits
    raw[:, :, 1] = low[:, ::2] | low[:, 1::2] << 4
    return raw.reshape(height_px, -1)
