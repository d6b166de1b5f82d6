"""How large a product's model may be, by what it takes on this box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from calibration.teaching.backbone import BACKBONE_NAME, FeatureShape
from calibration.teaching.fitting import ScaleFit, Usual, ViewFit
from calibration.teaching.gaussian import Gaussian
from calibration.teaching.graph import product_model
from calibration.teaching.windows import Windows, windows_of
from pipeline.teaching.features import InputFiller
from pipeline.teaching.package_writer import write_package
from pipeline.teaching.picture_set import Pixels
from pipeline.teaching.report import SizeTried
from vision.package import load_package
from vision.runtime import open_session

_RUNS = 200
_ROUNDS = 3
_WARM_UP_RUNS = 10

PREFERRED = ((160, 10), (128, 10), (160, 7), (96, 10), (128, 7), (160, 4), (96, 7), (128, 4), (96, 4))
"""Size in pixels and depth, the best first, as found on the parts of the data that were there to choose by."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of filling the input and running the model, in microseconds."""

    p50_us: float
    p99_us: float


def words_of_depth(depth: int) -> str:
    """What of the backbone is used."""
    return f"{BACKBONE_NAME} up to block {depth}"


def tried(shape: FeatureShape, measured: Measured, *, is_chosen: bool) -> SizeTried:
    return SizeTried(
        shape.width_px, shape.height_px, words_of_depth(shape.depth), measured.p50_us, measured.p99_us, is_chosen
    )


def measure(shape: FeatureShape, view_count: int, pixels: Pixels, folder: Path) -> Measured:
    """A model of this shape with nothing learnt takes as long as one that has; run as the line runs it, from one picture.

    The p99 is the least of ``_ROUNDS`` rounds: what else runs on the box meanwhile is not the model's. ``folder``: an empty one for it.
    """
    view = ViewFit(tuple(_anything(shape, windows) for windows in windows_of(shape.grid)))
    write_package(folder, shape, product_model(shape, [view] * view_count, [0.0] * view_count), "measured", {}, {})
    session = open_session(load_package(folder), provider="cpu")
    filler = InputFiller(session_input(session))
    rounds = [_round(lambda: _once(session, filler, pixels)) for _ in range(_ROUNDS)]
    return Measured(*(float(min(each)) for each in zip(*rounds, strict=True)))
