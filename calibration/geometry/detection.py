"""A board in a picture: where its corners are seen, how sharply, and why it is not found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from math import pi, sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from calibration.board import DICTIONARIES, Board, charuco

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]

CORNERS_MIN_COUNT = 12
"""Of a view that is used: a pose and something to spare, with two numbers a corner."""
BLUR_MAX_PX = 1.8
"""Standard deviation of the blur. Corners are found in more, but worse than a tenth of a pixel."""
CONTRAST_MIN = 40.0
"""Grey levels between white and black squares."""

_COLLINEAR = 0.02
_WINDOW_MAX_PX = 10
_WINDOW_MIN_PX = 2
_SUBPIX_STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-4)
_MARKERS_MIN_COUNT = 6
"""Of which an order can be told."""
_WHITE_ROOM = 0.9
"""Of the white between a corner and the nearest marker, which the search for the corner may use."""
_SQUARE_ROOM = 0.4
_PROFILE_STEPS = 81


class Problem(str, Enum):
    """Why a view is not used."""

    NOT_FOUND = "no_board"
    OTHER_DICTIONARY = "other_dictionary"
    OTHER_COUNTS = "other_counts"
    FEW_CORNERS = "few_corners"
    BLURRED = "blurred"
    LOW_CONTRAST = "low_contrast"


@dataclass(frozen=True, slots=True, eq=False)
class BoardView:
    """A board as one picture shows it.

    ``corner_ids``: int32 (N,), row by row from the board's upper left; ``corners_px``: float64 (N, 2), x and y, where 0 is the
    *middle* of the first pixel, as OpenCV counts. ``blur_px``: standard deviation of the blur across the squares' edges, the worse
    of the two directions; ``contrast``: grey levels between white and black; both NaN without corners.
    ``problem``: why the view is not used, ``told`` in words; None and empty where it is.
    """

    name: str
    width_px: int
    height_px: int
    corner_ids: Ids
    corners_px: Floats
    blur_px: float
    contrast: float
    problem: Problem | None = None
    told: str = ""

    @property
    def is_usable(self) -> bool:
        return self.problem is None


def find_board(name: str, picture: npt.NDArray[np.uint8], board: Board) -> BoardView:
    """Finds the board in a picture, uint8 (H, W) or (H, W, 3) in any order of colours. Raises ValueError for another shape or
    dtype.

    A board may reach out of the picture where it has markers. A chessboard has to be seen whole.
    """
    grey = _grey(picture)
    height_px, width_px = grey.shape
    ids, corners = _charuco_corners(grey, board) if board.kind == "charuco" else _chessboard_corners(grey, board)
    if len(ids) < CORNERS_MIN_COUNT or _is_thin(ids, board):
        problem, told = _why_not(grey, board, len(ids))
        return BoardView(name, width_px, height_px, ids, corners, np.nan, np.nan, problem, told)
    homography = _homography(ids, corners, board)
    corners = _refined(grey, ids, corners, homography, board)
    blur_px, contrast = _sharpness(grey, ids, homography, board)
    if board.kind == "chessboard" and contrast < 0 and (board.squares_x + board.squares_y) % 2:
        # Found from its other end: there the corner square is white.
        corners = np.ascontiguousarray(corners[::-1])
        blur_px, contrast = _sharpness(grey, ids, _homography(ids, corners, board), board)
    found: tuple[Problem | None, str] = (None, "")
    if contrast < CONTRAST_MIN:
        told = f"black and white squares differ by {contrast:.0f} grey levels, expected at least {CONTRAST_MIN:.0f}: more light"
        found = (Problem.LOW_CONTRAST, told)
    elif not blur_px <= BLUR_MAX_PX:
        found = (Problem.BLURRED, _blurred(f"edges are blurred by {blur_px:.1f} px"))
    return BoardView(name, width_px, height_px, ids, corners, blur_px, contrast, *found)


def squares_of(ids: Ids, board: Board) -> Floats:
    """Where corners lie on the board, in squares from its upper left: float64 (N, 2)."""
    across = board.squares_x - 1
    return np.stack([ids % across + 1, ids // across + 1], axis=1).astype(np.float64)


def _grey(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        got = f"{picture.dtype} of shape {picture.shape}"
        raise ValueError(f"picture: got {got}, expected uint8 (height, width) or (height, width, 3)")
    # Green alone is sharper than a mixture: lenses focus colours differently.
    return np.ascontiguousarray(picture if picture.ndim == 2 else picture[:, :, 1])


@lru_cache(maxsize=4)
def _detector(board: Board) -> Any:
    return cv2.aruco.CharucoDetector(charuco(board))


def _nothing() -> tuple[Ids, Floats]:
    return np.zeros(0, np.int32), np.zeros((0, 2))


def _charuco_corners(grey: npt.NDArray[np.uint8], board: Board) -> tuple[Ids, Floats]:
    corners, ids, _, _ = _detector(board).detectBoard(grey)
    if ids is None or len(ids) == 0:
        return _nothing()
    return ids.reshape(-1).astype(np.int32), corners.reshape(-1, 2).astype(np.float64)


def _chessboard_corners(grey: npt.NDArray[np.uint8], board: Board) -> tuple[Ids, Floats]:
    size = (board.squares_x - 1, board.squares_y - 1)
    flags = cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, corners = cv2.findChessboardCornersSB(grey, size, flags=flags)
    if not found:
        return _nothing()
    return np.arange(board.corner_count, dtype=np.int32), corners.reshape(-1, 2).astype(np.float64)


def _is_thin(ids: Ids, board: Board) -> bool:
    """Corners nearly on a line say nothing about the other direction."""
    squares = squares_of(ids, board)
    spread = np.linalg.svd(squares - squares.mean(axis=0), compute_uv=False)
    return bool(spread[1] < _COLLINEAR * spread[0])


def _homography(ids: Ids, corners: Floats, board: Board) -> Floats:
    """From squares to pixels."""
    homography, _ = cv2.findHomography(squares_of(ids, board), corners)
    return np.asarray(homography, np.float64)


def _mapped(homography: Floats, points: Floats) -> Floats:
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return np.asarray(mapped[..., :2] / mapped[..., 2:])


def _steps_px(homography: Floats, squares: Floats) -> tuple[Floats, Floats]:
    """How a picture goes on from each place by a square across and one down: (N, 2) each."""
    here = _mapped(homography, squares)
    small = 1e-3
    return (
        (_mapped(homography, squares + np.array([small, 0.0])) - here) / small,
        (_mapped(homography, squares + np.array([0.0, small])) - here) / small,
    )


def _room(board: Board) -> float:
    """How far around a corner there are squares alone, in squares."""
    return _SQUARE_ROOM if board.kind == "chessboard" else _WHITE_ROOM * (1 - board.marker_mm / board.square_mm) / 2


def _refined(grey: npt.NDArray[np.uint8], ids: Ids, corners: Floats, homography: Floats, board: Board) -> Floats:
    """The corners once more, each looked for in as much of the picture as is free of markers: several times as exactly."""
    across, down = _steps_px(homography, squares_of(ids, board))
    # A square's height in the picture, over its longer side: what a window has to fit into.
    area = np.abs(across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0])
    narrow = area / np.maximum(np.linalg.norm(across, axis=1), np.linalg.norm(down, axis=1))
    room = narrow * _room(board)
    windows = np.clip(np.rint(room), _WINDOW_MIN_PX, _WINDOW_MAX_PX).astype(int)
    refined = corners.copy()
    for window in np.unique(windows):
        chosen = windows == window
        begun = corners[chosen].astype(np.float32).reshape(-1, 1, 2)
        side = int(window)
        found = cv2.cornerSubPix(grey, begun, (side, side), (-1, -1), _SUBPIX_STEPS).reshape(-1, 2)
        refined[chosen] = found
    astray = np.linalg.norm(refined - corners, axis=1) > _WINDOW_MAX_PX / 2
    refined[astray] = corners[astray]
    return refined


def _sharpness(grey: npt.NDArray[np.uint8], ids: Ids, homography: Floats, board: Board) -> tuple[float, float]:
    """(Standard deviation of the blur in px, contrast in grey levels), from profiles across the squares' edges.

    Across an edge between black and white that is blurred by a normal distribution, the steepest slope is
    ``contrast / (sigma * sqrt(2 * pi))``. A picture has no slopes between pixels: a profile is read where the edge crosses them,
    and the box of a pixel adds 1/12 to the variance, which stays in.
    """
    known = set(ids.tolist())
    across = board.squares_x - 1
    room = _room(board)
    worst, contrasts = [], []
    for step, offset in ((1, np.array([0.5, 0.0])), (across, np.array([0.0, 0.5]))):
        begins = [number for number in known if number + step in known and (step != 1 or number % across != across - 1)]
        if not begins:
            continue
        chosen = np.array(sorted(begins), np.int32)
        middles = squares_of(chosen, board) + offset
        normal = np.array([0.0, 1.0]) if step == 1 else np.array([1.0, 0.0])
        # Is the square on the side of the normal black?  The upper left square is.
        column, row = np.floor(middles + normal * 0.25).astype(int).T
        towards_black = np.where((column + row) % 2 == 0, 1.0, -1.0)
        reach = np.linspace(-1.0, 1.0, _PROFILE_STEPS)
        # As far into the white as there is no marker, and as far into the black.
        ends = middles[:, None, :] + (reach[:, None] * room * (towards_black[:, None] * normal)[:, None, :])
        places = _mapped(homography, ends)
        profiles = cv2.remap(
            grey.astype(np.float32),
            places[..., 0].astype(np.float32),
            places[..., 1].astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        # Across the edge: the profile's step in px, taken along the picture's own normal to the edge.
        along, beside = _steps_px(homography, middles)
        edge = along if step == 1 else beside
        other = beside if step == 1 else along
        height = np.abs(edge[:, 0] * other[:, 1] - edge[:, 1] * other[:, 0]) / np.linalg.norm(edge, axis=1)
        step_px = height * room * (reach[1] - reach[0])
        white, black = profiles[:, :8].mean(axis=1), profiles[:, -8:].mean(axis=1)
        contrast = white - black
        window = np.maximum(np.rint(1.0 / step_px), 1).astype(int)
        sigmas = [
            _sigma_px(profile, int(wide), float(size), float(high))
            for profile, wide, size, high in zip(profiles, window, step_px, contrast, strict=True)
        ]
        worst.append(float(np.median(sigmas)))
        contrasts.append(contrast)
    if not worst:
        return float("nan"), float("nan")
    return max(worst), float(np.median(np.concatenate(contrasts)))


def _sigma_px(profile: npt.NDArray[np.float32], wide: int, step_px: float, contrast: float) -> float:
    """From the steepest slope over about a pixel."""
    wide = min(wide, len(profile) - 1)
    slope = float(np.max(profile[:-wide] - profile[wide:])) / (wide * step_px)
    return max(contrast, 1.0) / (max(slope, 1e-6) * sqrt(2 * pi))


def _sharpest_px(grey: npt.NDArray[np.uint8]) -> float:
    """The standard deviation of the blur, in the worst of four directions, if the steepest slope of a picture in each is that of
    an edge between its black and its white. 0 where it has no contrast.
    """
    levels = grey.astype(np.float32)
    dark, light = np.percentile(levels, [5, 95])
    if light - dark < CONTRAST_MIN:
        return 0.0
    x, y = (cv2.Sobel(levels, cv2.CV_32F, *way, scale=0.125) for way in ((1, 0), (0, 1)))
    slopes = [float(np.percentile(np.abs(slope), 99.9)) for slope in (x, y, (x + y) / np.sqrt(2), (x - y) / np.sqrt(2))]
    return float((light - dark) / (max(min(slopes), 1e-6) * np.sqrt(2 * np.pi)))


def _blurred(got: str) -> str:
    return f"{got}, expected at most {BLUR_MAX_PX:g} px: hold the board still, focus the lens, shorten the exposure"


def _why_not(grey: npt.NDArray[np.uint8], board: Board, corner_count: int) -> tuple[Problem, str]:
    """What a picture shows instead of the board."""
    if board.kind == "chessboard":
        return Problem.NOT_FOUND, "no such chessboard is seen whole: all of it in the picture, with its white border"
    if (blur_px := _sharpest_px(grey)) > BLUR_MAX_PX:
        return Problem.BLURRED, _blurred(f"the sharpest edges are blurred by {blur_px:.1f} px")
    if stranger := _other_board(grey, board):
        return stranger
    if corner_count:
        told = f"{corner_count} corners are seen, expected at least {CORNERS_MIN_COUNT}, not on one line: more of the board"
        return Problem.FEW_CORNERS, told
    return Problem.NOT_FOUND, "no board is seen: is it in the picture, lit, and not mirrored?"


def _other_board(grey: npt.NDArray[np.uint8], board: Board) -> tuple[Problem, str] | None:
    """Are there markers that are not this board's, or not in its order?"""
    ours = board.dictionary.rsplit("_", 1)[0]
    for name in DICTIONARIES:
        if not name.endswith("_1000"):  # the smaller ones are its beginnings
            continue
        markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))
        parameters = cv2.aruco.DetectorParameters()
        parameters.errorCorrectionRate = 0.0  # among a thousand, something is like everything
        detector: Any = cv2.aruco.ArucoDetector(markers, parameters)
        corners, ids, _ = detector.detectMarkers(grey)
        if ids is None:
            continue
        seen = ids.reshape(-1).astype(np.int32)
        across = _squares_across(seen, np.stack([one.reshape(4, 2) for one in corners]).astype(np.float64))
        if across is None:
            continue
        bits = name.rsplit("_", 1)[0]
        if bits != ours:
            return Problem.OTHER_DICTIONARY, f"markers of {bits} instead of {ours}"
        if across != board.squares_x:
            told = f"a board {across} squares wide instead of {board.squares_x}"
            return Problem.OTHER_COUNTS, told
    return None


