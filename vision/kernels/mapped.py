"""Undistortion, flat-field, resize, channel mix and normalisation of one region in one pass over the raw frame.

Each output pixel blends the four raw pixels around its place bilinearly, and what comes out is corrected, once for each
source channel: ``level = blend * factor + offset``, cut to 0..255 as a camera would. The planes are sums of levels:
``out[plane] = sum(level[channel] * mix[plane, channel]) + plane_offset``.

A row of the output takes four short loops over scratch that stays in the first cache: where its pixels lie; the bytes
there, fetched as whole words, so that few loads are scattered; the levels in them; the planes. All but the second are
vectorised, which they would not be as one, nor as functions of their own (views passed to a function cost more than a row).

Places are in 1/65536 of a pixel. Arguments, h and w being the height and width that the region has in ``out``; the tables
(H, W) are larger by a margin all around, so that a region that has moved finds its own entries:

    flat, pitch       the frame's memory and its bytes per row (``vision.kernels.flat_rows``)
    channel_count     of the frame: 1 or 3, the bytes of a pixel
    last_x, last_y    the frame's last column and row, both at least 1
    columns, rows     (w,), (h,): undistorted place of each output column and row, in the frame
    shift_x, shift_y  how far the region has moved
    move_x, move_y    (H, W): raw place less undistorted place
    factors, offsets  (channel_count, H, W)
    table_x, table_y  the tables' entry for the region's first pixel
    mix               (planes, channel_count)
    plane_offsets     (planes,): one half more where ``out`` is uint8, which cuts off what is behind the point
    out               (planes, rows, columns), float32 or uint8
    left_px, top_px   the region lands at out[:, top_px : top_px + h, left_px : left_px + w]
    starts, weights, words, levels   scratch: (w,), (2, w), (4, w), (channel_count, w)

Nothing is checked here: ``vision.mapped_region`` plans the tables so that every index is inside.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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

PlaceArray = npt.NDArray[np.int32]

PLACES_PER_PX = 1 << 16

_PLACES = types.int32[::1]
_PLACE_TABLE = types.int32[:, ::1]
_ROWS = types.float32[:, ::1]
_INDEX_ROWS = types.uint32[:, ::1]
_OUTS = (PLANES, BYTE_PLANES)

_PLACE_BITS = np.int32(16)
_FRACTION = np.int32(PLACES_PER_PX - 1)
_PX_PER_PLACE = np.float32(1 / PLACES_PER_PX)
_BYTE = np.uint32(255)
_1, _2, _3 = np.uint64(1), np.uint64(2), np.uint64(3)
_8, _16, _24 = np.uint32(8), np.uint32(16), np.uint32(24)
_0 = np.int32(0)
_DARKEST, _BRIGHTEST = np.float32(0.0), np.float32(255.0)


@compiled(types.uint32(PIXELS, types.uint64))
def _pair(flat: PixelArray, start: int) -> np.uint32:
    """Two bytes, the first one lowest; compiled to one load."""
    return np.uint32(flat[start]) | np.uint32(flat[start + _1]) << _8


@compiled(types.uint32(PIXELS, types.uint64))
def _word(flat: PixelArray, start: int) -> np.uint32:
    """Four bytes, the first one lowest; compiled to one load."""
    lower = np.uint32(flat[start]) | np.uint32(flat[start + _1]) << _8
    return lower | np.uint32(flat[start + _2]) << _16 | np.uint32(flat[start + _3]) << _24


@compiled(types.float32(*(types.uint32,) * 4, types.float32, types.float32))
def _blend(upper_left: int, upper_right: int, lower_left: int, lower_right: int, across: float, down: float) -> float:
    """Four grey levels, bilinearly."""
    left, right = np.float32(np.int32(upper_left)), np.float32(np.int32(upper_right))
    upper = left + (right - left) * across
    left, right = np.float32(np.int32(lower_left)), np.float32(np.int32(lower_right))
    lower = left + (right - left) * across
    return upper + (lower - upper) * down


@compiled(
    *(
        types.void(
            *(PIXELS, types.uint64, types.uint32, types.int32, types.int32),
            *(_PLACES, _PLACES, types.int32, types.int32, _PLACE_TABLE, _PLACE_TABLE),
            *(PLANES, PLANES, types.int64, types.int64),
            *(_ROWS, FLOATS, out, types.int64, types.int64),
            *(INDICES, _ROWS, _INDEX_ROWS, _ROWS),
        )
        for out in _OUTS
    )
)
def map_region(
    flat: PixelArray,
    pitch: int,
    channel_count: int,
    last_x: int,
    last_y: int,
    columns: PlaceArray,
    rows: PlaceArray,
    shift_x: int,
    shift_y: int,
    move_x: PlaceArray,
    move_y: PlaceArray,
    factors: FloatArray,
    offsets: FloatArray,
    table_x: int,
    table_y: int,
    mix: FloatArray,
    plane_offsets: FloatArray,
    out: FloatArray | PixelArray,
    left_px: int,
    top_px: int,
    starts: IndexArray,
    weights: FloatArray,
    words: IndexArray,
    levels: FloatArray,
) -> None:
    """The whole region."""
    # One place short of the last pixel, so that there always is a next one.
    end_x, end_y = np.int32(last_x * PLACES_PER_PX - 1), np.int32(last_y * PLACES_PER_PX - 1)
    across, down = weights[0], weights[1]
    upper, upper_end, lower, lower_end = words[0], words[1], words[2], words[3]
    width = columns.size
    for y in range(rows.size):
        entry = table_y + y
        row = rows[y] + shift_y
        moves_x, moves_y = move_x[entry, table_x : table_x + width], move_y[entry, table_x : table_x + width]
        for x in range(width):
            raw_x = min(max(columns[x] + shift_x + moves_x[x], _0), end_x)
            raw_y = min(max(row + moves_y[x], _0), end_y)
            across[x] = np.float32(raw_x & _FRACTION) * _PX_PER_PLACE
            down[x] = np.float32(raw_y & _FRACTION) * _PX_PER_PLACE
            starts[x] = np.uint32(raw_y >> _PLACE_BITS) * pitch + np.uint32(raw_x >> _PLACE_BITS) * channel_count

        # No byte beside those of the four pixels is read: the frame may end there.
        if channel_count == 1:
            for x in range(width):
                start = np.uint64(starts[x])
                upper[x] = _pair(flat, start)
                lower[x] = _pair(flat, start + pitch)
        else:
            for x in range(width):
                start = np.uint64(starts[x])
                below = start + pitch
                upper[x] = _word(flat, start)
                upper_end[x] = _word(flat, start + _2)
                lower[x] = _word(flat, below)
                lower_end[x] = _word(flat, below + _2)

        for channel in range(channel_count):
            factor = factors[channel, entry, table_x : table_x + width]
            offset = offsets[channel, entry, table_x : table_x + width]
            level = levels[channel]
            if channel_count == 1:
                for x in range(width):
                    above, below = upper[x], lower[x]
                    blend = _blend(above & _BYTE, above >> _8, below & _BYTE, below >> _8, across[x], down[x])
                    level[x] = min(max(blend * factor[x] + offset[x], _DARKEST), _BRIGHTEST)
            else:
                bits, more_bits = np.uint32(8 * channel), np.uint32(8 * channel + 8)
                for x in range(width):
                    blend = _blend(
                        upper[x] >> bits & _BYTE,
                        upper_end[x] >> more_bits & _BYTE,
                        lower[x] >> bits & _BYTE,
                        lower_end[x] >> more_bits & _BYTE,
                        across[x],
                        down[x],
                    )
                    level[x] = min(max(blend * factor[x] + offset[x], _DARKEST), _BRIGHTEST)

        for plane in range(plane_offsets.size):
            offset_of_plane = plane_offsets[plane]
            target = out[plane, top_px + y, left_px : left_px + width]
            first, first_mix = levels[0], mix[plane, 0]
            if channel_count == 1:
                for x in range(width):
                    target[x] = first[x] * first_mix + offset_of_plane
            else:
                second, third = levels[1], levels[2]
                second_mix, third_mix = mix[plane, 1], mix[plane, 2]
                for x in range(width):
                    target[x] = first[x] * first_mix + second[x] * second_mix + third[x] * third_mix + offset_of_plane


@compiled(types.int64(INDICES, types.uint32))
def _find(keys: IndexArray, key: int) -> int:
    """Where a key is in sorted ones, -1 where it is not."""
    first, end = 0, keys.size
    while first < end:
        middle = (first + end) // 2
        if keys[middle] < key:
            first = middle + 1
        else:
            end = middle
    return first if first < keys.size and keys[first] == key else -1


@compiled(
    types.float32(
        *(PIXELS, types.uint64, types.uint32, types.uint32, types.uint32, types.uint32),
        *(types.uint32, INDICES, _INDEX_ROWS, _ROWS),
    )
)
def _tap(
    flat: PixelArray,
    pitch: int,
    channel_count: int,
    x: int,
    y: int,
    channel: int,
    width_px: int,
    dead: IndexArray,
    substitutes: IndexArray,
    substitute_weights: FloatArray,
) -> float:
    """A raw pixel's level, of a dead one its substitutes'."""
    which = _find(dead, np.uint32(y * width_px + x))
    if which < 0:
        return np.float32(flat[y * pitch + np.uint64(x * channel_count + channel)])
    level = np.float32(0.0)
    for k in range(substitutes.shape[1]):
        good = substitutes[which, k]
        start = np.uint64(good // width_px) * pitch + np.uint64((good % width_px) * channel_count + channel)
        level += np.float32(flat[start]) * substitute_weights[which, k]
    return level


@compiled(
    *(
        types.void(
            *(PIXELS, types.uint64, types.uint32, types.int32, types.int32),
            *(_PLACES, _PLACES, types.int32, types.int32, _PLACE_TABLE, _PLACE_TABLE),
            *(PLANES, PLANES, types.int64, types.int64),
            *(_ROWS, FLOATS, out, types.int64, types.int64),
            *(INDICES, _INDEX_ROWS, _ROWS, _ROWS, types.float32, types.float32, types.int64, types.int64, FLOATS),
        )
        for out in _OUTS
    )
)
def patch_dead(
    flat: PixelArray,
    pitch: int,
    channel_count: int,
    last_x: int,
    last_y: int,
    columns: PlaceArray,
    rows: PlaceArray,
    shift_x: int,
    shift_y: int,
    move_x: PlaceArray,
    move_y: PlaceArray,
    factors: FloatArray,
    offsets: FloatArray,
    table_x: int,
    table_y: int,
    mix: FloatArray,
    plane_offsets: FloatArray,
    out: FloatArray | PixelArray,
    left_px: int,
    top_px: int,
    dead: IndexArray,
    substitutes: IndexArray,
    substitute_weights: FloatArray,
    dead_outputs: FloatArray,
    moved_x: float,
    moved_y: float,
    reach_x: int,
    reach_y: int,
    levels: FloatArray,
) -> None:
    """Writes again, after ``map_region``, what dead pixels had a part in, as if each were the mean of its substitutes.

    dead                 (n,), sorted: numbers of the frame's dead pixels, row by row
    substitutes          (n, k): numbers of good pixels; substitute_weights (n, k), together 1
    dead_outputs         (n, 2): column and row of the output, where it unshifted shows that pixel
    moved_x, moved_y     the shift in outputs
    reach_x, reach_y     how many outputs from there may still read that pixel
    levels               scratch: (channel_count,)
    """
    width_px = np.uint32(last_x + 1)
    end_x, end_y = np.int32(last_x * PLACES_PER_PX - 1), np.int32(last_y * PLACES_PER_PX - 1)
    for which in range(dead.size):
        dead_x, dead_y = np.int32(dead[which] % width_px), np.int32(dead[which] // width_px)
        near_x = np.int64(np.rint(dead_outputs[which, 0] - moved_x))
        near_y = np.int64(np.rint(dead_outputs[which, 1] - moved_y))
        for y in range(max(near_y - reach_y, 0), min(near_y + reach_y + 1, rows.size)):
            for x in range(max(near_x - reach_x, 0), min(near_x + reach_x + 1, columns.size)):
                raw_x = min(max(columns[x] + shift_x + move_x[table_y + y, table_x + x], _0), end_x)
                raw_y = min(max(rows[y] + shift_y + move_y[table_y + y, table_x + x], _0), end_y)
                left, top = np.int32(raw_x >> _PLACE_BITS), np.int32(raw_y >> _PLACE_BITS)
                if not (0 <= dead_x - left <= 1 and 0 <= dead_y - top <= 1):
                    continue
                across = np.float32(raw_x & _FRACTION) * _PX_PER_PLACE
                down = np.float32(raw_y & _FRACTION) * _PX_PER_PLACE
                for channel in range(channel_count):
                    blend = np.float32(0.0)
                    for beside in range(4):
                        right, low = beside & 1, beside >> 1
                        weight = (across if right else np.float32(1.0) - across) * (
                            down if low else np.float32(1.0) - down
                        )
                        blend += weight * _tap(
                            flat,
                            pitch,
                            channel_count,
                            np.uint32(left + right),
                            np.uint32(top + low),
                            np.uint32(channel),
                            width_px,
                            dead,
                            substitutes,
                            substitute_weights,
                        )
                    factor = factors[channel, table_y + y, table_x + x]
                    offset = offsets[channel, table_y + y, table_x + x]
                    levels[channel] = min(max(blend * factor + offset, _DARKEST), _BRIGHTEST)
                for plane in range(plane_offsets.size):
                    value = plane_offsets[plane]
                    for channel in range(channel_count):
                        value += levels[channel] * mix[plane, channel]
                    out[plane, top_px + y, left_px + x] = value
