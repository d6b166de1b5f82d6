"""The board that a camera is calibrated with: what is printed, what was measured of the print, where its corners lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vision.faults import disagreement
from vision.recipe import Strict

Page = Literal["A4", "A3"]

DICTIONARIES = tuple(f"DICT_{bits}X{bits}_{count}" for bits in (4, 5, 6, 7) for count in (50, 100, 250, 1000))
"""OpenCV's own marker dictionaries. Those of one size begin alike: the first 50 of the 100 are those of the 50."""

_PAGES_MM: dict[Page, tuple[int, int]] = {"A4": (297, 210), "A3": (420, 297)}
"""Landscape."""
_MARGIN_MM = 8.0
_FOOT_MM = 18.0
"""Below the squares: the ruler and what is to be measured."""
_LEGEND_MM = 3.2
_RULER_STEP_MM = 10


class Board(Strict):
    """A calibration board as it is meant to be printed. ``squares_x`` and ``squares_y`` count all squares, not corners.

    The upper left square is black, and markers are in white squares (OpenCV's pattern since 4.6).
    """

    kind: Literal["charuco", "chessboard"] = "charuco"
    squares_x: int = Field(default=11, ge=4, le=60)
    squares_y: int = Field(default=8, ge=4, le=60)
    square_mm: float = Field(default=22.0, gt=0.0, le=500.0, description="as printed at 100 %")
    marker_mm: float = Field(default=16.0, gt=0.0, description="side of a marker, charuco alone")
    dictionary: str = Field(default="DICT_5X5_100", description="of the markers, charuco alone")

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Board:
        if self.kind == "chessboard":
            if self.squares_x == self.squares_y:
                got = f"{self.squares_x} x {self.squares_y} squares"
                raise disagreement("squares_y", got, "another count than squares_x, so that the board's sides differ")
            return self
        if self.dictionary not in DICTIONARIES:
            raise disagreement("dictionary", repr(self.dictionary), f"one of {', '.join(DICTIONARIES)}")
        if not 0.4 * self.square_mm <= self.marker_mm <= 0.9 * self.square_mm:
            expected = f"0.4 to 0.9 of square_mm: {0.4 * self.square_mm:g} to {0.9 * self.square_mm:g} mm"
            raise disagreement("marker_mm", f"{self.marker_mm:g} mm", expected)
        if self.marker_count > (size := int(self.dictionary.rsplit("_", 1)[1])):
            got = f"{self.dictionary} for {self.marker_count} markers"
            raise disagreement("dictionary", got, f"a larger one, or fewer squares: it holds {size}")
        return self

    @property
    def marker_count(self) -> int:
        """White squares: every other one, the upper left being black."""
        return self.squares_x * self.squares_y // 2

    @property
    def corner_count(self) -> int:
        """Inner corners, where four squares meet."""
        return (self.squares_x - 1) * (self.squares_y - 1)

    def described(self) -> str:
        """In words for an operator."""
        squares = f"{self.squares_x} x {self.squares_y} squares of {self.square_mm:g} mm"
        return f"ChArUco board, {squares}, {self.dictionary}" if self.kind == "charuco" else f"chessboard, {squares}"


@dataclass(frozen=True, slots=True)
class MeasuredBoard:
    """What was measured of a printed board.

    ``square_x_mm``, ``square_y_mm``: a square's width and height; printers stretch the two differently.
    ``square_uncertainty_mm``: their standard uncertainty. ``thickness_mm``: how high the print lies above the belt when the board
    does. Raises ValueError for what no board can be.
    """

    square_x_mm: float
    square_y_mm: float
    square_uncertainty_mm: float
    thickness_mm: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("square_x_mm", self.square_x_mm, "above 0"),
            ("square_y_mm", self.square_y_mm, "above 0"),
            ("square_uncertainty_mm", self.square_uncertainty_mm, "at least 0"),
            ("thickness_mm", self.thickness_mm, "at least 0"),
        ):
            if not (np.isfinite(value) and (value > 0 if least == "above 0" else value >= 0)):
                raise ValueError(f"{name}: got {value:g} mm, expected a length {least}")


def measured_over_all_squares(
    board: Board, width_mm: float, height_mm: float, *, reading_mm: float = 0.5, thickness_mm: float = 0.0
) -> MeasuredBoard:
    """From a ruler laid over all squares of a row and of a column, read to within ``reading_mm`` either way.

    A reading anywhere within ``+- a`` has the standard uncertainty ``a / sqrt(3)`` (JCGM 100:2008, 4.3.7). Raises ValueError.
    """
    return MeasuredBoard(
        square_x_mm=width_mm / board.squares_x,
        square_y_mm=height_mm / board.squares_y,
        square_uncertainty_mm=reading_mm / np.sqrt(3.0) / min(board.squares_x, board.squares_y),
        thickness_mm=thickness_mm,
    )


