"""The printed board against OpenCV's, and what is measured of it."""

from __future__ import annotations

import re
from math import sqrt
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from calibration.board import (
    Board,
    MeasuredBoard,
    board_svg,
    charuco,
    corner_positions_mm,
    measured_over_all_squares,
)
from calibration.geometry.detection import find_board
from vision.faults import faults_of

SVG = "{http://www.w3.org/2000/svg}"
PX_PER_MM = 7  # cells of 1 mm at a marker of 7 mm: no rounding

boards = st.builds(
    Board,
    squares_x=st.integers(4, 12),
    squares_y=st.integers(4, 9),
    square_mm=st.just(10.0),
    marker_mm=st.just(7.0),
    dictionary=st.sampled_from(["DICT_5X5_100", "DICT_5X5_1000"]),
)


def rectangles(group: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    return [
        (float(one.get("x", 0)), float(one.get("y", 0)), float(one.get("width", 0)), float(one.get("height", 0)))
        for one in group.findall(f"{SVG}rect")
    ]


def group_of(svg: str, name: str) -> ElementTree.Element:
    (found,) = [one for one in ElementTree.fromstring(svg).findall(f"{SVG}g") if one.get("id") == name]
    return found


def squares_picture(board: Board) -> npt.NDArray[np.uint8]:
    """The page's squares, rastered."""
    black = rectangles(group_of(board_svg(board), "squares"))
    left, top = min(x for x, *_ in black), min(y for _, y, *_ in black)
    size = (round(board.squares_y * board.square_mm * PX_PER_MM), round(board.squares_x * board.square_mm * PX_PER_MM))
    picture = np.full(size, 255, np.uint8)
    for x, y, width, height in black:
        ends = [round(PX_PER_MM * at) for at in (y - top, y - top + height, x - left, x - left + width)]
        picture[ends[0] : ends[1], ends[2] : ends[3]] = 0
    return picture


@settings(max_examples=25, deadline=None)
@given(boards)
def test_what_is_printed_is_opencvs_board(board: Board) -> None:
    picture = squares_picture(board)
    size = (picture.shape[1], picture.shape[0])
    expected = charuco(board).generateImage(size, marginSize=0, borderBits=1)
    # OpenCV scales its markers by nearest neighbours: their edges may be a pixel off.
    assert (cv2.erode(expected, np.ones((3, 3))) <= picture).all()
    assert (picture <= cv2.dilate(expected, np.ones((3, 3)))).all()


@settings(max_examples=25, deadline=None)
@given(boards)
def test_its_corners_are_found_where_they_were_printed(board: Board) -> None:
    border = 100
    picture = np.pad(squares_picture(board), border, constant_values=255)
    view = find_board("print", picture, board)
    if board.corner_count >= 12:
        assert view.corner_ids.tolist() == list(range(board.corner_count))
        placed = corner_positions_mm(board, MeasuredBoard(10.0, 10.0, 0.0))[view.corner_ids]
        assert np.abs((view.corners_px + 0.5 - border) / PX_PER_MM - placed).max() < 0.02


def test_the_page_is_of_true_millimetres_and_bears_a_ruler() -> None:
    svg = board_svg(Board())
    page = ElementTree.fromstring(svg)
    assert (page.get("width"), page.get("height"), page.get("viewBox")) == ("297mm", "210mm", "0 0 297 210")
    foot = group_of(svg, "foot")
    ruler = rectangles(foot)
    marks = sorted(x + width / 2 for x, _, width, _ in ruler if width < 1)
    assert np.diff(marks) == pytest.approx([10.0] * 20)
    words = " ".join(text.text or "" for text in foot.findall(f"{SVG}text"))
    assert "200 mm" in words
    assert "11 squares across (meant 242 mm)" in words
    assert "8 down (meant 176 mm)" in words
    for x, y, width, height in [*rectangles(group_of(svg, "squares")), *ruler]:
        assert 0 <= x < x + width <= 297
        assert 0 <= y < y + height <= 210


def test_a_board_that_does_not_fit_on_the_page_is_refused_with_one_that_does() -> None:
    large = Board(square_mm=30.0, marker_mm=22.0)
    with pytest.raises(ValueError, match=r"at most 22 mm, fewer squares or a larger page"):
        board_svg(large)
    assert 'width="420mm"' in board_svg(large, "A3")
    assert board_svg(Board(square_mm=22.0))


@pytest.mark.parametrize(
    ("changed", "key", "told"),
    [
        ({"dictionary": "DICT_9X9_50"}, "dictionary", "one of DICT_4X4_50"),
        ({"dictionary": "DICT_4X4_50", "squares_x": 14}, "dictionary", "it holds 50"),
        ({"marker_mm": 21.0}, "marker_mm", "8.8 to 19.8 mm"),
        ({"kind": "chessboard", "squares_x": 8}, "squares_y", "another count than squares_x"),
        ({"squares_x": 3}, "squares_x", "greater than or equal to 4"),
    ],
)
def test_a_board_that_cannot_be_is_refused(changed: dict[str, Any], key: str, told: str) -> None:
    with pytest.raises(ValidationError) as error:
        Board(**changed)
    (fault,) = faults_of("board.yaml", error.value)
    assert fault.key == key
    assert told in fault.expected


def test_a_ruler_over_all_squares_says_how_large_one_is() -> None:
    measured = measured_over_all_squares(Board(), 243.1, 175.2, reading_mm=0.3, thickness_mm=3.0)
    assert measured.square_x_mm == pytest.approx(22.1)
    assert measured.square_y_mm == pytest.approx(21.9)
    assert measured.square_uncertainty_mm == pytest.approx(0.3 / sqrt(3) / 8)
    assert measured.thickness_mm == 3.0


@pytest.mark.parametrize("length_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_length_that_cannot_be_is_refused(length_mm: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"square_x_mm: got {length_mm / 11:g} mm")):
        measured_over_all_squares(Board(), length_mm, 176.0)
    with pytest.raises(ValueError, match="thickness_mm"):
        MeasuredBoard(22.0, 22.0, 0.1, thickness_mm=-1.0)
