"""Pictures -> maps of features, by the very pre-processing that fills the model's input on the line."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from calibration.teaching.backbone import PIXEL_MEAN, PIXEL_STD, FeatureShape, feature_model
from pipeline.teaching.picture_set import Picture, Pixels
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

Features = npt.NDArray[np.float32]

_LEVELS = 255


def input_of(shape: FeatureShape, views: Sequence[str] = ()) -> ModelInput:
    """The part of the card that says what the product's model takes; ``views``: of several, what each row of the batch shows."""
    channels = shape.input_channel_count
    return ModelInput(
        name="image",
        width_px=shape.input_width_px,
        height_px=shape.input_height_px,
        colour_order="GRAY" if shape.is_grey else "RGB",
        scale=1 / _LEVELS,
        mean=[PIXEL_MEAN / _LEVELS] * channels,
        std=[PIXEL_STD / _LEVELS] * channels,
        fit="stretch",
        views=list(views) if len(views) > 1 else [],
    )


class InputFiller:
    """Fills a model's input from pictures of any size."""

    def __init__(self, model_input: ModelInput) -> None:
        self._model_input = model_input
        self._plans: dict[tuple[int, ...], RegionPlan] = {}
        self.row = np.zeros((1, *model_input.row_shape), np.float32)

    def fill(self, pixels: Pixels) -> Features:
        """``row``, (1, channels, height, width), with the picture in it, uint8 (h, w) or (h, w, 3) BGR."""
        plan = self._plans.get(pixels.shape)
        if plan is None:
            height_px, width_px = pixels.shape[:2]
            whole = Region(name="whole", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
            pixel_format = PixelFormat.MONO8 if pixels.ndim == 2 else PixelFormat.BGR8
            plan = RegionPlan("picture", whole, FrameFormat(width_px, height_px, pixel_format), self._model_input)
            self._plans[pixels.shape] = plan
        plan.fill(pixels, self.row[0])
        return self.row


class FeatureReader:
    """The cut backbone, ready to run on one picture after the other."""

    def __init__(self, shape: FeatureShape) -> None:
        options = onnxruntime.SessionOptions()
        options.use_deterministic_compute = True
        # As a line runs the model; and a pool of threads would wait for each other in turns on a busy box.
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(feature_model(shape), options, providers=["CPUExecutionProvider"])
        self._filler = InputFiller(input_of(shape))

    def features(self, pixels: Pixels) -> Features:
        """(channels, rows, columns)."""
        (features,) = self._session.run(None, {"image": self._filler.fill(pixels)})
        return np.asarray(features[0], np.float32)


def write_features(
    file: Path,
    shape: FeatureShape,
    known: Features | None,
    known_rows: Sequence[int],
    pictures: Sequence[Picture],
    read: Callable[[Picture], Pixels],
    advance: Callable[[], object],
) -> Features:
    """Of the ``known`` features those of ``known_rows``, then those of ``pictures``: (pictures, channels, rows, columns), mapped
    from ``file``, so that memory does not grow with their number.

    Raises FaultsError where a picture is not what it was, OSError where the disk is full: of what is written by way of a map, a
    full disk would kill the process.
    """
    size = (len(known_rows) + len(pictures), shape.channel_count, *shape.grid)
    reader = FeatureReader(shape)
    with file.open("wb") as written:
        header = {"descr": "<f4", "fortran_order": False, "shape": size}
        np.lib.format.write_array_header_1_0(written, header)
        for row in known_rows:
            assert known is not None
            written.write(np.ascontiguousarray(known[row], "<f4").data)
        for picture in pictures:
            written.write(np.ascontiguousarray(reader.features(read(picture)), "<f4").data)
            advance()
    return mapped(file)


def mapped(file: Path) -> Features:
    """Features in a file, read as they are asked for. Raises OSError, and ValueError or EOFError where it holds none."""
    loaded: Features = np.load(file, mmap_mode="r", allow_pickle=False)
    return loaded.view(_Mapped)


class _Mapped(np.memmap[Any, np.dtype[np.float32]]):
    """Lets go of what was read before at each reading, so that no more of the file is in memory than is being looked at."""

    def __getitem__(self, index: Any) -> Any:
        opened: mmap.mmap | None = getattr(self, "_mmap", None)
        if opened is not None:
            opened.madvise(mmap.MADV_DONTNEED)
        return np.asarray(super().__getitem__(index))
