"""``lineside calibrate board``: a board to print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.board import board_svg
from pipeline.cli.calibrate.options import SquareOption, SquaresOption, board_of
from pipeline.cli.output import fail, write_new


def board(
    out: Annotated[Path, typer.Argument(metavar="FILE.svg", help="Where the page goes; never over another file.")],
    squares: SquaresOption = "11x8",
    square_mm: SquareOption = 22.0,
    marker_mm: Annotated[float | None, typer.Option(help="A marker's side; without it 0.73 of the square's.")] = None,
    dictionary: Annotated[str, typer.Option(help="OpenCV's name of the markers.")] = "DICT_5X5_100",
    chessboard: Annotated[bool, typer.Option(help="Without markers: has to be seen whole in each picture.")] = False,
    a3: Annotated[bool, typer.Option("--a3", help="A page of A3, not A4.")] = False,
) -> None:
    """Write a calibration board as a page in true millimetres. Print it at 100 %, glue it to something flat, and measure it."""
    made = board_of(squares, square_mm, marker_mm, dictionary, is_chessboard=chessboard)
    try:
        text = board_svg(made, "A3" if a3 else "A4")
    except ValueError as error:
        raise fail(str(error), 2) from None
    if not out.name:
        raise fail(f"FILE.svg: got {out}, expected a new file", 2)
    try:
        write_new(out, text)
    except OSError as error:
        raise fail(f"{out}: {error.strerror}", 2 if isinstance(error, FileExistsError) else 1) from None
    print(f"{out}: {made.described()}. Print it at 100 % and measure all squares across and down with a ruler.")
