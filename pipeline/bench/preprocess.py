"""Suite ``preprocess``: the fused kernel against the quickest OpenCV and NumPy chain that does the same, taking turns.

And with a lens and a flat field to be put right in the same pass, against itself without; and of raw frames, against those of
their pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_US, now_ns
from vision.correction import Correction
from vision.frame_decoder import FrameDecoder
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

_CASES = {
    "300x300 Mono8 -> 160x160": (300, 300, PixelFormat.MONO8, 160, "GRAY"),
    "1280x1024 BGR8 -> 320x320 RGB": (1280, 1024, PixelFormat.BGR8, 320, "RGB"),
}
_RAW_CASE = "1280x1024 -> 320x320, grey or RGB"
_WARM_UP = 20
_BARREL, _CORNER_LIGHT, _PATTERN = 0.02, 0.6, 0.01
"""Of the corrected camera: how far its lens draws in the corners, the light they get, and the spread of its pixels' gains."""
_PIXELS_PER_DEAD_ONE = 50_000


def preprocess(rounds: int = 500) -> dict[str, object]:
    """``rounds`` of each, interleaved, on one thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        cases = {name: _case(*case, rounds) for name, case in _CASES.items()}
        return {"suite": "preprocess", "cases": cases, "raw": {_RAW_CASE: _raw_formats(rounds)}}
    finally:
        cv2.setNumThreads(threads)


def _case(
    width_px: int, height_px: int, pixel_format: PixelFormat, side_px: int, colour_order: str, rounds: int
) -> dict[str, object]:
    channels = pixel_format.channel_count
    frame_format = FrameFormat(width_px, height_px, pixel_format)
    region = Region(name="all", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
    normalised = _input(side_px, colour_order, channels, scale=1 / 255, mean=0.5, std=0.25)
    raw = _input(side_px, colour_order, channels, dtype="uint8", scale=1.0, mean=0.0, std=1.0)
    plan = RegionPlan("bench", region, frame_format, normalised)
    bytes_plan = RegionPlan("bench", region, frame_format, raw)
    pixels = np.random.default_rng(0).integers(0, 256, frame_format.shape, np.uint8)
    fused_row = np.zeros((channels, side_px, side_px), np.float32)
    chain_row = np.zeros_like(fused_row)
    bytes_row = np.zeros(fused_row.shape, np.uint8)
    bytes_chain_row = np.zeros_like(bytes_row)
    corrected_row, corrected_bytes_row = np.zeros_like(fused_row), np.zeros_like(bytes_row)
    correction, dead_count = _correction(frame_format)
    corrected_plan = RegionPlan("bench", region, frame_format, normalised, correction)
    corrected_bytes_plan = RegionPlan("bench", region, frame_format, raw, correction)
    calls = {
        "fused": lambda: plan.fill(pixels, fused_row),
        "chain": lambda: _chain(pixels, chain_row),
        "fused_bytes": lambda: bytes_plan.fill(pixels, bytes_row),
        "chain_bytes": lambda: _bytes_chain(pixels, bytes_chain_row),
    }
    times_us = _taking_turns(calls, rounds)
    # By themselves: OpenCV's pictures in between would make a difference of what they leave in the caches.
    corrected_us = _taking_turns(
        {
            "plain": calls["fused"],
            "corrected": lambda: corrected_plan.fill(pixels, corrected_row),
            "plain_bytes": calls["fused_bytes"],
            "corrected_bytes": lambda: corrected_bytes_plan.fill(pixels, corrected_bytes_row),
        },
        rounds,
    )
    return {
        "fused_us": percentiles_us(times_us["fused"]),
        "opencv_numpy_us": percentiles_us(times_us["chain"]),
        "ratio_fused_to_opencv_numpy": median_ratio(times_us["fused"], times_us["chain"]),
        "largest_difference": round(float(np.abs(fused_row - chain_row).max()), 5),
        "bytes": {
            "fused_us": percentiles_us(times_us["fused_bytes"]),
            "opencv_numpy_us": percentiles_us(times_us["chain_bytes"]),
            "ratio_fused_to_opencv_numpy": median_ratio(times_us["fused_bytes"], times_us["chain_bytes"]),
            "ratio_bytes_to_float": median_ratio(times_us["fused_bytes"], times_us["fused"]),
            "largest_difference_levels": int(np.abs(bytes_row.astype(int) - bytes_chain_row).max()),
        },
        "corrected": {
            **{f"{name}_us": percentiles_us(taken_us) for name, taken_us in corrected_us.items()},
            "ratio_corrected_to_plain": median_ratio(corrected_us["corrected"], corrected_us["plain"]),
            "ratio_corrected_to_plain_bytes": median_ratio(
                corrected_us["corrected_bytes"], corrected_us["plain_bytes"]
            ),
            "dead_pixels": dead_count,
        },
    }


def _raw_formats(rounds: int) -> dict[str, object]:
    """Each raw format beside Mono8 or BGR8, which it is once decoded; and what decoding the whole frame takes."""
    fills, decodes = {}, {}
    for pixel_format in PixelFormat:
        frame_format = FrameFormat(1280, 1024, pixel_format)
        channels = pixel_format.channel_count
        region = Region(name="all", x_px=0, y_px=0, width_px=1280, height_px=1024)
        card = _input(320, "RGB" if channels == 3 else "GRAY", channels, scale=1 / 255, mean=0.5, std=0.25)
        plan, row = RegionPlan("bench", region, frame_format, card), np.zeros(card.row_shape, np.float32)
        pixels = np.random.default_rng(0).integers(0, 256, frame_format.shape, np.uint8)
        fills[pixel_format.value] = partial(plan.fill, pixels, row)
        if pixel_format.is_raw:
            decodes[f"{pixel_format.value} decoded"] = partial(_decode, FrameDecoder("bench", frame_format), pixels)
    times_us = _taking_turns(fills | decodes, rounds)
    return {
        pixel_format.value: {
            "fused_us": percentiles_us(times_us[pixel_format.value]),
            "ratio_to_decoded_format": median_ratio(times_us[pixel_format.value], times_us[pixel_format.decoded.value]),
            "decoding_us": percentiles_us(times_us[f"{pixel_format.value} decoded"]),
        }
        for pixel_format in PixelFormat
        if pixel_format.is_raw
    }


def _decode(decoder: FrameDecoder, pixels: npt.NDArray[np.uint8]) -> None:
    decoder.decode(pixels)


def _taking_turns(calls: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of each call, in each of so many rounds."""
    times_us: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + _WARM_UP):
        for name, call in calls.items():
            taken_us = _timed_us(call)
            if turn >= _WARM_UP:
                times_us[name].append(taken_us)
    return times_us


