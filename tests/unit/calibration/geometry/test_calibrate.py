"""A geometry from corners of known truth, what is stated of its error, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from calibration.board import MeasuredBoard
from calibration.geometry.calibrate import PartHeight, calibrate_geometry
from calibration.geometry.detection import Problem
from calibration.geometry.precision import aligned
from calibration.geometry.report import GeometryReport
from pipeline.bench.board_setups import SetUp, random_setup, wrong_setups
from tests.board_views import calibrated, unusable, views_of
from vision.camera_geometry import CameraGeometry, mm_from_undistorted, raw_from_undistorted, undistorted_from_raw

Floats = npt.NDArray[np.float64]

SEED = 11


@cache
def right() -> SetUp:
    return random_setup(SEED)


@cache
def report() -> GeometryReport:
    return calibrated(right())


def truly_measured(setup: SetUp) -> MeasuredBoard:
    square_mm = setup.board.square_mm
    return replace(
        setup.measured, square_x_mm=square_mm * setup.page.stretch_x, square_y_mm=square_mm * setup.page.stretch_y
    )


def errors_mm(setup: SetUp, geometry: CameraGeometry) -> Floats:
    """All over the frame, once shift and turn are taken out."""
    width, height = setup.lens.width_px, setup.lens.height_px
    raw = np.stack(np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)), axis=-1).reshape(-1, 2)
    true = setup.belt.points(setup.lens.rays(raw), setup.part_height_mm)
    ours = mm_from_undistorted(geometry, undistorted_from_raw(geometry.lens, raw))
    return np.asarray(np.linalg.norm(aligned(ours, true) - true, axis=1))


def reasons(found: GeometryReport) -> list[str]:
    assert found.geometry is None
    for refusal in found.refusals:
        assert "\n" not in str(refusal)
        assert refusal.advice.endswith(".")
    return [refusal.reason for refusal in found.refusals]


def test_millimetres_are_within_a_thousandth_of_the_field_and_within_what_is_stated() -> None:
    assert report().geometry is not None
    assert report().quality is not None
    geometry, quality = report().geometry, report().quality
    assert geometry is not None
    assert quality is not None
    worst_mm = errors_mm(right(), geometry).max()
    assert worst_mm < 0.001 * right().field_mm
    assert worst_mm < quality.worst_error_mm < 0.002 * right().field_mm
    assert quality.worst_share_of_field == pytest.approx(quality.worst_error_mm / quality.field_mm[0])
    assert quality.mm_per_px == pytest.approx(quality.field_mm[0] / right().lens.width_px, rel=0.1)
    assert {place.place for place in quality.errors} == {
        "upper left", "upper right", "middle", "lower left", "lower right",
    }  # fmt: skip
    assert quality.fit_sigma_px == pytest.approx(0.03, rel=0.15)
    assert quality.held_out_sigma_px == pytest.approx(0.03, rel=0.25)


def test_what_is_stated_covers_the_truth_of_most_set_ups() -> None:
    """Of 5 that are each covered with 95 %, fewer than 4 are in one case of forty; the seeds are fixed."""
    covered = 0
    for seed in range(40, 45):
        setup = random_setup(seed)
        found = calibrated(setup)
        assert found.refusals == ()
        assert found.geometry is not None
        assert found.quality is not None
        covered += bool(errors_mm(setup, found.geometry).max() <= found.quality.worst_error_mm)
    assert covered >= 4


def test_views_are_held_out_and_named() -> None:
    hand, belt = views_of(right())
    found = calibrate_geometry(right().board, right().measured, hand, belt, right().part)
    usable = [view.name for view in hand if view.is_usable]
    assert list(found.held_out) == usable[3::4]
    assert sorted([*found.fitted, *found.held_out]) == sorted(usable)
    assert found.quality is not None
    assert [check.view for check in found.quality.checks] == [view.name for view in belt[1:]]


def test_views_that_are_held_out_change_nothing_but_the_quality() -> None:
    hand, belt = views_of(right())
    spoiled = [
        replace(view, corners_px=view.corners_px + np.random.default_rng(0).normal(0, 0.2, view.corners_px.shape))
        if view.name in report().held_out
        else view
        for view in hand
    ]
    found = calibrate_geometry(right().board, right().measured, spoiled, belt, right().part)
    assert found.geometry is not None
    assert report().geometry is not None
    assert found.geometry.mm_from_px == pytest.approx(report().geometry.mm_from_px, rel=1e-6)  # type: ignore[union-attr]
    assert found.quality is not None
    assert report().quality is not None
    assert found.quality.held_out_sigma_px > 3 * report().quality.held_out_sigma_px  # type: ignore[union-attr]
    assert found.quality.worst_error_mm > report().quality.worst_error_mm  # type: ignore[union-attr]


def test_the_middle_of_the_picture_is_the_belts_origin_and_x_goes_right() -> None:
    geometry = report().geometry
    assert geometry is not None
    on_belt = geometry.model_copy(update={"part_height_mm": 0.0})
    on_belt = CameraGeometry.model_validate(on_belt.model_dump())
    middle = np.array([right().lens.width_px / 2, right().lens.height_px / 2])
    origin, beside, below = mm_from_undistorted(on_belt, middle + np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]))
    assert np.abs(origin).max() < 1e-9
    assert beside[0] > 0
    assert abs(beside[1]) < 1e-9
    assert below[1] > 0
    assert raw_from_undistorted(geometry.lens, middle).shape == (2,)


def test_the_boards_thickness_and_the_parts_height_are_told_apart() -> None:
    """A part as high as the board is thick is measured on the plane of the print, where the corners' distances are known."""
    setup = replace(
        right(), part=PartHeight(right().measured.thickness_mm, 0.05), part_height_mm=right().measured.thickness_mm
    )
    found = calibrated(setup)
    assert found.geometry is not None
    assert errors_mm(setup, found.geometry).max() < 0.001 * setup.field_mm
    thin = calibrated(setup, replace(setup.measured, thickness_mm=setup.measured.thickness_mm + 5.0))
    assert thin.geometry is not None
    assert errors_mm(setup, thin.geometry).max() > 0.002 * setup.field_mm


