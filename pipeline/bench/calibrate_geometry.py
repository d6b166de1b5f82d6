"""Suite ``calibrate-geometry``: cameras of known truth, calibrated from rendered pictures: do the millimetres err as stated?

The truth is that of the ray caster, which shares nothing with the calibration. Positions all over the raw frame, on the plane of
the part's upper side, are compared once a shift and a turn are taken out: where the millimetres begin is a convention.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calibration.geometry.calibrate import calibrate_geometry
from calibration.geometry.detection import BoardView, find_board
from calibration.geometry.report import GeometryReport
from pipeline.bench.board_setups import SetUp, random_setup, wrong_setups
from pipeline.bench.statistics import share_interval
from vision.camera_geometry import mm_from_undistorted, undistorted_from_raw

Floats = npt.NDArray[np.float64]

ERROR_MAX_SHARE = 0.001
"""Of the field's width, of the root mean square and of the worst place alike."""
COVERED_MIN_SHARE = 0.9

_GRID = (13, 11)


def calibrate_geometry_suite(
    *, setups: int = 50, workers: int = 1, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """``setups`` random ones, and each wrong one. ``progress`` is told of each as it is done."""
    tell = progress if progress is not None else lambda _: None
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        right = []
        for one in pool.map(measure, range(setups)):
            right.append(one)
            tell(f"set-up {one['seed']}")
        wrong = {}
        for name, refusals in pool.map(_refused, wrong_setups()):
            wrong[name] = refusals
            tell(name)
    judged = [one for one in right if one["refusals"] == []]
    places = [covered for one in judged for covered in one["places_covered"].values()]
    within = sum(one["max_share_of_field"] <= ERROR_MAX_SHARE for one in judged)
    return {
        "suite": "calibrate-geometry",
        "setups": setups,
        "refused_right_setups": [
            {"seed": one["seed"], "refusals": one["refusals"]} for one in right if one["refusals"]
        ],
        "field_share_of_error": {
            "limit": ERROR_MAX_SHARE,
            "setups_within": share_interval(within, setups),
            "rms": _spread([one["rms_share_of_field"] for one in judged]),
            "max": _spread([one["max_share_of_field"] for one in judged]),
        },
        "stated_error": {
            "confidence": 0.95,
            "places_covered": share_interval(sum(places), len(places)),
            "setups_covered_everywhere": share_interval(sum(one["is_covered"] for one in judged), len(judged)),
            "stated_share_of_field": _spread([one["stated_share_of_field"] for one in judged]),
            "true_over_stated": _spread([one["max_share_of_field"] / one["stated_share_of_field"] for one in judged]),
        },
        "wrong_setups": wrong,
        "each": right,
    }


def faults_of(result: dict[str, Any]) -> list[str]:
    """Which promises a result breaks."""
    faults = [f"set-up {one['seed']} was refused: {one['refusals'][0]}" for one in result["refused_right_setups"]]
    error = result["field_share_of_error"]
    if error["setups_within"]["count"] < result["setups"]:
        faults.append(
            f"{error['setups_within']['count']} of {result['setups']} set-ups within {ERROR_MAX_SHARE:.1%} of the field"
        )
    for name in ("places_covered", "setups_covered_everywhere"):
        covered = result["stated_error"][name]
        if covered["share"] is None or covered["share"] < COVERED_MIN_SHARE:
            faults.append(f"{name}: {covered['count']} of {covered['total']}")
    faults += [f"not refused: {name}" for name, refusals in result["wrong_setups"].items() if not refusals]
    return faults


def calibrated(setup: SetUp) -> GeometryReport:
    """From the pictures of a set-up."""
    hand: list[BoardView] = []
    belt: list[BoardView] = []
    for name, is_on_belt, picture in setup.pictures():
        (belt if is_on_belt else hand).append(find_board(name, picture, setup.board))
    return calibrate_geometry(setup.board, setup.measured, hand, belt, setup.part)


def measure(seed: int) -> dict[str, Any]:
    """One set-up, against its truth."""
    cv2.setNumThreads(1)
    setup = random_setup(seed)
    report = calibrated(setup)
    told: dict[str, Any] = {
        "seed": seed,
        "lens": setup.lens.kind,
        "board": setup.board.kind,
        "width_px": setup.lens.width_px,
        "field_mm": round(setup.field_mm, 1),
        "refusals": [str(refusal) for refusal in report.refusals],
    }
    if report.geometry is None or report.quality is None:
        return told
    quality = report.quality
    lens = report.geometry.lens
    across, down = (
        np.linspace(0.0, size, count) for size, count in zip((lens.width_px, lens.height_px), _GRID, strict=True)
    )
    grid = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    places = np.array([(place.x_px, place.y_px) for place in quality.errors])
    raw = np.concatenate([grid, places])
    true_mm = setup.belt.points(setup.lens.rays(raw), setup.part_height_mm)
    ours_mm = mm_from_undistorted(report.geometry, undistorted_from_raw(lens, raw))
    errors_mm = _less_shift_and_turn(ours_mm, true_mm, len(grid))
    on_grid, at_places = errors_mm[: len(grid)], errors_mm[len(grid) :]
    width_mm = quality.field_mm[0]
    return {
        **told,
        "lens_model": quality.lens_model,
        "views": len(report.fitted),
        "rms_mm": round(float(np.sqrt((on_grid**2).mean())), 5),
        "max_mm": round(float(on_grid.max()), 5),
        "rms_share_of_field": float(np.sqrt((on_grid**2).mean())) / width_mm,
        "max_share_of_field": float(on_grid.max()) / width_mm,
        "stated_share_of_field": quality.worst_share_of_field,
        "is_covered": bool(on_grid.max() <= quality.worst_error_mm),
        "places_covered": {
            place.place: bool(error <= place.error_mm) for place, error in zip(quality.errors, at_places, strict=True)
        },
        "held_out_sigma_px": round(quality.held_out_sigma_px, 4),
    }


def _refused(name: str) -> tuple[str, list[str]]:
    cv2.setNumThreads(1)
    return name, [str(refusal) for refusal in calibrated(wrong_setups()[name]).refusals]


def _less_shift_and_turn(ours_mm: Floats, true_mm: Floats, fitted: int) -> Floats:
    """Distances (N,) once the first ``fitted`` are shifted and turned upon each other, as complex numbers."""
    ours, true = (points[:, 0] + 1j * points[:, 1] for points in (ours_mm, true_mm))
    ours, true = ours - ours[:fitted].mean(), true - true[:fitted].mean()
    turn = np.vdot(ours[:fitted], true[:fitted])
    return np.asarray(np.abs(ours * turn / abs(turn) - true))


def _spread(shares: list[float]) -> dict[str, float | None]:
    if not shares:
        return {"median": None, "max": None}
    return {"median": round(float(np.median(shares)), 6), "max": round(float(np.max(shares)), 6)}
