"""How many millimetres a pixel of the raw frame comes to, where a geometry is in force."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.camera_geometry import CameraGeometry, mm_from_undistorted, undistorted_from_raw

Floats = npt.NDArray[np.float64]

_GRID = 9
"""Places a side at which a frame is asked for its finest scale."""


def mm_of_a_pixel(geometry: CameraGeometry, raw_px: npt.ArrayLike) -> Floats:
    """Raw positions (..., 2) -> float64 (..., 2, 2), mm on the parts' plane: the first column is the way that one pixel to the
    right comes to there, the second one pixel down.
    """
    places = np.asarray(raw_px, np.float64)[..., None, :]
    steps = np.array([[0.5, 0.0], [0.0, 0.5]])
    ahead, behind = (
        mm_from_undistorted(geometry, undistorted_from_raw(geometry.lens, places + sign * steps)) for sign in (1, -1)
    )
    return np.asarray(np.swapaxes(ahead - behind, -1, -2))


def mm_per_px_at(geometry: CameraGeometry, raw_px: tuple[float, float]) -> tuple[float, float]:
    """Of a pixel to the right and of one down, at one place of the raw frame."""
    across_mm, down_mm = np.linalg.norm(mm_of_a_pixel(geometry, raw_px), axis=0).tolist()
    return across_mm, down_mm


def finest_mm_per_px(geometry: CameraGeometry) -> float:
    """The least that a pixel comes to anywhere in the frame, in any direction: there something that moves is smeared the most."""
    lens = geometry.lens
    across, down = np.linspace(0.5, lens.width_px - 0.5, _GRID), np.linspace(0.5, lens.height_px - 0.5, _GRID)
    places = np.stack(np.meshgrid(across, down), axis=-1)
    return float(np.linalg.svd(mm_of_a_pixel(geometry, places), compute_uv=False).min())
