"""How pictures of the same thing differ, where they are rendered."""

from __future__ import annotations

from math import cos, radians, sin
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


def clouds(generator: np.random.Generator, shape: tuple[int, int], size_px: float) -> Floats:
    """Slow noise, float32 (h, w): of mean about 0 and standard deviation 1, its clouds about ``size_px`` wide."""
    nodes = generator.normal(0.0, 1.0, (int(shape[0] / size_px) + 3, int(shape[1] / size_px) + 3)).astype(np.float32)
    wide = cv2.resize(nodes, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(wide / wide.std(), np.float32)


def turned(size_px: tuple[int, int], angle_deg: float, shift_px: tuple[float, float]) -> Floats:
    """float64 (2, 3), for ``cv2.warpAffine``: turned about the middle of (width, height), then shifted."""
    turn_x, turn_y = cos(radians(angle_deg)), sin(radians(angle_deg))
    x, y = (size_px[0] - 1) / 2, (size_px[1] - 1) / 2
    return np.array(
        [
            [turn_x, -turn_y, x - turn_x * x + turn_y * y + shift_px[0]],
            [turn_y, turn_x, y - turn_y * x - turn_x * y + shift_px[1]],
        ]
    )
