"""How large a pixel is on the part, against geometries whose truth is plain."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.scale import finest_mm_per_px, mm_of_a_pixel, mm_per_px_at
from vision.camera_geometry import CameraGeometry, Lens, mm_from_undistorted, undistorted_from_raw

LENS = Lens(width_px=640, height_px=480, fx_px=1_000.0, fy_px=1_000.0, cx_px=319.5, cy_px=239.5)


def looking_down(
    lens: Lens = LENS, *, height_mm: float = 500.0, turn: float = 0.0, tilt: float = 0.0
) -> CameraGeometry:
    return CameraGeometry(lens=lens, belt_rotation=[tilt, 0.0, turn], belt_translation_mm=[0.0, 0.0, height_mm])


@pytest.mark.parametrize("turn", [0.0, 0.7])
def test_seen_from_above_every_pixel_is_as_large(turn: float) -> None:
    geometry = looking_down(turn=turn)
    for place in ((320.0, 240.0), (10.0, 470.0)):
        assert mm_per_px_at(geometry, place) == pytest.approx((0.5, 0.5), rel=1e-9)
    assert finest_mm_per_px(geometry) == pytest.approx(0.5, rel=1e-9)


def test_a_tilted_camera_sees_what_is_near_finer() -> None:
    geometry = looking_down(tilt=0.4)
    top, bottom = (mm_per_px_at(geometry, (320.0, y_px)) for y_px in (1.0, 479.0))
    near = min(top[0], bottom[0])
    assert max(top[0], bottom[0]) > 1.1 * near
    assert finest_mm_per_px(geometry) <= near
    # A step of ten pixels is ten steps of a pixel, about.
    places = undistorted_from_raw(geometry.lens, [(315.0, 240.0), (325.0, 240.0)])
    first, last = mm_from_undistorted(geometry, places)
    assert np.linalg.norm(last - first) == pytest.approx(10 * mm_per_px_at(geometry, (320.0, 240.0))[0], rel=1e-3)


def test_the_lens_counts_as_it_bends_the_raw_frame() -> None:
    bent = LENS.model_copy(update={"k1": -0.2})
    middle, corner = mm_of_a_pixel(looking_down(bent), [(320.0, 240.0), (2.0, 2.0)])
    assert np.linalg.norm(middle, axis=0) == pytest.approx([0.5, 0.5], rel=1e-3)
    assert np.linalg.norm(corner, axis=0).min() > 0.52
    assert finest_mm_per_px(looking_down(bent)) == pytest.approx(0.5, rel=1e-3)
