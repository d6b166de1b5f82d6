"""The pictures on the simulated parts, and the frame geometry that recipes are written for.

A frame is the picture, untouched, with a strip of rows below it that carries the part number (``vision.part_mark``).
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline.simulator.process import Options
from vision.part_mark import MARK_CELLS_HIGH, MARK_CELLS_WIDE, stamp
from vision.raw_picture import raw_pixels
from vision.types import PixelFormat

Label = Literal["good", "defective"]
Pixels = npt.NDArray[np.uint8]

SOLAR_CELL_SIDE_PX = 300
SOLAR_CELL_DEFECTIVE_AT = 0.5
"""Probability in the data set's own labels from which a cell counts as defective."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_LARGEST_CELL_PX = 4


class ImageError(ValueError):
    """The chosen pictures cannot be had. The text says what to do."""


class SyntheticImages(Options):
    """Procedural pictures: good is a dark texture, defective clearly brighter. Labels are known."""

    kind: Literal["synthetic"] = "synthetic"
    width_px: int = Field(default=64, ge=MARK_CELLS_WIDE)
    height_px: int = Field(default=64, ge=1)
    pixel_format: PixelFormat = PixelFormat.MONO8
    image_count: int = Field(default=32, ge=2)
    defective_share: float = Field(default=0.3, ge=0.0, le=1.0)
    seed: int = 0


class SolarCellImages(Options):
    """Electroluminescence pictures of solar cells, 300 x 300, grey of 8 bit, from the package ``elpv-dataset``."""

    kind: Literal["solar-cells"] = "solar-cells"
    indices: list[int] | None = Field(default=None, min_length=2, description="rows of the data set; null: all 2,624")
    pixel_format: PixelFormat = PixelFormat.MONO8


class FolderImages(Options):
    """Image files of one size in ``path/good`` and ``path/defective``, or in ``path`` itself without labels."""

    kind: Literal["folder"] = "folder"
    path: Path
    pixel_format: PixelFormat = PixelFormat.MONO8

    @model_validator(mode="after")
    def _folder_exists(self) -> FolderImages:
        if not self.path.is_dir():
            raise ValueError(f"got {self.path}, expected a folder of images")
        return self


