"""Options that several calibrations have, and what they do with pictures and results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError

from calibration.board import Board
from pipeline.calibrated_line import applied
from pipeline.calibration_file import CalibrationStore, CameraCalibration, made_now, with_sections
from pipeline.calibration_store import NEW, ChangedMeanwhile
from pipeline.cli.line_camera import camera_of
from pipeline.cli.output import fail
from pipeline.config import Line, load_line
from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.image_reading import decode_image, decode_seen
from pipeline.line_inspector import frame_formats
from vision.faults import Fault, FaultsError, faults_of
from vision.inspector import unseen_regions
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

_Decode: TypeAlias = Callable[[npt.NDArray[np.uint8], PixelFormat], "npt.NDArray[np.uint8] | None"]

LineArgument = Annotated[Path, typer.Argument(metavar="LINE", help="The line's YAML file.")]
CameraOption = Annotated[
    str | None, typer.Option("--camera-id", metavar="ID", help="Which camera, where the line has several.")
]
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


def pictures_in(
    folder: Path, pixel_format: PixelFormat, decode: _Decode = decode_image
) -> Iterator[tuple[str, npt.NDArray[np.uint8], bytes]]:
    """Name, ``Frame.pixels`` and the file's SHA-256 of each picture in a folder, by name. Raises FaultsError."""
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
        pixels = decode(np.frombuffer(content, np.uint8), pixel_format)
        if pixels is None:
            expected = f"a whole one of {'8 or 16' if pixel_format.bit_depth > 8 else '8'} bit a channel"
            if pixel_format.is_raw:
                expected += f", of a size that {pixel_format.value} has"
            raise FaultsError([Fault(str(file), "", "no picture, or one that cannot be used", expected)])
        yield file.name, pixels, hashlib.sha256(content).digest()


def seen_in(folder: Path, pixel_format: PixelFormat) -> Iterator[tuple[str, npt.NDArray[np.uint8], bytes]]:
    """The same as calibrations look at them: decoded."""
    return pictures_in(folder, pixel_format, decode_seen)


@dataclass(frozen=True, slots=True)
class Station:
    """One camera of a line and what is calibrated of it for the line's product: ``before`` is in force, or the beginning of one."""

    line: Line
    camera_id: str
    frame_format: FrameFormat
    store: CalibrationStore
    before: CameraCalibration

    @property
    def path(self) -> Path:
        """Of the calibration in force."""
        return self.store.path(self.before.recipe_id, self.camera_id)

    def keep(self, **sections: object) -> CameraCalibration:
        """Puts these sections in force beside those that are. Raises FaultsError; ends the command where the disk fails."""
        try:
            return self.store.keep(with_sections(self.before, **sections))
        except ChangedMeanwhile as error:
            raise fail(str(error)) from None
        except OSError as error:
            raise fail(f"{self.store.folder}: {error.strerror}") from None

    def keep_file(self, content: bytes) -> str:
        """A picture that a section names: its SHA-256. Ends the command where the disk fails."""
        try:
            return self.store.keep_file(content)
        except OSError as error:
            raise fail(f"{self.store.folder}: {error.strerror}") from None


def told_in_force(station: Station, kept: CameraCalibration) -> Iterator[str]:
    """What is in force now, what is to be found again because of it, and which of the recipe's regions cannot be judged with it.

    Raises FaultsError.
    """
    yield f"in force  {station.path}, calibration_id {kept.calibration_id}"
    calibrations = {station.camera_id: applied(kept, station.store, station.frame_format)}
    for fault in unseen_regions(station.line.recipe, calibrations, str(station.line.recipe_file)):
        yield f"REGIONS   the line will not start: {fault}"
    if kept.outdated:
        again = ", ".join(kept.outdated)
        yield f"OUTDATED  {again}: found before what was put in force since; find it again before the line is relied on"


def station_of(line_file: Path, camera_id: str | None, who: str | None) -> Station:
    """``who``: None where nothing is to be kept.

    Raises FaultsError; ends the command where the line keeps no calibrations, or ``camera_id`` is none of it.
    """
    line = load_line(line_file)
    formats = frame_formats(line.config)
    if line.config.calibrations is None:
        expected = "the folder that calibrations are kept in, e.g. calibrations: calibrations"
        raise fail(str(Fault(str(line.file), "calibrations", "none", expected)), 2)
    camera_id = camera_of(line, camera_id)
    store, recipe_id, frames = CalibrationStore(line.config.calibrations), line.recipe.recipe_id, formats[camera_id]
    try:
        if who is not None:
            made_now(who, [])
    except ValidationError as error:
        raise FaultsError(faults_of("--as", error)) from error
    try:
        before = store.current(recipe_id, camera_id)
    except OSError as error:
        raise fail(f"{store.folder}: {error.strerror}") from None
    beginning = CameraCalibration(
        calibration_id=NEW,
        recipe_id=recipe_id,
        camera_id=camera_id,
        width_px=frames.width_px,
        height_px=frames.height_px,
    )
    return Station(line, camera_id, frames, store, before or beginning)


def check_size(name: str, pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat, station: Station) -> None:
    """Raises FaultsError where a picture, in ``pixel_format``, is not of the size that the camera's frames have."""
    height_px, width_px = len(pixels), pixel_format.width_px(prod(pixels.shape[1:]))
    frames = station.frame_format
    if (width_px, height_px) != (frames.width_px, frames.height_px):
        expected = f"{frames.width_px}x{frames.height_px} px, as camera {station.camera_id} delivers"
        raise FaultsError([Fault(name, "", f"{width_px}x{height_px} px", expected)])
