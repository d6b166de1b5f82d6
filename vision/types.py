"""Plain data that travels between the stages. Frozen, no behaviour beyond trivial properties."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt


class PixelFormat(str, Enum):
    """Pixel formats under their GenICam SFNC names."""

    MONO8 = "Mono8"
    BGR8 = "BGR8"
    RGB8 = "RGB8"

    @property
    def channel_count(self) -> int:
        return 1 if self is PixelFormat.MONO8 else 3

    @property
    def bytes_per_pixel(self) -> int:
        return self.channel_count


class Verdict(str, Enum):
    PASS = "PASS"
    REJECT = "REJECT"
    NO_DECISION = "NO_DECISION"


class Reason(str, Enum):
    OK = "OK"
    DEFECT = "DEFECT"
    DEADLINE = "DEADLINE"
    MISSED_FRAME = "MISSED_FRAME"
    BAD_FRAME = "BAD_FRAME"
    OVERRUN = "OVERRUN"
    FAULT = "FAULT"
    NOT_RUNNING = "NOT_RUNNING"
    CHALLENGE = "CHALLENGE"


@dataclass(frozen=True, slots=True)
class Frame:
    """One grabbed image, read in place.

    ``pixels`` is uint8, C-contiguous along a row: shape (height, width) for Mono8, (height, width, 3) for
    BGR8 and RGB8; rows may be ``stride`` bytes apart. It is a view into shared memory: valid only while borrowed.
    """

    camera_id: str
    frame_id: int
    pixel_format: PixelFormat
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a decoder saw in one row of the batch, as a structure of arrays, N findings.

    class_ids: int32 (N,), index into the model's classes; scores: float32 (N,), 0..1;
    boxes_px: float32 (N, 4), x1 y1 x2 y2 in pixels of the *frame* (half-open), the whole region for a classifier;
    areas_px: float32 (N,), of the box, the mask or the hot region, in pixels of the frame;
    outlines_px: one float32 (K, 2) polygon of x, y a finding, of the largest piece; empty where the model has no masks;
    peaks_px: float32 (N, 2), x, y where an anomaly is strongest; None where the model has no anomaly map;
    dropped_score: the highest score that a finding may have for which there was no room (``max_findings``), 0 where all had it.
    """

    class_ids: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    boxes_px: npt.NDArray[np.float32]
    areas_px: npt.NDArray[np.float32]
    outlines_px: tuple[npt.NDArray[np.float32], ...] = ()
    peaks_px: npt.NDArray[np.float32] | None = None
    dropped_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Defect:
    """A finding beyond the recipe. ``box_px`` is x1, y1, x2, y2 in frame pixels, undistorted where a geometry is in force;
    ``area_px`` of the mask where there is one, else of the box; ``box_mm`` and ``area_mm2`` are None without a geometry.
    """

    class_name: str
    score: float
    box_px: tuple[float, float, float, float]
    area_px: float
    box_mm: tuple[float, float, float, float] | None = None
    area_mm2: float | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The judgement on one view (one frame) of a part."""

    verdict: Verdict
    reason: Reason
    score: float
    """The highest score that any rule came to, 0..1, NaN where nothing could be judged."""
    defects: tuple[Defect, ...]
    headroom: float = float("nan")
    """The least that a rule was away from rejecting, in score: how nearly the view passed. Not positive where a defect was
    found, NaN where nothing could be judged."""
