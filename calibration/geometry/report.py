"""What a geometry calibration found, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.refusal import Refusal
from vision.camera_geometry import CameraGeometry


@dataclass(frozen=True, slots=True)
class PlaceError:
    """How far a position in mm may be off at a place of the picture: ``error_mm`` is not exceeded with 95 % confidence."""

    place: str
    x_px: float
    y_px: float
    error_mm: float


@dataclass(frozen=True, slots=True)
class BeltCheck:
    """The board on the belt once more, in a view that nothing was fitted to: its corners in mm against the print's.

    Only where it lay and how it was turned is fitted. ``rms_mm`` and ``max_mm`` are distances.
    """

    view: str
    corners_count: int
    rms_mm: float
    max_mm: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True, eq=False)
class GeometryQuality:
    """How good a geometry is. Positions in mm are told but for where their origin lies and how their axes are turned.

    ``lens_model`` is the simplest that is nearly the best in ``cross_validated_sigma_px``. ``fit_sigma_px`` and
    ``held_out_sigma_px`` are standard deviations of a corner's coordinate, in the views of the fit and in those held out from it.
    ``focal_px`` with its standard error; ``tilt_deg``: the widest angle between two views of the board. ``field_mm``: width and
    height of what the picture shows, through its middle, on the parts' plane. ``errors``: at the corners and in the middle;
    ``worst_error_mm`` all over the picture at once, 95 % confidence; ``error_shares_mm``: what of it would be left if all but one
    cause were not there. ``bow_mm`` and ``stretch``: how the print seems to stand out in its middle, and to be higher than
    measured, as a share of its width.
    """

    lens_model: str
    cross_validated_sigma_px: dict[str, float]
    fit_sigma_px: float
    held_out_sigma_px: float
    focal_px: Estimate
    tilt_deg: float
    mm_per_px: float
    field_mm: tuple[float, float]
    errors: tuple[PlaceError, ...]
    worst_error_mm: float
    error_shares_mm: dict[str, float]
    checks: tuple[BeltCheck, ...]
    bow_mm: Estimate
    stretch: Estimate

    @property
    def worst_share_of_field(self) -> float:
        return self.worst_error_mm / self.field_mm[0]


@dataclass(frozen=True, slots=True, eq=False)
class GeometryReport:
    """The outcome. ``geometry`` is None where anything was refused; ``quality`` where it did not come to that.

    ``unused``: name of each view that was not used, and why. ``covered``: corners in each of 5 x 5 parts of the picture, rows from
    the top, of the fitted views. ``outliers_count``: corners left aside, too far from where they should be.
    """

    geometry: CameraGeometry | None
    refusals: tuple[Refusal, ...]
    quality: GeometryQuality | None
    fitted: tuple[str, ...]
    held_out: tuple[str, ...]
    unused: tuple[tuple[str, str], ...]
    covered: npt.NDArray[np.int64]
    corners_count: int
    outliers_count: int
