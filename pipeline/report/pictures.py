"""Pictures of parts, made small and put into the page, with their defects drawn over them."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.report.blocks import Box, Picture, plain

SHOWN_PX = 480
"""The longer side of what is put into the page, at most."""
_TINY_PX = 128
"""Up to here lossless: there is little to save."""
_JPEG_QUALITY = 88
_FILE_BYTES_MAX = 256 << 20
_BOXES_MAX = 40


class NoPicture(RuntimeError):
    """The text says why the file is no picture that can be shown."""


def picture_of(
    pixels: npt.NDArray[np.uint8],
    *,
    alt: str,
    caption: str,
    lines: Sequence[str] = (),
    boxes: Sequence[Box] = (),
    is_rgb: bool = False,
    jpeg_quality: int = _JPEG_QUALITY,
) -> Picture:
    """A picture of an array: uint8, (height, width) or (height, width, 3) in BGR order, or RGB with ``is_rgb``.

    ``jpeg_quality``: 0..100, lower where there are many of them. Rows may be any stride apart; nothing is written to the array.
    Boxes beyond the first 40 are counted, not drawn.
    """
    height_px, width_px = pixels.shape[:2]
    shown = pixels[..., ::-1] if is_rgb and pixels.ndim == 3 else pixels
    scale = SHOWN_PX / max(height_px, width_px)
    if scale < 1:
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        small = cv2.resize(np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA)
    else:
        small = np.ascontiguousarray(shown)
    is_tiny = max(small.shape[:2]) <= _TINY_PX
    suffix, options = (".png", []) if is_tiny else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    _, encoded = cv2.imencode(suffix, small, options)
    kind = "png" if is_tiny else "jpeg"
    left_out = len(boxes) - _BOXES_MAX
    return Picture(
        src=f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}",
        width_px=width_px,
        height_px=height_px,
        alt=alt,
        caption=caption,
        lines=[*lines, *([f"{left_out} more boxes are not drawn"] if left_out > 0 else [])],
        boxes=[_within(box, width_px, height_px) for box in boxes[:_BOXES_MAX]],
    )


def picture_of_file(
    file: Path, *, alt: str, caption: str, lines: Sequence[str] = (), boxes: Sequence[Box] = ()
) -> Picture:
    """The same of an image file, which is not followed where it is a link. Raises NoPicture."""
    try:
        with open(file, "rb", opener=_open_no_link) as stream:
            if os.fstat(stream.fileno()).st_size > _FILE_BYTES_MAX:
                raise NoPicture(f"{file}: larger than {_FILE_BYTES_MAX >> 20} MiB")
            content = stream.read()
    except OSError as error:
        raise NoPicture(f"{file}: {error.strerror}") from error
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYCOLOR) if content else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise NoPicture(f"{file}: is no image that can be read")
    return picture_of(np.asarray(pixels, np.uint8), alt=alt, caption=caption, lines=lines, boxes=boxes)


def no_picture(*, alt: str, caption: str, lines: Sequence[str] = ()) -> Picture:
    """A place that says why nothing is to be seen there."""
    return Picture(None, 4, 3, alt, caption, lines)


def _open_no_link(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _within(box: Box, width_px: int, height_px: int) -> Box:
    """As far as it lies within the picture; the label made printable."""
    x1, x2 = sorted(min(max(x, 0.0), width_px) for x in (box.box_px[0], box.box_px[2]))
    y1, y2 = sorted(min(max(y, 0.0), height_px) for y in (box.box_px[1], box.box_px[3]))
    return Box((x1, y1, x2, y2), plain(box.label, 32), box.style)
