"""A region of raw frames as corrected planes: tables at the output's resolution, made once, for ``vision.kernels.mapped``.

A table's entry belongs to a place of the undistorted frame, not to an output pixel: a region that has moved by some whole
pixels reads the entries next to where it now is. What the kernel does is then exact in these ways:

- The region's place follows the shift to the pixel. Of the lens's displacement the one of an entry at most half an output
  pixel away is taken, which differs by what the displacement itself changes over so much.
- Without a shift the gain is that of the four raw pixels read, ``1 / sum(weight / gain)``, and their dark level, so that even
  light comes out even, to rounding. Where light changes within the four, each pixel's own gain would be more right: the
  difference is the four gains' spread times the light's.
- A region that may move by what is no multiple of the step from one output pixel to the next gets gains and dark levels of
  entries up to half an output pixel away. They are means over as many pixels around: right for vignetting and dust, while what
  differs from one pixel to the next is left as the camera has it. Where nothing is shrunk or stretched (a step of one pixel) they
  are the very pixel's.
- Dead pixels are those of the sensor at any shift.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.correction import Correction, Substitutes, substitutes_of
from vision.kernels.mapped import PLACES_PER_PX, map_region

_OUTSIDE_MAX_PX = 1.0
"""How far outside the raw frame a region's undistorted pixels may come to lie: its edge stands for them."""
_LENS_SLACK = 1.5
"""Two undistorted pixels are at most so much further apart than the same two in the raw frame, and an entry is a neighbour's."""
_INVERSION_STEPS = 20
_ROUNDING = 1e-9
_MOVE_MAX, _FACTOR_MAX, _DARK_MAX = 32767, 65535, 255
"""The tables' numbers, in steps that fit the largest of each: a thousandth of a pixel, a thirty-thousandth of a gain, a tenth of a
grey level of darkness, and less where they are less.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Where the output's columns (or rows) lie in the undistorted frame, 0 being the centre of its first pixel.

    places_px: float64 (n,): each output pixel's centre, clamped to the region; first_px: the first one's where it is not
    clamped; step_px: from one to the next; entries_px: float64: the places of the tables' entries, ``margin_count`` more on
    either side than there are outputs, clamped to the frame; apart_px: the most that an entry may lie beside what it is read for.
    """

    places_px: npt.NDArray[np.float64]
    first_px: float
    step_px: float
    entries_px: npt.NDArray[np.float64]
    margin_count: int
    apart_px: float

    def entry(self, shift_px: int) -> int:
        """The first output pixel's entry when the region has moved so far."""
        return self.margin_count + floor(shift_px / self.step_px + 0.5)


def axis(
    places_px: npt.NDArray[np.float64], *, first_px: float, step_px: float, frame_px: int, shift_max_px: int
) -> Axis:
    """An axis whose region may move by ``shift_max_px``; ``frame_px``: the frame's size along it."""
    count = len(places_px)
    margin_count = floor(shift_max_px / step_px + 0.5)
    entries = (first_px + np.arange(-margin_count, count + margin_count) * step_px).clip(0.0, frame_px - 1)
    entries[margin_count : margin_count + count] = places_px
    shifts = np.arange(shift_max_px + 1)
    apart_px = float(np.abs(shifts - np.floor(shifts / step_px + 0.5) * step_px).max())
    return Axis(places_px, first_px, step_px, entries, margin_count, apart_px)


