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

# Differences of sums up to this are finite in float32.
_SUM_MAX = np.float32(1e38)


@compiled(types.void(FLOATS, INDICES, FLOATS, FLOATS))
def _widened(row: FloatArray, lefts: IndexArray, right_weights: FloatArray, out: FloatArray) -> None:
    """A row of a plane (w,) made as wide as ``out`` (n,); its last pixel stands for the one beyond it, whose weight is 0."""
    last = np.uint32(row.size - 1)
    for x in range(out.size):
        left = row[lefts[x]]
        out[x] = left + (row[min(lefts[x] + _1, last)] - left) * right_weights[x]


@compiled(
    types.int64(
        *(_PROTOTYPES, _WEIGHTS, types.float32, INDICES, FLOATS, INDICES, FLOATS),
        *(types.int64, types.int64, types.int64, types.int64, types.float32[:, ::1], types.float32[:, ::1]),
        types.uint8[:, ::1],
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
    lines: FloatArray,
    out: npt.NDArray[np.uint8],
) -> int:
    """Writes 1 where the mask exceeds ``logit_min`` and 0 elsewhere into ``out[y_first:y_end, x_first:x_end]``.

    ``prototypes``: (M, h, w); ``weights``: (M,); ``out``: (H, W), of the model's input. Sums in the order of the prototypes.
    Made larger as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` does: ``lefts`` and
    ``right_weights`` (W,), ``tops`` and ``bottom_weights`` (H,) are each pixel's lower neighbour and the weight of the next. Each
    row of the plane is widened once and the rows between are blended, so that little is picked here and there, which is slow.
    Only what the box needs is computed. Scratch: ``logits`` (h, w) and ``lines`` (2, W). Returns how many pixels are 1; -1, and
    nothing is written, where a sum is beyond 1e38 or no number. Nothing else is checked here.
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
        for i in range(sums.size):
            if not abs(sums[i]) <= _SUM_MAX:
                return -1
    columns, column_weights = lefts[x_first:x_end], right_weights[x_first:x_end]
    upper, lower = lines[0, x_first:x_end], lines[1, x_first:x_end]
    widened = np.int64(-1)  # which row ``upper`` is
    count = 0
    for y in range(y_first, y_end):
        row = np.int64(tops[y])
        if row != widened:
            _widened(logits[row], columns, column_weights, upper)
            _widened(logits[min(row + 1, plane_height - 1)], columns, column_weights, lower)
            widened = row
        weight = bottom_weights[y]
        target = out[y, x_first:x_end]
        for x in range(target.size):
            target[x] = upper[x] + (lower[x] - upper[x]) * weight > logit_min
        for x in range(target.size):
            count += int(target[x])
    return count
