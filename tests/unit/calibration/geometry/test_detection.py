"""Boards found in rendered pictures, against where they are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibration.board import Board
from calibration.geometry.detection import BoardView, Problem, find_board
from pipeline.bench.board_setups import board_page
from pipeline.simulator.board_scene import BoardCamera, Exposure, Pose, TrueLens, posed
from tests.board_views import corners_seen

Bytes = npt.NDArray[np.uint8]

LENS = TrueLens(640, 480, 900.0, 324.0, 236.0, kind="division", bend=0.05, decentring=(5e-4, -8e-4))
CHARUCO = Board(squares_x=8, squares_y=6, square_mm=20.0, marker_mm=14.0, dictionary="DICT_5X5_50")
CHESSBOARD = Board(kind="chessboard", squares_x=8, squares_y=5, square_mm=20.0)


@cache
def camera() -> BoardCamera:
    return BoardCamera(LENS)


def pose_of(board: Board, *, distance_mm: float = 330.0, tilt: float = 0.4, turn: float = 0.3, x: float = 0.0) -> Pose:
    laid = posed(np.array([x, 0.01]), distance_mm, tilt, 0.8, turn)
    return laid.shifted(-board.squares_x * 10.0, -board.squares_y * 10.0, 0.0)


def picture(board: Board, pose: Pose | None = None, *, seed: int = 1, **exposure: Any) -> Bytes:
    seen = Exposure(**{"blur_px": 0.6, "noise": 2.0, **exposure})
    return camera().picture(board_page(board), pose or pose_of(board), seen, np.random.default_rng(seed))


def errors_px(view: BoardView, board: Board, pose: Pose) -> npt.NDArray[np.float64]:
    ids, true = corners_seen(LENS, board, board_page(board), pose)
    where = dict(zip(ids.tolist(), true, strict=True))
    return np.array(
        [at + 0.5 - where[number] for number, at in zip(view.corner_ids.tolist(), view.corners_px, strict=True)]
    )


@pytest.mark.parametrize("board", [CHARUCO, CHESSBOARD])
@pytest.mark.parametrize("turn", [0.3, 3.3])
def test_corners_are_found_to_a_tenth_of_a_pixel(board: Board, turn: float) -> None:
    pose = pose_of(board, turn=turn)
    view = find_board("one", picture(board, pose), board)
    assert view.is_usable
    assert (view.name, view.width_px, view.height_px) == ("one", 640, 480)
    assert len(view.corner_ids) == board.corner_count
    away = errors_px(view, board, pose)
    assert away.std() < 0.06
    assert np.abs(away.mean(axis=0)).max() < 0.03


def test_a_charuco_board_may_reach_out_of_the_picture() -> None:
    pose = pose_of(CHARUCO, x=0.28)
    view = find_board("edge", picture(CHARUCO, pose), CHARUCO)
    assert view.is_usable
    assert len(view.corner_ids) < CHARUCO.corner_count
    assert errors_px(view, CHARUCO, pose).std() < 0.08


def test_a_chessboard_may_not() -> None:
    view = find_board("edge", picture(CHESSBOARD, pose_of(CHESSBOARD, x=0.28)), CHESSBOARD)
    assert view.problem is Problem.NOT_FOUND
    assert "whole" in view.told


def test_of_a_colour_picture_the_green_is_looked_at() -> None:
    grey = picture(CHARUCO)
    colour = np.stack([np.zeros_like(grey), grey, np.full_like(grey, 255)], axis=-1)
    assert np.array_equal(find_board("a", colour, CHARUCO).corners_px, find_board("a", grey, CHARUCO).corners_px)


@pytest.mark.parametrize("board", [CHARUCO, CHESSBOARD])
def test_more_blur_is_told_as_more_blur(board: Board) -> None:
    told = [find_board("a", picture(board, blur_px=blur), board).blur_px for blur in (0.5, 0.9, 1.3, 1.7)]
    assert told == sorted(told)
    assert told[1] == pytest.approx(0.95, abs=0.15)  # 0.9, and a pixel's own
    assert find_board("a", picture(board, smear_px=5.0), board).blur_px > told[1]


@pytest.mark.parametrize("exposure", [{"blur_px": 4.0}, {"smear_px": 14.0}])
def test_a_blurred_board_is_told_to_be_blurred(exposure: dict[str, Any]) -> None:
    view = find_board("a", picture(CHARUCO, **exposure), CHARUCO)
    assert view.problem is Problem.BLURRED
    assert "hold the board still" in view.told


def test_too_little_contrast_is_told() -> None:
    view = find_board("a", picture(CHARUCO, white=62.0, ground=40.0, noise=0.5), CHARUCO)
    assert view.problem is Problem.LOW_CONTRAST
    assert "more light" in view.told


@pytest.mark.parametrize(
    ("expected", "problem", "told"),
    [
        (
            CHARUCO.model_copy(update={"dictionary": "DICT_4X4_50"}),
            Problem.OTHER_DICTIONARY,
            "DICT_5X5 instead of DICT_4X4",
        ),
        (CHARUCO.model_copy(update={"squares_x": 9}), Problem.OTHER_COUNTS, "8 squares wide instead of 9"),
    ],
)
def test_another_board_is_told_apart(expected: Board, problem: Problem, told: str) -> None:
    view = find_board("a", picture(CHARUCO), expected)
    assert view.problem is problem
    assert told in view.told


def test_a_little_of_the_board_is_too_little() -> None:
    view = find_board("a", picture(CHARUCO, pose_of(CHARUCO, x=0.42, tilt=0.1, turn=0.0)), CHARUCO)
    assert view.problem is Problem.FEW_CORNERS
    assert "more of the board" in view.told


@pytest.mark.parametrize("board", [CHARUCO, CHESSBOARD])
@pytest.mark.parametrize("levels", ["dark", "noise", "gradient"])
def test_no_board_is_no_board(board: Board, levels: str) -> None:
    generator = np.random.default_rng(0)
    scene = {
        "dark": np.zeros((480, 640), np.uint8),
        "noise": generator.integers(0, 256, (480, 640), np.uint8),
        "gradient": np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1)),
    }[levels]
    view = find_board("a", scene, board)
    assert not view.is_usable
    assert view.told
    assert len(view.corner_ids) == len(view.corners_px) == 0


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_picture_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        find_board("a", wrong, CHARUCO)


def test_a_view_with_a_problem_is_not_usable() -> None:
    view = find_board("a", picture(CHARUCO), CHARUCO)
    assert not replace(view, problem=Problem.BLURRED).is_usable
