"""Scores of solar cells, by the path that the line takes: pre-processing, model, decoder and judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.simulator.images import SOLAR_CELL_SIDE_PX, SolarCellImages, load_images, solar_cell_rows
from pipeline.simulator.solar_cells import Indices, is_defective, split
from vision.inspector import Inspector
from vision.package import load_package
from vision.preprocess import FrameFormat
from vision.recipe import Recipe, Region, Rule, View
from vision.runtime import open_session
from vision.types import Frame, PixelFormat

CLASS = "defective"
_CAMERA_ID = "cam0"


@dataclass(frozen=True, slots=True)
class Cells:
    """The test part of the data set, which the shipped model was neither trained nor chosen on, and the rest of it: int64 indices
    of the data set, sorted; ``is_poly``, bool (2624,): the cell's type, otherwise mono.
    """

    held_out_good: Indices
    held_out_defective: Indices
    fitted_good: Indices
    is_poly: npt.NDArray[np.bool_]


def read_cells() -> Cells:
    """Raises ImageError."""
    rows = solar_cell_rows()[1]
    probability = np.array([float(row[1]) for row in rows])
    kinds = np.array([row[2] for row in rows])
    fitted, held_out = split(probability, kinds)
    defective = is_defective(probability)
    return Cells(
        held_out[~defective[held_out]], held_out[defective[held_out]], fitted[~defective[fitted]], kinds == "poly"
    )


def pictures_of(indices: Indices) -> tuple[npt.NDArray[np.uint8], ...]:
    """(300, 300) each. Raises ImageError."""
    return load_images(SolarCellImages(indices=indices.tolist())).pictures


class CellJudge:
    """Judges pictures of cells, one at a time, on the CPU."""

    def __init__(self, model: Path, frame_format: FrameFormat | None = None, *, x_px: int = 0, y_px: int = 0) -> None:
        """``frame_format``: of frames with the cell at ``x_px, y_px``; without it the frame is the cell.

        Raises FaultsError, RuntimeProviderError or InferenceError.
        """
        cv2.setNumThreads(1)
        side_px = SOLAR_CELL_SIDE_PX
        self._format = frame_format or FrameFormat(side_px, side_px, PixelFormat.MONO8)
        package = load_package(model)
        cell = Region(name="cell", x_px=x_px, y_px=y_px, width_px=side_px, height_px=side_px)
        recipe = Recipe(
            recipe_id="cells",
            recipe_version="1",
            model=package.folder,
            views=[View(camera_id=_CAMERA_ID, regions=[cell])],
            rules=[Rule.model_validate({"class": CLASS, "reject_at_score": 0.5})],
        )
        session = open_session(
            package, provider="cpu", batch_rows=1, intra_op_threads=1, engine_cache=None, allow_fallback=False
        )
        self._inspector = Inspector(recipe, package, session, {_CAMERA_ID: self._format})

    def score(self, pixels: npt.NDArray[np.uint8]) -> float:
        """0..1, NaN where it could not be judged. Raises WrongFrame or InferenceError."""
        self._inspector.begin()
        self._inspector.load(Frame(_CAMERA_ID, 0, self._format.pixel_format, pixels))
        self._inspector.infer()
        return self._inspector.judge(_CAMERA_ID).score