def test_what_is_not_known_of_board_and_part_is_in_the_error() -> None:
    assert report().quality is not None
    stated = report().quality.worst_error_mm  # type: ignore[union-attr]
    rough = calibrated(right(), replace(right().measured, square_uncertainty_mm=0.05))
    assert rough.quality is not None
    assert rough.quality.worst_error_mm > 2 * stated
    assert max(rough.quality.error_shares_mm, key=rough.quality.error_shares_mm.__getitem__) == "square size"
    tall = calibrated(replace(right(), part=replace(right().part, uncertainty_mm=1.0)))
    assert tall.quality is not None
    assert tall.quality.worst_error_mm > 2 * stated
    assert max(tall.quality.error_shares_mm, key=tall.quality.error_shares_mm.__getitem__) == "part height"


def test_a_reading_that_is_a_little_off_one_way_is_put_right_by_the_views() -> None:
    measured = truly_measured(right())
    one_way = replace(measured, square_x_mm=measured.square_x_mm * 1.001, square_y_mm=measured.square_y_mm / 1.001)
    found = calibrated(right(), one_way)
    assert found.quality is not None
    assert found.geometry is not None
    assert found.quality.stretch.value == pytest.approx(0.002, abs=0.0006)
    assert errors_mm(right(), found.geometry).max() < 0.0006 * right().field_mm


def test_a_few_corners_far_off_are_left_aside() -> None:
    hand, belt = views_of(right())
    corners = hand[0].corners_px.copy()
    corners[[3, 17]] += [4.0, -5.0]
    found = calibrate_geometry(
        right().board, right().measured, [replace(hand[0], corners_px=corners), *hand[1:]], belt, right().part
    )
    assert found.outliers_count == 2
    assert found.geometry is not None
    assert errors_mm(right(), found.geometry).max() < 0.001 * right().field_mm


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("too few views", "too few pictures", "at least 12"),
        ("poor coverage", "parts of the picture without the board", "Hold the board into"),
        ("views all parallel", "the lens is not determined", "nearly the same angle"),
        ("printed at 80 %", "the board's size", "print at 100 %"),
        ("board not flat", "the board is not flat", "Glue the print to something stiff"),
        ("stretched print", "the print is stretched", "across and down"),
        ("belt tilted between its pictures", "the belt's pictures disagree", "Is the belt flat"),
    ],
)
def test_a_wrong_set_up_is_refused_for_its_own_reason(name: str, reason: str, told: str) -> None:
    found = calibrated(wrong_setups(SEED)[name])
    assert reasons(found) == [reason]
    assert told in str(found.refusals[0])


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (Problem.BLURRED, "blurred pictures"),
        (Problem.OTHER_DICTIONARY, "another board"),
        (Problem.OTHER_COUNTS, "another board"),
        (Problem.NOT_FOUND, "too few pictures"),
        (Problem.LOW_CONTRAST, "too few pictures"),
    ],
)
def test_pictures_that_are_of_no_use_are_refused_for_what_is_wrong_with_them(problem: Problem, reason: str) -> None:
    hand, belt = views_of(right())
    spoiled = unusable(hand, problem, "what is wrong", count=16)
    found = calibrate_geometry(right().board, right().measured, spoiled, belt, right().part)
    assert reasons(found) == [reason]
    assert len([name for name, told in found.unused if told == "what is wrong"]) == 16


