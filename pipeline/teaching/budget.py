"""How large a product's model may be, by what it takes on this box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from calibration.teaching.backbone import (
    BACKBONE_NAME,
    CHANNELS_BY_DEPTH,
    SIZE_MAX_PX,
    SIZE_MIN_PX,
    SIZE_STEP_PX,
    FeatureShape,
    feature_shape,
)
from calibration.teaching.fitting import nothing_learnt
from calibration.teaching.graph import product_model
from pipeline.teaching.features import InputFiller, input_of
from pipeline.teaching.package_writer import write_package
from pipeline.teaching.picture_set import Pixels
from pipeline.teaching.report import SizeTried
from vision.faults import Fault, FaultsError
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat
from vision.runtime import Session, open_session
from vision.types import PixelFormat

_RUNS, _RUNS_MIN = 200, 10
_ROUNDS = 3
_ROUND_MAX_NS = 500_000_000
"""A model that takes longer for so many runs is run less often."""
_WARM_UP_RUNS = 10

PREFERRED = ((192, 10), (160, 10), (160, 7), (128, 10), (160, 4), (128, 7), (96, 10), (128, 4), (96, 7), (96, 4))
"""Size in pixels and depth, the best first, as found on the parts of the data that were there to choose by: mean AUROC of solar
cells and three other sets 0.936 at 192, 0.925 at 160, 0.922 with block 7, 0.917 with block 4, 0.912 at 128.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Of filling the input with a part's pictures, one of each view, and running the model, in microseconds."""

    p50_us: float
    p99_us: float


def words_of_depth(depth: int) -> str:
    """What of the backbone is used."""
    return f"{BACKBONE_NAME} up to block {depth}"


def tried(shape: FeatureShape, measured: Measured, *, is_chosen: bool) -> SizeTried:
    """For the report."""
    return SizeTried(
        shape.width_px, shape.height_px, words_of_depth(shape.depth), measured.p50_us, measured.p99_us, is_chosen
    )


def measure(shape: FeatureShape, views: Sequence[str], pixels: Pixels, folder: Path) -> Measured:
    """A model of this shape with nothing learnt takes as long as one that has; run as the line runs it, ``pixels`` in each view.

    Of ``_ROUNDS`` rounds the least: what else runs on the box meanwhile is not the model's. ``folder``: an empty one for it.
    """
    view = nothing_learnt(shape.layers, shape.grid)
    model = product_model(shape, [view] * len(views), [0.0] * len(views))
    write_package(folder, shape, views, model, "measured", {}, {})
    session = opened(load_package(folder))
    filler = InputFiller(input_of(shape))
    rounds = [_round(session, filler, pixels) for _ in range(_ROUNDS)]
    p50_us, p99_us = np.min(rounds, axis=0)
    return Measured(float(p50_us), float(p99_us))


def opened(package: ModelPackage) -> Session:
    """As the line opens it where it has no better processor."""
    session = open_session(
        package, provider="cpu", batch_rows=1, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )
    session.warm_up(_WARM_UP_RUNS)
    return session


def _round(session: Session, filler: InputFiller, pixels: Pixels) -> tuple[float, float]:
    took_us: list[float] = []
    end_ns = perf_counter_ns() + _ROUND_MAX_NS
    while len(took_us) < _RUNS and (len(took_us) < _RUNS_MIN or perf_counter_ns() < end_ns):
        begun_ns = perf_counter_ns()
        for row in session.input:
            row[...] = filler.fill(pixels)[0]
        session.run()
        took_us.append((perf_counter_ns() - begun_ns) / 1e3)
    p50_us, p99_us = np.percentile(took_us, [50, 99])
    return float(p50_us), float(p99_us)


@dataclass(frozen=True, slots=True)
class Choice:
    """The shape, what was tried on the way to it, the fastest first, and why it is that one."""

    shape: FeatureShape
    tried: tuple[SizeTried, ...]
    budget_us: float
    why: str


def choose(
    frame: FrameFormat, pixels: Pixels, views: Sequence[str], size_px: int | None, budget_us: float, folder: Path
) -> Choice:
    """The best of ``PREFERRED`` whose p50 keeps to ``budget_us``; with ``size_px`` of those of that size.

    By the p50, as the p99 of a box with other work tells of that work; it is reported beside it.

    ``frame``: of the pictures; ``pixels``: one of them; ``folder``: an empty one to measure in. Raises FaultsError where none does.
    """
    is_grey = frame.pixel_format is PixelFormat.MONO8
    candidates = PREFERRED if size_px is None else tuple((size_px, depth) for depth in CHANNELS_BY_DEPTH)
    seen: list[tuple[FeatureShape, Measured]] = []
    for number, (side_px, depth) in enumerate(candidates):
        shape = feature_shape(frame.width_px, frame.height_px, is_grey=is_grey, size_px=side_px, depth=depth)
        measured = measure(shape, views, pixels, folder)
        seen.append((shape, measured))
        if measured.p50_us <= budget_us:
            why = (
                "the size that is nearest to what was asked for"
                if size_px is not None
                else "the size that did best on the data it was chosen by"
            )
            if number > 0:
                why = f"the best of those tried whose p50 keeps to {budget_us:g} us"
            told = f"{why}.{_size_words(frame, shape, side_px, is_asked=size_px is not None)}"
            shown = sorted(seen, key=lambda each: each[1].p50_us)
            return Choice(
                shape, tuple(tried(each, took, is_chosen=each is shape) for each, took in shown), budget_us, told
            )
    least_us = min(measured.p50_us for _, measured in seen)
    got = f"{budget_us:g}, and the fastest of {len(seen)} models takes {least_us:.0f} us (p50) on this box now"
    raise FaultsError([Fault("--budget-us", "", got, "a longer time, or a smaller --size, or a box with less to do")])


def _size_words(frame: FrameFormat, shape: FeatureShape, size_px: int, *, is_asked: bool) -> str:
    """Where the model sees other than ``size_px`` or the pictures' shape say, a sentence on each; empty where it does not."""
    seen, words = f"{shape.width_px} x {shape.height_px} px", ""
    if is_asked and (shape.width_px, shape.height_px) != (size_px, size_px):
        words = f" It is {seen} for {size_px} x {size_px}: sides go in steps of {SIZE_STEP_PX} px, and with the pictures' shape."
    aspect = frame.width_px / frame.height_px
    sides_px = size_px * aspect**0.5, size_px / aspect**0.5
    if max(sides_px) > SIZE_MAX_PX + SIZE_STEP_PX / 2 or min(sides_px) < SIZE_MIN_PX - SIZE_STEP_PX / 2:
        shown = f"{aspect:,.4g} times as wide as high" if aspect > 1 else f"{1 / aspect:,.4g} times as high as wide"
        words += (
            f" THE PICTURES ARE SQUEEZED: they are {shown}, and the model sees {seen}, as no side is below {SIZE_MIN_PX} or above "
            f"{SIZE_MAX_PX} px. Pictures of smaller regions would not be."
        )
    return words
