"""The renderer of boards against its own geometry: rays there and back, and what a picture shows where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.board_scene import BoardCamera, Exposure, Pose, TrueLens, posed, printed, stretched

FLAT = Pose(np.eye(3), np.array([0.0, 0.0, 200.0]))
LENS = TrueLens(200, 160, 400.0, 100.0, 80.0)
EXPOSURE = Exposure(blur_px=0.3, noise=0.0, vignetting=0.0, ground=205.0)
# One black rectangle on a white page of 60 x 40 mm, 10 mm of border around it.
PAGE = printed([(20.0, 10.0, 10.0, 20.0)], 60.0, 40.0, border_mm=10.0)

lenses = st.builds(
    TrueLens,
    width_px=st.just(640),
    height_px=st.just(480),
    focal_px=st.floats(600.0, 1500.0),
    centre_x_px=st.floats(300.0, 340.0),
    centre_y_px=st.floats(220.0, 260.0),
    kind=st.sampled_from(["polynomial", "division"]),
    bend=st.floats(-0.05, 0.08),
    decentring=st.tuples(st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3)),
)
grid = np.stack(np.meshgrid(np.linspace(0, 640, 9), np.linspace(0, 480, 7)), axis=-1)


def picture(page=PAGE, pose: Pose = FLAT, lens: TrueLens = LENS, exposure: Exposure = EXPOSURE):  # type: ignore[no-untyped-def]
    return BoardCamera(lens).picture(page, pose, exposure, np.random.default_rng(0))


def edges(levels) -> list[float]:  # type: ignore[no-untyped-def]
    """Where a row or column crosses the middle grey, in px from the first pixel's edge."""
    middle = (float(levels.max()) + float(levels.min())) / 2
    above = levels.astype(float) - middle
    at = np.flatnonzero(above[:-1] * above[1:] < 0)
    return [float(x + 0.5 + above[x] / (above[x] - above[x + 1])) for x in at]


@given(lenses)
def test_a_ray_is_seen_where_it_came_from(lens: TrueLens) -> None:
    assert np.abs(lens.positions(lens.rays(grid)) - grid).max() < 1e-6


@pytest.mark.parametrize("kind", ["polynomial", "division"])
def test_a_lens_that_bends_inwards_shows_the_corner_nearer_to_the_middle(kind: str) -> None:
    straight = TrueLens(640, 480, 900.0, 320.0, 240.0)
    corner_ray = straight.rays(np.array([640.0, 480.0]))
    bent = replace(straight, kind=kind, bend=0.05).positions(corner_ray)  # type: ignore[arg-type]
    assert np.hypot(*(bent - [320.0, 240.0])) == pytest.approx(0.95 * 400.0, rel=0.02)


def test_a_rectangle_is_seen_where_it_lies() -> None:
    """400 px of focal length at 200 mm: 2 px a mm."""
    seen = picture()
    assert edges(seen[100]) == pytest.approx([100.0 + 2 * 20.0, 100.0 + 2 * 30.0], abs=0.02)
    assert edges(seen[:, 150]) == pytest.approx([80.0 + 2 * 10.0, 80.0 + 2 * 30.0], abs=0.02)
    assert seen[120, 150] == pytest.approx(EXPOSURE.black, abs=1)
    assert seen[120, 120] == pytest.approx(EXPOSURE.white, abs=1)
    assert picture(exposure=replace(EXPOSURE, ground=70.0))[5, 5] == pytest.approx(70.0, abs=1)


def test_a_print_stretched_is_seen_larger() -> None:
    assert edges(picture(stretched(PAGE, 1.05, 1.0))[100]) == pytest.approx([100.0 + 42.0, 100.0 + 63.0], abs=0.02)


def test_a_bowed_print_is_nearer_in_its_middle() -> None:
    """The page goes from -10 to 70 mm: its middle, at 30 mm, is seen as if 10 mm nearer."""
    assert edges(picture(replace(PAGE, bow_mm=10.0))[100])[1] == pytest.approx(100.0 + 30.0 * 400.0 / 190.0, abs=0.1)


def test_blur_keeps_edges_where_they_are_and_makes_them_wide() -> None:
    blurred = picture(exposure=replace(EXPOSURE, blur_px=2.0))
    assert edges(blurred[100]) == pytest.approx(edges(picture()[100]), abs=0.05)
    assert np.abs(np.diff(blurred[100].astype(int))).max() < 60
    smeared = picture(exposure=replace(EXPOSURE, smear_px=6.0))
    assert np.abs(np.diff(smeared[100].astype(int))).max() < 60
    assert np.abs(np.diff(smeared[:, 150].astype(int))).max() > 60


def test_vignetting_darkens_the_corner_and_noise_is_as_large_as_asked_for() -> None:
    plain = picture()
    dimmed = picture(exposure=replace(EXPOSURE, vignetting=0.5))
    assert dimmed[80, 100] == pytest.approx(plain[80, 100], abs=2)
    assert dimmed[0, 0] == pytest.approx(0.5 * plain[0, 0], abs=2)
    noisy = picture(exposure=replace(EXPOSURE, noise=3.0, white=150.0)).astype(float)
    assert 2.0 < (noisy[105:135, 110:130] - noisy[105:135, 110:130].mean()).std() < 5.0


def test_points_of_a_plane_are_where_its_pose_puts_them() -> None:
    pose = posed(np.array([0.1, -0.05]), 300.0, 0.4, 1.0, 0.3)
    rays = LENS.rays(np.array([[10.0, 20.0], [150.0, 100.0]]))
    for height in (0.0, 25.0):
        for ray, (x, y) in zip(rays, pose.points(rays, height), strict=True):
            ahead = pose.rotation @ np.array([x, y, -height]) + pose.translation_mm
            assert ahead[:2] / ahead[2] == pytest.approx(ray)
    assert pose.points(np.array([[0.1, -0.05]]))[0] == pytest.approx([0.0, 0.0], abs=1e-9)
    moved = pose.shifted(5.0, -3.0, 0.0, turn_rad=0.5)
    assert moved.rotation[:, 2] == pytest.approx(pose.rotation[:, 2])
    assert pose.rotation @ np.array([5.0, -3.0, 0.0]) + pose.translation_mm == pytest.approx(moved.translation_mm)
