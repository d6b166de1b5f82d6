"""An instance's mask from prototypes: a weighted sum of them, made larger, cut to the instance's box, above a threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FLOATS, INDICES, FloatArray, IndexArray, compiled

_PROTOTYPES = types.Array(types.float32, 3, "C", readonly=True)
_WEIGHTS = types.Array(types.float32, 1, "A", readonly=True)

# Unsigned, as in ``vision.kernels.resize``.
_1 = np.uint32(1)


@compiled(
    types.int64(
        *(_PROTOTYPES, _WEIGHTS, types.float32, INDICES, FLOATS, INDICES, FLOATS),
        *(types.int64, types.int64, types.int64, types.int64, types.float32[:, ::1], FLOATS, types.uint8[:, ::1]),
    )
)
def assemble(
    prototypes: FloatArray,
    weights: FloatArray,
    logit_min: np.float32,
    lefts: IndexArray,
    right_weights: FloatArray,
    tops: IndexArray,
    bottom_weights: FloatArray,
    x_first: int,
    y_first: int,
    x_end: int,
    y_end: int,
    logits: FloatArray,
    line: FloatArray,
    out: npt.NDArray[np.uint8],
) -> int:
    """Writes 1 where the mask exceeds ``logit_min`` and 0 elsewhere into ``out[y_first:y_end, x_first:x_end]``.

    ``prototypes``: (M, h, w); ``weights``: (M,); ``out``: (H, W), of the model's input. Sums in the order of the prototypes.
    Made larger as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` does: ``lefts`` and
    ``right_weights`` (W,), ``tops`` and ``bottom_weights`` (H,) are each pixel's lower neighbour, never the last but where
    there is one alone, and the weight of the next. Scratch: ``logits`` (h, w) and ``line`` (w + 1,). Only what the box
    needs is computed. Returns how many pixels are 1. Nothing is checked here.
    """
    if x_first >= x_end or y_first >= y_end:
        return 0
    plane_height, plane_width = prototypes.shape[1], prototypes.shape[2]
    left, right = np.int64(lefts[x_first]), min(np.int64(lefts[x_end - 1]) + 2, plane_width)
    top, bottom = np.int64(tops[y_first]), min(np.int64(tops[y_end - 1]) + 2, plane_height)
    for y in range(top, bottom):
        sums = logits[y, left:right]
        sums[:] = np.float32(0.0)
        for m in range(weights.size):
            weight = weights[m]
            plane = prototypes[m, y, left:right]
            for i in range(sums.size):
                sums[i] += plane[i] * weight
    count = 0
    columns = lefts[x_first:x_end]
    column_weights = right_weights[x_first:x_end]
    for y in range(y_first, y_end):
        upper = logits[np.int64(tops[y]), left:right]
        lower = logits[min(np.int64(tops[y]) + 1, plane_height - 1), left:right]
        weight = bottom_weights[y]
        blended = line[left:right]
        for i in range(blended.size):
            blended[i] = upper[i] + (lower[i] - upper[i]) * weight
        if right == plane_width:
            line[right] = line[right - 1]  # beyond the last, whose weight is 0
        target = out[y, x_first:x_end]
        here = 0
        for x in range(columns.size):
            level = line[columns[x]]
            level += (line[columns[x] + _1] - level) * column_weights[x]
            target[x] = level > logit_min
            here += int(target[x])
        count += here
    return count
