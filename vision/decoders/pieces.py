"""Connected pieces of a mask: what the decoders of class maps and anomaly maps share."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vision.decoders.placing import MapPlacing
from vision.geometry import BoxPx
from vision.kernels import FloatArray
from vision.kernels.labels import weigh


@dataclass(frozen=True, slots=True)
class Piece:
    """Pixels of a map that touch, also at corners, in pixels of the frame. ``mean``, ``peak``: of the map's values over it."""

    box_px: BoxPx
    area_px: float
    mean: float
    peak: float
    peak_px: npt.NDArray[np.float32]
    """x, y of the centre of the pixel with the peak."""
    outline_px: npt.NDArray[np.float32]
    """(K, 2), through the centres of the outermost pixels."""


def pieces_of(
    mask: npt.NDArray[np.uint8],
    values: FloatArray,
    left: int,
    top: int,
    placing: MapPlacing,
    area_min_px: float,
    most: int,
) -> list[Piece]:
    """The pieces of ``mask`` (h, w), of 0 and 1, that are at least ``area_min_px`` large: the ``most`` largest, largest first.

    ``values``: float32 (h, w); ``left``, ``top``: where mask and values lie in the map that ``placing`` places.
    """
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    areas_px = stats[:, cv2.CC_STAT_AREA] * placing.pixel_area_px
    numbered = np.asarray(pieces, np.int32)
    # Number 0 is what is not in the mask. A stable sort: of equals the first, row by row.
    numbers = np.argsort(-areas_px[1:], kind="stable")[:most] + 1
    numbers = numbers[areas_px[numbers] >= area_min_px]
    if numbers.size == 0:
        return []
    sums, peaks, peaks_at = np.empty(count), np.empty(count, np.float32), np.zeros((count, 2), np.int32)
    weigh(numbered, values, sums, peaks, peaks_at)
    found = []
    for number in numbers.tolist():
        x, y, width, height, pixel_count = stats[number].tolist()
        own = (numbered[y : y + height, x : x + width] == number).view(np.uint8)
        (outline, *_), _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        found.append(
            Piece(
                box_px=placing.box(left + x, top + y, left + x + width, top + y + height),
                area_px=float(areas_px[number]),
                mean=float(sums[number]) / pixel_count,
                peak=float(peaks[number]),
                peak_px=placing.centres(peaks_at[number] + np.array([left, top])),
                outline_px=placing.centres(outline.reshape(-1, 2) + np.array([left + x, top + y])),
            )
        )
    return found
