"""Where the pixels of the model's input lie in the frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vision.model_input import ModelInput
from vision.recipe import Region
from vision.types import Findings

BoxPx = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the frame, half-open."""


@dataclass(frozen=True, slots=True)
class RowGeometry:
    """How one row of the batch shows its region: ``frame_x = origin_x_px + (input_x - left_px) * step_x_px``, y likewise.

    ``region_px`` is the region in the frame. The input shows pixels of it in the rectangle that begins at ``left_px``,
    ``top_px`` and is ``shown_width_px`` x ``shown_height_px`` large: all of the input but for a letterbox's border.
    A cropped region is not shown whole. Positions are of pixels' edges: 0 is the left edge of the first pixel.
    """

    region_px: BoxPx
    input_width_px: int
    input_height_px: int
    left_px: int
    top_px: int
    shown_width_px: int
    shown_height_px: int
    origin_x_px: float
    origin_y_px: float
    step_x_px: float
    step_y_px: float

    @property
    def shown_px(self) -> BoxPx:
        """What the model is shown of the region, in the frame: less than all of it where it is cropped."""
        x1, y1 = self.origin_x_px, self.origin_y_px
        return x1, y1, x1 + self.shown_width_px * self.step_x_px, y1 + self.shown_height_px * self.step_y_px


def row_geometry(region: Region, model_input: ModelInput) -> RowGeometry:
    """How a region is shown to a model: stretched, letterboxed, or its middle cropped."""
    wide_px, high_px = model_input.width_px, model_input.height_px
    left_px, top_px, shown_width_px, shown_height_px = 0, 0, wide_px, high_px
    step_x_px, step_y_px = region.width_px / wide_px, region.height_px / high_px
    if model_input.fit == "letterbox":
        ratio = min(wide_px / region.width_px, high_px / region.height_px)
        shown_width_px = min(wide_px, max(1, round(region.width_px * ratio)))
        shown_height_px = min(high_px, max(1, round(region.height_px * ratio)))
        left_px, top_px = (wide_px - shown_width_px) // 2, (high_px - shown_height_px) // 2
        step_x_px, step_y_px = region.width_px / shown_width_px, region.height_px / shown_height_px
    elif model_input.fit == "crop":
        step_x_px = step_y_px = model_input.crop_fraction * min(step_x_px, step_y_px)
    return RowGeometry(
        region_px=(
            float(region.x_px),
            float(region.y_px),
            float(region.x_px + region.width_px),
            float(region.y_px + region.height_px),
        ),
        input_width_px=wide_px,
        input_height_px=high_px,
        left_px=left_px,
        top_px=top_px,
        shown_width_px=shown_width_px,
        shown_height_px=shown_height_px,
        origin_x_px=region.x_px + (region.width_px - shown_width_px * step_x_px) / 2,
        origin_y_px=region.y_px + (region.height_px - shown_height_px * step_y_px) / 2,
        step_x_px=step_x_px,
        step_y_px=step_y_px,
    )


def moved_box(box_px: BoxPx, shift_px: tuple[int, int]) -> BoxPx:
    """A box moved right and down."""
    x1, y1, x2, y2 = box_px
    return x1 + shift_px[0], y1 + shift_px[1], x2 + shift_px[0], y2 + shift_px[1]


def moved_geometry(geometry: RowGeometry, shift_px: tuple[int, int]) -> RowGeometry:
    """The same row shown of a region that is moved right and down by ``shift_px``, x and y."""
    return replace(
        geometry,
        region_px=moved_box(geometry.region_px, shift_px),
        origin_x_px=geometry.origin_x_px + shift_px[0],
        origin_y_px=geometry.origin_y_px + shift_px[1],
    )


def moved_findings(findings: Findings, shift_px: tuple[int, int]) -> Findings:
    """The same findings moved right and down; these themselves where they are not moved."""
    if shift_px == (0, 0):
        return findings
    shift = np.array(shift_px, np.float32)
    return replace(
        findings,
        boxes_px=findings.boxes_px + np.concatenate([shift, shift]),
        outlines_px=tuple(outline + shift for outline in findings.outlines_px),
        peaks_px=None if findings.peaks_px is None else findings.peaks_px + shift,
    )
