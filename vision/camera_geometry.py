"""Where a camera's pixels lie on the parts: its lens, and the plane that the parts' upper sides move in.

Three places of one point:

- *raw*: in the frame as the camera delivers it, the lens's distortion in it;
- *undistorted*: in the frame as a pinhole camera with the same camera matrix would deliver it. Regions, zones and boxes are
  here where a geometry is in force;
- *mm*: on the plane ``part_height_mm`` above the belt. x and y go right and down in the picture, and 0, 0 on the belt is what
  the middle of the undistorted frame shows.

Positions in pixels are of pixels' edges, as everywhere in frames: 0 is the left edge of the first pixel, its middle 0.5.
Only ``cx_px`` and ``cy_px`` count from the middle of the first pixel: they are OpenCV's, like all of the lens model.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vision.faults import disagreement
from vision.recipe import Strict

Floats = npt.NDArray[np.float64]

_NEWTON_STEPS = 30
_CONVERGED = 1e-12
_GRID = 9
"""Places a side at which a geometry is checked."""

Three = Annotated[list[float], Field(min_length=3, max_length=3)]


class Lens(Strict):
    """The intrinsics of a camera: pinhole with radial and tangential distortion, in OpenCV's terms.

    A point at ``x, y`` on the plane 1 in front of the pinhole is seen at ``fx_px * x' + cx_px`` from the middle of the first pixel,
    y likewise, where, with ``r2 = x * x + y * y`` and ``c = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3``:
    ``x' = x * c + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)``, ``y' = y * c + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y``
    (Brown 1966, Decentering distortion of lenses; OpenCV's ``calib3d``).
    """

    width_px: int = Field(gt=0, description="of the frame that it was found for")
    height_px: int = Field(gt=0)
    fx_px: float = Field(gt=0.0)
    fy_px: float = Field(gt=0.0)
    cx_px: float
    cy_px: float
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0

    @model_validator(mode="after")
    def _bends_but_does_not_fold(self) -> Lens:
        across = np.linspace(0.0, self.width_px, _GRID)
        down = np.linspace(0.0, self.height_px, _GRID)
        seen = np.stack(np.meshgrid(across, down), axis=-1)
        with np.errstate(all="ignore"):
            rays = self.rays(seen)
            back = _bent(self, rays)[0]
            _, (xx, xy, yy) = _bent(self, rays)
            is_sound = np.allclose(back, self._scaled(seen), atol=1e-9) and bool((xx * yy - xy * xy > 0).all())
        if not is_sound:
            got = f"k1 {self.k1:g}, k2 {self.k2:g}, p1 {self.p1:g}, p2 {self.p2:g}, k3 {self.k3:g}"
            raise disagreement("k1", got, "a distortion that shows no place of the frame twice")
        return self

    @property
    def matrix(self) -> Floats:
        """OpenCV's camera matrix, float64 (3, 3)."""
        return np.array([[self.fx_px, 0.0, self.cx_px], [0.0, self.fy_px, self.cy_px], [0.0, 0.0, 1.0]])

    @property
    def coefficients(self) -> Floats:
        """OpenCV's distortion coefficients k1, k2, p1, p2, k3: float64 (5,)."""
        return np.array([self.k1, self.k2, self.p1, self.p2, self.k3])

    def rays(self, raw_px: Floats) -> Floats:
        """Where raw positions (..., 2) lie on the plane 1 in front of the pinhole, without distortion: float64 (..., 2).

        By Newton's method; NaN where the model has no such point.
        """
        target = self._scaled(raw_px)
        rays = target.copy()
        for _ in range(_NEWTON_STEPS):
            bent, (xx, xy, yy) = _bent(self, rays)
            error = bent - target
            determinant = xx * yy - xy * xy
            step_x = (yy * error[..., 0] - xy * error[..., 1]) / determinant
            step_y = (xx * error[..., 1] - xy * error[..., 0]) / determinant
            step = np.stack([step_x, step_y], axis=-1)
            rays = rays - step
            if float(np.max(np.abs(step), initial=0.0)) < _CONVERGED:
                break
        return np.asarray(rays)

    def _scaled(self, positions_px: Floats) -> Floats:
        """Positions of the frame on the plane 1 in front of the pinhole, as if nothing were distorted."""
        offset = np.array([self.cx_px + 0.5, self.cy_px + 0.5])
        return np.asarray((np.asarray(positions_px, np.float64) - offset) / [self.fx_px, self.fy_px])


class CameraGeometry(Strict):
    """A camera's lens and its belt: px -> mm.

    ``belt_rotation`` (a rotation vector, radians) and ``belt_translation_mm`` take a point of the belt's frame (x right, y down in
    the picture, z away from the camera: a part's upper side lies at ``-part_height_mm``) to the camera's frame.
    Raises pydantic's ValidationError where the belt is not before the camera all over the frame.
    """

    lens: Lens
    belt_rotation: Three
    belt_translation_mm: Three
    part_height_mm: float = Field(default=0.0, ge=0.0, description="of what is measured, above the belt")

    @model_validator(mode="after")
    def _sees_the_plane(self) -> CameraGeometry:
        width, height = self.lens.width_px, self.lens.height_px
        corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
        depth = _homogeneous(corners) @ self.mm_from_px[2]
        if not (np.isfinite(depth).all() and (depth > 0).all()):
            got = f"a plane {self.part_height_mm:g} mm above the belt that is not before the camera all over the frame"
            raise disagreement("part_height_mm", got, "a plane that every pixel sees")
        return self

    @property
    def mm_from_px(self) -> Floats:
        """The homography from undistorted positions to mm: float64 (3, 3), positive third components before the camera."""
        return np.array(self._mm_from_px)

    @cached_property
    def _mm_from_px(self) -> list[list[float]]:
        """Plain numbers: arrays would spoil the comparison of two geometries."""
        rotation = cv2.Rodrigues(np.array(self.belt_rotation))[0]
        origin = np.array(self.belt_translation_mm) - rotation[:, 2] * self.part_height_mm
        from_edges = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
        px_from_mm = from_edges @ self.lens.matrix @ np.column_stack([rotation[:, 0], rotation[:, 1], origin])
        try:
            return [[float(one) for one in row] for row in np.linalg.inv(px_from_mm)]
        except np.linalg.LinAlgError:
            return [[np.nan] * 3] * 3


def raw_from_undistorted(lens: Lens, undistorted_px: npt.ArrayLike) -> Floats:
    """Where the raw frame shows what the undistorted frame shows at these positions: (..., 2) -> float64 (..., 2)."""
    bent = _bent(lens, lens._scaled(np.asarray(undistorted_px, np.float64)))[0]
    return np.asarray(bent * [lens.fx_px, lens.fy_px] + [lens.cx_px + 0.5, lens.cy_px + 0.5])


def undistortion_map(lens: Lens) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where each pixel of the undistorted frame lies in the raw one: x and y, float32 (height, width) each.

    As ``cv2.initUndistortRectifyMap``'s for the same camera matrix: of pixels' middles, and 0 is the middle of the first pixel.
    """
    middles = np.stack(np.meshgrid(np.arange(lens.width_px) + 0.5, np.arange(lens.height_px) + 0.5), axis=-1)
    raw = raw_from_undistorted(lens, middles) - 0.5
    return raw[..., 0].astype(np.float32), raw[..., 1].astype(np.float32)


def undistorted_from_raw(lens: Lens, raw_px: npt.ArrayLike) -> Floats:
    """The inverse of ``raw_from_undistorted``, for positions inside the raw frame."""
    rays = lens.rays(np.asarray(raw_px, np.float64))
    return np.asarray(rays * [lens.fx_px, lens.fy_px] + [lens.cx_px + 0.5, lens.cy_px + 0.5])


def mm_from_undistorted(geometry: CameraGeometry, undistorted_px: npt.ArrayLike) -> Floats:
    """Undistorted positions (..., 2) -> x, y in mm on the parts' plane, float64 (..., 2)."""
    mapped = _homogeneous(np.asarray(undistorted_px, np.float64)) @ geometry.mm_from_px.T
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def boxes_in_mm(geometry: CameraGeometry, boxes_px: npt.ArrayLike) -> Floats:
    """Boxes x1, y1, x2, y2 (N, 4) of the undistorted frame in mm, float64 (N, 4).

    Each side lies where its middle does: in a tilted view a box is a trapezoid on the plane, and this one is as wide and as
    high as that is through its middle.
    """
    boxes = np.asarray(boxes_px, np.float64).reshape(-1, 4)
    x1, y1, x2, y2 = boxes.T
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    middles = np.stack([x1, y, x, y1, x2, y, x, y2], axis=-1).reshape(-1, 4, 2)
    return np.asarray(mm_from_undistorted(geometry, middles)[:, [0, 1, 2, 3], [0, 1, 0, 1]])


def areas_in_mm2(geometry: CameraGeometry, boxes_px: npt.ArrayLike, areas_px: npt.ArrayLike) -> Floats:
    """Areas (N,) in px of the undistorted frame, of what lies in these boxes (N, 4), in mm2: float64 (N,).

    A pixel is taken to be as large as those of its box are on average: exact where the area is the box's own.
    """
    boxes = np.asarray(boxes_px, np.float64).reshape(-1, 4)
    corners = mm_from_undistorted(geometry, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    box_mm2 = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    box_px = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    mm2_per_px = pixel_areas_mm2(geometry, centres)
    np.divide(box_mm2, box_px, out=mm2_per_px, where=box_px > 0)
    return np.asarray(areas_px, np.float64) * mm2_per_px


def pixel_areas_mm2(geometry: CameraGeometry, undistorted_px: npt.ArrayLike) -> Floats:
    """How large a pixel is on the parts' plane at these positions (..., 2): float64 (...).

    The Jacobian of a homography H is ``det(H) / w**3``, where w is the third component at the position.
    """
    depth = _homogeneous(np.asarray(undistorted_px, np.float64)) @ geometry.mm_from_px[2]
    return np.asarray(np.abs(np.linalg.det(geometry.mm_from_px) / depth**3))


def _homogeneous(points: Floats) -> Floats:
    return np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1)


def _bent(lens: Lens, rays: Floats) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    """Distorted rays, and of their Jacobian, which is symmetric: dx'/dx, dx'/dy and dy'/dy."""
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    factor = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * lens.k3))
    slope = lens.k1 + r2 * (2 * lens.k2 + r2 * 3 * lens.k3)
    bent = np.stack(
        [
            x * factor + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x),
            y * factor + lens.p1 * (r2 + 2 * y * y) + 2 * lens.p2 * x * y,
        ],
        axis=-1,
    )
    xx = factor + 2 * x * x * slope + 2 * lens.p1 * y + 6 * lens.p2 * x
    xy = 2 * x * y * slope + 2 * lens.p1 * x + 2 * lens.p2 * y
    yy = factor + 2 * y * y * slope + 6 * lens.p1 * y + 2 * lens.p2 * x
    return bent, (xx, xy, yy)
