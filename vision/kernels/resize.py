"""Crop, resize, channel order and normalisation of one region in one pass over its pixels.

Bilinear as OpenCV's ``INTER_LINEAR``: half-pixel centres, clamped edges, no antialiasing. For each output row the two
source rows are first blended into ``line`` (contiguous, vectorised), then the columns are picked out of it: vertical
first halves the scattered reads when shrinking, which is what a line does.

Arguments shared by the kernels, h and w being the height and width that the region has in ``out``:

    flat, pitch      the frame's memory and its bytes per row (``vision.kernels.flat_rows``)
    tops, bottoms    (h,): upper and lower source row of each output row, in the region
    row_weights      (h,): weight of the lower row
    lefts            (w,): place in ``line`` of each output column's left source pixel; its right one comes next
    column_weights   (w,): weight of the right pixel
    first            offset in bytes of the region's first pixel in the frame's memory
    line             scratch: one source row of the region and one pixel more
    gains, offsets   (planes,): ``out = grey_level * gain + offset``
    out              (planes, H, W), float32; or uint8, which cuts off what is behind the point: an offset of one half
                     more, and it is rounded to the nearest grey level (halves up)
    top_px, left_px  the region lands at out[:, top_px : top_px + h, left_px : left_px + w]

Nothing is checked here: ``vision.preprocess`` plans the tables so that every index is inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from vision.kernels import (
    BYTE_PLANES,
    FLOATS,
    INDICES,
    PIXELS,
    PLANES,
    FloatArray,
    IndexArray,
    PixelArray,
    compiled,
)

# OpenCV's weights of red, green and blue in a grey level (ITU-R BT.601).
RED_WEIGHT, GREEN_WEIGHT, BLUE_WEIGHT = 0.299, 0.587, 0.114

_SOURCE = (PIXELS, types.uint64, INDICES, INDICES, FLOATS, INDICES, FLOATS, types.uint64, FLOATS)
_OUTS = (PLANES, BYTE_PLANES)


def _signatures(*extra: types.Type) -> list[Any]:
    """One for each type of ``out``."""
    return [types.void(*_SOURCE, FLOATS, FLOATS, out, types.uint64, types.uint64, *extra) for out in _OUTS]


# Unsigned indices spare the check for negative ones, which would keep loops from being vectorised.
_1, _2, _3, _4, _5 = np.uint32(1), np.uint32(2), np.uint32(3), np.uint32(4), np.uint32(5)


@compiled(*_signatures(INDICES, types.uint32))
def channels_to_planes(
    flat: PixelArray,
    pitch: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    first: int,
    line: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray | PixelArray,
    top_px: int,
    left_px: int,
    sources: IndexArray,
    channel_count: int,
) -> None:
    """Every plane from one channel of the frame, ``sources`` (planes,): a copy, an exchange or a replication."""
    span = line.size - channel_count
    for y in range(tops.size):
        start = tops[y] * pitch + first
        upper = flat[start : start + span]
        start = bottoms[y] * pitch + first
        lower = flat[start : start + span]
        weight = row_weights[y]
        for i in range(span):
            level = np.float32(upper[i])
            line[i] = level + (np.float32(lower[i]) - level) * weight
        # One plane at a time: three at once would be read in order but not vectorised, a third slower.
        for plane in range(sources.size):
            gain, offset = gains[plane], offsets[plane]
            lefts_of_channel = line[sources[plane] :]
            rights_of_channel = line[sources[plane] + channel_count :]
            target = out[plane, top_px + y, left_px : left_px + lefts.size]
            for x in range(lefts.size):
                left = lefts_of_channel[lefts[x]]
                right = rights_of_channel[lefts[x]]
                target[x] = (left + (right - left) * column_weights[x]) * gain + offset


@compiled(*_signatures(FLOATS))
def channels_to_grey(
    flat: PixelArray,
    pitch: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    first: int,
    line: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray | PixelArray,
    top_px: int,
    left_px: int,
    mix: FloatArray,
) -> None:
    """BGR8 or RGB8 -> one grey plane; ``mix`` (3,): the weight of each source channel."""
    span = line.size - 3
    mix_0, mix_1, mix_2 = mix[0], mix[1], mix[2]
    gain, offset = gains[0], offsets[0]
    for y in range(tops.size):
        start = tops[y] * pitch + first
        upper = flat[start : start + span]
        start = bottoms[y] * pitch + first
        lower = flat[start : start + span]
        weight = row_weights[y]
        for i in range(span):
            level = np.float32(upper[i])
            line[i] = level + (np.float32(lower[i]) - level) * weight
        target = out[0, top_px + y, left_px : left_px + lefts.size]
        for x in range(lefts.size):
            i, weight = lefts[x], column_weights[x]
            left = line[i] * mix_0 + line[i + _1] * mix_1 + line[i + _2] * mix_2
            right = line[i + _3] * mix_0 + line[i + _4] * mix_1 + line[i + _5] * mix_2
            target[x] = (left + (right - left) * weight) * gain + offset


@compiled(*(types.void(FLOATS, out, types.int64, types.int64, types.int64, types.int64) for out in _OUTS))
def fill_border(
    values: FloatArray, out: FloatArray | PixelArray, top_px: int, left_px: int, height_px: int, width_px: int
) -> None:
    """Writes ``values``, one per plane, around the rectangle that a letterboxed region covers."""
    for plane in range(out.shape[0]):
        value = values[plane]
        out[plane, :top_px, :] = value
        out[plane, top_px + height_px :, :] = value
        out[plane, top_px : top_px + height_px, :left_px] = value
        out[plane, top_px : top_px + height_px, left_px + width_px :] = value
