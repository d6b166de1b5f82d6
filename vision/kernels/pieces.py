"""Connected pieces of a label map: pixels of one label that touch, also at corners.

A row's neighbours with one label are a run; runs that touch those of the row above are joined (union-find, the first one found
stands for all). What a piece is made of is thus read once, whatever the number of labels, and label 0, which is none, costs
next to nothing.

Arguments shared by the kernels:

    labels           (h, w): each pixel's label, 0 for none
    x_first ...      the rectangle of ``labels`` that is looked at
    starts, ends     (h * w,): where each run begins in its row, and the first pixel beyond
    first_runs       (h + 1,): the first run of each row, and of the one beyond the last
    numbers          (h * w,): the piece that each run belongs to, from 0, in the order of their first pixels, row by row

Nothing is checked here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import FLOATS, FloatArray, compiled
from vision.kernels.labels import LABELS, LabelArray

_RUNS = types.int32[::1]
_TABLE = types.int32[:, ::1]

RunArray = npt.NDArray[np.int32]


@compiled(types.int64(_RUNS, types.int64))
def _root(parents: RunArray, run: int) -> int:
    """The run that stands for this one's piece; the way there is shortened."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = int(parents[run])
    return run


@compiled(types.int64(LABELS, *(types.int64,) * 4, _RUNS, _RUNS, _RUNS, _RUNS))
def find_pieces(
    labels: LabelArray,
    x_first: int,
    y_first: int,
    x_end: int,
    y_end: int,
    starts: RunArray,
    ends: RunArray,
    first_runs: RunArray,
    numbers: RunArray,
) -> int:
    """Writes the runs and returns the number of pieces."""
    run = 0
    above, above_end = 0, 0  # the row above's runs that may touch the next run
    first_runs[: y_first + 1] = 0
    for y in range(y_first, y_end):
        first_runs[y] = run
        row = labels[y]
        x = x_first
        while x < x_end:
            label = row[x]
            if label == 0:
                x += 1
                continue
            start = x
            while x < x_end and row[x] == label:
                x += 1
            starts[run], ends[run], numbers[run] = start, x, run
            while above < above_end and ends[above] < start:
                above += 1
            touching = above
            while touching < above_end and starts[touching] <= x:
                if labels[y - 1, starts[touching]] == label:
                    one, other = _root(numbers, run), _root(numbers, touching)
                    numbers[max(one, other)] = min(one, other)
                touching += 1
            run += 1
        above, above_end = int(first_runs[y]), run
    first_runs[y_end:] = run
    # A piece's root is its first run: it is numbered before the others ask.
    count = 0
    for each in range(run):
        if numbers[each] == each:
            numbers[each] = count
            count += 1
        else:
            numbers[each] = numbers[numbers[each]]
    return count


@compiled(
    types.void(
        *(LABELS, types.Array(types.float32, 2, "A", readonly=True), types.int64, types.int64),
        *(_RUNS, _RUNS, _RUNS, _RUNS, _TABLE),
        *(_RUNS, _TABLE, _RUNS, types.float64[::1], FLOATS, _TABLE),
    )
)
def measure_pieces(
    labels: LabelArray,
    values: FloatArray,
    y_first: int,
    y_end: int,
    starts: RunArray,
    ends: RunArray,
    first_runs: RunArray,
    numbers: RunArray,
    numbered: RunArray,
    own_labels: RunArray,
    boxes: RunArray,
    areas: RunArray,
    sums: npt.NDArray[np.float64],
    peaks: FloatArray,
    peaks_at: RunArray,
) -> None:
    """Of each of the P pieces: label, half-open box x1 y1 x2 y2, pixels, and of ``values`` (h, w) sum, highest and its x, y.

    ``numbered`` (h, w): the piece of each pixel, from 1, where there is one; elsewhere it is left alone. Of equal values the first
    counts, row by row.
    """
    areas[:] = 0
    sums[:] = 0.0
    peaks[:] = -np.inf
    for y in range(y_first, y_end):
        for run in range(first_runs[y], first_runs[y + 1]):
            piece, start, end = np.int64(numbers[run]), np.int64(starts[run]), np.int64(ends[run])
            if areas[piece] == 0:
                own_labels[piece] = labels[y, start]
                boxes[piece, 0], boxes[piece, 1], boxes[piece, 2] = start, y, end
            boxes[piece, 0] = min(boxes[piece, 0], start)
            boxes[piece, 2] = max(boxes[piece, 2], end)
            boxes[piece, 3] = y + 1
            areas[piece] += end - start
            for x in range(start, end):
                numbered[y, x] = piece + 1
                value = values[y, x]
                sums[piece] += value
                if value > peaks[piece]:
                    peaks[piece] = value
                    peaks_at[piece, 0], peaks_at[piece, 1] = x, y
