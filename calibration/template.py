"""Whether a template is good for finding a part by: edges enough, in both directions, and nothing else that looks like it.

Sources: J. Shi and C. Tomasi, Good features to track, CVPR (1994), of whose matrix the smaller eigenvalue counts; J. Immerkær, Fast
noise variance estimation, Computer Vision and Image Understanding 64 (1996), with the median in place of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, degrees

import cv2
import numpy as np
import numpy.typing as npt

from calibration.refusal import Refusal
from vision.kernels import flat_rows
from vision.kernels.matching import SOBEL_WEIGHT, directions
from vision.registration import TEMPLATE_CONTRAST

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

EDGES_MIN = 150
"""Pixels of edges that each direction's place rests on."""
WEAK_SHARE = 0.08
"""Of all edges: where those that run across a direction are fewer, hiding them moves the part."""
SECOND_MAX = 0.7
"""How like the template another place may be, of what its own place is."""

_PEAK_PX = 4
"""Other places begin that far from the best."""


@dataclass(frozen=True, slots=True)
class TemplateQuality:
    """What the place can rest on.

    ``noise_levels``: standard deviation of the picture's noise, in grey levels; ``edges_count``: pixels of edges; ``weak_count`` of
    them fix the place in ``weak_direction``, in which fewest do; ``second_score``: of the place, ``second_x_px`` and
    ``second_y_px`` from its own, that is most like the template in the reference picture (the template's own: 1).
    """

    noise_levels: float
    edges_count: int
    weak_count: float
    weak_direction: str
    second_score: float
    second_x_px: int
    second_y_px: int


def quality_of(template: Pixels, min_contrast: float, scores: Floats) -> TemplateQuality:
    """``template``: uint8 (H, W); ``scores``: of every place in the reference picture, the template's own in the middle."""
    edges = np.zeros((2, *template.shape), np.int8)
    weakest_square = round((SOBEL_WEIGHT * min_contrast) ** 2) * TEMPLATE_CONTRAST**2
    directions(*flat_rows(template), 0, weakest_square, edges)
    across, down = (edges[axis].astype(np.float64).ravel() / 127.0 for axis in (0, 1))
    tensor = np.array([[across @ across, across @ down], [across @ down, down @ down]])
    strengths, axes = np.linalg.eigh(tensor)
    row, column = scores.shape[0] // 2, scores.shape[1] // 2
    second_score, second_row, second_column = second_place(scores, row, column)
    return TemplateQuality(
        noise_levels=noise_of(template),
        edges_count=int(((across != 0) | (down != 0)).sum()),
        weak_count=max(0.0, float(strengths[0])),
        weak_direction=_direction(float(axes[0, 0]), float(axes[1, 0])),
        second_score=second_score,
        second_x_px=second_column - column,
        second_y_px=second_row - row,
    )


def template_refusal(quality: TemplateQuality) -> Refusal | None:
    """Why a part cannot be found by it; None where it can."""
    edges_count, weak_count, weakly = quality.edges_count, quality.weak_count, quality.weak_direction
    weak_min = max(EDGES_MIN, ceil(WEAK_SHARE * edges_count))
    if edges_count < 2 * EDGES_MIN:
        return Refusal(
            "too few edges",
            f"{edges_count} pixels of edges in the template (the picture's noise is {quality.noise_levels:.1f} grey levels)",
            f"at least {2 * EDGES_MIN}",
            "Mark a larger template, or one with print, holes or corners; bring more light or sharpen the picture.",
        )
    if weak_count < weak_min:
        return Refusal(
            "weak in one direction",
            f"a template whose place {weakly} rests on {weak_count:.0f} of {edges_count} pixels of edges",
            f"at least {weak_min}",
            f"Nearly all its edges run {weakly}: mark a template that also holds edges across that, a corner, a hole or print.",
        )
    if quality.second_score > SECOND_MAX:
        side = "right" if quality.second_x_px >= 0 else "left"
        above = "below" if quality.second_y_px >= 0 else "above"
        return Refusal(
            "not the only place",
            f"a place {abs(quality.second_x_px)} px to the {side} and {abs(quality.second_y_px)} px {above} that is "
            f"{quality.second_score:.0%} like the template",
            f"at most {SECOND_MAX:.0%}",
            "The pattern repeats itself, and the search could lock on the wrong one: mark a template with something in it "
            "that is there only once, or search less far.",
        )
    return None


def noise_of(picture: Pixels) -> float:
    """Standard deviation of the noise, in grey levels, of uint8 (H, W) with something in it: ramps and most edges do not count."""
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float64)
    response = cv2.filter2D(picture.astype(np.float64), -1, mask)[1:-1, 1:-1]
    # The median of a normal distribution's size is 0.6745 of its deviation; the mask's own deviation is 6.
    return float(np.median(np.abs(response)) / 0.6745 / 6.0)


def second_place(scores: Floats, row: int, column: int) -> tuple[float, int, int]:
    """The highest score that is a top of its own beside the best place, with its row and column."""
    tops = np.where(scores >= cv2.dilate(scores, np.ones((5, 5), np.uint8)), scores, -1.0)
    tops[max(0, row - _PEAK_PX) : row + _PEAK_PX + 1, max(0, column - _PEAK_PX) : column + _PEAK_PX + 1] = -1.0
    best = int(tops.argmax())
    return float(tops.flat[best]), best // tops.shape[1], best % tops.shape[1]


def _direction(x: float, y: float) -> str:
    """The words for a direction in the picture, x to the right and y down."""
    angle = degrees(float(np.arctan2(y, x))) % 180.0
    names = ("left and right", "from top left to bottom right", "up and down", "from bottom left to top right")
    return names[round(angle / 45.0) % 4]
