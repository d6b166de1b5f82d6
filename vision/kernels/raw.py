"""Raw frames, as cameras send them: unpacked, demosaiced or brought to colours row by row, as they are read.

What a Bayer pattern or YUV gives is rounded to whole levels pixel by pixel before anything blends it, so that a model is shown the
very levels that the decoded picture has. Levels of 10 and 12 bit stay as fine as they are: in fourths and sixteenths.

Arguments shared by the kernels:

    layout           which format, as numbered below
    flat, pitch      the frame's memory and its bytes per row (``vision.kernels.flat_rows``)
    width, height    the frame's, in pixels; of a Bayer pattern both at least 2
    first_x, first_y the region's place in the frame, the first a whole group of pixels from the left edge
    skip, count      pixels before the region's own in its first group, and pixels in all its groups
    brightest        levels above it are cut to it
    lines            (3, channels, n) float32, zero at first: scratch for two source rows and their blend, n more than ``count``

and those of ``vision.kernels.resize`` of the same names, ``lefts`` being pixels. Channels are in the order blue, green, red.
Nothing is checked here: ``vision.raw`` and ``vision.preprocess`` plan so that every index is inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import BYTE_PLANES, FLOATS, INDICES, PIXELS, PLANES, FloatArray, IndexArray, PixelArray, compiled

UNPACKED_10, UNPACKED_12, PACKED_10, PACKED_12, DENSE_10, DENSE_12, YUYV, UYVY, BAYER = range(9)
"""To BAYER the column, 1, and the row, 2, of the pattern's first red pixel are added."""

_LINE = types.float32[:, ::1]
_LINES = types.float32[:, :, ::1]
_SIZES = (types.int64, types.int64, types.int64, types.int64, types.int64)

# What of U and of V a channel gets beside Y, blue, green and red: BT.601 over the full range, in 65536ths.
_OF_U = (np.int32(116130), np.int32(-22554), np.int32(0))
_OF_V = (np.int32(0), np.int32(-46802), np.int32(91881))
_HALF, _16, _128 = np.int32(32768), np.int32(16), np.int32(128)
_DARKEST, _BRIGHTEST = np.int32(0), np.int32(255)


@compiled(types.int32(types.int32))
def _within(level: np.int32) -> np.int32:
    level = _DARKEST if level < _DARKEST else level
    return _BRIGHTEST if level > _BRIGHTEST else level