def corner_positions_mm(board: Board, measured: MeasuredBoard) -> npt.NDArray[np.float64]:
    """Where the inner corners lie on the print, row by row from the upper left: float64 (N, 2), from the board's corner."""
    across, down = np.meshgrid(np.arange(1, board.squares_x), np.arange(1, board.squares_y))
    return np.stack([across.ravel() * measured.square_x_mm, down.ravel() * measured.square_y_mm], axis=1)


def charuco(board: Board) -> Any:
    """OpenCV's board, a square 1 large. Raises ValueError for a chessboard."""
    if board.kind != "charuco":
        raise ValueError(f"got a {board.kind}, expected a charuco board")
    markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    return cv2.aruco.CharucoBoard((board.squares_x, board.squares_y), 1.0, board.marker_mm / board.square_mm, markers)


def black_rectangles_mm(board: Board) -> list[tuple[float, float, float, float]]:
    """What is black on the board: x, y, width, height in mm from the squares' upper left corner."""
    size = board.square_mm
    black = [
        (column * size, row * size, size, size)
        for row in range(board.squares_y)
        for column in range(board.squares_x)
        if (row + column) % 2 == 0
    ]
    if board.kind == "chessboard":
        return black
    markers = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    cells = markers.markerSize + 2  # a black border, one cell wide
    cell_mm = board.marker_mm / cells
    inset = (size - board.marker_mm) / 2
    white = [(row, column) for row in range(board.squares_y) for column in range(board.squares_x) if (row + column) % 2]
    for marker, (row, column) in enumerate(white):
        bits = cv2.aruco.generateImageMarker(markers, marker, cells, borderBits=1)
        for line, begin, end in _black_runs(np.asarray(bits, np.uint8)):
            x, y = column * size + inset + begin * cell_mm, row * size + inset + line * cell_mm
            black.append((x, y, (end - begin) * cell_mm, cell_mm))
    return black


def board_svg(board: Board, page: Page = "A4") -> str:
    """The board as a page in true millimetres, with a ruler and what is to be measured once it is printed.

    Raises ValueError where it does not fit on the page.
    """
    page_width, page_height = _PAGES_MM[page]
    width, height = board.squares_x * board.square_mm, board.squares_y * board.square_mm
    room_width, room_height = page_width - 2 * _MARGIN_MM, page_height - 2 * _MARGIN_MM - _FOOT_MM
    if width > room_width or height > room_height:
        largest = min(room_width / board.squares_x, room_height / board.squares_y)
        raise ValueError(
            f"board: got {width:g} x {height:g} mm of squares, expected at most {room_width:g} x {room_height:g} mm on {page}: "
            f"take squares of at most {np.floor(largest * 2) / 2:g} mm, fewer squares or a larger page"
        )
    left = (page_width - width) / 2
    top = _MARGIN_MM
    squares = "".join(_rectangle(left + x, top + y, w, h) for x, y, w, h in black_rectangles_mm(board))
    foot = top + height + 5.0
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{page_width}mm" height="{page_height}mm" '
        f'viewBox="0 0 {page_width} {page_height}" shape-rendering="crispEdges">\n'
        f'<rect id="page" width="{page_width}" height="{page_height}" fill="#fff"/>\n'
        f'<g id="squares" fill="#000">\n{squares}</g>\n'
        f'<g id="foot" fill="#000" font-family="sans-serif" font-size="{_LEGEND_MM}">\n'
        f"{_ruler(left, foot, width)}"
        f'<text x="{left:g}" y="{foot + 9:g}">{board.described()}. Print at 100 % (actual size), glue it to something flat and '
        "stiff.</text>\n"
        f'<text x="{left:g}" y="{foot + 13.5:g}">Measure: all {board.squares_x} squares across (meant {width:g} mm) ________ mm, '
        f"all {board.squares_y} down (meant {height:g} mm) ________ mm</text>\n"
        "</g>\n</svg>\n"
    )


def _rectangle(x: float, y: float, width: float, height: float) -> str:
    return f'<rect x="{x:.6g}" y="{y:.6g}" width="{width:.6g}" height="{height:.6g}"/>\n'


def _ruler(left: float, top: float, room_mm: float) -> str:
    """A line with a mark each 10 mm."""
    length = int(min(room_mm, 200.0)) // _RULER_STEP_MM * _RULER_STEP_MM
    marks = "".join(
        _rectangle(left + at - 0.1, top, 0.2, 2.5 if at % 50 == 0 else 1.5)
        for at in range(0, length + 1, _RULER_STEP_MM)
    )
    return (
        _rectangle(left, top, length, 0.2)
        + marks
        + f'<text x="{left + length + 2:g}" y="{top + 3:g}">{length} mm</text>\n'
    )


def _black_runs(bits: npt.NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """Line, begin and end of each run of black cells."""
    runs = []
    for line, cells in enumerate(bits == 0):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.astype(np.int8), [0]])))
        runs += [(line, int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
    return runs
