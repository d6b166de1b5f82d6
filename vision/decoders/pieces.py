"""Connected pieces of a mask: what the decoders of class maps and anomaly maps share."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vision.decoders.placing import MapPlacing
from vision.kernels import FloatArray
from vision.kernels.labels import weigh

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pixels of a map that touch, also at corners, as a structure of arrays, N pieces in pixels of the frame.

    boxes_px: float32 (N, 4); areas_px: float32 (N,); means, peaks: float32 (N,), of the map's values over the piece; peaks_px:
    float32 (N, 2), x, y of the centre of the pixel with the peak; outlines_px: (K, 2) each, through the centres of the
    outermost pixels.
    """

    boxes_px: Floats
    areas_px: Floats
    means: Floats
    peaks: Floats
    peaks_px: Floats
    outlines_px: tuple[Floats, ...]

    def chosen(self, order: npt.NDArray[np.intp]) -> Pieces:
        """These of the pieces, in this order."""
        return Pieces(
            self.boxes_px[order],
            self.areas_px[order],
            self.means[order],
            self.peaks[order],
            self.peaks_px[order],
            tuple(self.outlines_px[index] for index in order),
        )


_NO_PIECES = Pieces(
    boxes_px=np.zeros((0, 4), np.float32),
    areas_px=np.zeros(0, np.float32),
    means=np.zeros(0, np.float32),
    peaks=np.zeros(0, np.float32),
    peaks_px=np.zeros((0, 2), np.float32),
    outlines_px=(),
)


def joined(parts: list[Pieces]) -> Pieces:
    """The pieces of several masks, one after the other."""
    parts = parts or [_NO_PIECES]
    return Pieces(
        np.concatenate([part.boxes_px for part in parts]),
        np.concatenate([part.areas_px for part in parts]),
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.peaks for part in parts]),
        np.concatenate([part.peaks_px for part in parts]),
        tuple(outline for part in parts for outline in part.outlines_px),
    )


def pieces_of(
    mask: npt.NDArray[np.uint8],
    values: FloatArray,
    left: int,
    top: int,
    placing: MapPlacing,
    area_min_px: float,
    most: int,
) -> Pieces:
    """The pieces of ``mask`` (h, w), of 0 and 1, that are at least ``area_min_px`` large: the ``most`` largest, largest first.

    ``values``: float32 (h, w); ``left``, ``top``: where mask and values lie in the map that ``placing`` places.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0:
        return _NO_PIECES
    left, top = left + x, top + y
    mask, values = mask[y : y + height, x : x + width], values[y : y + height, x : x + width]
    count, labelled, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    areas_px = stats[:, cv2.CC_STAT_AREA] * placing.pixel_area_px
    # Number 0 is what is not in the mask. A stable sort: of equals the first, row by row.
    numbers = np.argsort(-areas_px[1:], kind="stable")[:most] + 1
    numbers = numbers[areas_px[numbers] >= area_min_px]
    if numbers.size == 0:
        return _NO_PIECES
    sums, peaks, peaks_at = np.empty(count), np.empty(count, np.float32), np.zeros((count, 2), np.int32)
    numbered: npt.NDArray[np.int32] = np.asarray(labelled, np.int32)
    weigh(numbered, values, sums, peaks, peaks_at)
    outlines = [_outline(numbered, number, stats[number].tolist()) for number in numbers.tolist()]
    ends = np.cumsum([len(outline) for outline in outlines])
    corner = np.array([left, top])
    stats = stats[numbers]
    starts = stats[:, :2] + corner
    return Pieces(
        boxes_px=placing.boxes(np.hstack([starts, starts + stats[:, 2:4]])),
        areas_px=areas_px[numbers].astype(np.float32),
        means=(sums[numbers] / stats[:, cv2.CC_STAT_AREA]).astype(np.float32),
        peaks=peaks[numbers],
        peaks_px=placing.centres(peaks_at[numbers] + corner),
        outlines_px=tuple(np.split(placing.centres(np.concatenate(outlines) + corner), ends[:-1])),
    )


def _outline(numbered: npt.NDArray[np.int32], number: int, stat: list[int]) -> npt.NDArray[np.int32]:
    """(K, 2): of the piece with this number, the outermost pixels x, y, holes left aside."""
    x, y, width, height, _ = stat
    own = (numbered[y : y + height, x : x + width] == number).view(np.uint8)
    (outline, *_), _ = cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
    return np.asarray(outline, np.int32).reshape(-1, 2)
