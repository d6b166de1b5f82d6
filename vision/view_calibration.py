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


class ShiftRule:
    """From where the part lies in the raw frame to the whole pixels by which regions move in the undistorted one.

    By the lens's linear part where the template lies: over a shift of 50 px the rest is below a twentieth of a pixel.
    """

    def __init__(self, calibration: ViewCalibration) -> None:
        section = None if calibration.registration is None else calibration.registration.section
        self._linear: npt.NDArray[np.float64] | None = None
        self.shift_max_px = (0, 0)
        """How far, along x and y, a part within tolerance moves the regions."""
        if section is None:
            return
        tolerances_px = np.array([section.tolerance_x_px, section.tolerance_y_px])
        reach_px = tolerances_px
        if calibration.geometry is not None:
            template = section.template
            middle = np.array([template.x_px + template.width_px / 2, template.y_px + template.height_px / 2])
            around = middle + np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
            left, right, above, below = undistorted_from_raw(calibration.geometry.lens, around)
            self._linear = np.stack([(right - left) / 2, (below - above) / 2], axis=1)
            reach_px = np.abs(self._linear) @ tolerances_px
        self.shift_max_px = ceil(reach_px[0]) + 1, ceil(reach_px[1]) + 1

    def whole_px(self, position: PartPosition | None) -> tuple[int, int]:
        """X and y; 0, 0 without a position."""
        if position is None:
            return 0, 0
        if self._linear is None:
            return position.whole_px
        x_px, y_px = (self._linear @ (position.shift_x_px, position.shift_y_px)).tolist()
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
