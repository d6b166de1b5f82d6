"""px -> mm, against OpenCV's lens model and against rays cast on to a plane."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vision.camera_geometry import (
    CameraGeometry,
    Lens,
    areas_in_mm2,
    boxes_in_mm,
    mm_from_undistorted,
    pixel_areas_mm2,
    raw_from_undistorted,
    undistorted_from_raw,
    undistortion_map,
)
from vision.faults import faults_of

Floats = npt.NDArray[np.float64]

WIDTH_PX, HEIGHT_PX = 640, 480
PINHOLE: dict[str, Any] = {
    "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "fx_px": 800.0, "fy_px": 805.0, "cx_px": 322.0, "cy_px": 236.5,
}  # fmt: skip

lenses = st.builds(
    Lens,
    width_px=st.just(WIDTH_PX),
    height_px=st.just(HEIGHT_PX),
    fx_px=st.floats(600.0, 2000.0),
    fy_px=st.floats(600.0, 2000.0),
    cx_px=st.floats(300.0, 340.0),
    cy_px=st.floats(220.0, 260.0),
    k1=st.floats(-0.2, 0.1),
    k2=st.floats(-0.02, 0.05),
    p1=st.floats(-2e-3, 2e-3),
    p2=st.floats(-2e-3, 2e-3),
    k3=st.floats(-0.01, 0.01),
)
grid = np.stack(np.meshgrid(np.linspace(0, WIDTH_PX, 9), np.linspace(0, HEIGHT_PX, 7)), axis=-1).reshape(-1, 2)


def rotation_of(about_x_deg: float, about_y_deg: float) -> list[float]:
    turn = cv2.Rodrigues(np.radians([about_x_deg, 0.0, 0.0]))[0] @ cv2.Rodrigues(np.radians([0.0, about_y_deg, 0.0]))[0]
    return [float(one) for one in cv2.Rodrigues(turn)[0].ravel()]


def geometry(about_x_deg: float = 0.0, about_y_deg: float = 0.0, part_height_mm: float = 0.0) -> CameraGeometry:
    return CameraGeometry(
        lens=Lens(**PINHOLE),
        belt_rotation=rotation_of(about_x_deg, about_y_deg),
        belt_translation_mm=[3.0, -2.0, 400.0],
        part_height_mm=part_height_mm,
    )


tilts = st.floats(-25.0, 25.0)
boxes = st.lists(
    st.tuples(st.floats(0, 600), st.floats(0, 440), st.floats(1, 40), st.floats(1, 40)), min_size=1, max_size=5
).map(lambda found: np.array([(x, y, x + width, y + height) for x, y, width, height in found]))


@given(lenses)
def test_distorting_undoes_undistorting(lens: Lens) -> None:
    assert np.abs(raw_from_undistorted(lens, undistorted_from_raw(lens, grid)) - grid).max() < 1e-6


@given(lenses)
def test_the_lens_is_opencvs_half_a_pixel_on(lens: Lens) -> None:
    """OpenCV counts from the middle of the first pixel."""
    rays = undistorted_from_raw(lens, grid) - 0.5
    scaled = (rays - [lens.cx_px, lens.cy_px]) / [lens.fx_px, lens.fy_px]
    ahead = np.column_stack([scaled, np.ones(len(scaled))])
    seen, _ = cv2.projectPoints(ahead, np.zeros(3), np.zeros(3), lens.matrix, lens.coefficients)
    assert np.abs(seen.reshape(-1, 2) - (grid - 0.5)).max() < 1e-6


def test_the_map_for_a_frame_is_opencvs() -> None:
    lens = Lens(**PINHOLE, k1=-0.2, k2=0.03, p1=1e-3, p2=-5e-4, k3=0.01)
    expected = cv2.initUndistortRectifyMap(
        lens.matrix, lens.coefficients, np.eye(3), lens.matrix, (WIDTH_PX, HEIGHT_PX), cv2.CV_32FC1
    )
    for ours, theirs in zip(undistortion_map(lens), expected, strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() < 1e-3


def cast(of: CameraGeometry, undistorted_px: Floats) -> Floats:
    """Rays through a pinhole, met with the plane, one at a time."""
    lens = of.lens
    rotation = cv2.Rodrigues(np.array(of.belt_rotation))[0]
    shift = np.array(of.belt_translation_mm)
    met = []
    for x, y in undistorted_px:
        way = np.array([(x - 0.5 - lens.cx_px) / lens.fx_px, (y - 0.5 - lens.cy_px) / lens.fy_px, 1.0])
        # A point on the plane: rotation @ (u, v, -height) + shift = distance * way.
        u, v, _ = np.linalg.solve(
            np.column_stack([rotation[:, 0], rotation[:, 1], -way]), of.part_height_mm * rotation[:, 2] - shift
        )
        met.append((u, v))
    return np.array(met)


@given(tilts, tilts, st.floats(0.0, 60.0))
def test_millimetres_are_where_the_rays_meet_the_parts_plane(x_deg: float, y_deg: float, height_mm: float) -> None:
    tilted = geometry(x_deg, y_deg, height_mm)
    assert np.abs(mm_from_undistorted(tilted, grid) - cast(tilted, grid)).max() < 1e-6


def test_what_is_nearer_looks_larger() -> None:
    """A part 40 mm high, 400 mm before the camera: nine tenths of the millimetres that its pixels have on the belt."""
    box = np.array([[300.0, 200.0, 340.0, 240.0]])
    on_belt, above = (boxes_in_mm(geometry(part_height_mm=height), box)[0] for height in (0.0, 40.0))
    assert on_belt[2] - on_belt[0] == pytest.approx(40.0 * 400.0 / 800.0)
    assert above[2] - above[0] == pytest.approx(0.9 * 40.0 * 400.0 / 800.0)


@given(tilts, tilts, boxes)
def test_a_box_is_as_wide_and_as_high_as_it_is_through_its_middle(x_deg: float, y_deg: float, boxes_px: Floats) -> None:
    tilted = geometry(x_deg, y_deg)
    for (x1, y1, x2, y2), found in zip(boxes_px, boxes_in_mm(tilted, boxes_px), strict=True):
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        left, top, right, bottom = cast(tilted, np.array([(x1, y), (x, y1), (x2, y), (x, y2)]))
        assert found == pytest.approx([left[0], top[1], right[0], bottom[1]], abs=1e-6)


@given(tilts, tilts, boxes)
def test_the_area_of_a_box_is_that_of_its_outline(x_deg: float, y_deg: float, boxes_px: Floats) -> None:
    tilted = geometry(x_deg, y_deg)
    areas_px = (boxes_px[:, 2] - boxes_px[:, 0]) * (boxes_px[:, 3] - boxes_px[:, 1])
    for (x1, y1, x2, y2), area, half in zip(
        boxes_px, areas_in_mm2(tilted, boxes_px, areas_px), areas_in_mm2(tilted, boxes_px, areas_px / 2), strict=True
    ):
        outline = cast(tilted, np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]))
        assert area == pytest.approx(cv2.contourArea((outline - outline[0]).astype(np.float32)), rel=1e-3)
        assert half == pytest.approx(area / 2)


@given(tilts, tilts)
def test_a_pixels_area_is_that_of_its_outline(x_deg: float, y_deg: float) -> None:
    tilted = geometry(x_deg, y_deg)
    middles = grid.clip(1, 470)
    small = 0.5 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    for middle, area in zip(middles, pixel_areas_mm2(tilted, middles), strict=True):
        a, b, c, d = cast(tilted, middle + small)
        across, down = c - a, d - b
        assert area == pytest.approx(abs(across[0] * down[1] - across[1] * down[0]) / 2, rel=1e-4)


def test_a_box_without_extent_has_the_pixels_area() -> None:
    spot = np.array([[100.0, 100.0, 100.0, 100.0]])
    assert areas_in_mm2(geometry(), spot, [3.0])[0] == pytest.approx(3.0 * 0.5 * 400.0 / 805.0)


def test_no_boxes_are_no_boxes() -> None:
    assert boxes_in_mm(geometry(), np.zeros((0, 4))).shape == (0, 4)
    assert areas_in_mm2(geometry(), np.zeros((0, 4)), np.zeros(0)).shape == (0,)


def test_it_comes_back_from_a_file() -> None:
    tilted = geometry(10.0, -5.0, 7.0)
    assert CameraGeometry.model_validate(yaml.safe_load(yaml.safe_dump(tilted.model_dump()))) == tilted


def refused(**changed: Any) -> str:
    whole = geometry(10.0).model_dump()
    for key, value in changed.items():
        target = whole["lens"] if key in whole["lens"] else whole
        target[key] = value
    with pytest.raises(ValidationError) as told:
        CameraGeometry.model_validate(whole)
    (fault,) = faults_of("geometry.yaml", told.value)
    return str(fault)


def test_a_lens_that_shows_a_place_twice_is_refused() -> None:
    assert refused(k1=-3.0) == (
        "geometry.yaml: lens.k1: got k1 -3, k2 0, p1 0, p2 0, k3 0, expected a distortion that shows no place of the frame twice"
    )


def test_a_plane_that_the_frame_does_not_see_whole_is_refused() -> None:
    assert "a plane that every pixel sees" in refused(belt_rotation=rotation_of(80.0, 0.0))
    assert "a plane that every pixel sees" in refused(belt_translation_mm=[0.0, 0.0, -400.0])
    assert "a plane that every pixel sees" in refused(part_height_mm=500.0)


def test_what_is_not_a_number_is_refused() -> None:
    assert "lens.fx_px" in refused(fx_px=float("nan"))
    assert "belt_rotation" in refused(belt_rotation=[0.0, 0.0])
