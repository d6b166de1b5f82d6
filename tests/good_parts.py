"""Pictures and features of invented good parts, and models run on them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from calibration.teaching.backbone import PIXEL_MEAN, PIXEL_STD, FeatureShape, feature_model
from calibration.teaching.windows import Layer

Features = npt.NDArray[np.float32]

FINE = Layer("fine", 0, 3, 2, (1, 3), 1)
DEEP = Layer("deep", 12, 4, 1, (2,), 1)
LAYERS = (FINE, DEEP)
"""Of maps of 16 channels."""
LAYER_OF_MANY = (Layer("deep", 0, 64, 1, (2,), 1),)
"""Of maps of 64 channels."""


def maps(part_count: int, seed: int = 0, *, channel_count: int = 16, grid: tuple[int, int] = (3, 4)) -> Features:
    """Features of one kind of part: a look of its own at each place, and channels that vary together."""
    usual = np.random.default_rng(7).normal(0, 2, (channel_count, *grid))
    mixed = np.random.default_rng(8).normal(0, 0.4, (channel_count, channel_count))
    noise = np.random.default_rng(seed).normal(0, 1, (part_count, channel_count, *grid))
    return np.asarray(usual + np.einsum("cd,ndyx->ncyx", mixed, noise), np.float32)


def pictures(shape: FeatureShape, part_count: int, seed: int = 0) -> Features:
    """As the model takes them: a part with a look of its own at each place, and noise."""
    size = (shape.input_channel_count, shape.input_height_px, shape.input_width_px)
    y, x = np.mgrid[: size[1], : size[2]] / shape.shrink
    usual = 120 + 40 * np.sin(x / 9) * np.cos(y / 13) + np.linspace(-10, 10, size[0])[:, None, None]
    pixels = usual + np.random.default_rng(seed).normal(0, 9 * shape.shrink, (part_count, *size))
    return as_input(pixels.clip(0, 255).round())


def as_input(pixels: npt.NDArray[Any]) -> Features:
    return np.asarray((pixels - PIXEL_MEAN) / PIXEL_STD, np.float32)


def run_model(model: bytes, image: npt.NDArray[np.float32]) -> Sequence[Features]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: Sequence[Features] = session.run(None, {"image": image})
    return found


def features_of(shape: FeatureShape, image: npt.NDArray[np.float32]) -> Features:
    (features,) = run_model(feature_model(shape), image)
    return features


def growth_of_memory(folder: Path, few: int, many: int, work: Callable[[Features], object]) -> float:
    """By how much more memory ``work`` takes for many parts than for few, as a share of how much more their features are."""
    peaks_bytes, features_bytes = [], []
    for count in (few, many):
        features = maps(count, channel_count=64, grid=(4, 4))
        np.save(folder / f"{count}.npy", features)
        mapped = np.load(folder / f"{count}.npy", mmap_mode="r")
        tracemalloc.start()
        try:
            work(mapped)
            peaks_bytes.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        features_bytes.append(features.nbytes)
    return float(np.diff(peaks_bytes)[0] / np.diff(features_bytes)[0])
