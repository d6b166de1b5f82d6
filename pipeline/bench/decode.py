"""Suite ``decode``: a detector's output to findings, against OpenCV's and NumPy's suppression, taking turns on one thread.

The rivals are the quickest chains found: the greatest probability of each column first, then all else of those above the
threshold alone. Each is measured as such chains are written, and with the check of the decoder added, that every number is a
finite one and every score a probability. All must come to the same findings, in every round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_US, now_ns
from vision.decoders import TensorFormat
from vision.decoders.yolov8 import Yolov8Decoder, Yolov8Settings
from vision.geometry import row_geometry
from vision.model_input import ModelInput
from vision.recipe import Region

Floats = npt.NDArray[np.float32]
Found = tuple[npt.NDArray[Any], Floats, Floats]
"""Class ids (K,), scores (K,) and boxes in the frame (K, 4), the best first."""

_CANDIDATES, _CLASSES = 8_400, 80
_ABOVE = (50, 1_000, _CANDIDATES)
_BOXES_AN_OBJECT = 10
_INPUT_PX, _FRAME_WIDTH_PX, _FRAME_HEIGHT_PX = 640, 1280, 1024
_SETTINGS = Yolov8Settings()
_REGION = Region(name="all", x_px=0, y_px=0, width_px=_FRAME_WIDTH_PX, height_px=_FRAME_HEIGHT_PX)
_INPUT = {"name": "images", "width_px": _INPUT_PX, "height_px": _INPUT_PX, "colour_order": "RGB", "fit": "letterbox"}
_PIXELS = {"scale": 1 / 255, "mean": [0.0] * 3, "std": [1.0] * 3}
_GEOMETRY = row_geometry(_REGION, ModelInput.model_validate(_INPUT | _PIXELS))
_WARM_UP = 5
_BOX_TOLERANCE_PX = 0.01


class DifferentFindings(RuntimeError):
    """A rival came to other findings than the decoder."""


def decode(rounds: int = 200) -> dict[str, object]:
    """``rounds`` of each for each number of candidates above the threshold, interleaved. Raises DifferentFindings."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        cases = {f"{above:,} above the threshold": _case(above, rounds) for above in _ABOVE}
    finally:
        cv2.setNumThreads(threads)
    settings = _SETTINGS.model_dump()
    return {"suite": "decode", "candidates": _CANDIDATES, "classes": _CLASSES, "settings": settings, "cases": cases}


