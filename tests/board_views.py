"""What is seen of a board without a picture of it: corners where a lens of known truth shows them, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from calibration.board import Board, MeasuredBoard
from calibration.geometry.calibrate import calibrate_geometry
from calibration.geometry.detection import CORNERS_MIN_COUNT, BoardView, Problem
from calibration.geometry.report import GeometryReport
from pipeline.bench.board_setups import SetUp
from pipeline.simulator.board_scene import Pose, Print, TrueLens

Floats = npt.NDArray[np.float64]

NOISE_PX = 0.03


def corners_seen(lens: TrueLens, board: Board, page: Print, pose: Pose) -> tuple[npt.NDArray[np.int32], Floats]:
    """Ids and true positions, from pixels' edges, of the corners inside the frame."""
    ids = np.arange(board.corner_count, dtype=np.int32)
    across = board.squares_x - 1
    x = (ids % across + 1) * board.square_mm * page.stretch_x
    y = (ids // across + 1) * board.square_mm * page.stretch_y
    half = board.squares_x * board.square_mm / 2
    z = -page.bow_mm * (1 - ((x - half) / half) ** 2)
    ahead = np.stack([x, y, z], axis=1) @ pose.rotation.T + pose.translation_mm
    seen = lens.positions(ahead[:, :2] / ahead[:, 2:])
    inside = ((seen > 3) & (seen < np.array([lens.width_px, lens.height_px]) - 3)).all(axis=1)
    return ids[inside], seen[inside]


def view_of(
    name: str,
    lens: TrueLens,
    board: Board,
    page: Print,
    pose: Pose,
    generator: np.random.Generator,
    noise_px: float = NOISE_PX,
) -> BoardView:
    ids, seen = corners_seen(lens, board, page, pose)
    found = seen - 0.5 + generator.normal(0.0, noise_px, seen.shape)
    problem = None if len(ids) >= CORNERS_MIN_COUNT else Problem.FEW_CORNERS
    return BoardView(
        name, lens.width_px, lens.height_px, ids, found, 0.7, 150.0, problem, "" if problem is None else "few"
    )


def views_of(setup: SetUp, noise_px: float = NOISE_PX, draw: int = 0) -> tuple[list[BoardView], list[BoardView]]:
    """Of the board held into the picture, and of the board on the belt."""
    generator = np.random.default_rng([setup.seed, draw, 7])
    hand, belt = (
        [
            view_of(f"{kind} {number}", setup.lens, setup.board, setup.page, pose, generator, noise_px)
            for number, pose in enumerate(poses)
        ]
        for kind, poses in (("hand", setup.hand_poses), ("belt", setup.belt_poses))
    )
    return hand, belt


def calibrated(
    setup: SetUp, measured: MeasuredBoard | None = None, noise_px: float = NOISE_PX, draw: int = 0
) -> GeometryReport:
    hand, belt = views_of(setup, noise_px, draw)
    return calibrate_geometry(setup.board, measured or setup.measured, hand, belt, setup.part)


def unusable(views: Sequence[BoardView], problem: Problem, told: str, count: int | None = None) -> list[BoardView]:
    """The first ``count`` of them, or all, with a problem."""
    return [
        replace(view, problem=problem, told=told) if count is None or number < count else view
        for number, view in enumerate(views)
    ]
