"""A template looked for in a picture by the directions of its edges.

Each pixel has a direction: its grey level's gradient brought to one length, or none where that is weaker than a wanted
contrast. The score of a place is

    score(u, v) = Σ (t_x i_x + t_y i_y) / Σ (t_x² + t_y²)

over the template's pixels t and those i of the picture below them, its corner at column u, row v: the share of the template's
edges that are seen there. Since each pixel counts at most once, however strong its edge is, brightness, shading and what covers a
part of the template leave the place of the highest score as it is (C. Steger, "Similarity measures for occlusion, clutter, and
illumination invariant object recognition", Pattern Recognition, DAGM 2001). Directions are whole numbers of -127..127, so that
the same pixels give the same score to the bit wherever they lie in the frame, on every processor.

Arguments shared by the kernels:

    flat, pitch, first   a grey picture inside a memory: its pixel (x, y) is ``flat[first + y * pitch + x]``
    picture              int8 (2, H, W): x and y of each pixel's direction
    template             the same of the template, (2, h, w)
    template_sum         Σ (t_x² + t_y²)
    scores               float64 (rows, columns), of each place of the template's corner in the picture; NaN: not known yet

Nothing is checked here: ``vision.registration`` plans the memory so that every index is inside.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt
from numba import types

from vision.kernels import PIXELS, PixelArray, compiled

ScoreArray = npt.NDArray[np.float64]
DirectionArray = npt.NDArray[np.int8]
SumArray = npt.NDArray[np.int64]

_PICTURE = types.uint8[:, ::1]
_DIRECTIONS = types.int8[:, :, ::1]
_SCORES = types.float64[:, ::1]
_IN_MEMORY = (PIXELS, types.int64, types.int64)

RED_SHARE, GREEN_SHARE, BLUE_SHARE = 77, 150, 29
"""Of 256: the weights of ITU-R BT.601 in whole numbers."""

SOBEL_WEIGHT = 8
"""The gradient of a ramp of one grey level a pixel, in the units of ``directions``."""
_LENGTH = np.float32(127.0)


@compiled(types.void(*_IN_MEMORY, types.int64[::1], _PICTURE))
def to_grey(flat: PixelArray, pitch: int, first: int, shares: SumArray, out: PixelArray) -> None:
    """Three channels -> one; ``first`` and ``pitch`` in bytes, ``shares`` (3,): of 256, in the channels' order."""
    share_0, share_1, share_2 = np.uint32(shares[0]), np.uint32(shares[1]), np.uint32(shares[2])
    for y in range(out.shape[0]):
        start = first + y * pitch
        row = flat[start : start + 3 * out.shape[1]]
        target = out[y]
        for x in range(target.size):
            level = row[3 * x] * share_0 + row[3 * x + 1] * share_1 + row[3 * x + 2] * share_2
            target[x] = np.uint8((level + np.uint32(128)) >> np.uint32(8))


@compiled(types.void(*_IN_MEMORY, _PICTURE))
def halve(flat: PixelArray, pitch: int, first: int, out: PixelArray) -> None:
    """Each pixel of ``out`` is the mean of two by two, rounded, halves up."""
    for y in range(out.shape[0]):
        start = first + 2 * y * pitch
        upper = flat[start : start + 2 * out.shape[1]]
        lower = flat[start + pitch : start + pitch + 2 * out.shape[1]]
        target = out[y]
        for x in range(target.size):
            level = np.uint32(upper[2 * x]) + np.uint32(upper[2 * x + 1])
            level += np.uint32(lower[2 * x]) + np.uint32(lower[2 * x + 1])
            target[x] = np.uint8((level + np.uint32(2)) >> np.uint32(2))


