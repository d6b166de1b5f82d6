"""Suite ``preprocess``: the fused kernel against the quickest OpenCV and NumPy chain that does the same, taking turns."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_US, now_ns
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

_CASES = {
    "300x300 Mono8 -> 160x160": (300, 300, PixelFormat.MONO8, 160, "GRAY"),
    "1280x1024 BGR8 -> 320x320 RGB": (1280, 1024, PixelFormat.BGR8, 320, "RGB"),
}
_WARM_UP = 20


def preprocess(rounds: int = 500) -> dict[str, object]:
    """``rounds`` of each, interleaved, on one thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return {"suite": "preprocess", "cases": {name: _case(*case, rounds) for name, case in _CASES.items()}}
    finally:
        cv2.setNumThreads(threads)


def _case(
    width_px: int, height_px: int, pixel_format: PixelFormat, side_px: int, colour_order: str, rounds: int
) -> dict[str, object]:
    channels = pixel_format.channel_count
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": side_px,
            "height_px": side_px,
            "colour_order": colour_order,
            "layout": "NCHW",
            "scale": 1 / 255,
            "mean": [0.5] * channels,
            "std": [0.25] * channels,
            "fit": "stretch",
        }
    )
    frame_format = FrameFormat(width_px, height_px, pixel_format)
    region = Region(name="all", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
    plan = RegionPlan("bench", region, frame_format, model_input)
    pixels = np.random.default_rng(0).integers(0, 256, frame_format.shape, np.uint8)
    fused_row = np.zeros((channels, side_px, side_px), np.float32)
    chain_row = np.zeros_like(fused_row)
    fused_us: list[float] = []
    chain_us: list[float] = []
    for turn in range(rounds + _WARM_UP):
        fused = _timed_us(lambda: plan.fill(pixels, fused_row))
        chain = _timed_us(lambda: _chain(pixels, chain_row))
        if turn >= _WARM_UP:
            fused_us.append(fused)
            chain_us.append(chain)
    return {
        "fused_us": percentiles_us(fused_us),
        "opencv_numpy_us": percentiles_us(chain_us),
        "ratio_fused_to_opencv_numpy": median_ratio(fused_us, chain_us),
        "largest_difference": round(float(np.abs(fused_row - chain_row).max()), 5),
    }


def _chain(pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.float32]) -> None:
    """Resize as bytes, the cheapest order; then scale, shift and split into planes in one pass each."""
    channels, height_px, width_px = out.shape
    resized = cv2.resize(pixels, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    for channel in range(channels):
        plane = resized if channels == 1 else resized[:, :, channels - 1 - channel]
        np.multiply(plane, np.float32(1 / 255 / 0.25), out=out[channel])
        out[channel] -= np.float32(0.5 / 0.25)


def _timed_us(call: Callable[[], None]) -> float:
    start_ns = now_ns()
    call()
    return (now_ns() - start_ns) / NS_PER_US
