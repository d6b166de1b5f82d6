"""From pixels of the model's input, or of a smaller map of it, to pixels of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.decoders.base import WrongOutput
from vision.geometry import RowGeometry

_LEAST = 2
"""Pixels of a map that must show a region, across and down: of fewer it may be that none does."""


def to_frame(geometry: RowGeometry) -> npt.NDArray[np.float64]:
    """(8,): step x, origin x, step y, origin y so that ``frame_x = input_x * step + origin``; the region's x1, y1, x2, y2."""
    step_x, step_y = geometry.step_x_px, geometry.step_y_px
    origin_x = geometry.origin_x_px - geometry.left_px * step_x
    origin_y = geometry.origin_y_px - geometry.top_px * step_y
    return np.array([step_x, origin_x, step_y, origin_y, *geometry.region_px], np.float64)


@dataclass(frozen=True, slots=True)
class MapPlacing:
    """Where the pixels of a map of the whole input lie; the map may be smaller than the input, or larger.

    ``x_first``, ``y_first``, ``x_end``, ``y_end``: the pixels of the map whose centres show the region, not a letterbox's border.
    """

    width: int
    height: int
    x_first: int
    y_first: int
    x_end: int
    y_end: int
    step_x_px: float
    step_y_px: float
    origin_x_px: float
    origin_y_px: float
    region_px: tuple[float, float, float, float]

    @property
    def pixel_area_px(self) -> float:
        """The area in the frame of a pixel of the map."""
        return self.step_x_px * self.step_y_px

    def boxes(self, boxes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(N, 4) half-open boxes x1, y1, x2, y2 of the map's pixels -> float32 (N, 4) in the frame, cut to the region."""
        steps = np.array([self.step_x_px, self.step_y_px] * 2)
        placed = boxes * steps + np.array([self.origin_x_px, self.origin_y_px] * 2)
        return _cut(placed, self.region_px[:2] * 2, self.region_px[2:] * 2)

    def centres(self, points: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """(K, 2) pixels x, y of the map -> float32 (K, 2), their centres in the frame, cut to the region."""
        steps = np.array([self.step_x_px, self.step_y_px])
        placed = (points + 0.5) * steps + np.array([self.origin_x_px, self.origin_y_px])
        return _cut(placed, self.region_px[:2], self.region_px[2:])


def _cut(points: npt.NDArray[np.float64], low: tuple[float, ...], high: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.minimum(np.maximum(points, low), high).astype(np.float32)


def map_placing(geometry: RowGeometry, width: int, height: int) -> MapPlacing:
    """Of a map of ``width`` x ``height`` pixels that covers the model's input.

    Raises WrongOutput where a letterbox leaves the region a strip of the map that is thinner than two of its pixels.
    """
    step_x, origin_x, step_y, origin_y = to_frame(geometry)[:4].tolist()
    across, down = geometry.input_width_px / width, geometry.input_height_px / height
    right_px, bottom_px = geometry.left_px + geometry.shown_width_px, geometry.top_px + geometry.shown_height_px
    placing = MapPlacing(
        width=width,
        height=height,
        x_first=max(0, ceil(geometry.left_px / across - 0.5)),
        y_first=max(0, ceil(geometry.top_px / down - 0.5)),
        x_end=min(width, ceil(right_px / across - 0.5)),
        y_end=min(height, ceil(bottom_px / down - 0.5)),
        step_x_px=step_x * across,
        step_y_px=step_y * down,
        origin_x_px=origin_x,
        origin_y_px=origin_y,
        region_px=geometry.region_px,
    )
    shown_wide, shown_high = placing.x_end - placing.x_first, placing.y_end - placing.y_first
    # A map that is no larger itself has no border.
    if shown_wide < min(_LEAST, width) or shown_high < min(_LEAST, height):
        x1, y1, x2, y2 = geometry.region_px
        got = f"a letterboxed region of {x2 - x1:g} x {y2 - y1:g} px, {shown_wide} x {shown_high} pixels of the model's map"
        expected = f"at least {_LEAST} across and down: regions nearer to the input's proportions, or another input.fit"
        raise WrongOutput("input.fit", got, expected)
    return placing
