"""Set-ups of a camera above a belt with known truth, and the pictures that an operator would take there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import pi, radians

import numpy as np
import numpy.typing as npt

from calibration.board import Board, MeasuredBoard, black_rectangles_mm, measured_over_all_squares
from calibration.geometry.calibrate import PartHeight
from pipeline.simulator.board_scene import BoardCamera, Exposure, Pose, Print, TrueLens, posed, printed

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_SIZES_PX = ((640, 480), (800, 600), (1024, 768), (1280, 960))
_CHESSBOARD_EACH = 5
"""Every so many set-ups one is with a chessboard."""


@dataclass(frozen=True, slots=True, eq=False)
class SetUp:
    """The truth, what the operator knows of it, and how the board is held.

    ``belt``: of the belt's surface. ``hand_poses`` and ``belt_poses`` are of the print. ``part_height_mm`` is the true one.
    """

    lens: TrueLens
    exposure: Exposure
    board: Board
    page: Print
    measured: MeasuredBoard
    belt: Pose
    field_mm: float
    hand_poses: tuple[Pose, ...]
    belt_poses: tuple[Pose, ...]
    part_height_mm: float
    part: PartHeight
    seed: int

    def pictures(self) -> Iterator[tuple[str, bool, Bytes]]:
        """Name, whether the board lies on the belt, and Mono8 (H, W)."""
        camera = BoardCamera(self.lens)
        generator = np.random.default_rng([self.seed, 1])
        for kind, poses in (("hand", self.hand_poses), ("belt", self.belt_poses)):
            for number, pose in enumerate(poses, 1):
                picture = camera.picture(self.page, pose, self.exposure, generator)
                yield f"{kind}-{number:02d}", kind == "belt", picture


def random_setup(seed: int) -> SetUp:
    """Frames of 640x480 to 1280x960 px, fields of 150 to 600 mm, lenses of 25 to 53 degrees that bend by up to 8 % inwards or 3 %
    outwards at the corner (half of them not by a polynomial), the belt tilted by up to 20 degrees, parts up to a tenth of the
    field high.

    What the operator measured is off by what a calliper or a good ruler is: 0.05 to 0.1 mm over the whole board, 0.02 to 0.1 mm in
    the part's height.
    """
    generator = np.random.default_rng([seed, 0])
    draw = generator.uniform
    width_px, height_px = _SIZES_PX[int(generator.integers(len(_SIZES_PX)))]
    focal_px = width_px * draw(1.0, 2.2)
    lens = TrueLens(
        width_px,
        height_px,
        focal_px,
        width_px * (0.5 + draw(-0.02, 0.02)),
        height_px * (0.5 + draw(-0.02, 0.02)),
        kind="polynomial" if generator.random() < 0.5 else "division",
        bend=draw(-0.03, 0.08),
        decentring=(draw(-1e-3, 1e-3), draw(-1e-3, 1e-3)),
    )
    field_mm = draw(150.0, 600.0)
    distance_mm = focal_px * field_mm / width_px
    is_chessboard = seed % _CHESSBOARD_EACH == _CHESSBOARD_EACH - 1
    share = 0.4 if is_chessboard else 0.62
    square_mm = round(2 * share * field_mm / 11) / 2
    board = Board(
        kind="chessboard" if is_chessboard else "charuco",
        squares_x=11,
        squares_y=8,
        square_mm=square_mm,
        marker_mm=round(0.73 * square_mm, 2),
    )
    page = board_page(board)
    page = replace(page, stretch_x=draw(0.985, 1.01), stretch_y=draw(0.985, 1.01))
    reading_mm = draw(0.05, 0.1)
    width_mm, height_mm = _size_mm(board, page)
    thickness_mm = draw(0.0, 5.0)
    measured = measured_over_all_squares(
        board,
        width_mm + draw(-reading_mm, reading_mm),
        height_mm + draw(-reading_mm, reading_mm),
        reading_mm=reading_mm,
        thickness_mm=thickness_mm,
    )
    middle_ray = lens.rays(np.array([width_px / 2, height_px / 2]))
    belt = posed(middle_ray, distance_mm, radians(draw(0.0, 20.0)), draw(0.0, 2 * pi), draw(-0.2, 0.2))
    height_mm_true = draw(0.0, 0.1) * field_mm
    height_off_mm = draw(0.02, 0.1)
    return SetUp(
        lens=lens,
        exposure=Exposure(blur_px=draw(0.5, 1.2), noise=draw(1.0, 4.0), vignetting=draw(0.0, 0.4)),
        board=board,
        page=page,
        measured=measured,
        belt=belt,
        field_mm=field_mm,
        hand_poses=tuple(hand_poses(lens, board, page, distance_mm, generator, count=36 if is_chessboard else 24)),
        belt_poses=tuple(_belt_poses(belt, board, page, thickness_mm, field_mm, generator)),
        part_height_mm=height_mm_true,
        part=PartHeight(max(0.0, height_mm_true + generator.normal(0.0, height_off_mm)), height_off_mm),
        seed=seed,
    )


def board_page(board: Board) -> Print:
    """As it comes from the printer, with a white border."""
    width_mm, height_mm = board.squares_x * board.square_mm, board.squares_y * board.square_mm
    return printed(black_rectangles_mm(board), width_mm, height_mm, border_mm=board.square_mm * 0.8)


def hand_poses(
    lens: TrueLens,
    board: Board,
    page: Print,
    distance_mm: float,
    generator: np.random.Generator,
    *,
    tilts_deg: tuple[float, float] = (15.0, 40.0),
    places: Callable[[int], tuple[float, float]] | None = None,
    count: int = 24,
) -> Iterator[Pose]:
    """The board held into every part of the picture in turn, tilted to all sides. ``places``: where, as shares of the frame."""
    draw = generator.uniform
    width_mm, height_mm = _size_mm(board, page)
    is_whole = board.kind == "chessboard"
    spots = (0.27, 0.5, 0.73) if is_whole else (0.14, 0.5, 0.86)
    for number in range(count):
        if places is not None:
            x, y = places(number)
        else:
            # The corners and edges twice as often as the middle.
            row, column = divmod((0, 2, 6, 8, 1, 3, 5, 7, 4)[number % 9], 3)
            x, y = spots[column] + draw(-0.04, 0.04), spots[row] + draw(-0.04, 0.04)
        target = lens.rays(np.array([x * lens.width_px, y * lens.height_px]))
        turn = draw(-0.35, 0.35) if is_whole else draw(-pi, pi)
        tilt = radians(draw(*tilts_deg))
        pose = posed(target, distance_mm * draw(0.85, 1.1), tilt, draw(0.0, 2 * pi), turn)
        yield pose.shifted(-width_mm / 2, -height_mm / 2, 0.0)


def _belt_poses(
    belt: Pose, board: Board, page: Print, thickness_mm: float, field_mm: float, generator: np.random.Generator
) -> Iterator[Pose]:
    """In the middle, and twice elsewhere, turned."""
    draw = generator.uniform
    width_mm, height_mm = _size_mm(board, page)
    for turn, away in ((0.1, 0.02), (pi / 2, 0.06), (pi, 0.12)):
        x, y = draw(-away, away) * field_mm, draw(-away, away) * field_mm
        laid = belt.shifted(x, y, -thickness_mm, turn + draw(-0.15, 0.15))
        yield laid.shifted(-width_mm / 2, -height_mm / 2, 0.0)


def _size_mm(board: Board, page: Print) -> tuple[float, float]:
    """Of the squares, as printed."""
    return (
        board.squares_x * board.square_mm * page.stretch_x,
        board.squares_y * board.square_mm * page.stretch_y,
    )


def _wrong_places(number: int) -> tuple[float, float]:
    return 0.3 + 0.02 * (number % 3), 0.5 + 0.03 * (number % 4)


def wrong_setups(seed: int = 0) -> dict[str, SetUp]:
    """Set-ups in which one thing is wrong, by the reason that they are to be refused for."""
    right = random_setup(seed)
    generator = np.random.default_rng([seed, 2])
    distance_mm = right.lens.focal_px * right.field_mm / right.lens.width_px
    hand = (right.lens, right.board, right.page, distance_mm, generator)
    other = right.board.model_copy(update={"dictionary": "DICT_4X4_50"})
    width_mm, height_mm = _size_mm(right.board, right.page)
    return {
        "too few views": replace(right, hand_poses=right.hand_poses[:6]),
        "poor coverage": replace(right, hand_poses=tuple(hand_poses(*hand, places=_wrong_places))),
        "views all parallel": replace(right, hand_poses=tuple(hand_poses(*hand, tilts_deg=(0.0, 0.3)))),
        "another dictionary": replace(right, board=other),
        "other counts": replace(right, board=right.board.model_copy(update={"squares_x": 12, "squares_y": 7})),
        "blurred": replace(right, exposure=replace(right.exposure, smear_px=9.0)),
        "printed at 80 %": replace(
            right, measured=measured_over_all_squares(right.board, 0.8 * width_mm, 0.8 * height_mm, reading_mm=0.1)
        ),
        "board not flat": replace(right, page=replace(right.page, bow_mm=0.02 * width_mm)),
        "stretched print": replace(right, page=replace(right.page, stretch_y=right.page.stretch_y * 1.01)),
        "belt tilted between its pictures": replace(
            right, belt_poses=(right.belt_poses[0], *(_tilted(pose, radians(3.0)) for pose in right.belt_poses[1:]))
        ),
    }


def _tilted(pose: Pose, angle_rad: float) -> Pose:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return Pose(
        pose.rotation @ np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]]), pose.translation_mm
    )