@compiled(types.void(types.int64, PIXELS, types.int64, types.int64, types.float32, _LINE))
def _mono(layout: int, flat: PixelArray, start: int, count: int, brightest: np.float32, line: FloatArray) -> None:
    """``count`` pixels from the byte ``start`` on, where a group begins."""
    is_10 = layout in (UNPACKED_10, PACKED_10, DENSE_10)
    scale = np.float32(1 / 4) if is_10 else np.float32(1 / 16)
    levels = line[0]
    if layout in (UNPACKED_10, UNPACKED_12):
        row = flat[start : start + 2 * count]
        most = np.uint16(1023 if is_10 else 4095)  # what else may be in the upper byte is no level
        for i in range(count):
            value = np.uint16(np.uint16(row[2 * i]) | np.uint16(np.uint16(row[2 * i + 1]) << np.uint16(8)))
            levels[i] = min(np.float32(np.uint16(value & most)) * scale, brightest)
    elif layout == PACKED_10:
        row = flat[start : start + count // 2 * 3]
        for i in range(count // 2):
            low = np.int32(row[3 * i + 1])
            levels[2 * i] = min(np.float32(np.int32(row[3 * i]) << 2 | low & 3) * scale, brightest)
            levels[2 * i + 1] = min(np.float32(np.int32(row[3 * i + 2]) << 2 | low >> 4 & 3) * scale, brightest)
    elif layout == PACKED_12:
        row = flat[start : start + count // 2 * 3]
        for i in range(count // 2):
            low = np.int32(row[3 * i + 1])
            levels[2 * i] = min(np.float32(np.int32(row[3 * i]) << 4 | low & 15) * scale, brightest)
            levels[2 * i + 1] = min(np.float32(np.int32(row[3 * i + 2]) << 4 | low >> 4) * scale, brightest)
    elif layout == DENSE_12:
        row = flat[start : start + count // 2 * 3]
        for i in range(count // 2):
            middle = np.int32(row[3 * i + 1])
            levels[2 * i] = min(np.float32(np.int32(row[3 * i]) | (middle & 15) << 8) * scale, brightest)
            levels[2 * i + 1] = min(np.float32(middle >> 4 | np.int32(row[3 * i + 2]) << 4) * scale, brightest)
    else:
        row = flat[start : start + count // 4 * 5]
        for i in range(count // 4):
            second, third, fourth = np.int32(row[5 * i + 1]), np.int32(row[5 * i + 2]), np.int32(row[5 * i + 3])
            levels[4 * i] = min(np.float32(np.int32(row[5 * i]) | (second & 3) << 8) * scale, brightest)
            levels[4 * i + 1] = min(np.float32(second >> 2 | (third & 15) << 6) * scale, brightest)
            levels[4 * i + 2] = min(np.float32(third >> 4 | (fourth & 63) << 4) * scale, brightest)
            levels[4 * i + 3] = min(np.float32(fourth >> 6 | np.int32(row[5 * i + 4]) << 2) * scale, brightest)


@compiled(types.void(PIXELS, PIXELS, types.int64, types.int32, types.int32, FLOATS))
def _yuv_channel(
    luma: PixelArray, chroma: PixelArray, pairs: int, of_u: np.int32, of_v: np.int32, levels: FloatArray
) -> None:
    """One at a time: three at once would not be vectorised, three times as slow."""
    for i in range(pairs):
        u = np.int32(np.int32(chroma[4 * i]) - _128)
        v = np.int32(np.int32(chroma[4 * i + 2]) - _128)
        colour = np.int32(np.int32(np.int32(np.int32(of_u * u) + np.int32(of_v * v)) + _HALF) >> _16)
        levels[2 * i] = np.float32(_within(np.int32(np.int32(luma[4 * i]) + colour)))
        levels[2 * i + 1] = np.float32(_within(np.int32(np.int32(luma[4 * i + 2]) + colour)))


@compiled(types.void(types.int64, PIXELS, types.int64, types.int64, _LINE))
def _yuv(layout: int, flat: PixelArray, start: int, count: int, line: FloatArray) -> None:
    """Two neighbours share their colour."""
    row = flat[start : start + 2 * count]
    luma, chroma = (row, row[1:]) if layout == YUYV else (row[1:], row)
    for channel in range(3):
        _yuv_channel(luma, chroma, count // 2, _OF_U[channel], _OF_V[channel], line[channel])


@compiled(types.void(types.int64, PIXELS, *_SIZES, types.int64, _LINE))
def _bayer(
    layout: int, flat: PixelArray, pitch: int, width: int, height: int, y: int, x: int, count: int, line: FloatArray
) -> None:
    """Each missing colour is the mean of its nearest pixels, two or four, halves upwards; the frame is mirrored at its edges."""
    red_x, red_y = (layout - BAYER) & 1, (layout - BAYER) >> 1
    is_red_row = (y & 1) == red_y
    own_x = red_x if is_red_row else 1 - red_x
    own = line[2] if is_red_row else line[0]
    greens = line[1]
    other = line[0] if is_red_row else line[2]
    here = y * pitch
    above = (y - 1 if y > 0 else 1) * pitch
    below = (y + 1 if y < height - 1 else height - 2) * pitch

    # Where both neighbours are in the frame, all five means are made of every pixel and chosen from: that is vectorised.
    first, end = max(x, 1), min(x + count, width - 1)
    inner = max(end - first, 0)
    row = flat[here + first - 1 : here + first + inner + 1]
    upper = flat[above + first - 1 : above + first + inner + 1]
    lower = flat[below + first - 1 : below + first + inner + 1]
    own_inner, greens_inner, other_inner = own[first - x :], greens[first - x :], other[first - x :]
    parity = (first + own_x) & 1
    for i in range(inner):
        centre = np.int32(row[i + 1])
        sides = np.int32(np.int32(row[i]) + np.int32(row[i + 2]))
        ends = np.int32(np.int32(upper[i + 1]) + np.int32(lower[i + 1]))
        corners = np.int32(
            np.int32(upper[i]) + np.int32(upper[i + 2]) + np.int32(lower[i]) + np.int32(lower[i + 2]) + 2
        )
        is_own = (i & 1) == parity
        own_inner[i] = np.float32(centre if is_own else np.int32((sides + 1) >> 1))
        greens_inner[i] = np.float32(np.int32((sides + ends + 2) >> 2) if is_own else centre)
        other_inner[i] = np.float32(np.int32(corners >> 2) if is_own else np.int32((ends + 1) >> 1))

    for edge in range(2):
        at = 0 if edge == 0 else width - 1
        if not x <= at < x + count:
            continue
        side = 1 if edge == 0 else width - 2
        centre, sides = np.int32(flat[here + at]), np.int32(2 * flat[here + side])
        ends = np.int32(flat[above + at]) + np.int32(flat[below + at])
        corners = 2 * (np.int32(flat[above + side]) + np.int32(flat[below + side]))
        is_own = (at & 1) == own_x
        own[at - x] = np.float32(centre if is_own else sides >> 1)
        greens[at - x] = np.float32((sides + ends + 2) >> 2 if is_own else centre)
        other[at - x] = np.float32((corners + 2) >> 2 if is_own else (ends + 1) >> 1)


@compiled(types.void(types.int64, PIXELS, *_SIZES, types.int64, types.float32, _LINE))
def _read_row(
    layout: int,
    flat: PixelArray,
    pitch: int,
    width: int,
    height: int,
    y: int,
    x: int,
    count: int,
    brightest: np.float32,
    line: FloatArray,
) -> None:
    """Levels of ``count`` pixels of row ``y`` from column ``x`` on."""
    if layout >= BAYER:
        _bayer(layout, flat, pitch, width, height, y, x, count, line)
    elif layout >= YUYV:
        _yuv(layout, flat, y * pitch + 2 * x, count, line)
    elif layout in (UNPACKED_10, UNPACKED_12):
        _mono(layout, flat, y * pitch + 2 * x, count, brightest, line)
    elif layout == DENSE_10:
        _mono(layout, flat, y * pitch + x // 4 * 5, count, brightest, line)
    else:
        _mono(layout, flat, y * pitch + x // 2 * 3, count, brightest, line)


def _signatures(*extra: types.Type) -> list[Any]:
    """One for each type of ``out``."""
    places = (INDICES, INDICES, FLOATS, INDICES, FLOATS, types.int64, types.int64, types.int64, types.int64)
    return [
        types.void(
            *(types.int64, PIXELS, types.int64, types.int64, types.int64, *places, types.float32, _LINES),
            *(FLOATS, FLOATS, out, types.int64, types.int64, *extra),
        )
        for out in (PLANES, BYTE_PLANES)
    ]


@compiled(*_signatures(INDICES, FLOATS))
def raw_to_planes(
    layout: int,
    flat: PixelArray,
    pitch: int,
    width: int,
    height: int,
    tops: IndexArray,
    bottoms: IndexArray,
    row_weights: FloatArray,
    lefts: IndexArray,
    column_weights: FloatArray,
    first_x: int,
    first_y: int,
    skip: int,
    count: int,
    brightest: np.float32,
    lines: FloatArray,
    gains: FloatArray,
    offsets: FloatArray,
    out: FloatArray | PixelArray,
    top_px: int,
    left_px: int,
    sources: IndexArray,
    mix: FloatArray,
) -> None:
    """Every plane from one channel, ``sources`` (planes,); or, where ``mix`` (3,) is not empty, one grey plane from three."""
    channel_count = lines.shape[1]
    # A row and the next one have a place of their own each: where rows are shown more than once, each is read once.
    held_even, held_odd = -1, -1
    for y in range(tops.size):
        for bottom in range(2):
            row = int(bottoms[y] if bottom else tops[y])
            if (held_odd if row & 1 else held_even) != row:
                _read_row(layout, flat, pitch, width, height, first_y + row, first_x, count, brightest, lines[row & 1])
                if row & 1:
                    held_odd = row
                else:
                    held_even = row
        weight = row_weights[y]
        for channel in range(channel_count):
            upper, lower = lines[tops[y] & 1, channel], lines[bottoms[y] & 1, channel]
            line = lines[2, channel]
            for i in range(count):
                line[i] = upper[i] + (lower[i] - upper[i]) * weight
        if mix.size:
            gain, offset = gains[0], offsets[0]
            mix_0, mix_1, mix_2 = mix[0], mix[1], mix[2]
            blues, greens, reds = lines[2, 0, skip:], lines[2, 1, skip:], lines[2, 2, skip:]
            target = out[0, top_px + y, left_px : left_px + lefts.size]
            for x in range(lefts.size):
                i, weight = lefts[x], column_weights[x]
                left = blues[i] * mix_0 + greens[i] * mix_1 + reds[i] * mix_2
                right = blues[i + 1] * mix_0 + greens[i + 1] * mix_1 + reds[i + 1] * mix_2
                target[x] = (left + (right - left) * weight) * gain + offset
            continue
        for plane in range(sources.size):
            gain, offset = gains[plane], offsets[plane]
            lefts_of_channel = lines[2, sources[plane], skip:]
            rights_of_channel = lines[2, sources[plane], skip + 1 :]
            target = out[plane, top_px + y, left_px : left_px + lefts.size]
            for x in range(lefts.size):
                left = lefts_of_channel[lefts[x]]
                right = rights_of_channel[lefts[x]]
                target[x] = (left + (right - left) * column_weights[x]) * gain + offset


@compiled(
    *(
        types.void(
            *(types.int64, PIXELS, types.int64, types.int64, types.int64),
            *(types.int64, types.int64, types.int64, types.int64, _LINE, types.float32, out),
        )
        for out in (types.uint8[:, :, ::1], types.uint16[:, :, ::1])
    )
)
def decode(
    layout: int,
    flat: PixelArray,
    pitch: int,
    width: int,
    height: int,
    first_x: int,
    first_y: int,
    skip: int,
    count: int,
    line: FloatArray,
    scale: float,
    out: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
) -> None:
    """A region, ``out`` (rows, columns, channels), as its levels times ``scale``, less what is behind the point."""
    for y in range(out.shape[0]):
        _read_row(layout, flat, pitch, width, height, first_y + y, first_x, count, np.float32(256.0), line)
        target = out[y]
        if out.shape[2] == 1:
            levels = line[0, skip:]
            for x in range(len(target)):
                target[x, 0] = np.int32(levels[x] * scale)
        else:
            blues, greens, reds = line[0, skip:], line[1, skip:], line[2, skip:]
            for x in range(len(target)):
                target[x, 0] = np.int32(blues[x] * scale)
                target[x, 1] = np.int32(greens[x] * scale)
                target[x, 2] = np.int32(reds[x] * scale)