def _correction(frame_format: FrameFormat) -> tuple[Correction, int]:
    """A lens, a light and a sensor that all leave something to be put right, and the count of dead pixels."""
    generator = np.random.default_rng(1)
    height_px, width_px = frame_format.height_px, frame_format.width_px
    y, x = np.mgrid[:height_px, :width_px]
    across, down = x - (width_px - 1) / 2, y - (height_px - 1) / 2
    radius = (across**2 + down**2) / ((width_px / 2) ** 2 + (height_px / 2) ** 2)
    share = 1 - (1 - _CORNER_LIGHT) * radius
    pattern = generator.normal(1.0, _PATTERN, frame_format.shape)
    dead = np.zeros(height_px * width_px, np.bool_)
    dead[generator.choice(dead.size, max(1, dead.size // _PIXELS_PER_DEAD_ONE), replace=False)] = True
    correction = Correction(
        map_x_px=(x - _BARREL * radius * across).astype(np.float32),
        map_y_px=(y - _BARREL * radius * down).astype(np.float32),
        gain=(1 / (share if pattern.ndim == 2 else share[:, :, None]) / pattern).astype(np.float32),
        dark=generator.uniform(2.0, 5.0, frame_format.shape).astype(np.float32),
        dead=dead.reshape(height_px, width_px),
    )
    return correction, int(dead.sum())


def _input(
    side_px: int,
    colour_order: str,
    channels: int,
    *,
    scale: float,
    mean: float,
    std: float,
    dtype: Literal["float32", "uint8"] = "float32",
) -> ModelInput:
    return ModelInput.model_validate(
        {
            "name": "image",
            "width_px": side_px,
            "height_px": side_px,
            "colour_order": colour_order,
            "layout": "NCHW",
            "dtype": dtype,
            "scale": scale,
            "mean": [mean] * channels,
            "std": [std] * channels,
            "fit": "stretch",
        }
    )


def _bytes_chain(pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """Resize, then split into planes."""
    channels, height_px, width_px = out.shape
    resized = cv2.resize(pixels, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    for channel in range(channels):
        out[channel] = resized if channels == 1 else resized[:, :, channels - 1 - channel]


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
