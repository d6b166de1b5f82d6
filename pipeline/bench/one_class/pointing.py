"""The pointing game: does the highest point of an anomaly map lie in a defect?

After Zhang et al., Top-down neural attention by excitation backprop, 2018, with a tolerance of a few pixels as there.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.bench.one_class.data import Mask
from pipeline.bench.one_class.methods import Map

TOLERANCE_PX = 4
"""A highest point so far beside the defect still points at it."""


def highest_px(anomaly_map: Map, height_px: int, width_px: int) -> tuple[int, int]:
    """The x and y in the picture of the highest point of a map of any size over the whole of it."""
    scaled = cv2.resize(anomaly_map, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    y_px, x_px = divmod(int(scaled.argmax()), width_px)
    return x_px, y_px


def is_hit(x_px: int, y_px: int, mask: Mask) -> bool:
    """Whether a place is in a defect or within TOLERANCE_PX of one; ``mask``: bool (h, w), True in the defects."""
    top, left = max(0, y_px - TOLERANCE_PX), max(0, x_px - TOLERANCE_PX)
    near = mask[top : y_px + TOLERANCE_PX + 1, left : x_px + TOLERANCE_PX + 1]
    rows, columns = np.nonzero(near)
    return bool(((rows + top - y_px) ** 2 + (columns + left - x_px) ** 2 <= TOLERANCE_PX**2).any())