class MappedRegion:
    """Fills rows of the batch from one region of raw frames, corrected. Not for several threads at once."""

    def __init__(
        self,
        shape: tuple[int, ...],
        correction: Correction,
        columns: Axis,
        rows: Axis,
        mix: npt.NDArray[np.float32],
        plane_offsets: npt.NDArray[np.float32],
        corner_px: tuple[int, int],
    ) -> None:
        """``mix``: (planes, source channels), of corrected grey levels; ``corner_px``: left and top of the region in the row.

        Raises ValueError where the correction does not fit frames of ``shape``, or shows of the region what lies outside of them.
        """
        correction.check(shape)
        self._columns, self._rows = columns, rows
        height, width = shape[:2]
        channels = shape[2] if len(shape) == 3 else 1
        at_x, at_y = np.meshgrid(columns.entries_px, rows.entries_px)
        raw_x, raw_y = _raw_places(correction, at_x, at_y)
        shown = np.s_[
            rows.margin_count : rows.margin_count + len(rows.places_px),
            columns.margin_count : columns.margin_count + len(columns.places_px),
        ]
        for name, raw, size in (("left or right", raw_x[shown], width), ("top or bottom", raw_y[shown], height)):
            outside_px = max(-float(raw.min()), float(raw.max()) - (size - 1))
            if outside_px > _OUTSIDE_MAX_PX:
                raise ValueError(
                    f"got a part that lies {outside_px:.1f} px outside the raw frame, {name}, "
                    "expected a region that the camera sees whole once its picture is undistorted"
                )
        raw_x, raw_y = raw_x.clip(0.0, width - 1), raw_y.clip(0.0, height - 1)

        dead = correction.dead if correction.dead is not None else np.zeros((height, width), np.bool_)
        substitutes = substitutes_of(dead)
        gains = np.ones((len(raw_y), channels, raw_x.shape[1]))
        darks = np.zeros_like(gains)
        around_px = tuple(2 * ceil(one.apart_px - _ROUNDING) + 1 for one in (columns, rows))

        def of_entries(values: npt.NDArray[np.float64], channel: int) -> npt.NDArray[np.float64]:
            whole = substitutes.fill(values).reshape(height, width, channels)[:, :, channel]
            blurred = np.asarray(cv2.blur(whole, around_px, borderType=cv2.BORDER_REPLICATE), np.float64)
            return bilinear(blurred, raw_x, raw_y)

        for channel in range(channels):
            if correction.gain is not None:
                gains[:, channel] = 1.0 / of_entries(1.0 / correction.gain.astype(np.float64), channel)
            if correction.dark is not None:
                darks[:, channel] = of_entries(correction.dark.astype(np.float64), channel)
        moves = np.stack([raw_x - at_x, raw_y - at_y], axis=1) * PLACES_PER_PX
        move_step = max(1, ceil(float(np.abs(moves).max()) / _MOVE_MAX))
        gain_step = float(gains.max()) / _FACTOR_MAX
        dark_step = max(float(darks.max()), 1.0) / _DARK_MAX

        self._frame = (channels, width - 1, height - 1)
        self._places = (_places(columns.places_px), _places(rows.places_px))
        self._tables = (
            np.rint(moves / move_step).astype(np.int16),
            move_step,
            np.rint(gains / gain_step).astype(np.uint16),
            np.rint(darks / dark_step).astype(np.uint8),
            dark_step,
            255.0 / gain_step,
            np.concatenate([mix * gain_step, plane_offsets[:, None]], axis=1).astype(np.float32),
        )
        self._corner = corner_px
        self._dead = self._plan_dead(correction, substitutes, width)
        self._reach = tuple(ceil(_LENS_SLACK / one.step_px) + 1 for one in (columns, rows))
        count = len(columns.places_px)
        self._scratch = (np.zeros((5, count), np.uint32), np.zeros((2 + channels, count), np.float32))

    def _plan_dead(
        self, correction: Correction, substitutes: Substitutes, width: int
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """The kernel's ``dead`` and ``stand_ins``."""
        dead_x, dead_y = (substitutes.dead % width).astype(np.float64), (substitutes.dead // width).astype(np.float64)
        at_x, at_y = _undistorted_places(correction, dead_x, dead_y)
        columns, rows = self._columns, self._rows
        outputs = [(at_x - columns.first_px) / columns.step_px, (at_y - rows.first_px) / rows.step_px]
        return (
            np.ascontiguousarray(np.column_stack([substitutes.dead, substitutes.sources]), np.uint32),
            np.ascontiguousarray(np.column_stack([*outputs, substitutes.weights]), np.float32),
        )

    def fill(
        self, flat: npt.NDArray[np.uint8], pitch: int, out_row: npt.NDArray[Any], shift_px: tuple[int, int] = (0, 0)
    ) -> None:
        """Writes the region's rectangle of ``out_row`` from a frame's memory (``vision.kernels.flat_rows``)."""
        shift_x, shift_y = shift_px
        columns, rows = self._columns, self._rows
        arguments: list[Any] = [
            *(flat, pitch, *self._frame, *self._places, shift_x * PLACES_PER_PX, shift_y * PLACES_PER_PX),
            *(columns.entry(shift_x), rows.entry(shift_y), *self._tables, out_row, *self._corner),
            *(*self._dead, shift_x / columns.step_px, shift_y / rows.step_px, *self._reach, *self._scratch),
        ]
        map_region(*arguments)


def bilinear(
    values: npt.NDArray[np.float64], x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``values`` (height, width), both at least 2, at places, edges clamped; returns the places' shape."""
    height, width = values.shape
    x_px, y_px = np.clip(x_px, 0.0, width - 1), np.clip(y_px, 0.0, height - 1)
    left, top = np.minimum(x_px.astype(np.int64), width - 2), np.minimum(y_px.astype(np.int64), height - 2)
    across, down = x_px - left, y_px - top
    upper = values[top, left] * (1 - across) + values[top, left + 1] * across
    lower = values[top + 1, left] * (1 - across) + values[top + 1, left + 1] * across
    blended: npt.NDArray[np.float64] = upper * (1 - down) + lower * down
    return blended


def _raw_places(
    correction: Correction, x_px: npt.NDArray[np.float64], y_px: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where undistorted places lie; beside the frame they are moved as at its edge."""
    if correction.map_x_px is None or correction.map_y_px is None:
        return x_px, y_px
    rows, columns = np.indices(correction.map_x_px.shape, np.float64)
    return (
        x_px + bilinear(correction.map_x_px - columns, x_px, y_px),
        y_px + bilinear(correction.map_y_px - rows, x_px, y_px),
    )


def _undistorted_places(
    correction: Correction, raw_x: npt.NDArray[np.float64], raw_y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where raw places come to lie, by fixed-point iteration: a lens moves neighbours alike."""
    x_px, y_px = raw_x.copy(), raw_y.copy()
    for _ in range(_INVERSION_STEPS if len(raw_x) else 0):
        at_x, at_y = _raw_places(correction, x_px, y_px)
        x_px, y_px = x_px + raw_x - at_x, y_px + raw_y - at_y
    return x_px, y_px


def _places(px: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    return np.ascontiguousarray(np.rint(px * PLACES_PER_PX).astype(np.int32))
