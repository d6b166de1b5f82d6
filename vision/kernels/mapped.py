"""Undistortion, flat-field, resize, channel mix and normalisation of one region in one pass over the raw frame.

Each output pixel blends the four raw pixels around its place bilinearly, and what comes out is corrected, once for each
source channel: ``level = (blend - dark * dark_step) * factor``, cut to 0..``brightest`` as a camera would. Each plane is one
channel's levels, or where it is grey the sum of three:
``out[plane] = sum(level[channel] * mix[plane, channel]) + mix[plane, channel_count]``.

A row of the output takes short loops over scratch that stays in the first cache: where its pixels lie; the bytes there,
fetched as whole words, so that few loads are scattered; the levels in them. All but the second are vectorised, which they would
not be as one, nor as functions of their own (views passed to a function cost more than a row). The tables are read once a frame
and then forgotten by every cache: they are as small as they can be, and lie row by row.

Places are in 1/65536 of a pixel. Arguments, h and w being the height and width that the region has in ``out``, n the count of
dead pixels; the tables (H, W) are larger by a margin all around, so that a region that has moved finds its own entries:

    flat, pitch       the frame's memory and its bytes per row (``vision.kernels.flat_rows``)
    channel_count     of the frame: 1 or 3, the bytes of a pixel
    last_x, last_y    the frame's last column and row, both at least 1
    columns, rows     (w,), (h,): undistorted place of each output column and row, in the frame
    shift_x, shift_y  how far the region has moved
    table_x, table_y  the tables' entry for the region's first pixel
    moves, move_step  (H, 2, W): raw place less undistorted place, across and down, in steps of so many places
    factors           (H, channel_count, W)
    darks, dark_step  (H, channel_count, W), in so many grey levels
    brightest         what a grey level of 255 is among levels
    mix               (planes, channel_count + 1); the last with one half more where ``out`` is uint8, which cuts off what is
                      behind the point
    out               (planes, rows, columns), float32 or uint8
    left_px, top_px   the region lands at out[:, top_px : top_px + h, left_px : left_px + w]
    dead              (n, 1 + k), sorted: numbers of the frame's dead pixels, row by row, each with those of k good ones
    stand_ins         (n, 2 + k): column and row of the output, where it unshifted shows that pixel, and the weights of the good
                      ones, together 1
    moved_x, moved_y  the shift in outputs
    reach_x, reach_y  how many outputs away from there may still read that pixel
    words, numbers    scratch: (5, w), (2 + channel_count, w)

Nothing is checked here: ``vision.mapped_region`` plans the tables so that every index is inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import BYTE_PLANES, PIXELS, PLANES, FloatArray, IndexArray, PixelArray, compiled

PlaceArray = npt.NDArray[np.int32]

PLACES_PER_PX = 1 << 16

_PLACES = types.int32[::1]
_MOVES = types.int16[:, :, ::1]
_FACTORS = types.uint16[:, :, ::1]
_NUMBERS = types.uint32[:, ::1]
_ROWS = types.float32[:, ::1]

_PLACE_BITS = np.int32(16)
_FRACTION = np.int32(PLACES_PER_PX - 1)
_PX_PER_PLACE = np.float32(1 / PLACES_PER_PX)
_BYTE, _31 = np.uint32(255), np.uint32(31)
_1, _2, _3 = np.uint64(1), np.uint64(2), np.uint64(3)
_0_BITS, _8, _16, _24 = np.uint32(0), np.uint32(8), np.uint32(16), np.uint32(24)
_0 = np.int32(0)
_DARKEST = np.float32(0.0)


@compiled(types.uint32(PIXELS, types.uint64))
def _pair(flat: PixelArray, start: np.uint64) -> np.uint32:
    """Two bytes, the first one lowest; compiled to one load."""
    return np.uint32(flat[start]) | np.uint32(flat[start + _1]) << _8


@compiled(types.uint32(PIXELS, types.uint64))
def _word(flat: PixelArray, start: np.uint64) -> np.uint32:
    """Four bytes, the first one lowest; compiled to one load."""
    lower = np.uint32(flat[start]) | np.uint32(flat[start + _1]) << _8
    return lower | np.uint32(flat[start + _2]) << _16 | np.uint32(flat[start + _3]) << _24


@compiled(types.float32(types.uint32, types.uint32))
def _byte(word: int, bits: np.uint32) -> np.float32:
    """The byte that lies ``bits`` up in a word."""
    return np.float32(np.int32(np.uint32(word >> (bits & _31)) & _BYTE))


@compiled(
    types.float32(
        *((types.uint32,) * 6), *((types.float32,) * 2), types.uint8, types.float32, types.uint16, types.float32
    )
)
def _level(
    upper: int,
    upper_end: int,
    lower: int,
    lower_end: int,
    left_bits: np.uint32,
    right_bits: np.uint32,
    across: np.float32,
    down: np.float32,
    dark: int,
    dark_step: float,
    factor: int,
    brightest: float,
) -> np.float32:
    """A corrected level. The left pixels' bytes lie ``left_bits`` up in their words, the right ones' ``right_bits`` in the ends."""
    left, right = _byte(upper, left_bits), _byte(upper_end, right_bits)
    above = left + (right - left) * across
    left, right = _byte(lower, left_bits), _byte(lower_end, right_bits)
    below = left + (right - left) * across
    lit = above + (below - above) * down - np.float32(np.int32(dark)) * dark_step
    return np.float32(min(max(lit * np.float32(np.int32(factor)), _DARKEST), np.float32(brightest)))


def _signatures() -> list[Any]:
    """One for each type of ``out``."""
    return [
        types.void(
            *(PIXELS, types.uint64, types.uint32, types.int32, types.int32),
            *(_PLACES, _PLACES, types.int32, types.int32, types.int64, types.int64),
            *(_MOVES, types.int32, _FACTORS, BYTE_PLANES, types.float32, types.float32, _ROWS),
            *(out, types.int64, types.int64),
            *(_NUMBERS, _ROWS, types.float32, types.float32, types.int64, types.int64, _NUMBERS, _ROWS),
        )
        for out in (PLANES, BYTE_PLANES)
    ]


@compiled(types.int64(_NUMBERS, types.uint32))
def _find(dead: IndexArray, number: np.uint32) -> int:
    """Where a pixel is among the dead ones, -1 where it is not."""
    first, end = 0, len(dead)
    while first < end:
        middle = (first + end) // 2
        if dead[middle, 0] < number:
            first = middle + 1
        else:
            end = middle
    return first if first < len(dead) and dead[first, 0] == number else -1


@compiled(types.float32(PIXELS, types.uint64, types.uint32, types.uint32, types.uint32, types.uint32, _NUMBERS, _ROWS))
def _mended(
    flat: PixelArray,
    pitch: int,
    channel_count: int,
    channel: np.uint32,
    width_px: np.uint32,
    number: np.uint32,
    dead: IndexArray,
    stand_ins: FloatArray,
) -> np.float32:
    """A raw pixel's level, of a dead one its stand-ins'."""
    which = _find(dead, number)
    if which < 0:
        return np.float32(flat[number // width_px * pitch + number % width_px * channel_count + channel])
    level = np.float32(0.0)
    for k in range(1, dead.shape[1]):
        good = dead[which, k]
        start = good // width_px * pitch + good % width_px * channel_count + channel
        level += np.float32(flat[start]) * stand_ins[which, 1 + k]
    return level


@compiled(*_signatures())
def _mend(
    flat: PixelArray,
    pitch: int,
    channel_count: int,
    last_x: int,
    last_y: int,
    columns: PlaceArray,
    rows: PlaceArray,
    shift_x: int,
    shift_y: int,
    table_x: int,
    table_y: int,
    moves: npt.NDArray[np.int16],
    move_step: int,
    factors: npt.NDArray[np.uint16],
    darks: PixelArray,
    dark_step: float,
    brightest: float,
    mix: FloatArray,
    out: FloatArray | PixelArray,
    left_px: int,
    top_px: int,
    dead: IndexArray,
    stand_ins: FloatArray,
    moved_x: float,
    moved_y: float,
    reach_x: int,
    reach_y: int,
    words: IndexArray,
    numbers: FloatArray,
) -> None:
    """Writes again what dead pixels had a part in, as if each were the mean of its stand-ins."""
    width_px = np.uint32(last_x + 1)
    end_x, end_y = np.int32(last_x * PLACES_PER_PX - 1), np.int32(last_y * PLACES_PER_PX - 1)
    for which in range(len(dead)):
        dead_x, dead_y = np.int32(dead[which, 0] % width_px), np.int32(dead[which, 0] // width_px)
        near_x = int(np.floor(stand_ins[which, 0] - moved_x + np.float32(0.5)))
        near_y = int(np.floor(stand_ins[which, 1] - moved_y + np.float32(0.5)))
        for y in range(max(near_y - reach_y, 0), min(near_y + reach_y + 1, int(rows.size))):
            for x in range(max(near_x - reach_x, 0), min(near_x + reach_x + 1, int(columns.size))):
                move_x = moves[table_y + y, 0, table_x + x] * move_step
                move_y = moves[table_y + y, 1, table_x + x] * move_step
                raw_x = min(max(columns[x] + shift_x + move_x, _0), end_x)
                raw_y = min(max(rows[y] + shift_y + move_y, _0), end_y)
                left, top = np.int32(raw_x >> _PLACE_BITS), np.int32(raw_y >> _PLACE_BITS)
                if not (0 <= dead_x - left <= 1 and 0 <= dead_y - top <= 1):
                    continue
                across = np.float32(raw_x & _FRACTION) * _PX_PER_PLACE
                down = np.float32(raw_y & _FRACTION) * _PX_PER_PLACE
                for channel in range(channel_count):
                    blend = np.float32(0.0)
                    for lower in range(2):
                        row_weight = down if lower else np.float32(1.0) - down
                        for right in range(2):
                            weight = row_weight * (across if right else np.float32(1.0) - across)
                            number = np.uint32((top + lower) * width_px + left + right)
                            blend += weight * _mended(
                                flat, pitch, channel_count, np.uint32(channel), width_px, number, dead, stand_ins
                            )
                    dark = np.float32(darks[table_y + y, channel, table_x + x]) * dark_step
                    level = float((blend - dark) * np.float32(factors[table_y + y, channel, table_x + x]))
                    numbers[2 + channel, 0] = min(max(level, 0.0), brightest)
                for plane in range(len(mix)):
                    value = mix[plane, channel_count]
                    for channel in range(channel_count):
                        value += numbers[2 + channel, 0] * mix[plane, channel]
                    out[plane, top_px + y, left_px + x] = value


@compiled(*_signatures())
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
    table_x: int,
    table_y: int,
    moves: npt.NDArray[np.int16],
    move_step: int,
    factors: npt.NDArray[np.uint16],
    darks: PixelArray,
    dark_step: float,
    brightest: float,
    mix: FloatArray,
    out: FloatArray | PixelArray,
    left_px: int,
    top_px: int,
    dead: IndexArray,
    stand_ins: FloatArray,
    moved_x: float,
    moved_y: float,
    reach_x: int,
    reach_y: int,
    words: IndexArray,
    numbers: FloatArray,
) -> None:
    """The whole region."""
    # One place short of the last pixel, so that there always is a next one.
    end_x, end_y = np.int32(last_x * PLACES_PER_PX - 1), np.int32(last_y * PLACES_PER_PX - 1)
    starts, upper, upper_end, lower, lower_end = words[0], words[1], words[2], words[3], words[4]
    across, down = numbers[0], numbers[1]
    width = columns.size
    row_bytes = np.uint32(pitch)
    is_mixed = channel_count == 3 and len(mix) == 1
    for y in range(rows.size):
        entry = table_y + y
        row = rows[y] + shift_y
        move_x, move_y = moves[entry, 0, table_x : table_x + width], moves[entry, 1, table_x : table_x + width]
        # numba reckons in 64 bits unless told at each step not to, which halves what a vector holds.
        for x in range(width):
            raw_x = min(max(np.int32(columns[x] + shift_x + move_x[x] * move_step), _0), end_x)
            raw_y = min(max(np.int32(row + move_y[x] * move_step), _0), end_y)
            across[x] = np.float32(raw_x & _FRACTION) * _PX_PER_PLACE
            down[x] = np.float32(raw_y & _FRACTION) * _PX_PER_PLACE
            top, left = np.uint32(raw_y >> _PLACE_BITS), np.uint32(raw_x >> _PLACE_BITS)
            starts[x] = np.uint32(top * row_bytes) + np.uint32(left * channel_count)

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
            factor = factors[entry, channel, table_x : table_x + width]
            dark = darks[entry, channel, table_x : table_x + width]
            bits, more_bits = np.uint32(8 * channel), np.uint32(8 * channel + 8)
            line = numbers[2 + channel]
            if is_mixed:
                for x in range(width):
                    line[x] = _level(
                        upper[x],
                        upper_end[x],
                        lower[x],
                        lower_end[x],
                        bits,
                        more_bits,
                        across[x],
                        down[x],
                        dark[x],
                        dark_step,
                        factor[x],
                        brightest,
                    )
                continue
            for plane in range(len(mix)):
                target = out[plane, top_px + y, left_px : left_px + width]
                gain, offset = mix[plane, channel], mix[plane, channel_count]
                if channel_count == 1:
                    for x in range(width):
                        level = _level(
                            upper[x],
                            upper[x],
                            lower[x],
                            lower[x],
                            _0_BITS,
                            _8,
                            across[x],
                            down[x],
                            dark[x],
                            dark_step,
                            factor[x],
                            brightest,
                        )
                        target[x] = level * gain + offset
                elif gain != 0:
                    for x in range(width):
                        level = _level(
                            upper[x],
                            upper_end[x],
                            lower[x],
                            lower_end[x],
                            bits,
                            more_bits,
                            across[x],
                            down[x],
                            dark[x],
                            dark_step,
                            factor[x],
                            brightest,
                        )
                        target[x] = level * gain + offset
        if is_mixed:
            target = out[0, top_px + y, left_px : left_px + width]
            first, second, third = numbers[2], numbers[3], numbers[4]
            first_mix, second_mix, third_mix, offset = mix[0, 0], mix[0, 1], mix[0, 2], mix[0, 3]
            for x in range(width):
                target[x] = first[x] * first_mix + second[x] * second_mix + third[x] * third_mix + offset

    if len(dead):
        _mend(
            flat,
            pitch,
            channel_count,
            last_x,
            last_y,
            columns,
            rows,
            shift_x,
            shift_y,
            table_x,
            table_y,
            moves,
            move_step,
            factors,
            darks,
            dark_step,
            brightest,
            mix,
            out,
            left_px,
            top_px,
            dead,
            stand_ins,
            moved_x,
            moved_y,
            reach_x,
            reach_y,
            words,
            numbers,
        )
