"""Views of a board -> a camera's geometry, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import degrees

import cv2
import numpy as np
import numpy.typing as npt

from calibration.board import Board, MeasuredBoard, corner_positions_mm
from calibration.geometry.coverage import CELLS, CORNERS_A_CELL, coverage, fitted_and_held_out
from calibration.geometry.detection import CORNERS_MIN_COUNT, BoardView, Ids, Problem
from calibration.geometry.precision import (
    Known,
    aligned,
    field_mm,
    geometry_of,
    lens_of,
    places_px,
    precision,
)
from calibration.geometry.report import BeltCheck, Estimate, GeometryQuality, GeometryReport, PlaceError
from calibration.geometry.solving import (
    LENS_MODELS,
    Certainty,
    Corners,
    LensModel,
    Shape,
    Solution,
    Unsolvable,
    certainty,
    cross_validated_sigma_px,
    held_out_sigma_px,
    solve,
)
from calibration.refusal import Refusal
from vision.camera_geometry import CameraGeometry, mm_from_undistorted, pixel_areas_mm2, undistorted_from_raw

Floats = npt.NDArray[np.float64]

VIEWS_MIN_COUNT = 12
"""Of the board held into the picture, usable: nine for the fit, three to test it."""
BELT_VIEWS_MIN_COUNT = 2
"""Of the board lying on the belt: one says where the belt is, the others test it."""
SIZE_MAX_SHARE = 0.10
"""That a measured square may be off the printed size. A printer's "fit to page" takes less."""
STRETCH_MAX_SHARE = 0.003
BOW_MAX_SHARE = 0.004
"""Of the board's width."""
FOCAL_MAX_SHARE = 0.005
"""Standard error of the focal length."""
SIGMA_MAX_PX = 0.5
"""Of a corner's coordinate."""
OUTLIERS_MAX_SHARE = 0.03
ERROR_MAX_SHARE = 0.005
"""Of the field's width: above it millimetres are no measure."""

_FOLDS = 4
_OUTLIER = 6.0
"""Robust standard deviations."""
_OUTLIER_ROUNDS = 8
_SURE = 4.0
"""Standard errors from which on a bow or a stretch is one."""
_READING_FACTOR = 4.0
"""Standard uncertainties of a square, by which two readings may disagree: three of their difference."""
_CHECK_FACTOR = 3.0
_NO_WORSE = 1.003
_RIVALS = 1.01
"""Than the best lens model in views held out: then the simplest is taken, since terms that are not needed run wild where no corner
was seen; up to the other, a model may as well be the right one."""
_MAD_TO_SIGMA = 1.4826
_SPREAD_MIN_PX = 0.01

_ONE_CAMERA = "Lens, zoom and focus must stay as they are in all pictures, and the board flat: check both, take all pictures again."
_WRONG_BOARD = (Problem.OTHER_DICTIONARY, Problem.OTHER_COUNTS)


