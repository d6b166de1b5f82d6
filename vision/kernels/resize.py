"""Crop, resize, channel order and normalisation of one region in one pass over its pixels.

Bilinear as OpenCV's ``INTER_LINEAR``: half-pixel centres, clamped edges, no antialiasing. For each output row the two
source rows are first blended into ``line`` (contiguous, vectorised), then the columns are picked out of it: vertical
first halves the scattered reads when shrinking, which is what a line does.

Arguments shared by the kernels, h and w being the height and width that the region has in ``out``:

    flat, pitch      the frame's memory and its bytes per row (``vision.kernels.flat_rows``)
    tops, bottoms    (h,): upper and lower source row of each output row, in the frame
    row_weights      (h,): weight of the lower row
    lefts            (w,): place in ``line`` of each output column's left source pixel; its right one comes next
    column_weights   (w,): weight of the right pixel
    x_bytes          offset of the region's first pixel in a frame row
    line             scratch: one source row of the region and one pixel more
    gains, offsets   (planes,): ``out = grey_level * gain + offset``
    out              (planes, H, W)
    top_px, left_px  the region lands at out[:, top_px : top_px + h, left_px : left_px + w]

Nothing is checked here: ``vision.preprocess`` plans the tables so that every index is inside.
"""

from __future__ import annotations

import numpy as np
from numba import types

from vision.kernels import FLOATS, INDICES, PIXELS, PLANES, FloatArray, IndexArray, PixelArray, compiled

# OpenCV's weights of red, green and blue in a grey level (ITU-R BT.601).
RED_WEIGHT, GREEN_WEIGHT, BLUE_WEIGHT = 0.299, 0.587, 0.114

_SHARED = (
    *(PIXELS, types.uint64, INDICES, INDICES, FLOATS, INDICES, FLOATS, types.uint64, FLOATS),
    *(FLOATS, FLOATS, PLANES, types.uint64, types.uint64),
)

# Unsigned indices spare the check for negative ones, which would keep the loops from being vectorised.
_1, _2, _3, _4, _5 = np.uint32(1), np.uint32(2), np.uint32(3), np.uint32(4), np.uint32(5)


@compiled(types.void(*_SHARED))
def mono_to_planes(
    flat: PixelArray,
    pitch: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    x_bytes: int,
    line: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray,
    top_px: int,
    left_px: int,
) -> None:
    """Mono8 -> one grey plane, or the same grey level in every plane."""
    span = line.size - 1
    for y in range(tops.size):
        start = tops[y] * pitch + x_bytes
        upper = flat[start : start + span]
        start = bottoms[y] * pitch + x_bytes
        lower = flat[start : start + span]
        weight = row_weights[y]
        for i in range(span):
            level = np.float32(upper[i])
            line[i] = level + (np.float32(lower[i]) - level) * weight
        for plane in range(out.shape[0]):
            gain, offset = gains[plane], offsets[plane]
            target = out[plane, top_px + y, left_px : left_px + lefts.size]
            for x in range(lefts.size):
                left = line[lefts[x]]
                target[x] = (left + (line[lefts[x] + _1] - left) * column_weights[x]) * gain + offset


@compiled(types.void(*_SHARED, types.boolean))
def colour_to_planes(
    flat: PixelArray,
    pitch: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    x_bytes: int,
    line: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray,
    top_px: int,
    left_px: int,
    swap: bool,
) -> None:
    """BGR8 or RGB8 -> three planes, red and blue exchanged where ``swap``."""
    span = line.size - 3
    first, last = (2, 0) if swap else (0, 2)
    gain_0, gain_1, gain_2 = gains[first], gains[1], gains[last]
    offset_0, offset_1, offset_2 = offsets[first], offsets[1], offsets[last]
    for y in range(tops.size):
        start = tops[y] * pitch + x_bytes
        upper = flat[start : start + span]
        start = bottoms[y] * pitch + x_bytes
        lower = flat[start : start + span]
        weight = row_weights[y]
        for i in range(span):
            level = np.float32(upper[i])
            line[i] = level + (np.float32(lower[i]) - level) * weight
        target_0 = out[first, top_px + y, left_px : left_px + lefts.size]
        target_1 = out[1, top_px + y, left_px : left_px + lefts.size]
        target_2 = out[last, top_px + y, left_px : left_px + lefts.size]
        for x in range(lefts.size):
            i, weight = lefts[x], column_weights[x]
            left = line[i]
            target_0[x] = (left + (line[i + _3] - left) * weight) * gain_0 + offset_0
            left = line[i + _1]
            target_1[x] = (left + (line[i + _4] - left) * weight) * gain_1 + offset_1
            left = line[i + _2]
            target_2[x] = (left + (line[i + _5] - left) * weight) * gain_2 + offset_2


@compiled(types.void(*_SHARED, FLOATS))
def colour_to_grey(
    flat: PixelArray,
    pitch: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    x_bytes: int,
    line: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray,
    top_px: int,
    left_px: int,
    mix: FloatArray,
) -> None:
    """BGR8 or RGB8 -> one grey plane; ``mix`` (3,): the weight of each source channel."""
    span = line.size - 1
    mix_0, mix_1, mix_2 = mix[0], mix[1], mix[2]
    gain, offset = gains[0], offsets[0]
    for y in range(tops.size):
        start = tops[y] * pitch + x_bytes
        upper = flat[start : start + 3 * span]
        start = bottoms[y] * pitch + x_bytes
        lower = flat[start : start + 3 * span]
        weight = row_weights[y]
        for i in range(span):
            above = upper[3 * i] * mix_0 + upper[3 * i + 1] * mix_1 + upper[3 * i + 2] * mix_2
            below = lower[3 * i] * mix_0 + lower[3 * i + 1] * mix_1 + lower[3 * i + 2] * mix_2
            line[i] = above + (below - above) * weight
        target = out[0, top_px + y, left_px : left_px + lefts.size]
        for x in range(lefts.size):
            left = line[lefts[x]]
            target[x] = (left + (line[lefts[x] + _1] - left) * column_weights[x]) * gain + offset


@compiled(types.void(FLOATS, PLANES, types.int64, types.int64, types.int64, types.int64))
def fill_border(values: FloatArray, out: FloatArray, top_px: int, left_px: int, height_px: int, width_px: int) -> None:
    """Writes ``values``, one per plane, around the rectangle that a letterboxed region covers."""
    for plane in range(out.shape[0]):
        value = values[plane]
        out[plane, :top_px, :] = value
        out[plane, top_px + height_px :, :] = value
        out[plane, top_px : top_px + height_px, :left_px] = value
        out[plane, top_px : top_px + height_px, left_px + width_px :] = value
