"""Which images calibrate and which judge: never the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.image_reading import decode_image
from pipeline.verification.measure import images_below
from vision.faults import Fault, FaultsError
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """``images`` in the order in which they are shown; ``sha256`` over their contents in that order."""

    images: tuple[Path, ...]
    sha256: str
    source: str
    """Where they are from, in words for the card."""


def is_for_calibration(image_sha256: str, share: float) -> bool:
    """Whether an image calibrates and does not judge: by its content alone, so that copies of one image go the same way, and
    neither the images beside it nor any order plays a part.
    """
    return int(image_sha256[:8], 16) < share * (1 << 32)


def calibration_set(images: Sequence[tuple[Path, str]], count_max: int, source: str) -> CalibrationSet:
    """Of images with their contents' SHA-256, at most ``count_max``, the lowest hashes first: a choice that nothing sways.

    Raises FaultsError where there is none.
    """
    if not images:
        got, expected = "no image", "images to calibrate with that are not among those that judge"
        raise FaultsError([Fault(source, "", got, expected)])
    chosen = sorted(images, key=lambda pair: (pair[1], str(pair[0])))[:count_max]
    digest = hashlib.sha256("".join(sha256 for _, sha256 in chosen).encode()).hexdigest()
    return CalibrationSet(tuple(image for image, _ in chosen), digest, source)


def images_of(folder: Path, judging_sha256: frozenset[str]) -> tuple[list[tuple[Path, str]], int]:
    """The images of a folder with their SHA-256, and how many were left out since they judge. Raises FaultsError."""
    found: list[tuple[Path, str]] = []
    left_out = 0
    for image in images_below(folder):
        sha256 = hashlib.sha256(_content(image)).hexdigest()
        if sha256 in judging_sha256:
            left_out += 1
        else:
            found.append((image, sha256))
    return found, left_out


def rows(images: Sequence[Path], model_input: ModelInput) -> Iterator[npt.NDArray[Any]]:
    """What the model is shown of each image, whole: (1, channels, height, width) each. Raises FaultsError."""
    pixel_format = PixelFormat.MONO8 if model_input.colour_order == "GRAY" else PixelFormat.BGR8
    plans: dict[FrameFormat, RegionPlan] = {}
    for image in images:
        pixels = decode_image(np.frombuffer(_content(image), np.uint8), pixel_format)
        if pixels is None:
            raise FaultsError(
                [Fault(str(image), "", "no image, or one that cannot be used", "a whole one, of 8 bit a channel")]
            )
        height_px, width_px = pixels.shape[:2]
        frame_format = FrameFormat(width_px, height_px, pixel_format)
        if frame_format not in plans:
            region = Region(name="image", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
            plans[frame_format] = RegionPlan("calibration", region, frame_format, model_input)
        row: npt.NDArray[Any] = np.zeros((1, *model_input.row_shape), model_input.numpy_dtype)
        plans[frame_format].fill(pixels, row[0])
        yield row


def _content(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise FaultsError([Fault(str(image), "", str(error.strerror), "a readable image")]) from error
