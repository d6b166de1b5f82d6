"""Pictures of one printed plate on a belt, anywhere between the pixels, with the truth of where it lies.

The plate is drawn once, several times as fine as the camera sees it, and averaged over the camera's pixels; each frame samples
that at the place asked for, so that a shift of a fraction of a pixel is a shift of the plate and not of a picture of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_FINE = 4
_WIDE_PX, _HIGH_PX = 200, 150
_BELT_LEVEL, _PLATE_LEVEL, _PRINT_LEVEL, _HOLE_LEVEL = 55.0, 150.0, 215.0, 25.0
_COVER_LEVEL = 235.0
_LENS_PX = 0.7
"""Standard deviation of the blur of a lens in focus: no lens draws an edge sharper than the pixels."""

Floats = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Look:
    """One frame of the plate: where it lies against its place, and what stands in the way of finding it.

    ``angle_deg``: turned about its middle. ``covered``: share of the plate, from its right edge, that something bright lies on;
    ``gain`` and ``offset``: of the grey levels; ``blur_px`` and ``noise_levels``: standard deviations; ``has_part`` False: the
    empty belt.
    """

    shift_x_px: float = 0.0
    shift_y_px: float = 0.0
    angle_deg: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    blur_px: float = 0.0
    noise_levels: float = 2.0
    covered: float = 0.0
    has_part: bool = True


class PartScene:
    """A plate of 200 x 150 px whose middle lies in the frame's middle."""

    def __init__(self, width_px: int, height_px: int) -> None:
        self.width_px, self.height_px = width_px, height_px
        # What a pixel sees is the mean over its area of what the lens shows.
        self._plate, self._cover = (
            cv2.GaussianBlur(cv2.blur(each, (_FINE, _FINE)), (0, 0), _LENS_PX * _FINE) for each in _plate()
        )

    @property
    def plate_px(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the plate in its place."""
        return (self.width_px - _WIDE_PX) // 2, (self.height_px - _HIGH_PX) // 2, _WIDE_PX, _HIGH_PX

    def frame(self, look: Look, seed: int) -> npt.NDArray[np.uint8]:
        """uint8 (height, width). The belt's grain and the noise are of ``seed``."""
        rng = np.random.default_rng(seed)
        grain = rng.normal(0.0, 6.0, (self.height_px // 4 + 1, self.width_px // 4 + 1)).astype(np.float32)
        picture: Floats = _BELT_LEVEL + cv2.resize(
            grain, (self.width_px, self.height_px), interpolation=cv2.INTER_CUBIC
        )
        if look.has_part:
            share = self._sampled(self._cover, look)
            picture += (self._sampled(self._plate, look) - picture) * share
            if look.covered > 0.0:
                x_px, y_px, wide_px, high_px = self.plate_px
                left, top = round(x_px + look.shift_x_px), round(y_px + look.shift_y_px)
                picture[top : top + high_px, left + round(wide_px * (1.0 - look.covered)) : left + wide_px] = (
                    _COVER_LEVEL
                )
        if look.blur_px > 0.0:
            picture = cv2.GaussianBlur(picture, (0, 0), look.blur_px)
        picture = picture * look.gain + look.offset
        picture += rng.normal(0.0, look.noise_levels, picture.shape).astype(np.float32)
        frame: npt.NDArray[np.uint8] = np.clip(np.rint(picture), 0.0, 255.0).astype(np.uint8)
        return frame

    def _sampled(self, fine: Floats, look: Look) -> Floats:
        turn_x, turn_y = cos(radians(look.angle_deg)) * _FINE, sin(radians(look.angle_deg)) * _FINE
        middle_x, middle_y = (self.width_px - 1) / 2 + look.shift_x_px, (self.height_px - 1) / 2 + look.shift_y_px
        fine_x, fine_y = (fine.shape[1] - 1) / 2, (fine.shape[0] - 1) / 2
        to_fine = np.array(
            [
                [turn_x, turn_y, fine_x - turn_x * middle_x - turn_y * middle_y],
                [-turn_y, turn_x, fine_y + turn_y * middle_x - turn_x * middle_y],
            ]
        )
        sampled: Floats = cv2.warpAffine(
            fine, to_fine, (self.width_px, self.height_px), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        return sampled


def _plate() -> tuple[Floats, Floats]:
    """The plate's grey levels and its shape, 1 inside, with a margin of belt around."""
    margin = 8
    wide, high = (_WIDE_PX + 2 * margin) * _FINE, (_HIGH_PX + 2 * margin) * _FINE
    levels = np.full((high, wide), _PLATE_LEVEL, np.uint8)
    cover = np.zeros((high, wide), np.float32)
    edge = margin * _FINE
    cover[edge : high - edge, edge : wide - edge] = 1.0

    def at(x_px: float, y_px: float) -> tuple[int, int]:
        return round((margin + x_px) * _FINE), round((margin + y_px) * _FINE)

    for x_px, y_px, radius_px in ((22, 24, 9), (176, 30, 9), (24, 124, 9), (150, 112, 16)):
        cv2.circle(levels, at(x_px, y_px), radius_px * _FINE, _HOLE_LEVEL, -1)
    strokes = (
        (48, 68, 60, 38),
        (60, 38, 72, 68),
        (53, 56, 67, 56),
        (80, 40, 102, 40),
        (102, 40, 88, 68),
        (112, 54, 126, 54),
        (152, 38, 134, 58),
        (134, 58, 158, 58),
        (152, 38, 152, 68),
    )
    for x1_px, y1_px, x2_px, y2_px in strokes:
        cv2.line(levels, at(x1_px, y1_px), at(x2_px, y2_px), _PRINT_LEVEL, 4 * _FINE)
    cv2.rectangle(levels, at(44, 84), at(120, 128), _PRINT_LEVEL, 2 * _FINE)
    cv2.line(levels, at(52, 122), at(112, 92), _HOLE_LEVEL, 3 * _FINE)
    return levels.astype(np.float32), cover
