"""Plain data that travels between the stages. Frozen, no behaviour beyond trivial properties."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt


class PixelFormat(str, Enum):
    """Pixel formats under their names in GenICam's PFNC. The first three are pictures as they are, the others raw.

    Mono10, Mono12: 16 bit little-endian a pixel, the level in the low bits. Mono10Packed, Mono12Packed (GigE Vision): two pixels
    in three bytes, the high eight bits of each in the outer ones. Mono10p, Mono12p: bits follow each other, lowest first.
    BayerRG8 etc.: the colours of the first row's first two pixels. YUV422_8: Y U Y V, YUV422_8_UYVY: U Y V Y, both BT.601 over
    the full range.
    """

    MONO8 = "Mono8"
    BGR8 = "BGR8"
    RGB8 = "RGB8"
    MONO10 = "Mono10"
    MONO12 = "Mono12"
    MONO10_PACKED = "Mono10Packed"
    MONO12_PACKED = "Mono12Packed"
    MONO10P = "Mono10p"
    MONO12P = "Mono12p"
    BAYER_RG8 = "BayerRG8"
    BAYER_GR8 = "BayerGR8"
    BAYER_GB8 = "BayerGB8"
    BAYER_BG8 = "BayerBG8"
    YUV422_8 = "YUV422_8"
    YUV422_8_UYVY = "YUV422_8_UYVY"

    @property
    def decoded(self) -> PixelFormat:
        """What it is once decoded: Mono8, BGR8 or RGB8."""
        return _LAYOUTS[self].decoded

    @property
    def is_raw(self) -> bool:
        """Whether its pixels must be decoded before they are grey levels 0..255."""
        return self.decoded is not self

    @property
    def bit_depth(self) -> int:
        """Of a pixel's level: 8, 10 or 12."""
        return _LAYOUTS[self].bit_depth

    @property
    def group_px(self) -> int:
        """So many pixels share bytes, and can only be read together."""
        return _LAYOUTS[self].group_px

    @property
    def channel_count(self) -> int:
        """Once decoded: 1 or 3."""
        return 1 if self.decoded is PixelFormat.MONO8 else 3

    def row_bytes(self, width_px: int) -> int:
        """A row of so many pixels, without what may lie between rows; the last group begun counts whole."""
        layout = _LAYOUTS[self]
        return -(-width_px // layout.group_px) * layout.group_bytes

    def frame_bytes(self, width_px: int, height_px: int) -> int:
        """A frame whose rows lie close together."""
        return self.row_bytes(width_px) * height_px

    def width_px(self, row_bytes: int) -> int:
        """How many pixels a row of so many bytes has, of a width that the format has."""
        layout = _LAYOUTS[self]
        return row_bytes // layout.group_bytes * layout.group_px

    def shape(self, width_px: int, height_px: int) -> tuple[int, ...]:
        """Of ``Frame.pixels``: (height, width), (height, width, 3), or of a raw format (height, row_bytes)."""
        if self.is_raw or self.channel_count == 1:
            return (height_px, self.row_bytes(width_px))
        return (height_px, width_px, self.channel_count)

    @property
    def width_step_px(self) -> int:
        """A frame's width is a multiple of it: rows begin with a whole group of pixels, as cameras send them."""
        return max(self.group_px, self.height_step_px)

    @property
    def height_step_px(self) -> int:
        """A frame's height is a multiple of it: a Bayer pattern is two rows high."""
        return 2 if self in _BAYER else 1


@dataclass(frozen=True, slots=True)
class _Layout:
    """So many pixels in so many bytes, which cannot be parted."""

    group_px: int
    group_bytes: int
    bit_depth: int
    decoded: PixelFormat


_LAYOUTS = {
    PixelFormat.MONO8: _Layout(1, 1, 8, PixelFormat.MONO8),
    PixelFormat.BGR8: _Layout(1, 3, 8, PixelFormat.BGR8),
    PixelFormat.RGB8: _Layout(1, 3, 8, PixelFormat.RGB8),
    PixelFormat.MONO10: _Layout(1, 2, 10, PixelFormat.MONO8),
    PixelFormat.MONO12: _Layout(1, 2, 12, PixelFormat.MONO8),
    PixelFormat.MONO10_PACKED: _Layout(2, 3, 10, PixelFormat.MONO8),
    PixelFormat.MONO12_PACKED: _Layout(2, 3, 12, PixelFormat.MONO8),
    PixelFormat.MONO10P: _Layout(4, 5, 10, PixelFormat.MONO8),
    PixelFormat.MONO12P: _Layout(2, 3, 12, PixelFormat.MONO8),
    PixelFormat.BAYER_RG8: _Layout(1, 1, 8, PixelFormat.BGR8),
    PixelFormat.BAYER_GR8: _Layout(1, 1, 8, PixelFormat.BGR8),
    PixelFormat.BAYER_GB8: _Layout(1, 1, 8, PixelFormat.BGR8),
    PixelFormat.BAYER_BG8: _Layout(1, 1, 8, PixelFormat.BGR8),
    PixelFormat.YUV422_8: _Layout(2, 4, 8, PixelFormat.BGR8),
    PixelFormat.YUV422_8_UYVY: _Layout(2, 4, 8, PixelFormat.BGR8),
}
_BAYER = (PixelFormat.BAYER_RG8, PixelFormat.BAYER_GR8, PixelFormat.BAYER_GB8, PixelFormat.BAYER_BG8)


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

    ``pixels`` is uint8, C-contiguous along a row: shape (height, width) for Mono8, (height, width, 3) for BGR8 and RGB8,
    (height, bytes of a row) as the camera sent them for raw formats; rows may be ``stride`` bytes apart. It is a view into
    shared memory: valid only while borrowed.
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
