"""Reading a detector's output tensor: which of its candidates score above the threshold, where and of which class.

Every number of the tensor is looked at, so that none that is not finite goes by unseen. Floats are compared by their bits:
read as uint32, those of +0.0 to 1.0 rise with the value up to ``ONE``, and whatever is no probability (negative, greater,
infinite, NaN) lies above: one unsigned maximum finds the best class and anything wrong, at the speed of the memory.

Arguments shared by the kernels, N being the number of candidates:

    tensor       the predictions, as the model wrote them
    corners      (4, N): x1, y1, x2, y2 of each candidate found, in pixels of the model's input
    scores       (N,): their scores, as read (not yet clipped to 1)
    class_ids    (N,): their classes
    sources      (N,): their places in the tensor
    keys         (N,): what sorts them: ascending is by score from the highest, then by place in the tensor

They return (how many were found, the greatest bits of any probability, the greatest bits of any other number's magnitude):
the scores are to be trusted if the second is at most ``ONE`` and the third below ``INFINITE``. A score that ties with another
class's is given to the class that comes first, as ``torch.max`` does on a CPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FLOATS, FloatArray, IndexArray, compiled

ONE = 0x3F800000
"""The bits of 1.0."""
INFINITE = 0x7F800000
"""The bits of infinity; NaN's, without its sign, are greater."""

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_NONE = np.uint32(0)
# Candidates whose scores are compared at a time: their best stay in the first cache while the classes pass by.
_BLOCK = 1024
# Rows looked at together, so that they are still in the first cache when they are read.
_ROWS = 32

_TENSOR = types.Array(types.float32, 2, "C", readonly=True)
_CORNERS = types.float32[:, ::1]
_IDS = types.int32[::1]
_KEYS = types.uint64[::1]
_FOUND = types.Tuple((types.int64, types.uint32, types.uint32))  # type: ignore[no-untyped-call]
_OUT = (_CORNERS, FLOATS, _IDS, _IDS, _KEYS)

IdArray = npt.NDArray[np.int32]
KeyArray = npt.NDArray[np.uint64]
Found = tuple[int, np.uint32, np.uint32]


@compiled(types.uint32(types.Array(types.uint32, 1, "C", readonly=True)))
def greatest_magnitude(bits: IndexArray) -> np.uint32:
    """The greatest bits without sign of any of these floats: ``INFINITE`` or more where one is not finite."""
    greatest = _NONE
    for i in range(bits.size):
        greatest = max(greatest, bits[i] & _MAGNITUDE)
    return greatest


@compiled(types.uint32(types.Array(types.uint32, 1, "C", readonly=True)))
def greatest_bits(bits: IndexArray) -> np.uint32:
    """The greatest bits of any of these floats: ``ONE`` or less where all are probabilities."""
    greatest = _NONE
    for i in range(bits.size):
        greatest = max(greatest, bits[i])
    return greatest


@compiled(types.uint64(types.uint32, types.int64))
def _key(score_bits: np.uint32, place: int) -> np.uint64:
    """Sorts by score from the highest, then by place."""
    return (np.uint64(np.uint32(0xFFFFFFFF) - score_bits) << np.uint64(32)) | np.uint64(place)


@compiled(_FOUND(_TENSOR, types.int64, types.uint32, types.uint32[::1], *_OUT))
def scan_columns(
    tensor: FloatArray,
    class_count: int,
    score_min_bits: np.uint32,
    best: IndexArray,
    corners: FloatArray,
    scores: FloatArray,
    class_ids: IdArray,
    sources: IdArray,
    keys: KeyArray,
) -> Found:
    """One candidate a column: centre x, centre y, width, height, a probability per class, then what is not read here.

    ``tensor``: (4 + class_count + M, N); ``score_min_bits``: of the score that a candidate must exceed; ``best``: (N,), scratch.
    """
    bits = tensor.view(np.uint32)
    first, end = 4, 4 + class_count
    count, worst, greatest = 0, _NONE, _NONE
    for row in range(tensor.shape[0]):
        if row < first or row >= end:
            greatest = max(greatest, greatest_magnitude(bits[row]))
    for start in range(0, best.size, _BLOCK):
        stop = min(start + _BLOCK, best.size)
        block = best[start:stop]
        row_0 = bits[first, start:stop]
        for i in range(block.size):
            block[i] = row_0[i]
        # Four classes at a time: the best of a candidate is loaded and stored a quarter as often.
        row = first + 1
        while row + 4 <= end:
            row_0, row_1 = bits[row, start:stop], bits[row + 1, start:stop]
            row_2, row_3 = bits[row + 2, start:stop], bits[row + 3, start:stop]
            for i in range(block.size):
                block[i] = max(block[i], max(max(row_0[i], row_1[i]), max(row_2[i], row_3[i])))
            row += 4
        for left in range(row, end):
            row_0 = bits[left, start:stop]
            for i in range(block.size):
                block[i] = max(block[i], row_0[i])
        highest = greatest_bits(block)
        worst = max(worst, highest)
        if highest <= score_min_bits:
            continue
        for i in range(block.size):
            if block[i] > score_min_bits:
                source = start + i
                class_id = 0
                while bits[first + class_id, source] != block[i]:
                    class_id += 1
                half_width = tensor[2, source] / np.float32(2.0)
                half_height = tensor[3, source] / np.float32(2.0)
                corners[0, count] = tensor[0, source] - half_width
                corners[1, count] = tensor[1, source] - half_height
                corners[2, count] = tensor[0, source] + half_width
                corners[3, count] = tensor[1, source] + half_height
                scores[count] = tensor[first + class_id, source]
                class_ids[count] = class_id
                sources[count] = source
                keys[count] = _key(block[i], count)
                count += 1
    return count, worst, greatest


