"""Connected pieces of a label map: what the decoders of class maps and anomaly maps share."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vision.decoders.placing import MapPlacing
from vision.kernels import FloatArray
from vision.kernels.labels import LabelArray
from vision.kernels.pieces import find_pieces, measure_pieces


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pixels of one label that touch, also at corners, as a structure of arrays, N pieces in pixels of the frame.

    labels: int32 (N,); boxes_px: float32 (N, 4); areas_px: float32 (N,); means, peaks: float32 (N,), of the values over the piece;
    peaks_px: float32 (N, 2), x, y of the centre of the pixel with the peak; outlines_px: float32 (K, 2) each, through the
    centres of the outermost pixels; dropped_value: the highest mean or peak of a piece for which there was no room, None where
    all had it.
    """

    labels: npt.NDArray[np.int32]
    boxes_px: npt.NDArray[np.float32]
    areas_px: npt.NDArray[np.float32]
    means: npt.NDArray[np.float32]
    peaks: npt.NDArray[np.float32]
    peaks_px: npt.NDArray[np.float32]
    outlines_px: tuple[npt.NDArray[np.float32], ...]
    dropped_value: float | None


class PieceFinder:
    """Finds the pieces of label maps of one size. Its memory is for the worst of maps; what is not needed is never touched."""

    def __init__(self, placing: MapPlacing, *, area_min_px: float, most: int) -> None:
        """Pieces of at least ``area_min_px``, of more than ``most`` the first in their order."""
        width, height = placing.width, placing.height
        self._placing = placing
        self._area_min_px, self._most = area_min_px, most
        self._runs = (np.zeros(width * height, np.int32), np.zeros(width * height, np.int32))
        self._first_runs = np.zeros(height + 1, np.int32)
        self._numbers = np.zeros(width * height, np.int32)
        self._numbered = np.zeros((height, width), np.int32)

    def pieces(self, labels: LabelArray, values: FloatArray, *, by_peak: bool) -> Pieces:
        """Those of uint16 ``labels`` (h, w), 0 for none, by the mean of float32 ``values`` (h, w) from the highest, or by the peak.

        Of equals the largest comes first, then the one whose first pixel does, row by row.
        """
        placing = self._placing
        rectangle = (placing.x_first, placing.y_first, placing.x_end, placing.y_end)
        count = find_pieces(labels, *rectangle, *self._runs, self._first_runs, self._numbers)
        own_labels, boxes, areas = np.empty(count, np.int32), np.empty((count, 4), np.int32), np.empty(count, np.int32)
        sums, peaks, peaks_at = np.empty(count), np.empty(count, np.float32), np.zeros((count, 2), np.int32)
        if count:
            self._numbered[:] = 0
            measure_pieces(
                *(labels, values, placing.y_first, placing.y_end, *self._runs, self._first_runs, self._numbers),
                *(self._numbered, own_labels, boxes, areas, sums, peaks, peaks_at),
            )
        areas_px = (areas * placing.pixel_area_px).astype(np.float32)
        means = (sums / areas).astype(np.float32)
        ranked = peaks if by_peak else means
        large = np.flatnonzero(areas_px >= self._area_min_px)
        order = large[np.lexsort((-areas[large], -ranked[large]))]
        chosen = order[: self._most]
        boxes = boxes[chosen]
        return Pieces(
            labels=own_labels[chosen],
            boxes_px=placing.boxes(boxes),
            areas_px=areas_px[chosen],
            means=means[chosen],
            peaks=peaks[chosen],
            peaks_px=placing.centres(peaks_at[chosen]),
            outlines_px=self._outlines(chosen, boxes),
            dropped_value=float(ranked[order[self._most]]) if order.size > self._most else None,
        )

    def _outlines(
        self, chosen: npt.NDArray[np.intp], boxes: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], ...]:
        """Around each piece; holes are left aside."""
        if chosen.size == 0:
            return ()
        outlines = []
        for number, (x1, y1, x2, y2) in zip((chosen + 1).tolist(), boxes.tolist(), strict=True):
            own = (self._numbered[y1:y2, x1:x2] == number).view(np.uint8)
            (outline, *_), _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
            outlines.append(outline.reshape(-1, 2))
        ends = np.cumsum([len(outline) for outline in outlines])
        return tuple(np.split(self._placing.centres(np.concatenate(outlines)), ends[:-1]))
