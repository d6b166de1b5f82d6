"""An anomaly map drawn over its picture: colours by heat, a line around what is hot, ticks that point at the peak."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.report.blocks import Picture, plain
from pipeline.report.pictures import picture_of
from pipeline.teaching.report import ShownPicture

Pixels = npt.NDArray[np.uint8]
Heat = npt.NDArray[np.float32]

HOT_MIN = 0.5
"""From here on a pixel counts as hot, as for the decoder."""
_SHOWN_PX = 288
"""The longer side of what is kept of a picture, at most."""
_JPEG_QUALITY = 80
_CLEAR_BELOW = 0.2
_ALPHA_MAX = 0.65
_TICK_SHARES = (0.045, 0.09)
"""Where the ticks around the peak begin and end, of the picture's longer side: what is there stays to be seen."""


def shown_picture(
    name: str, score: float, pixels: Pixels, heat: npt.NDArray[np.floating], lines: tuple[str, ...] = ()
) -> ShownPicture:
    """Made small, so that dozens of them take little memory. ``pixels`` and ``heat`` as in ``ShownPicture``, of any size; heat that
    is not finite becomes 0, and what is outside 0..1 is cut.
    """
    height_px, width_px = pixels.shape[:2]
    scale = min(1.0, _SHOWN_PX / max(height_px, width_px))
    size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
    cut = np.nan_to_num(np.asarray(heat, np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)
    is_larger = cut.shape[0] > size[1] or cut.shape[1] > size[0]
    kept = cv2.resize(cut, size, interpolation=cv2.INTER_AREA) if is_larger else cut
    return ShownPicture(name, score, np.asarray(small, np.uint8), np.asarray(kept, np.float32), lines)


def heated(pixels: Pixels, heat: Heat) -> Pixels:
    """uint8 (height, width, 3) in BGR order: the picture in grey levels where the map is cool, the hotter the more of a colour.

    Both as in ``ShownPicture``; colours of the picture itself would be taken for heat. For those to whom colours say little a white
    line with a black edge runs around what is hot, and four ticks point at the hottest place, where there is any heat.
    """
    height_px, width_px = pixels.shape[:2]
    large = cv2.resize(heat, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    ground = np.repeat(grey[..., None], 3, axis=2)
    mixed = mixed_colours(np.asarray(ground, np.float32), np.asarray(large, np.float32))
    outlines, _ = cv2.findContours((large >= HOT_MIN).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    ticks = _ticks(heat, height_px, width_px)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(mixed, outlines, -1, colour, width)
        for begin, end in ticks:
            cv2.line(mixed, begin, end, colour, width)
    return mixed


def _ticks(heat: Heat, height_px: int, width_px: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    peak, across, down = peak_of(heat)
    if peak <= 0:
        return []
    x, y = across * width_px, down * height_px
    inner, outer = (share * max(height_px, width_px) for share in _TICK_SHARES)
    return [
        ((round(x + inner * right), round(y + inner * below)), (round(x + outer * right), round(y + outer * below)))
        for right, below in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]


def mixed_colours(ground: npt.NDArray[np.float32], heat: Heat) -> Pixels:
    """``ground``: float32 (height, width, 3), 0..255; ``heat``: float32 (height, width), 0..1; the colours alone, BGR."""
    # Plasma's lightness rises evenly, and its hues are told apart by the colour-blind.
    colours = cv2.applyColorMap(np.asarray(np.rint(255 * heat), np.uint8), cv2.COLORMAP_PLASMA)
    alpha = _ALPHA_MAX * np.clip((heat - _CLEAR_BELOW) / (HOT_MIN - _CLEAR_BELOW), 0.0, 1.0)[..., None]
    return np.asarray(np.rint(ground * (1 - alpha) + colours * alpha), np.uint8)


def peak_of(heat: Heat) -> tuple[float, float, float]:
    """The highest heat, and the middle of its pixel as shares of the picture's width and height; of equals the first."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    return float(heat[row, column]), (float(column) + 0.5) / heat.shape[1], (float(row) + 0.5) / heat.shape[0]


def map_picture(shown: ShownPicture, lines: tuple[str, ...] = ()) -> Picture:
    """The picture under its map, with its score, the peak's heat and these lines."""
    peak, across, down = peak_of(shown.heat)
    caption = plain(shown.name, 120)
    told = (f"score {shown.score:.3f}, hottest {peak:.2f}", *lines, *(plain(line, 200) for line in shown.lines))
    alt = f"{caption}, score {shown.score:.3f}, hottest {100 * across:.0f} % from the left and {100 * down:.0f} % from the top"
    return picture_of(
        heated(shown.pixels, shown.heat), alt=alt, caption=caption, lines=told, jpeg_quality=_JPEG_QUALITY
    )


def bare_picture(shown: ShownPicture) -> Picture:
    """The picture alone."""
    caption = plain(shown.name, 120)
    alt, lines = f"{caption}, as it was taken", ["as it was taken"]
    return picture_of(shown.pixels, alt=alt, caption=caption, lines=lines, jpeg_quality=_JPEG_QUALITY)


def heat_scale() -> Pixels:
    """uint8 (1, 256, 3) in RGB order: what heat from 0 to 1 looks like over mid-grey."""
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None]
    return np.ascontiguousarray(mixed_colours(np.full((1, 256, 3), 128.0, np.float32), heat)[..., ::-1])