def test_some_pictures_of_no_use_are_left_out_and_named() -> None:
    hand, belt = views_of(right())
    found = calibrate_geometry(
        right().board, right().measured, [*hand, *unusable(hand[:3], Problem.BLURRED, "blurred")], belt, right().part
    )
    assert found.refusals == ()
    assert [told for _, told in found.unused][-3:] == ["blurred"] * 3


def test_the_belt_is_seen_twice_and_well() -> None:
    hand, belt = views_of(right())
    known = (right().board, right().measured, hand)
    assert reasons(calibrate_geometry(*known, belt[:1], right().part)) == ["the pictures on the belt"]
    assert reasons(calibrate_geometry(*known, [], right().part)) == ["the pictures on the belt"]
    blurred = calibrate_geometry(*known, unusable(belt, Problem.BLURRED, "blurred", 1), right().part)
    assert reasons(blurred) == ["the pictures on the belt"]
    assert f"{belt[0].name}: blurred" in blurred.refusals[0].got


def test_a_board_of_which_whole_rows_are_never_seen_is_another_one() -> None:
    """One of 11 x 9 squares was entered: the corners of 11 x 8 are all found."""
    hand, belt = views_of(right())
    entered = right().board.model_copy(update={"squares_y": right().board.squares_y + 1})
    found = calibrate_geometry(entered, right().measured, hand, belt, right().part)
    assert reasons(found) == ["another board"]
    assert "11 x 8 squares" in found.refusals[0].got


def test_pictures_of_two_cameras_are_refused() -> None:
    hand, belt = views_of(right())
    other = [replace(hand[0], width_px=1280), *hand[1:]]
    found = calibrate_geometry(right().board, right().measured, other, belt, right().part)
    assert reasons(found) == ["pictures of different sizes"]
    assert "1280 x 480 px (1)" in found.refusals[0].got


def test_no_pictures_at_all_are_refused() -> None:
    found = calibrate_geometry(right().board, right().measured, [], [], right().part)
    assert reasons(found) == ["too few pictures", "the pictures on the belt"]


def test_a_zoomed_lens_fits_no_single_camera() -> None:
    """Half of the views with a lens a tenth longer."""
    zoomed = replace(right(), lens=replace(right().lens, focal_px=right().lens.focal_px * 1.1))
    hand, belt = views_of(right())
    mixed = [
        other if number % 2 else one for number, (one, other) in enumerate(zip(hand, views_of(zoomed)[0], strict=True))
    ]
    found = calibrate_geometry(right().board, right().measured, mixed, belt, right().part)
    assert reasons(found)[0] == "the pictures do not fit one lens"
    assert "zoom" in found.refusals[0].advice


def test_noise_beyond_all_use_is_refused() -> None:
    found = calibrated(right(), noise_px=0.8)
    assert reasons(found)[0] == "the pictures do not fit one lens"


def test_a_rough_ruler_is_refused_with_what_to_measure() -> None:
    found = calibrated(right(), replace(right().measured, square_uncertainty_mm=0.5))
    assert reasons(found) == ["not precise enough"]
    assert "calliper" in found.refusals[0].advice


@pytest.mark.parametrize("height", [(-1.0, 0.1), (1.0, float("nan")), (float("inf"), 0.0)])
def test_a_height_that_cannot_be_is_refused(height: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="_mm: got"):
        PartHeight(*height)
