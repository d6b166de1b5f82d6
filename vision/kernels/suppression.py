"""Non-maximum suppression: of boxes that overlap, the one that scores highest stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FloatArray, compiled

_PLACE = np.uint64(0xFFFFFFFF)
_ZERO = np.float32(0.0)
# Boxes that a candidate is compared with at a time: most of those suppressed are so by one of the first.
_CHUNK = 64

_BOX = (types.float32,) * 5


@compiled(types.boolean(types.Array(types.float32, 2, "A"), *_BOX, types.float32), contract=False)
def _overlaps(
    boxes: FloatArray,
    x1: np.float32,
    y1: np.float32,
    x2: np.float32,
    y2: np.float32,
    area: np.float32,
    iou_max: np.float32,
) -> bool:
    """Whether any of the ``boxes`` (5, n), corners and area, overlaps this one by more than ``iou_max``."""
    lefts, tops, rights, bottoms, areas = boxes[0], boxes[1], boxes[2], boxes[3], boxes[4]
    hits = np.uint32(0)
    for i in range(areas.size):
        left = lefts[i] if lefts[i] > x1 else x1
        top = tops[i] if tops[i] > y1 else y1
        right = rights[i] if rights[i] < x2 else x2
        bottom = bottoms[i] if bottoms[i] < y2 else y2
        width = right - left if right > left else _ZERO
        height = bottom - top if bottom > top else _ZERO
        both = width * height
        iou = both / (areas[i] + area - both)
        hits |= np.uint32(iou > iou_max)
    return bool(hits)


@compiled(
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        *(types.uint64[::1], types.float32[:, ::1], types.int32[::1], types.float32),
        *(types.int64[:, ::1], types.float32[:, ::1], types.int32[::1]),
    ),
    contract=False,
)
def suppress(
    keys: npt.NDArray[np.uint64],
    corners: FloatArray,
    class_ids: npt.NDArray[np.int32],
    iou_max: np.float32,
    stretches: npt.NDArray[np.int64],
    stayed: FloatArray,
    kept: npt.NDArray[np.int32],
) -> tuple[int, int]:
    """Greedy: each candidate in order stays unless one that stayed, of its class, overlaps it by more than ``iou_max``.

    ``keys``: (n,), ascending; the low 32 bits of each are the candidate's place in ``corners`` (4, N) and ``class_ids`` (N,).
    ``kept``: what stayed, as places, in order; as many as fit. Scratch: ``stretches`` (2, classes), ``stayed`` (5, N). With
    one class in ``stretches``, boxes of all classes suppress each other; with more, every class id must be one of them.

    The intersection over union is computed in float32, each step rounded, as ``torchvision.ops.nms`` does; of boxes without
    area it is NaN, and nothing is suppressed. Returns how many are in ``kept``, and the place of the first candidate that would
    have stayed, had there been room for it; -1 where there is none. No candidate is compared with more than those in ``kept``,
    which bounds the time.
    """
    # Each class has a stretch of ``stayed`` that would hold all its candidates: begins[c] to ends[c] is filled.
    begins, ends = stretches[0], stretches[1]
    is_agnostic = ends.size == 1
    begins[:] = 0
    if not is_agnostic:
        for i in range(keys.size):
            begins[class_ids[np.int64(keys[i] & _PLACE)]] += 1
        total = np.int64(0)
        for class_id in range(begins.size):
            candidates = begins[class_id]
            begins[class_id] = total
            total += candidates
    ends[:] = begins
    count = 0
    for i in range(keys.size):
        place = np.int64(keys[i] & _PLACE)
        class_id = 0 if is_agnostic else int(class_ids[place])
        x1, y1, x2, y2 = corners[0, place], corners[1, place], corners[2, place], corners[3, place]
        area = (x2 - x1) * (y2 - y1)
        end = ends[class_id]
        start = begins[class_id]
        is_suppressed = False
        while start < end and not is_suppressed:
            stop = min(start + _CHUNK, end)
            is_suppressed = _overlaps(stayed[:, start:stop], x1, y1, x2, y2, area, iou_max)
            start = stop
        if not is_suppressed:
            if count == kept.size:
                return count, int(place)
            stayed[0, end], stayed[1, end], stayed[2, end], stayed[3, end], stayed[4, end] = x1, y1, x2, y2, area
            ends[class_id] = end + 1
            kept[count] = place
            count += 1
    return count, -1