def predictions(above: int, seed: int = 0) -> Floats:
    """(84, 8400): objects with ten candidates around each, in a noise of low scores; ``above`` candidates score above 0.25."""
    generator = np.random.default_rng(seed)
    tensor = np.empty((4 + _CLASSES, _CANDIDATES), np.float32)
    tensor[:2] = generator.uniform(0.0, _INPUT_PX, (2, _CANDIDATES))
    tensor[2:4] = generator.uniform(5.0, 200.0, (2, _CANDIDATES))
    tensor[4:] = generator.random((_CLASSES, _CANDIDATES)) ** 8 * 0.2  # few are much more than 0
    objects = max(1, above // _BOXES_AN_OBJECT)
    centres, sizes = generator.uniform(40.0, 600.0, (2, objects)), generator.uniform(20.0, 120.0, (2, objects))
    class_ids = generator.integers(0, _CLASSES, objects)
    columns = generator.permutation(_CANDIDATES)[:above]
    shown = np.arange(above) % objects
    tensor[:2, columns] = centres[:, shown] + generator.normal(0.0, 0.05, (2, above)) * sizes[:, shown]
    tensor[2:4, columns] = sizes[:, shown] * generator.uniform(0.9, 1.1, (2, above))
    tensor[4 + class_ids[shown], columns] = generator.uniform(0.26, 0.97, above)
    return tensor


def _case(above: int, rounds: int) -> dict[str, object]:
    tensor = predictions(above)
    names = [f"class {number}" for number in range(_CLASSES)]
    decoder = Yolov8Decoder(
        _SETTINGS, names, _GEOMETRY, {"predictions": TensorFormat(tensor.dtype, (tensor.shape[0], tensor.shape[1]))}
    )

    def ours() -> Found:
        findings = decoder.decode({"predictions": tensor})
        return findings.class_ids, findings.scores, findings.boxes_px

    chains: dict[str, Callable[[], Found]] = {
        "decoder": ours,
        "opencv": lambda: _opencv(tensor),
        "numpy": lambda: _numpy(tensor),
        "opencv_checked": lambda: _opencv(_checked(tensor)),
        "numpy_checked": lambda: _numpy(_checked(tensor)),
    }
    times_us: dict[str, list[float]] = {name: [] for name in chains}
    for turn in range(rounds + _WARM_UP):
        found: dict[str, Found] = {}
        for name, chain in chains.items():
            start_ns = now_ns()
            found[name] = chain()
            if turn >= _WARM_UP:
                times_us[name].append((now_ns() - start_ns) / NS_PER_US)
        for name, other in found.items():
            _expect_same(found["decoder"], other, name)
    return {
        "candidates_above": int((tensor[4:].max(axis=0) > _SETTINGS.score_min).sum()),
        "findings": len(found["decoder"][0]),
        **{f"{name}_us": percentiles_us(times) for name, times in times_us.items()},
        "times_as_fast_as_the_better": _ratio(times_us, "opencv", "numpy"),
        "times_as_fast_as_the_better_checked": _ratio(times_us, "opencv_checked", "numpy_checked"),
    }


def _ratio(times_us: dict[str, list[float]], *rivals: str) -> dict[str, float | str]:
    better = min(rivals, key=lambda name: float(np.median(times_us[name])))
    return {"better": better, **median_ratio(times_us[better], times_us["decoder"])}


def _expect_same(ours: Found, other: Found, name: str) -> None:
    is_same = (
        np.array_equal(ours[0], other[0])
        and np.array_equal(ours[1], other[1])
        and np.allclose(ours[2], other[2], rtol=0.0, atol=_BOX_TOLERANCE_PX)
    )
    if not is_same:
        raise DifferentFindings(f"{name}: got {len(other[0])} findings that differ from the decoder's {len(ours[0])}")


def _checked(tensor: Floats) -> Floats:
    """The same; the extremes are NaN where a number is. The cheapest check in NumPy."""
    lowest, highest = tensor[4:].min(), tensor[4:].max()
    if not (lowest >= 0.0 and highest <= 1.0 and np.isfinite(tensor[:4]).all()):
        raise ValueError("predictions: expected finite numbers and probabilities between 0 and 1")
    return tensor


def _opencv(tensor: Floats) -> Found:
    greatest = tensor[4:].max(axis=0)
    above = np.flatnonzero(greatest > _SETTINGS.score_min)
    class_ids = tensor[4:, above].argmax(axis=0).astype(np.int32)
    scores = greatest[above]
    boxes = np.ascontiguousarray(tensor[:4, above].T)
    boxes[:, :2] -= boxes[:, 2:] / 2
    suppress: Callable[..., Any] = cv2.dnn.NMSBoxesBatched
    kept = np.asarray(suppress(boxes, scores, class_ids, _SETTINGS.score_min, _SETTINGS.iou_max))
    kept = kept[: _SETTINGS.max_findings]
    chosen = boxes[kept]
    chosen[:, 2:] += chosen[:, :2]
    return class_ids[kept], scores[kept], _in_frame(chosen)


def _numpy(tensor: Floats) -> Found:
    greatest = tensor[4:].max(axis=0)
    above = np.flatnonzero(greatest > _SETTINGS.score_min)
    above = above[np.argsort(-greatest[above], kind="stable")]
    class_ids = tensor[4:, above].argmax(axis=0)
    x, y, width, height = tensor[:4, above]
    x1, y1, x2, y2 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    # Far from each other, boxes of different classes do not overlap.
    far = class_ids * 2.0 * _INPUT_PX
    lefts, rights = x1 + far, x2 + far
    areas = width * height
    kept: list[int] = []
    left = np.arange(above.size)
    while left.size and len(kept) < _SETTINGS.max_findings:
        best, left = left[0], left[1:]
        kept.append(int(best))
        widths = np.minimum(rights[best], rights[left]) - np.maximum(lefts[best], lefts[left])
        heights = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        both = np.maximum(widths, 0.0) * np.maximum(heights, 0.0)
        left = left[both <= _SETTINGS.iou_max * (areas[best] + areas[left] - both)]
    boxes = np.stack([x1[kept], y1[kept], x2[kept], y2[kept]], axis=1)
    return class_ids[kept], greatest[above[kept]], _in_frame(boxes)


def _in_frame(boxes: Floats) -> Floats:
    """From pixels of the input to pixels of the frame, in place."""
    boxes[:, ::2] -= _GEOMETRY.left_px
    boxes[:, 1::2] -= _GEOMETRY.top_px
    boxes *= _GEOMETRY.step_x_px
    boxes[:, ::2] = boxes[:, ::2].clip(0.0, _FRAME_WIDTH_PX)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0.0, _FRAME_HEIGHT_PX)
    return boxes
