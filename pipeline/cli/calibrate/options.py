"""Options that several calibrations have, and what they do with pictures and results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError

from calibration.board import Board
from pipeline.calibration_file import NEW, CalibrationStore, CameraCalibration, made_now
from pipeline.cli.output import fail
from pipeline.config import IMAGE_SUFFIXES
from pipeline.image_reading import decode_image
from vision.faults import Fault, FaultsError, faults_of
from vision.types import PixelFormat

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", metavar="DIR", help="The folder of the station's calibrations; made where it is not there."
    ),
]
RecipeOption = Annotated[str, typer.Option("--recipe-id", metavar="ID", help="The product, as in its recipe.")]
CameraOption = Annotated[str, typer.Option("--camera-id", metavar="ID", help="The camera, as in the line's file.")]
WhoOption = Annotated[str, typer.Option("--as", metavar="WHO", help="Who calibrates; stands in the result.")]
SquaresOption = Annotated[
    str, typer.Option("--squares", metavar="XxY", help="Squares across and down, all of them, not corners.")
]
SquareOption = Annotated[float, typer.Option("--square-mm", help="A square's side as the board was made.")]


def board_of(squares: str, square_mm: float, marker_mm: float | None, dictionary: str, *, is_chessboard: bool) -> Board:
    """The board that the options say. Ends the command where there is no such board."""
    across, _, down = squares.partition("x")
    if not (across.isascii() and across.isdigit() and down.isascii() and down.isdigit()):
        raise fail(f"--squares: got {squares!r}, expected two counts, as 11x8", 2)
    given = {"squares_x": int(across), "squares_y": int(down), "square_mm": square_mm, "dictionary": dictionary}
    given["marker_mm"] = round(0.73 * square_mm, 3) if marker_mm is None else marker_mm
    try:
        return Board.model_validate(given | {"kind": "chessboard" if is_chessboard else "charuco"})
    except ValidationError as error:
        raise FaultsError(faults_of("board", error)) from error


def pictures_in(folder: Path, pixel_format: PixelFormat) -> Iterator[tuple[str, npt.NDArray[np.uint8], bytes]]:
    """Name, pixels and the file's SHA-256 of each picture in a folder, by name. Raises FaultsError."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    except OSError as error:
        raise FaultsError([Fault(str(folder), "", str(error.strerror), "a folder of pictures")]) from error
    if not files:
        raise FaultsError([Fault(str(folder), "", "no picture in it", f"pictures ({', '.join(IMAGE_SUFFIXES)})")])
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise FaultsError([Fault(str(file), "", str(error.strerror), "a readable picture")]) from error
        pixels = decode_image(np.frombuffer(content, np.uint8), pixel_format)
        if pixels is None:
            raise FaultsError(
                [Fault(str(file), "", "no picture, or one that cannot be used", "a whole one of 8 bit a channel")]
            )
        yield file.name, pixels, hashlib.sha256(content).digest()


def begun(store: CalibrationStore, recipe_id: str, camera_id: str, who: str) -> CameraCalibration:
    """The calibration to go on from, or the beginning of one, of frames of no size yet. Raises FaultsError, OSError."""
    try:
        made_now(who, [])
        beginning = CameraCalibration(
            calibration_id=NEW, recipe_id=recipe_id, camera_id=camera_id, width_px=1, height_px=1
        )
    except ValidationError as error:
        raise FaultsError(faults_of("--as, --recipe-id, --camera-id", error)) from error
    return store.current(recipe_id, camera_id) or beginning


def of_size(begun: CameraCalibration, store: CalibrationStore, width_px: int, height_px: int) -> CameraCalibration:
    """The same for frames of this size. Raises FaultsError where it is of another one already."""
    if begun.calibration_id == NEW:
        return begun.model_copy(update={"width_px": width_px, "height_px": height_px})
    if (begun.width_px, begun.height_px) != (width_px, height_px):
        got = f"pictures of {width_px}x{height_px} px"
        expected = f"{begun.width_px}x{begun.height_px}, as all that is calibrated of this camera; or another --store"
        raise FaultsError([Fault(str(store.path(begun.recipe_id, begun.camera_id)), "width_px", got, expected)])
    return begun
