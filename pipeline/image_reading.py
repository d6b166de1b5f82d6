"""An image file as the line sees it: one way to decode, for the folder camera and for the evaluation."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.raw_picture import raw_pixels
from vision.types import PixelFormat


def read_image(file: Path, pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """uint8, C-contiguous, shaped as ``Frame.pixels``; None where the file cannot be read, or no frame of that format is so large.

    Of more than 8 bit a channel, it can only for a format that has as many, white being 65,535, as files of kept pictures are:
    12 bit in 16 would come out nearly black. A raw format's bytes are those that the camera sent where the file is a picture of
    its frame that was kept as a PNG; of YUV they are near it.
    """
    picture = read_picture(file, pixel_format)
    return None if picture is None else _as_sent(picture, pixel_format)


def decode_image(encoded: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """The same of a file's content: uint8 (bytes,)."""
    picture = decode_picture(encoded, pixel_format)
    return None if picture is None else _as_sent(picture, pixel_format)


def read_seen(file: Path, pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """An image file as a picture to be looked at, of 8 bit and any size, in ``pixel_format.decoded``; None as ``read_image``."""
    picture = read_picture(file, pixel_format)
    return None if picture is None else _of_8_bit(picture)


def decode_seen(encoded: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """The same of a file's content: uint8 (bytes,)."""
    picture = decode_picture(encoded, pixel_format)
    return None if picture is None else _of_8_bit(picture)


def read_picture(file: Path, pixel_format: PixelFormat) -> npt.NDArray[Any] | None:
    """The file's picture in ``pixel_format.decoded``, of any size: uint8, or uint16 where the format has more than 8 bit."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None  # a pipe would be waited for
        encoded = np.fromfile(file, np.uint8)
    except OSError:
        return None
    return decode_picture(encoded, pixel_format)


def decode_picture(encoded: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[Any] | None:
    """The same of a file's content: uint8 (bytes,)."""
    colours = cv2.IMREAD_GRAYSCALE if pixel_format.channel_count == 1 else cv2.IMREAD_COLOR
    flags = colours | cv2.IMREAD_ANYDEPTH  # else OpenCV brings 16 bit down to 8 and says nothing
    try:
        image = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error:  # a header that asks for more pixels than OpenCV allows
        return None
    if image is None or image.dtype not in ((np.uint8, np.uint16) if pixel_format.bit_depth > 8 else (np.uint8,)):
        return None
    if pixel_format is PixelFormat.RGB8:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image)


def _of_8_bit(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """As a frame of more bits is decoded: the high ones."""
    return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else picture


def _as_sent(picture: npt.NDArray[Any], pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    try:
        return raw_pixels(picture, pixel_format)
    except ValueError:
        return None
