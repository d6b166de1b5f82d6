"""Class maps: the most probable class of each pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FloatArray, compiled

NONE, SOFTMAX, SIGMOID = 0, 1, 2
"""What makes probabilities of a model's numbers."""

LABELS = types.uint16[:, ::1]
LabelArray = npt.NDArray[np.uint16]


@compiled(
    types.void(
        *(types.Array(types.float32, 3, "C", readonly=True), types.int64, types.int64, types.float32),
        *(types.int64, types.int64, types.int64, types.int64),
        *(types.int32[::1], LABELS, types.float32[:, ::1]),
    )
)
def most_probable(
    scores: FloatArray,
    activation: int,
    background: int,
    probability_min: np.float32,
    x_first: int,
    y_first: int,
    x_end: int,
    y_end: int,
    line: npt.NDArray[np.int32],
    labels: LabelArray,
    probabilities: FloatArray,
) -> None:
    """For each pixel of ``scores`` (C, h, w) in the rectangle: the class that scores highest, the first of equals.

    ``labels`` (h, w) becomes class + 1, and 0 where that is the ``background`` (-1: there is none), where its probability is not
    above ``probability_min``, and outside the rectangle. ``probabilities`` (h, w) is that class's, where the label is not 0.
    Scratch: ``line`` (w,). The scores must be finite.
    """
    class_count = scores.shape[0]
    labels[:y_first], labels[y_end:] = 0, 0
    for y in range(y_first, y_end):
        labels[y, :x_first], labels[y, x_end:] = 0, 0
        best, best_ids = probabilities[y, x_first:x_end], line[x_first:x_end]
        plane = scores[0, y, x_first:x_end]
        for x in range(best.size):
            best[x] = plane[x]
            best_ids[x] = 0
        for class_id in range(1, class_count):
            plane = scores[class_id, y, x_first:x_end]
            this = np.int32(class_id)
            for x in range(best.size):
                is_better = plane[x] > best[x]
                best[x] = plane[x] if is_better else best[x]
                best_ids[x] = this if is_better else best_ids[x]
        for x in range(best.size):
            class_id = int(best_ids[x])
            at = x_first + x
            labels[y, at] = 0
            if class_id == background:
                continue
            probability = best[x]
            if activation == SIGMOID:
                probability = np.float32(1.0) / (np.float32(1.0) + np.exp(-probability))
            elif activation == SOFTMAX:
                total = np.float32(0.0)
                for other in range(class_count):
                    total += np.exp(scores[other, y, at] - best[x])
                probability = np.float32(1.0) / total
            probability = min(max(probability, np.float32(0.0)), np.float32(1.0))  # rounding may have led beyond
            if not probability > probability_min:
                continue
            best[x] = probability
            labels[y, at] = class_id + 1