ImageSource = Annotated[SyntheticImages | SolarCellImages | FolderImages, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class FrameGeometry:
    """Where things are in a frame. The picture's top left corner is the frame's."""

    frame_width_px: int
    frame_height_px: int
    picture_width_px: int
    picture_height_px: int
    mark_x_px: int
    mark_y_px: int
    mark_cell_px: int
    pixel_format: PixelFormat


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Loaded pictures: uint8, C-contiguous, all of one shape, with a label each or None.

    ``pictures``: (H, W), or (H, W, 3), blue first; ``sent``: the same in the pixel format that frames are sent in.
    """

    pictures: tuple[Pixels, ...]
    sent: tuple[Pixels, ...]
    labels: tuple[Label | None, ...]
    geometry: FrameGeometry


def frame_geometry(source: SyntheticImages | SolarCellImages | FolderImages) -> FrameGeometry:
    """The frames' geometry, without loading more than one picture. Raises ImageError."""
    if isinstance(source, SyntheticImages):
        return _geometry(source.width_px, source.height_px, source.pixel_format)
    if isinstance(source, SolarCellImages):
        return _geometry(SOLAR_CELL_SIDE_PX, SOLAR_CELL_SIDE_PX, source.pixel_format)
    pixel_format = source.pixel_format
    return _geometry_of(_read_image(_folder_files(source.path)[0][0], pixel_format), pixel_format)


def load_images(source: SyntheticImages | SolarCellImages | FolderImages) -> ImageSet:
    """Loads every picture of the source. Raises ImageError where there are none, or none that fit."""
    geometry = frame_geometry(source)
    pictures: list[Pixels]
    labels: list[Label | None]
    if isinstance(source, SyntheticImages):
        pictures, labels = _draw(source)
    elif isinstance(source, SolarCellImages):
        pictures, labels = _load_solar_cells(source)
    else:
        pictures, labels = _load_folder(source, geometry)
    whole = tuple(np.ascontiguousarray(picture) for picture in pictures)
    sent = tuple(as_sent(picture, geometry.pixel_format) for picture in whole)
    return ImageSet(whole, sent, tuple(labels), geometry)


def as_sent(picture: Pixels, pixel_format: PixelFormat) -> Pixels:
    """A picture, (H, W) or (H, W, 3), blue first, as the camera sends it."""
    if pixel_format is PixelFormat.RGB8:
        return np.ascontiguousarray(picture[:, :, ::-1])
    return raw_pixels(picture, pixel_format)


def mark_strip(geometry: FrameGeometry, part_number: int) -> bytes:
    """The rows below the picture with the part number stamped into them, as bytes row by row."""
    rows = geometry.frame_height_px - geometry.picture_height_px
    channels = geometry.pixel_format.channel_count
    shape = (rows, geometry.frame_width_px) if channels == 1 else (rows, geometry.frame_width_px, channels)
    strip = np.zeros(shape, np.uint8)
    y_px = geometry.mark_y_px - geometry.picture_height_px
    stamp(strip, part_number, x_px=geometry.mark_x_px, y_px=y_px, cell_px=geometry.mark_cell_px)
    return as_sent(strip, geometry.pixel_format).tobytes()


def shuffled_forever(image_count: int, seed: int) -> Iterator[int]:
    """Indices 0 .. image_count - 1 in shuffled rounds without end; neighbours are never the same index.

    Raises ValueError where ``image_count`` is below 2.
    """
    if image_count < 2:
        raise ValueError(f"got {image_count} image, expected at least 2: neighbouring parts must differ")
    chance = random.Random(seed)
    previous = -1
    while True:
        order = list(range(image_count))
        chance.shuffle(order)
        if order[0] == previous:
            order[0], order[-1] = order[-1], order[0]
        yield from order
        previous = order[-1]


def _geometry(width_px: int, height_px: int, pixel_format: PixelFormat) -> FrameGeometry:
    cell_px = min(_LARGEST_CELL_PX, width_px // MARK_CELLS_WIDE)
    if cell_px < 1:
        raise ImageError(f"pictures {width_px} px wide: expected at least {MARK_CELLS_WIDE} px, the part mark's width")
    for side, size_px, step_px in (
        ("wide", width_px, pixel_format.width_step_px),
        ("high", height_px, pixel_format.height_step_px),
    ):
        if size_px % step_px:
            expected = f"a multiple of {step_px} px, as {pixel_format.value} has it"
            raise ImageError(f"pictures {size_px} px {side}: expected {expected}")
    return FrameGeometry(
        frame_width_px=width_px,
        frame_height_px=height_px + MARK_CELLS_HIGH * cell_px,
        picture_width_px=width_px,
        picture_height_px=height_px,
        mark_x_px=0,
        mark_y_px=height_px,
        mark_cell_px=cell_px,
        pixel_format=pixel_format,
    )


def _geometry_of(picture: Pixels, pixel_format: PixelFormat) -> FrameGeometry:
    return _geometry(picture.shape[1], picture.shape[0], pixel_format)


def _draw(source: SyntheticImages) -> tuple[list[Pixels], list[Label | None]]:
    chance = np.random.default_rng(source.seed)
    shape = (source.height_px, source.width_px, source.pixel_format.channel_count)
    defective_count = round(source.image_count * source.defective_share)
    labels: list[Label | None] = [
        "defective" if index < defective_count else "good" for index in range(source.image_count)
    ]
    pictures: list[Pixels] = []
    for label in labels:
        low, high = (180, 240) if label == "defective" else (20, 80)
        picture = chance.integers(low, high, shape, np.uint8)
        pictures.append(picture[:, :, 0] if shape[2] == 1 else picture)
    return pictures, labels


def solar_cell_rows() -> tuple[Path, list[tuple[str, str, str]]]:
    """The data set's folder and of each cell its file, defect probability and type. Raises ImageError."""
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise ImageError("the solar cells' package elpv-dataset is missing: pip install 'lineside[demo]'")
    folder = Path(package.origin).parent / "data"
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    rows = [(file, probability, kind) for file, probability, kind in map(str.split, filter(str.strip, lines))]
    return folder, rows


def _load_solar_cells(source: SolarCellImages) -> tuple[list[Pixels], list[Label | None]]:
    # Only the chosen files: the package's own load_dataset takes ten seconds and 680 MB for all of them.
    folder, rows = solar_cell_rows()
    indices = range(len(rows)) if source.indices is None else source.indices
    outside = [index for index in indices if not 0 <= index < len(rows)]
    if outside:
        raise ImageError(f"solar cells: got indices {outside[:5]}, expected 0..{len(rows) - 1}")
    pictures: list[Pixels] = []
    labels: list[Label | None] = []
    for index in indices:
        file, probability, _ = rows[index]
        pictures.append(_read_image(folder / file, source.pixel_format))
        labels.append("defective" if float(probability) >= SOLAR_CELL_DEFECTIVE_AT else "good")
    return pictures, labels


def _load_folder(source: FolderImages, geometry: FrameGeometry) -> tuple[list[Pixels], list[Label | None]]:
    pictures: list[Pixels] = []
    labels: list[Label | None] = []
    for file, label in _folder_files(source.path):
        picture = _read_image(file, geometry.pixel_format)
        size = (picture.shape[1], picture.shape[0])
        if size != (geometry.picture_width_px, geometry.picture_height_px):
            raise ImageError(
                f"{file}: got {size[0]} x {size[1]} px, expected {geometry.picture_width_px} x "
                f"{geometry.picture_height_px} px like the folder's first image; one camera has one size"
            )
        pictures.append(picture)
        labels.append(label)
    return pictures, labels


def _folder_files(folder: Path) -> list[tuple[Path, Label | None]]:
    labelled: list[tuple[Path, Label | None]] = []
    sub_folders: tuple[Label, Label] = ("good", "defective")
    for label in sub_folders:
        labelled += [(file, label) for file in _image_files(folder / label)]
    files = labelled or [(file, None) for file in _image_files(folder)]
    if len(files) < 2:
        raise ImageError(f"{folder}: got {len(files)} images, expected at least 2 ({', '.join(sorted(_SUFFIXES))})")
    return files


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)


def _read_image(file: Path, pixel_format: PixelFormat) -> Pixels:
    mode = cv2.IMREAD_GRAYSCALE if pixel_format.channel_count == 1 else cv2.IMREAD_COLOR
    picture = cv2.imread(str(file), mode)
    if picture is None:
        raise ImageError(f"{file}: cannot be read as an image")
    return np.asarray(picture, np.uint8)