@dataclass(frozen=True, slots=True)
class PartHeight:
    """How high above the belt lies what is measured, with its standard uncertainty. Raises ValueError."""

    height_mm: float
    uncertainty_mm: float

    def __post_init__(self) -> None:
        for name, value in (("height_mm", self.height_mm), ("uncertainty_mm", self.uncertainty_mm)):
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: got {value:g} mm, expected at least 0")


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A solution and how sure it is. ``positions_mm``: of the board's corners, (N, 2). ``rivals``: solutions with lens models that
    the views held out do not tell from it.
    """

    positions_mm: Floats
    solution: Solution
    rivals: list[Solution]
    certainty: Certainty
    sigmas_px: dict[str, float]

    @property
    def bow_mm(self) -> Estimate:
        """The largest of the ways in which a print can be bent."""
        bends = (self.certainty.shapes[name] for name in ("bow x", "bow y", "twist"))
        return Estimate(*max(bends, key=lambda bend: abs(bend[0])))

    @property
    def stretch(self) -> Estimate:
        return Estimate(*self.certainty.shapes["stretch"])


def calibrate_geometry(
    board: Board,
    measured: MeasuredBoard,
    views: Sequence[BoardView],
    belt_views: Sequence[BoardView],
    part: PartHeight,
) -> GeometryReport:
    """``views``: of the board held at many places and angles; ``belt_views``: of the board lying flat on the belt, the first of
    which says where the belt is; the others, elsewhere and turned, test the millimetres.

    One in four of the views is held out from the fit, and so are the belt views but the first. Refuses rather than to give a
    geometry that cannot be relied on.
    """
    every = [*views, *belt_views]
    usable = [view for view in views if view.is_usable]
    fitted, held_out = fitted_and_held_out(usable)
    covered = coverage(views)
    refusals = [
        *_of_sizes(every),
        *_of_measure(board, measured),
        *_of_views(board, views, belt_views),
        *_of_coverage(board, views),
    ]
    report = GeometryReport(
        geometry=None,
        refusals=tuple(refusals),
        quality=None,
        fitted=tuple(view.name for view in fitted),
        held_out=tuple(view.name for view in held_out),
        unused=tuple((view.name, view.told) for view in every if not view.is_usable),
        covered=covered.counts,
        corners_count=sum(len(view.corner_ids) for view in fitted),
        outliers_count=0,
    )
    if refusals:
        return report
    try:
        fit, outliers_count = _fitted([belt_views[0], *fitted], board, measured)
        report = replace(report, outliers_count=outliers_count)
        if of_fit := [*_of_fit(fit, report, board, measured)]:
            return replace(report, refusals=tuple(of_fit[:1]))
        geometry, quality = _judged(fit, held_out, belt_views, measured, part)
    except Unsolvable as error:
        return replace(report, refusals=(_undetermined(str(error)),))
    refusals = [*_of_quality(quality)]
    return replace(report, geometry=None if refusals else geometry, quality=quality, refusals=tuple(refusals))


def _of_sizes(views: Sequence[BoardView]) -> Iterator[Refusal]:
    sizes = Counter((view.width_px, view.height_px) for view in views)
    if len(sizes) > 1:
        yield Refusal(
            "pictures of different sizes",
            "pictures of "
            + ", ".join(f"{width} x {height} px ({count})" for (width, height), count in sizes.most_common()),
            "all of one size",
            "Take all pictures with the same camera and the same settings, or leave out those of another.",
        )


def _of_measure(board: Board, measured: MeasuredBoard) -> Iterator[Refusal]:
    worst_mm = max(
        (measured.square_x_mm, measured.square_y_mm), key=lambda square_mm: abs(square_mm / board.square_mm - 1)
    )
    if abs(worst_mm / board.square_mm - 1) > SIZE_MAX_SHARE:
        yield Refusal(
            "the board's size",
            f"squares measured as {worst_mm:.4g} mm",
            f"{board.square_mm:g} mm, up to {SIZE_MAX_SHARE:.0%} off, of the {board.described()}",
            "Measure again over all squares; print at 100 % (actual size), or choose the board that was printed.",
        )


def _of_views(board: Board, views: Sequence[BoardView], belt_views: Sequence[BoardView]) -> Iterator[Refusal]:
    usable = [view for view in views if view.is_usable]
    blurred = [view for view in views if view.problem is Problem.BLURRED]
    wrong = [view for view in [*views, *belt_views] if view.problem in _WRONG_BOARD]
    if len(wrong) > (len(views) + len(belt_views)) / 4:
        yield Refusal(
            "another board",
            f"{wrong[0].told} ({len(wrong)} of {len(views) + len(belt_views)} pictures)",
            f"the {board.described()}",
            "Put the right board before the camera, or enter what is printed below its squares.",
        )
        return
    if len(usable) < VIEWS_MIN_COUNT:
        if len(usable) + len(blurred) >= VIEWS_MIN_COUNT:
            blurs = [view.blur_px for view in blurred if np.isfinite(view.blur_px)]
            how = f", typically by {np.median(blurs):.1f} px" if blurs else ""
            yield Refusal(
                "blurred pictures",
                f"{len(blurred)} of {len(views)} blurred{how}",
                f"at least {VIEWS_MIN_COUNT} sharp ones",
                "Hold the board still while a picture is taken, focus the lens, or shorten the exposure and give more light.",
            )
        else:
            why = Counter(view.told for view in views if not view.is_usable).most_common(1)
            yield Refusal(
                "too few pictures",
                f"{len(usable)} usable of {len(views)} pictures of the board"
                + (f" (most often: {why[0][0]})" if why else ""),
                f"at least {VIEWS_MIN_COUNT}",
                "Take more, each with the board at another place and angle.",
            )
    usable_belt = [view for view in belt_views if view.is_usable]
    if len(belt_views) < BELT_VIEWS_MIN_COUNT or len(usable_belt) < len(belt_views):
        told = next((f"{view.name}: {view.told}" for view in belt_views if not view.is_usable), "")
        yield Refusal(
            "the pictures on the belt",
            f"{len(usable_belt)} usable of {len(belt_views)} pictures of the board on the belt"
            + (f" ({told})" if told else ""),
            f"at least {BELT_VIEWS_MIN_COUNT}, all usable",
            "Lay the board flat on the belt and take a picture, then turn it, move it and take another.",
        )
    seen = {number for view in [*usable, *usable_belt] for number in view.corner_ids.tolist()}
    across = board.squares_x - 1
    if len(usable) >= VIEWS_MIN_COUNT:
        columns, rows = ({number % across for number in seen}, {number // across for number in seen})
        if max(columns) + 1 < across or max(rows) + 1 < board.squares_y - 1:
            yield Refusal(
                "another board",
                f"in no picture more than {max(columns) + 2} x {max(rows) + 2} squares",
                f"the {board.described()}",
                "Hold all of the board into the picture at least once, or enter what is printed below its squares.",
            )


def _of_coverage(board: Board, views: Sequence[BoardView]) -> Iterator[Refusal]:
    if sum(view.is_usable for view in views) < VIEWS_MIN_COUNT:
        return
    if missing := coverage(views).missing:
        reach = (
            "; it may reach out of the picture" if board.kind == "charuco" else ", with all its squares in the picture"
        )
        yield Refusal(
            "parts of the picture without the board",
            f"too few corners in {', '.join(missing)}",
            f"{CORNERS_A_CELL} in each of {CELLS} x {CELLS} parts of the picture",
            f"Hold the board into {', '.join(missing)} too{reach}.",
        )


def _undetermined(got: str) -> Refusal:
    return Refusal(
        "the lens is not determined",
        got,
        "views that tell the lens from where the board was",
        "Tilt the board by 20 to 40 degrees in turn to the left, right, towards you and away from you; and turn it.",
    )


def _fitted(views: list[BoardView], board: Board, measured: MeasuredBoard) -> tuple[_Fit, int]:
    """The first view is the belt's. Corners far off in the fullest model are left aside, and counted. Raises Unsolvable.

    The views tell how much higher than wide the squares are, pixels being square, much better than a ruler does: its two
    readings are moved towards each other by as much, which leaves their mean to say how large the board is.
    """
    size_px = views[0].width_px, views[0].height_px
    positions = corner_positions_mm(board, measured)
    ids = [view.corner_ids for view in views]
    seen = [view.corners_px for view in views]
    ids, seen, outliers_count = _without_outliers(ids, seen, positions, size_px)
    corners = _all_corners(ids, seen, positions)
    sigmas: dict[LensModel, float] = {}
    for model in LENS_MODELS:
        try:
            sigmas[model] = cross_validated_sigma_px(corners, *size_px, model, _FOLDS)
        except Unsolvable:
            continue  # a model that cannot be told from these views is not chosen
    if not sigmas:
        raise Unsolvable("no lens explains the views")
    least = min(sigmas.values())
    chosen = next(model for model in LENS_MODELS if sigmas.get(model, np.inf) <= _NO_WORSE * least)
    shapes = _shapes(positions, board, measured)
    as_measured = certainty(corners, ids, solve(corners, *size_px, chosen), belt=0, shapes=shapes)
    stretch = as_measured.shapes["stretch"][0]
    positions = positions * np.sqrt([1 / (1 + stretch), 1 + stretch])
    corners = _all_corners(ids, seen, positions)
    solution = solve(corners, *size_px, chosen)
    sure = replace(certainty(corners, ids, solution, belt=0), shapes=as_measured.shapes)
    rivals = [
        solve(corners, *size_px, model)
        for model, sigma in sigmas.items()
        if model is not chosen and sigma <= _RIVALS * least
    ]
    sigmas_px = {model.name: sigma for model, sigma in sigmas.items()}
    return _Fit(positions, solution, rivals, sure, sigmas_px), outliers_count


def _without_outliers(
    ids: list[Ids], seen: list[Floats], positions: Floats, size_px: tuple[int, int]
) -> tuple[list[Ids], list[Floats], int]:
    """The corners that are near where the fullest model has them, and how many others there were.

    The farthest first, and then all looked at again: one far off draws its neighbours with it.
    """
    before = sum(len(numbers) for numbers in ids)
    for _ in range(_OUTLIER_ROUNDS):
        solution = solve(_all_corners(ids, seen, positions), *size_px, LENS_MODELS[-1])
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(np.concatenate(solution.residuals_px))))
        distances = [np.linalg.norm(errors, axis=1) for errors in solution.residuals_px]
        limit_px = max(_OUTLIER * max(spread, _SPREAD_MIN_PX), max(float(one.max()) for one in distances) / 2)
        kept = [one <= limit_px for one in distances]
        if all(one.all() for one in kept):
            break
        ids = [numbers[one] for numbers, one in zip(ids, kept, strict=True)]
        seen = [places[one] for places, one in zip(seen, kept, strict=True)]
        if min(len(numbers) for numbers in ids) < CORNERS_MIN_COUNT / 2:
            raise Unsolvable("the corners of a view are far from where the board's others say they are")
    return ids, seen, before - sum(len(numbers) for numbers in ids)


def _all_corners(ids: list[Ids], seen: list[Floats], positions: Floats) -> list[Corners]:
    return [_corners(numbers, places, positions) for numbers, places in zip(ids, seen, strict=True)]


def _corners(ids: Ids, seen_px: Floats, positions: Floats) -> Corners:
    on_board = positions[ids]
    return Corners(np.column_stack([on_board, np.zeros(len(on_board))]), seen_px)


def _shapes(positions: Floats, board: Board, measured: MeasuredBoard) -> tuple[Shape, ...]:
    """How prints go wrong: bent about either side or twisted, by 1 mm from the middle to the edge; stretched, by 1."""
    half = np.array([board.squares_x * measured.square_x_mm, board.squares_y * measured.square_y_mm]) / 2
    x, y = ((positions - half) / half).T
    none = np.zeros_like(x)
    return (
        Shape("bow x", np.stack([none, none, x * x], axis=1)),
        Shape("bow y", np.stack([none, none, y * y], axis=1)),
        Shape("twist", np.stack([none, none, x * y], axis=1)),
        Shape("stretch", np.stack([none, positions[:, 1], none], axis=1)),
    )


def _judged(
    fit: _Fit,
    held_out: list[BoardView],
    belt_views: Sequence[BoardView],
    measured: MeasuredBoard,
    part: PartHeight,
) -> tuple[CameraGeometry, GeometryQuality]:
    """Raises Unsolvable."""
    solution, sure, positions = fit.solution, fit.certainty, fit.positions_mm
    size_px = belt_views[0].width_px, belt_views[0].height_px
    lens = lens_of(solution.parameters, *size_px)
    geometry = geometry_of(lens, solution.poses[0], measured.thickness_mm, part.height_mm)
    tests = [_corners(view.corner_ids, view.corners_px, positions) for view in [*held_out, *belt_views[1:]]]
    held_out_px = held_out_sigma_px(tests, solution.parameters)
    # What the views of the fit do not show, those held out do: then everything is less sure by as much.
    excess = max(1.0, held_out_px / solution.sigma_px)
    found = precision(
        Known(
            parameters=solution.parameters,
            pose=solution.poses[0],
            covariance=sure.covariance * excess**2,
            thickness_mm=measured.thickness_mm,
            part_height_mm=part.height_mm,
            scale_uncertainty=measured.square_uncertainty_mm / min(measured.square_x_mm, measured.square_y_mm),
            height_uncertainty_mm=part.uncertainty_mm,
        ),
        *size_px,
        rivals=[(rival.parameters, rival.poses[0]) for rival in fit.rivals],
    )
    on_board = geometry_of(lens, solution.poses[0], 0.0, 0.0)
    middle = np.array([[size_px[0] / 2, size_px[1] / 2]])
    quality = GeometryQuality(
        lens_model=solution.model.name,
        cross_validated_sigma_px=fit.sigmas_px,
        fit_sigma_px=solution.sigma_px,
        held_out_sigma_px=held_out_px,
        focal_px=Estimate(float(solution.parameters[0]), float(np.sqrt(sure.covariance[0, 0]))),
        tilt_deg=_tilt_deg(solution.poses),
        mm_per_px=float(np.sqrt(pixel_areas_mm2(geometry, middle)[0])),
        field_mm=field_mm(geometry),
        errors=tuple(
            PlaceError(place, x, y, float(error))
            for (place, (x, y)), error in zip(places_px(*size_px).items(), found.at_places_mm, strict=True)
        ),
        worst_error_mm=found.worst_mm,
        error_shares_mm=found.shares_mm,
        checks=tuple(_check(view, on_board, positions) for view in belt_views[1:]),
        bow_mm=fit.bow_mm,
        stretch=fit.stretch,
    )
    return geometry, quality


def _check(view: BoardView, on_board: CameraGeometry, positions: Floats) -> BeltCheck:
    """The corners of a view in mm, against where they are on the print."""
    undistorted = undistorted_from_raw(on_board.lens, view.corners_px + 0.5)
    target = positions[view.corner_ids]
    away = np.linalg.norm(aligned(mm_from_undistorted(on_board, undistorted), target) - target, axis=1)
    return BeltCheck(view.name, len(away), float(np.sqrt((away**2).mean())), float(away.max()))


def _tilt_deg(poses: Floats) -> float:
    normals = np.array([cv2.Rodrigues(pose[:3])[0][:, 2] for pose in poses])
    return degrees(float(np.arccos(np.clip(normals @ normals.T, -1.0, 1.0)).max()))


def _of_fit(fit: _Fit, report: GeometryReport, board: Board, measured: MeasuredBoard) -> Iterator[Refusal]:
    """The likeliest cause first."""
    width_mm = board.squares_x * measured.square_x_mm
    bow, stretch = fit.bow_mm, fit.stretch
    if abs(bow.value) > max(BOW_MAX_SHARE * width_mm, _SURE * bow.standard_error):
        yield Refusal(
            "the board is not flat",
            f"a board bent by about {abs(bow.value):.1f} mm",
            f"flat to {BOW_MAX_SHARE * width_mm:.1f} mm",
            "Glue the print to something stiff (glass, aluminium, thick acrylic) and take all pictures again.",
        )
    reading_share = _READING_FACTOR * measured.square_uncertainty_mm / min(measured.square_x_mm, measured.square_y_mm)
    stretch_max = max(STRETCH_MAX_SHARE, reading_share)
    if abs(stretch.value) > max(stretch_max, _SURE * stretch.standard_error):
        yield Refusal(
            "the print is stretched",
            f"squares that are {stretch.value:+.2%} higher than measured, against their width",
            f"at most {stretch_max:.1%}",
            "Measure the board over all its squares, across and down; both numbers are needed.",
        )
    if fit.solution.sigma_px > SIGMA_MAX_PX:
        yield Refusal(
            "the pictures do not fit one lens",
            f"corners {fit.solution.sigma_px:.2f} px from where one lens would show them",
            f"at most {SIGMA_MAX_PX:g} px",
            _ONE_CAMERA,
        )
    if report.outliers_count > OUTLIERS_MAX_SHARE * report.corners_count:
        yield Refusal(
            "the pictures do not fit one lens",
            f"{report.outliers_count} of {report.corners_count} corners far from where one lens would show them",
            f"at most {OUTLIERS_MAX_SHARE:.0%}",
            _ONE_CAMERA,
        )


def _of_quality(quality: GeometryQuality) -> Iterator[Refusal]:
    if quality.held_out_sigma_px > SIGMA_MAX_PX:
        yield Refusal(
            "the pictures do not fit one lens",
            f"corners {quality.held_out_sigma_px:.2f} px from where the lens found from the others would show them",
            f"at most {SIGMA_MAX_PX:g} px",
            _ONE_CAMERA,
        )
        return
    focal = quality.focal_px
    if focal.standard_error > FOCAL_MAX_SHARE * focal.value:
        yield _undetermined(
            f"a focal length known to {focal.standard_error / focal.value:.1%} alone: "
            "the board was at nearly the same angle in all views"
        )
        return
    check = max(quality.checks, key=lambda one: one.rms_mm)
    corner_mm = np.sqrt(2) * quality.fit_sigma_px * quality.mm_per_px
    allowed_mm = _CHECK_FACTOR * float(np.hypot(corner_mm, quality.error_shares_mm["views"] / 2))
    if check.rms_mm > allowed_mm:
        yield Refusal(
            "the belt's pictures disagree",
            f"{check.view}: the board's own corners {check.rms_mm:.2g} mm off when laid elsewhere on the belt",
            f"at most {allowed_mm:.2g} mm",
            "Is the belt flat, did the board lie flat both times, was the camera touched? Take the belt's pictures again.",
        )
    if quality.worst_share_of_field > ERROR_MAX_SHARE:
        worst = max(quality.error_shares_mm, key=lambda cause: quality.error_shares_mm[cause])
        advice = {
            "views": "Take more pictures, with more of the board in each.",
            "square size": "Measure the board better: with a calliper, over all its squares.",
            "part height": "Measure the part's height better.",
            "lens model": "Take more pictures, with more of the board near the corners of the picture.",
        }[worst]
        yield Refusal(
            "not precise enough",
            f"positions known to {quality.worst_error_mm:.2g} mm, {quality.worst_share_of_field:.2%} of what the picture shows",
            f"at most {ERROR_MAX_SHARE:.1%}",
            advice,
        )
