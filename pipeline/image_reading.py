"""An image file as the line sees it: one way to decode, for the folder camera and for the evaluation."""

from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vision.types import PixelFormat


def read_image(file: Path, pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """uint8, C-contiguous, (height, width) for Mono8 and (height, width, 3) otherwise; None where the file cannot be read.

    Of more than 8 bit a channel, it cannot: 12 bit in 16 would come out nearly black.
    """
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None  # a pipe would be waited for
        encoded = np.fromfile(file, np.uint8)
    except OSError:
        return None
    return decode_image(encoded, pixel_format)


def decode_image(encoded: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[np.uint8] | None:
    """The same of a file's content: uint8 (bytes,)."""
    colours = cv2.IMREAD_GRAYSCALE if pixel_format is PixelFormat.MONO8 else cv2.IMREAD_COLOR
    flags = colours | cv2.IMREAD_ANYDEPTH  # else OpenCV brings 16 bit down to 8 and says nothing
    try:
        image = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error:  # a header that asks for more pixels than OpenCV allows
        return None
    if image is None or image.dtype != np.uint8:
        return None
    if pixel_format is PixelFormat.RGB8:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image, np.uint8)
