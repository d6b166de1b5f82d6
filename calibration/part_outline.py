"""Where the part lies in a picture, by what the picture of the empty belt has not: for a template that nobody has marked.

Both pictures are smoothed, so that the belt's grain counts little, and what differs is told from what does not by Otsu's threshold
(N. Otsu, A threshold selection method from gray-level histograms, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979). Of a
part that is larger than a template may be, the place with most edges in its weaker direction is taken (J. Shi and C. Tomasi, Good
features to track, CVPR, 1994). Whether the template is good for it is for ``calibration.template`` to say.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vision.registration import TEMPLATE_SIDE_MAX_PX, TEMPLATE_SIDE_MIN_PX, TemplateRegion

Pixels = npt.NDArray[np.uint8]

_SMOOTH_PX = 7
_SPECK_SHARE = 0.1
"""Of the largest piece that differs: smaller ones are specks on the belt."""
_MARGIN_PX = 6
"""Of belt around the part, so that its outline is in the template."""
_STEP_PX = 4


def template_around_part(reference: Pixels, empty: Pixels, search_x_px: int, search_y_px: int) -> TemplateRegion | None:
    """``reference``: grey uint8 (height, width), a part in its place; ``empty``: the same without it. As large as the part, as
    far as the search leaves room for it; None where nothing differs, or there is no room.
    """
    height, width = reference.shape
    box = _part_box(reference, empty)
    if box is None:
        return None
    spans = []
    for start, size, search, limit in ((box[0], box[2], search_x_px, width), (box[1], box[3], search_y_px, height)):
        first = max(start - _MARGIN_PX, search)
        last = min(start + size + _MARGIN_PX, limit - search)
        if last - first < TEMPLATE_SIDE_MIN_PX:
            return None
        spans.append((first, last))
    (left, right), (top, bottom) = spans
    wide, high = min(right - left, TEMPLATE_SIDE_MAX_PX), min(bottom - top, TEMPLATE_SIDE_MAX_PX)
    down, across = _richest(reference[top:bottom, left:right], high, wide)
    return TemplateRegion(x_px=left + across, y_px=top + down, width_px=wide, height_px=high)


def _part_box(reference: Pixels, empty: Pixels) -> tuple[int, int, int, int] | None:
    """x, y, width and height of what differs."""
    smooth = [cv2.blur(each, (_SMOOTH_PX, _SMOOTH_PX)) for each in (reference, empty)]
    _, differs = cv2.threshold(cv2.absdiff(*smooth), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    differs = cv2.morphologyEx(differs, cv2.MORPH_OPEN, np.ones((_SMOOTH_PX, _SMOOTH_PX), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(differs)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    if areas.size == 0:
        return None
    pieces = stats[1:count][areas >= _SPECK_SHARE * areas.max()].astype(np.int64)
    lefts, tops = pieces[:, cv2.CC_STAT_LEFT], pieces[:, cv2.CC_STAT_TOP]
    left, top = int(lefts.min()), int(tops.min())
    right = int((lefts + pieces[:, cv2.CC_STAT_WIDTH]).max())
    bottom = int((tops + pieces[:, cv2.CC_STAT_HEIGHT]).max())
    return left, top, right - left, bottom - top


def _richest(picture: Pixels, high: int, wide: int) -> tuple[int, int]:
    """Row and column where a window of that size holds most in its weaker direction."""
    rows = [*range(0, picture.shape[0] - high, _STEP_PX), picture.shape[0] - high]
    columns = [*range(0, picture.shape[1] - wide, _STEP_PX), picture.shape[1] - wide]
    grey = picture.astype(np.float64)
    across, down = np.gradient(grey, axis=1), np.gradient(grey, axis=0)
    xx, yy, xy = (_sums(values, rows, columns, high, wide) for values in (across * across, down * down, across * down))
    weaker = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    best = int(weaker.argmax())
    return rows[best // len(columns)], columns[best % len(columns)]


def _sums(
    values: npt.NDArray[np.float64], rows: list[int], columns: list[int], high: int, wide: int
) -> npt.NDArray[np.float64]:
    table = cv2.integral(values)
    top, left = np.array(rows)[:, None], np.array(columns)[None, :]
    sums: npt.NDArray[np.float64] = (
        table[top + high, left + wide] - table[top, left + wide] - table[top + high, left] + table[top, left]
    )
    return sums
