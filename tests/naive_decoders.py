"""Readable references for the decoders: plain loops, one rule a line. Boxes are in float32 as in the models' own tools."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, floor, log

import numpy as np
import numpy.typing as npt

F32 = np.float32
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """A detection in pixels of the model's input; ``source``: its place in the tensor."""

    source: int
    class_id: int
    score: np.float32
    corners: tuple[np.float32, np.float32, np.float32, np.float32]


def yolov8(tensor: Floats, class_count: int, score_min: float) -> list[Box]:
    """(4 + classes, N): the best class of each column."""
    boxes = []
    for source in range(tensor.shape[1]):
        class_id = first_greatest(tensor[4 : 4 + class_count, source])
        score = tensor[4 + class_id, source]
        if score > F32(score_min):
            boxes.append(Box(source, class_id, score, from_centre(*tensor[:4, source])))
    return boxes


def yolov5(tensor: Floats, class_count: int, score_min: float) -> list[Box]:
    """(N, 5 + classes): the best class of each row, times its objectness."""
    boxes = []
    for source, row in enumerate(tensor):
        products = [row[4] * probability for probability in row[5 : 5 + class_count]]
        class_id = first_greatest(products)
        if row[4] > F32(score_min) and products[class_id] > F32(score_min):
            boxes.append(Box(source, class_id, products[class_id], from_centre(*row[:4])))
    return boxes


def end_to_end(tensor: Floats, score_min: float) -> list[Box]:
    """(N, 6): x1, y1, x2, y2, score, class."""
    boxes = []
    for source, (x1, y1, x2, y2, score, class_id) in enumerate(tensor[:, :6]):
        if score > F32(score_min):
            boxes.append(Box(source, int(class_id), score, (x1, y1, x2, y2)))
    return boxes


def first_greatest(values: Sequence[np.float32] | Floats) -> int:
    best = 0
    for index, value in enumerate(values):
        if value > values[best]:
            best = index
    return best


def from_centre(
    x: np.float32, y: np.float32, width: np.float32, height: np.float32
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    return x - width / F32(2), y - height / F32(2), x + width / F32(2), y + height / F32(2)


def by_score(boxes: Iterable[Box]) -> list[Box]:
    """The best first; of equals the one that comes first in the tensor."""
    return sorted(boxes, key=lambda box: (-box.score, box.source))


def suppressed(boxes: Iterable[Box], iou_max: float, *, class_agnostic: bool, most: int) -> list[Box]:
    """Greedy non-maximum suppression."""
    kept: list[Box] = []
    for box in by_score(boxes):
        rivals = [other for other in kept if class_agnostic or other.class_id == box.class_id]
        if not any(float(iou(other.corners, box.corners)) > iou_max for other in rivals):
            kept.append(box)
    return kept[:most]


def iou(one: tuple[np.float32, ...], other: tuple[np.float32, ...]) -> np.float32:
    """Intersection over union, each step rounded to float32; NaN of two boxes without area."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]), F32(0))
    height = max(min(one[3], other[3]) - max(one[1], other[1]), F32(0))
    both = width * height
    with np.errstate(all="ignore"):
        return F32(both / (area(one) + area(other) - both))


def area(box: tuple[np.float32, ...]) -> np.float32:
    return (box[2] - box[0]) * (box[3] - box[1])


def mask(
    prototypes: Floats, weights: Floats, corners: Sequence[float], width: int, height: int, mask_min: float
) -> npt.NDArray[np.float64]:
    """Of the size of the model's input: how far each pixel's logit is above the one of ``mask_min``; -inf outside the box."""
    logits = np.tensordot(weights.astype(np.float64), prototypes.astype(np.float64), axes=1)
    x1, y1, x2, y2 = corners
    out = np.full((height, width), -np.inf)
    for y in range(height):
        for x in range(width):
            if x1 <= x < x2 and y1 <= y < y2:
                out[y, x] = interpolated(logits, x, y, width, height) - log(mask_min / (1 - mask_min))
    return out


def interpolated(plane: npt.NDArray[np.float64], x: int, y: int, width: int, height: int) -> float:
    """The plane made ``width`` x ``height`` large, at x, y: bilinear, half-pixel centres, clamped edges."""
    left, right, across = _neighbours(x, plane.shape[1], width)
    top, bottom, down = _neighbours(y, plane.shape[0], height)
    upper = plane[top, left] * (1 - across) + plane[top, right] * across
    lower = plane[bottom, left] * (1 - across) + plane[bottom, right] * across
    return float(upper * (1 - down) + lower * down)


def _neighbours(target: int, source_size: int, target_size: int) -> tuple[int, int, float]:
    position = min(max((target + 0.5) * source_size / target_size - 0.5, 0.0), source_size - 1)
    lower = floor(position)
    return lower, min(lower + 1, source_size - 1), position - lower


def probabilities(scores: Floats, activation: str) -> npt.NDArray[np.float64]:
    """(classes, h, w)."""
    out = scores.astype(np.float64)
    if activation == "sigmoid":
        return np.array([1 / (1 + exp(-score)) for score in out.flat]).reshape(out.shape)
    if activation == "softmax":
        powers = np.exp(out - out.max(axis=0))
        return np.asarray(powers / powers.sum(axis=0))
    return out


Pixels = frozenset[tuple[int, int]]


def pieces(mask: npt.NDArray[np.bool_]) -> list[Pixels]:
    """The pixels x, y of each connected piece, neighbours at corners included; in the order of their first pixels."""
    left = {(x, y) for y, x in zip(*np.nonzero(mask), strict=True)}
    found = []
    for start in sorted(left, key=lambda pixel: (pixel[1], pixel[0])):
        if start not in left:
            continue
        left.remove(start)
        piece, edge = {start}, [start]
        while edge:
            x, y = edge.pop()
            for near in [(x + right, y + down) for right in (-1, 0, 1) for down in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    piece.add(near)
                    edge.append(near)
        found.append(frozenset(piece))
    return found