def _squares_across(ids: Ids, corners: Floats) -> int | None:
    """How many squares wide a board is on which markers lie as they are seen; None where no width fits.

    Their middles are to lie where a homography takes those of the board's white squares.
    """
    if len(ids) < _MARKERS_MIN_COUNT:
        return None
    middles = corners.mean(axis=1)
    size = float(np.median(np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)))
    fits: list[tuple[float, int]] = []
    for across in range(4, 61):
        places = _white_squares(ids, across)
        if np.linalg.matrix_rank(places - places.mean(axis=0), tol=0.5) < 2:
            continue
        homography, _ = cv2.findHomography(places, middles)
        if homography is not None:
            with np.errstate(all="ignore"):
                errors = np.linalg.norm(_mapped(np.asarray(homography, np.float64), places) - middles, axis=1)
            if np.isfinite(errors).all():
                fits.append((float(np.percentile(errors, 80)), across))
    if not fits:
        return None
    error, across = min(fits)
    return across if error < 0.25 * size else None


def _white_squares(ids: Ids, across: int) -> Floats:
    """The middle of each marker's square on a board so many squares wide."""
    last = int(ids.max()) + 1
    rows = 2 * last // across + 3
    row, column = np.divmod(np.arange(rows * across), across)
    white = (row + column) % 2 == 1
    places = np.stack([column[white], row[white]], axis=1) + 0.5
    return np.asarray(places[ids], np.float64)
