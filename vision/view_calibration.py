"""What is calibrated of one camera's look at the part, as it is applied to each frame and to what is found in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from vision.camera_geometry import (
    CameraGeometry,
    areas_in_mm2,
    boxes_in_mm,
    undistorted_from_raw,
    undistortion_map,
)
from vision.correction import Correction
from vision.registration import PartPosition, Registration
from vision.types import Defect


@dataclass(frozen=True, slots=True, eq=False)
class ViewCalibration:
    """Each None where it was not calibrated. ``flat_field``: without a map; ``registration``: of raw frames."""

    geometry: CameraGeometry | None = None
    flat_field: Correction | None = None
    registration: Registration | None = None

    def correction(self) -> Correction | None:
        """What the kernel applies to each frame; None where it may take the frame as it is."""
        if self.geometry is None:
            return self.flat_field
        map_x_px, map_y_px = undistortion_map(self.geometry.lens)
        return replace(self.flat_field or Correction(), map_x_px=map_x_px, map_y_px=map_y_px)

    def frame_size_px(self) -> tuple[int, int] | None:
        """Width and height of the frames that the geometry is for; None without one."""
        return None if self.geometry is None else (self.geometry.lens.width_px, self.geometry.lens.height_px)


UNCALIBRATED = ViewCalibration()


_GRID_PX = 2
"""Between two places of ``ShiftRule``'s table. Read in between it is off by at most 0.01 px at the corners of a picture that a lens
bends by 65 px of 640, and by 0.3 px where it bends them by 131, short of showing places twice.
"""


class ShiftRule:
    """From where the part lies in the raw frame to the whole pixels by which regions move in the undistorted one: by the middle of
    the template. The lens is asked once, for a table of all shifts within tolerance.
    """

    def __init__(self, calibration: ViewCalibration) -> None:
        self._table: npt.NDArray[np.float64] | None = None
        self._first = (0, 0)
        self.shift_max_px = (0, 0)
        """How far, along x and y, a part within tolerance moves the regions."""
        if calibration.registration is None:
            return
        section = calibration.registration.section
        tolerances_px = section.tolerance_x_px, section.tolerance_y_px
        if calibration.geometry is None:
            self.shift_max_px = ceil(tolerances_px[0]), ceil(tolerances_px[1])
            return
        # Beyond tolerance too, up to where it is searched: such a part is told where it is before it is refused.
        steps_x, steps_y = (ceil(reach / _GRID_PX) for reach in (section.search_x_px, section.search_y_px))
        template = section.template
        middle = np.array([template.x_px + template.width_px / 2, template.y_px + template.height_px / 2])
        x, y = (np.arange(-steps, steps + 1.0) * _GRID_PX for steps in (steps_x, steps_y))
        raw_px = middle + np.stack(np.meshgrid(x, y), axis=-1)
        lens = calibration.geometry.lens
        self._table = undistorted_from_raw(lens, raw_px) - undistorted_from_raw(lens, middle)
        self._first = steps_x, steps_y
        within = (np.abs(x)[None, :] < tolerances_px[0] + _GRID_PX) & (np.abs(y)[:, None] < tolerances_px[1] + _GRID_PX)
        reach_x, reach_y = np.abs(self._table[within]).max(axis=0).tolist()
        self.shift_max_px = ceil(reach_x), ceil(reach_y)

    def whole_px(self, position: PartPosition | None) -> tuple[int, int]:
        """X and y; 0, 0 without a position."""
        if position is None:
            return 0, 0
        if self._table is None:
            return position.whole_px
        rows, columns, _ = self._table.shape
        at_x, at_y = position.shift_x_px / _GRID_PX + self._first[0], position.shift_y_px / _GRID_PX + self._first[1]
        left, top = min(max(int(at_x), 0), columns - 2), min(max(int(at_y), 0), rows - 2)
        across, down = at_x - left, at_y - top
        upper = self._table[top, left] * (1 - across) + self._table[top, left + 1] * across
        lower = self._table[top + 1, left] * (1 - across) + self._table[top + 1, left + 1] * across
        x_px, y_px = (upper * (1 - down) + lower * down).tolist()
        return round(x_px), round(y_px)


def defects_in_mm(defects: tuple[Defect, ...], geometry: CameraGeometry) -> tuple[Defect, ...]:
    """The same with their boxes and areas on the parts' plane."""
    if not defects:
        return defects
    boxes_px = np.array([defect.box_px for defect in defects])
    boxes_mm = boxes_in_mm(geometry, boxes_px).tolist()
    areas_mm2 = areas_in_mm2(geometry, boxes_px, [defect.area_px for defect in defects]).tolist()
    return tuple(
        replace(defect, box_mm=(x1, y1, x2, y2), area_mm2=area_mm2)
        for defect, (x1, y1, x2, y2), area_mm2 in zip(defects, boxes_mm, areas_mm2, strict=True)
    )