@compiled(_FOUND(_TENSOR, types.int64, types.float32, *_OUT))
def scan_rows(
    tensor: FloatArray,
    class_count: int,
    score_min: np.float32,
    corners: FloatArray,
    scores: FloatArray,
    class_ids: IdArray,
    sources: IdArray,
    keys: KeyArray,
) -> Found:
    """One candidate a row: centre x, centre y, width, height, objectness, a probability per class, then what is not read here.

    ``tensor``: (N, 5 + class_count + M). A candidate's score is objectness times its best class's probability; it and the
    objectness must exceed ``score_min``. Classes of candidates whose objectness does not are looked at as any other number.
    """
    row_count, width = tensor.shape
    flat = tensor.reshape(-1).view(np.uint32)
    first, end = 5, 5 + class_count
    count, worst, greatest = 0, _NONE, _NONE
    for start in range(0, row_count, _ROWS):
        stop = min(start + _ROWS, row_count)
        greatest = max(greatest, greatest_magnitude(flat[start * width : stop * width]))
        for source in range(start, stop):
            objectness = tensor[source, 4]
            worst = max(worst, flat[source * width + 4])
            if not objectness > score_min:
                continue
            classes = flat[source * width + first : source * width + end]
            best = greatest_bits(classes)
            worst = max(worst, best)
            best_id = 0
            while classes[best_id] != best:
                best_id += 1
            score = objectness * tensor[source, first + best_id]
            if not score > score_min:
                continue
            # An earlier class's product may round to the same score.
            class_id = 0
            while objectness * tensor[source, first + class_id] != score:
                class_id += 1
            half_width = tensor[source, 2] / np.float32(2.0)
            half_height = tensor[source, 3] / np.float32(2.0)
            corners[0, count] = tensor[source, 0] - half_width
            corners[1, count] = tensor[source, 1] - half_height
            corners[2, count] = tensor[source, 0] + half_width
            corners[3, count] = tensor[source, 1] + half_height
            scores[count] = score
            class_ids[count] = class_id
            sources[count] = source
            count += 1
    bits = scores.view(np.uint32)
    for place in range(count):
        keys[place] = _key(bits[place], place)
    return count, worst, greatest


@compiled(_FOUND(_TENSOR, types.float32, *_OUT))
def scan_finished(
    tensor: FloatArray,
    score_min: np.float32,
    corners: FloatArray,
    scores: FloatArray,
    class_ids: IdArray,
    sources: IdArray,
    keys: KeyArray,
) -> Found:
    """One finished detection a row: x1, y1, x2, y2, score, class as a float, then what is not read here.

    ``tensor``: (N, 6 + M). A class that is no whole number from 0 becomes -1.
    """
    bits = tensor.view(np.uint32)
    count, worst = 0, _NONE
    greatest = greatest_magnitude(tensor.reshape(-1).view(np.uint32))
    for source in range(tensor.shape[0]):
        score = tensor[source, 4]
        worst = max(worst, bits[source, 4])
        if not score > score_min:
            continue
        for corner in range(4):
            corners[corner, count] = tensor[source, corner]
        class_value = tensor[source, 5]
        is_whole = class_value >= 0 and class_value < 2**24 and class_value == np.floor(class_value)
        class_ids[count] = np.int32(class_value) if is_whole else -1
        scores[count] = score
        sources[count] = source
        keys[count] = _key(bits[source, 4], count)
        count += 1
    return count, worst, greatest


@compiled(
    types.int64(
        *(types.Array(types.int32, 1, "C", readonly=True), _CORNERS, FLOATS, _IDS, types.float64[::1]),
        *(_IDS, FLOATS, types.float32[:, ::1], FLOATS),
    )
)
def in_frame(
    kept: IdArray,
    corners: FloatArray,
    scores: FloatArray,
    class_ids: IdArray,
    to_frame: npt.NDArray[np.float64],
    out_class_ids: IdArray,
    out_scores: FloatArray,
    out_boxes: FloatArray,
    out_areas: FloatArray,
) -> int:
    """Writes the candidates at the places ``kept`` (K,) as findings: boxes in the frame, cut to the region, and their areas.

    ``to_frame``: (8,): step and origin so that ``frame_x = input_x * step + origin``, for x and for y, and the region's x1,
    y1, x2, y2. Returns how many of the boxes are turned inside out, their right or lower edge before the other.
    """
    step_x, origin_x, step_y, origin_y = to_frame[0], to_frame[1], to_frame[2], to_frame[3]
    left, top, right, bottom = to_frame[4], to_frame[5], to_frame[6], to_frame[7]
    turned = 0
    for i in range(kept.size):
        place = np.int64(kept[i])
        if corners[2, place] < corners[0, place] or corners[3, place] < corners[1, place]:
            turned += 1
        out_class_ids[i] = class_ids[place]
        out_scores[i] = min(scores[place], np.float32(1.0))
        x1 = np.float32(min(max(corners[0, place] * step_x + origin_x, left), right))
        y1 = np.float32(min(max(corners[1, place] * step_y + origin_y, top), bottom))
        x2 = np.float32(min(max(corners[2, place] * step_x + origin_x, left), right))
        y2 = np.float32(min(max(corners[3, place] * step_y + origin_y, top), bottom))
        out_boxes[i, 0], out_boxes[i, 1], out_boxes[i, 2], out_boxes[i, 3] = x1, y1, x2, y2
        out_areas[i] = (x2 - x1) * (y2 - y1)
    return turned
