"""Frames as files' bytes: the picture itself, and the small one with what was found drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.payloads import DefectResult
from vision.raw import decoded_pixels, fine_pixels
from vision.types import PixelFormat, Verdict

_PNG_COMPRESSION = 1
"""Of 9: three times as fast as the default, and a few per cent larger."""
_THUMBNAIL_QUALITY = 85
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_RED, _GREEN, _YELLOW = (60, 60, 255), (0, 200, 0), (0, 200, 255)
_COLOURS = {Verdict.PASS.value: _GREEN, Verdict.REJECT.value: _RED, Verdict.NO_DECISION.value: _YELLOW}
_LINE_PX = 16
_MARGIN_PX = 3
_TEXT_SCALE = 0.4


_FAULTS = (cv2.error, ArithmeticError, MemoryError, ValueError)
"""Of one picture, or of what was found on it: none of them is to keep the next one from being written."""


class CannotEncode(ValueError):
    """These pixels make no file of that format."""


def encode_image(pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat, kind: str, jpeg_quality: int) -> bytes:
    """A frame's ``pixels`` as a file of ``kind`` "png" or "jpeg". Raises CannotEncode.

    A PNG is bit by bit what the frame shows: of a raw format the decoded picture, of 10 and 12 bit in 16 bit with the level in the
    high ones, so that white is white. A JPEG has 8 bit.
    """
    try:
        picture: npt.NDArray[Any]
        if kind == "png" and pixel_format.bit_depth > 8:
            picture = fine_pixels(pixels, pixel_format)
        else:
            picture = decoded_pixels(pixels, pixel_format)
        if pixel_format is PixelFormat.RGB8:
            picture = np.ascontiguousarray(pixels[:, :, ::-1])
        if kind == "png":
            return _encoded(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION])
        return _encoded(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    except _FAULTS as error:
        raise CannotEncode(f"{pixels.shape} as {kind}: {_words(error)}") from error


def encode_thumbnail(
    pixels: npt.NDArray[np.uint8],
    pixel_format: PixelFormat,
    longer_px: int,
    verdict: str,
    words: str,
    defects: Sequence[DefectResult],
) -> bytes:
    """A JPEG of at most ``longer_px`` on its longer side, with the defects' boxes, classes and scores and, at the top, ``words`` in
    the verdict's colour. Raises CannotEncode.
    """
    try:
        return _thumbnail(pixels, pixel_format, longer_px, verdict, words, defects)
    except _FAULTS as error:
        raise CannotEncode(f"{pixels.shape} as a thumbnail: {_words(error)}") from error


def _thumbnail(
    pixels: npt.NDArray[np.uint8],
    pixel_format: PixelFormat,
    longer_px: int,
    verdict: str,
    words: str,
    defects: Sequence[DefectResult],
) -> bytes:
    pixels, pixel_format = decoded_pixels(pixels, pixel_format), pixel_format.decoded
    height_px, width_px = pixels.shape[:2]
    scale = min(1.0, longer_px / max(height_px, width_px))
    size = max(1, round(width_px * scale)), max(1, round(height_px * scale))
    small = _small(pixels, pixel_format, size)
    for defect in defects:
        x1, y1, x2, y2 = (round(edge * scale) for edge in defect.box_px)
        # A box is half-open, and one of the whole frame is to be seen.
        corner = min(max(x2 - 1, x1), size[0] - 1), min(max(y2 - 1, y1), size[1] - 1)
        cv2.rectangle(small, (x1, y1), corner, _RED, 1)
        # Under the box's upper edge, and under the words where the box begins at the top.
        line_px = max(y1, _LINE_PX) + _LINE_PX - _MARGIN_PX
        _write(small, f"{defect.class_name} {defect.score:.2f}", (x1 + _MARGIN_PX, line_px), _RED)
    _write(small, words, (_MARGIN_PX, _LINE_PX - _MARGIN_PX), _COLOURS[verdict])
    return _encoded(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY])


def _small(pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """As BGR, of ``size`` (width, height)."""
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if pixel_format is PixelFormat.MONO8:
        small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    elif pixel_format is PixelFormat.RGB8:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    return np.asarray(small, np.uint8)


def _write(picture: npt.NDArray[np.uint8], text: str, where: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """On a ground of its own, so that it can be read. Letters beyond ASCII are question marks: the font has no more."""
    plain = text.encode("ascii", "replace").decode()
    (width_px, height_px), below_px = cv2.getTextSize(plain, _FONT, _TEXT_SCALE, 1)
    x_px, y_px = where
    cv2.rectangle(picture, (x_px - 1, y_px - height_px - 1), (x_px + width_px, y_px + below_px), (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, plain, where, _FONT, _TEXT_SCALE, colour, 1, cv2.LINE_AA)


def _encoded(suffix: str, picture: npt.NDArray[Any], options: list[int]) -> bytes:
    done, encoded = cv2.imencode(suffix, picture, options)
    if not done:
        raise ValueError(f"the encoder of {suffix} made nothing")
    return bytes(encoded)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