@compiled(types.void(*_IN_MEMORY, types.int64, _DIRECTIONS), contract=False)
def directions(flat: PixelArray, pitch: int, first: int, weakest_square: int, out: DirectionArray) -> None:
    """Of each pixel of a picture of ``out``'s size, by Sobel's operator; none, 0 and 0, at the picture's rim.

    ``weakest_square``: the least square of the operator's length, 8 a grey level a pixel, that is an edge.
    """
    _, height, width = out.shape
    out[:, 0, :] = 0
    out[:, height - 1, :] = 0
    weakest = np.float32(weakest_square)
    for y in range(1, height - 1):
        start = first + (y - 1) * pitch
        upper = flat[start : start + width]
        middle = flat[start + pitch : start + pitch + width]
        lower = flat[start + 2 * pitch : start + 2 * pitch + width]
        across, down = out[0, y], out[1, y]
        across[0] = across[width - 1] = down[0] = down[width - 1] = 0
        for x in range(1, width - 1):
            left = np.int32(upper[x - 1]) + np.int32(2) * np.int32(middle[x - 1]) + np.int32(lower[x - 1])
            right = np.int32(upper[x + 1]) + np.int32(2) * np.int32(middle[x + 1]) + np.int32(lower[x + 1])
            above = np.int32(upper[x - 1]) + np.int32(2) * np.int32(upper[x]) + np.int32(upper[x + 1])
            below = np.int32(lower[x - 1]) + np.int32(2) * np.int32(lower[x]) + np.int32(lower[x + 1])
            dx, dy = np.float32(right - left), np.float32(below - above)
            square = dx * dx + dy * dy
            scale = _LENGTH / np.float32(sqrt(square)) if square >= weakest else np.float32(0.0)
            across[x] = np.int8(np.rint(dx * scale))
            down[x] = np.int8(np.rint(dy * scale))


@compiled(types.float64(_DIRECTIONS, _DIRECTIONS, types.int64, types.int64, types.int64))
def score_at(picture: DirectionArray, template: DirectionArray, template_sum: int, v: int, u: int) -> float:
    """The score with the template's corner at row v, column u; 0 for a template without edges."""
    _, height, width = template.shape
    total = np.int64(0)
    for y in range(height):
        across, down = picture[0, v + y, u : u + width], picture[1, v + y, u : u + width]
        template_across, template_down = template[0, y], template[1, y]
        # 32 bits hold a row, and twice as many fit in a register as of 64.
        row = np.int32(0)
        for x in range(width):
            row = np.int32(row + np.int32(across[x]) * np.int32(template_across[x]))
            row = np.int32(row + np.int32(down[x]) * np.int32(template_down[x]))
        total += np.int64(row)
    return float(total) / float(template_sum) if template_sum > 0 else 0.0


@compiled(types.void(_DIRECTIONS, _DIRECTIONS, types.int64, _SCORES))
def score_everywhere(picture: DirectionArray, template: DirectionArray, template_sum: int, scores: ScoreArray) -> None:
    """Fills ``scores``."""
    for v in range(scores.shape[0]):
        for u in range(scores.shape[1]):
            scores[v, u] = score_at(picture, template, template_sum, v, u)


@compiled(types.int64(_SCORES, types.int64, types.int64[:, ::1]))
def best_places(scores: ScoreArray, apart: int, out: SumArray) -> int:
    """The highest scores that lie more than ``apart`` from each other, the best first: ``out`` (K, 2), row and column.

    Returns how many. Of equal scores the first in reading order.
    """
    found = 0
    for k in range(out.shape[0]):
        best = -np.inf
        for v in range(scores.shape[0]):
            for u in range(scores.shape[1]):
                if scores[v, u] > best:
                    is_free = True
                    for other in range(found):
                        if abs(out[other, 0] - v) <= apart and abs(out[other, 1] - u) <= apart:
                            is_free = False
                    if is_free:
                        best = scores[v, u]
                        out[k, 0], out[k, 1] = v, u
        if best == -np.inf:
            break
        found += 1
    return found


@compiled(
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        _DIRECTIONS, _DIRECTIONS, types.int64, _SCORES, types.int64, types.int64, types.int64
    )
)
def climb(
    picture: DirectionArray,
    template: DirectionArray,
    template_sum: int,
    scores: ScoreArray,
    v: int,
    u: int,
    steps: int,
) -> tuple[int, int]:
    """From a place to the best of its eight neighbours, until none is better: row and column of the top.

    -1, -1 where it was not reached in ``steps``, so that no picture takes longer than planned. The scores of the top and
    around it are known afterwards.
    """
    for _ in range(steps):
        best_v, best_u, best = v, u, -np.inf
        for y in range(max(0, v - 1), min(scores.shape[0], v + 2)):
            for x in range(max(0, u - 1), min(scores.shape[1], u + 2)):
                if np.isnan(scores[y, x]):
                    scores[y, x] = score_at(picture, template, template_sum, y, x)
                if scores[y, x] > best:
                    best_v, best_u, best = y, x, scores[y, x]
        if scores[v, u] == best:
            return v, u
        v, u = best_v, best_u
    return -1, -1
