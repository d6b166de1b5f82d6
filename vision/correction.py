"""What is put right in a camera's raw frames before anything looks at them: the lens, the light and the sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GAIN_MIN, GAIN_MAX = 0.1, 16.0
SIDE_MAX_PX = 16_384
SUBSTITUTE_REACH_PX = 16
"""How far a dead pixel's substitutes may lie, along its row and its column."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """``level = (raw - dark) * gain`` for each raw pixel, and where each undistorted pixel lies in the raw frame.

    map_x_px, map_y_px: float32 (height, width): place in the raw frame of each undistorted pixel's centre, 0 being the centre of
    the first one (as ``cv2.initUndistortRectifyMap``'s); both None where the lens is left as it is.
    gain: float32 (height, width) or, of colour, (height, width, 3) in the frame's channel order, 0.1..16; None: 1.
    dark: the same shapes, grey levels 0..255; None: 0.
    dead: bool (height, width): pixels that are replaced by their neighbours, hot ones among them; None: none.
    """

    map_x_px: npt.NDArray[np.float32] | None = None
    map_y_px: npt.NDArray[np.float32] | None = None
    gain: npt.NDArray[np.float32] | None = None
    dark: npt.NDArray[np.float32] | None = None
    dead: npt.NDArray[np.bool_] | None = None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError where this is not for frames of that shape."""
        if (self.map_x_px is None) != (self.map_y_px is None):
            raise ValueError("map_x_px, map_y_px: got one without the other, expected both or none")
        if not (min(shape[:2]) >= 2 and max(shape[:2]) <= SIDE_MAX_PX):
            raise ValueError(f"frame: got shape {shape}, expected sides of 2 to {SIDE_MAX_PX} px to be corrected")
        named: list[tuple[str, npt.NDArray[np.float32] | None, tuple[int, ...], float, float]] = [
            ("map_x_px", self.map_x_px, shape[:2], -float(shape[1]), 2.0 * shape[1]),
            ("map_y_px", self.map_y_px, shape[:2], -float(shape[0]), 2.0 * shape[0]),
            ("gain", self.gain, shape, GAIN_MIN, GAIN_MAX),
            ("dark", self.dark, shape, 0.0, 255.0),
        ]
        for name, values, expected, least, most in named:
            if values is None:
                continue
            if values.shape != expected:
                raise ValueError(f"{name}: got shape {values.shape}, expected {expected}, that of the camera's frames")
            if not (np.isfinite(values).all() and least <= values.min() and values.max() <= most):
                raise ValueError(f"{name}: got {values.min():g} to {values.max():g}, expected {least:g} to {most:g}")
        if self.dead is not None and self.dead.shape != shape[:2]:
            raise ValueError(f"dead: got shape {self.dead.shape}, expected {shape[:2]}, that of the camera's frames")


@dataclass(frozen=True, slots=True, eq=False)
class Substitutes:
    """What stands in for dead pixels. Pixels are numbered row by row, ``y * width + x``.

    dead: uint32 (n,), sorted; sources: uint32 (n, 4), good pixels; weights: float32 (n, 4), 0..1, of each row together 1.
    """

    dead: npt.NDArray[np.uint32]
    sources: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]

    def fill(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """``values`` of each pixel, (height, width) or (height, width, channels), dead ones' replaced: a copy."""
        filled = values.copy()
        by_pixel = filled.reshape(values.shape[0] * values.shape[1], -1)
        by_pixel[self.dead] = (by_pixel[self.sources] * self.weights[:, :, None]).sum(axis=1)
        return filled


def substitutes_of(dead: npt.NDArray[np.bool_]) -> Substitutes:
    """For each dead pixel the nearest good ones left, right, above and below, weighted by the inverse of their distance.

    So a lone pixel, one of a dead column and one at the frame's edge all get what lies around them, a slope's very level
    where there are good pixels on both sides. ``dead``: (height, width). Raises ValueError for a pixel that has no good one within
    ``SUBSTITUTE_REACH_PX``.
    """
    height, width = dead.shape
    ys, xs = np.nonzero(dead)
    sources = np.zeros((len(xs), 4), np.uint32)
    weights = np.zeros((len(xs), 4), np.float64)
    for which, (y, x) in enumerate(zip(ys.tolist(), xs.tolist(), strict=True)):
        for direction, (down, right) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
            for distance in range(1, SUBSTITUTE_REACH_PX + 1):
                at_y, at_x = y + down * distance, x + right * distance
                if not (0 <= at_y < height and 0 <= at_x < width):
                    break
                if not dead[at_y, at_x]:
                    sources[which, direction] = at_y * width + at_x
                    weights[which, direction] = 1.0 / distance
                    break
        if not weights[which].any():
            raise ValueError(
                f"dead: got no good pixel within {SUBSTITUTE_REACH_PX} px of the dead one at x {x}, y {y}, "
                "expected small clusters: clean the window and the lens, or replace the camera"
            )
    weights /= weights.sum(axis=1, keepdims=True)
    return Substitutes((ys * width + xs).astype(np.uint32), sources, weights.astype(np.float32))
