"""How sharp a picture is: the blur of its edges in pixels, whatever the light and their strength, and how near the best that is.

With ``F`` the mean square of the differences between neighbours, across and down added, and ``L`` that of the second differences'
sum, ``5 F - L`` knows nothing of what differs from one pixel to the next at random: noise and the sensor's own pattern add four
times their variance to the one and twenty times to the other. Of edges, whose strength and length it grows with, it is left. The
same of the picture halved, over that, knows only the edges' blur. How it depends on the blur is reckoned from edges at all angles
and places between the pixels, each the integral of a Gaussian. (Scale from derivatives at edges: J. H. Elder and S. W. Zucker,
Local scale control for edge detection and blur estimation, IEEE PAMI 20, 1998.)

It is right for a target of edges, such as the printed board or a part's outline. It says too little blur of a fine texture, and
of a board whose squares are less than some twenty times the blur; below 0.6 px, pixels hide how sharp the edges are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from calibration.refusal import Refusal

FRAME_COUNT_MIN = 4
TARGET_BLUR_PX = 1.0
"""A good lens in focus has 0.5 to 0.8."""
NEAR_BEST = 1.1
"""So many times the least blur seen is as good as that."""
PAST_BEST = 1.25
"""So many times the least blur, on both sides of it, shows that it was a least one."""

_EDGE_MIN_ENERGY, _EDGE_MIN_SHARE = 0.5, 0.05
"""Of ``5 F - L``: an edge of 50 grey levels every few hundred pixels; and so much of ``L``, that it is not by chance."""
_HALVED_ABOVE_PX = 1.8
_SIDE_MIN_PX = 16
_LEAST_PX, _LEAST_ENERGY = 0.3, 1e-9
_EDGE_SIDE_PX = 48
BLUR_MAX_PX = 12.0
"""What is softer is told as that."""
"""What is softer is told as that."""
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Sharpness:
    """``blur_px``: standard deviation of the edges' blur in the mean of ``count`` frames; ``low_px`` to ``high_px`` holds that of
    many more with 95 % confidence (jackknife over frames, B. Efron, 1982). ``noise_levels``: standard deviation of a pixel's level
    from frame to frame.
    """

    blur_px: float
    low_px: float
    high_px: float
    count: int
    noise_levels: float


def measure_sharpness(frames: npt.NDArray[np.uint8]) -> Sharpness | Refusal:
    """Of frames of one target at rest: uint8 (n, height, width) or (n, height, width, 3), of colour the mean of the channels.

    Raises ValueError where these are no such frames.
    """
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or min(frames.shape[1:3]) < 8:
        raise ValueError(
            f"frames: got {frames.dtype} of shape {frames.shape}, expected uint8 (frames, height, width[, 3])"
        )
    if len(frames) < FRAME_COUNT_MIN:
        advice = "Take more of the same view: noise is told from edges by what changes."
        return Refusal("too few frames", str(len(frames)), f"at least {FRAME_COUNT_MIN}", advice)
    grey = frames.astype(np.float64)
    if grey.ndim == 4:
        grey = grey.mean(axis=3)
    noise = float(grey.var(axis=0, ddof=1).mean())
    total = grey.sum(axis=0)
    count = len(grey)
    blur = _blur_of(total / count)
    if blur is None:
        return Refusal(
            "nothing to focus on",
            f"a picture without edges, but for noise of {sqrt(noise):.1f} grey levels",
            "clear edges all over the picture",
            "Put the printed board or a part with sharp edges in front of the camera, and give it light.",
        )
    without_one = [_blur_of((total - frame) / (count - 1)) for frame in grey]
    spread = float(np.std([one if one is not None else BLUR_MAX_PX for one in without_one]))
    reach = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2)) * spread * sqrt(count - 1)
    return Sharpness(blur, max(blur - reach, 0.0), blur + reach, count, sqrt(noise))


@dataclass(frozen=True, slots=True)
class FocusAdvice:
    """Where the last of some readings stands. ``times_best``: its blur over the least one seen, at least 1.

    is_near_best: it is as good as the best seen; is_best_known: blur was clearly larger before and after the least one, so turning
    further either way does not help; is_sharp: it is within ``target_blur_px``.
    """

    blur_px: float
    best_blur_px: float
    times_best: float
    is_near_best: bool
    is_best_known: bool
    is_sharp: bool
    target_blur_px: float = TARGET_BLUR_PX

    def in_words(self) -> str:
        """One sentence for the operator at the lens."""
        seen = f"Edges are {self.blur_px:.2f} px soft, the best was {self.best_blur_px:.2f} px"
        if not self.is_near_best:
            return f"{seen}: turn the focus ring back towards it."
        if not self.is_best_known:
            return f"{seen}: turn the ring on past the sharpest place, then back."
        if not self.is_sharp:
            return (
                f"{seen}: the ring is at its best, and {self.target_blur_px:.1f} px are wanted: clean lens and window, close "
                "the iris a little, shorten the exposure if the part moves."
            )
        return f"{seen}: sharp, fasten the ring."


def advise_focus(blurs_px: Sequence[float], target_blur_px: float = TARGET_BLUR_PX) -> FocusAdvice:
    """``blurs_px``: readings in the order in which they were made while the ring was turned; ``target_blur_px``: what is sharp
    enough. Raises ValueError for no reading.
    """
    if not blurs_px:
        raise ValueError("blurs_px: got no reading, expected at least one")
    readings = np.asarray(blurs_px, np.float64)
    best = int(np.argmin(readings))
    least, last = float(readings[best]), float(readings[-1])
    past = readings >= PAST_BEST * least
    return FocusAdvice(
        blur_px=last,
        best_blur_px=least,
        times_best=last / least,
        is_near_best=last <= NEAR_BEST * least,
        is_best_known=bool(past[:best].any() and past[best:].any()),
        is_sharp=last <= target_blur_px,
        target_blur_px=target_blur_px,
    )


def _blur_of(frame: npt.NDArray[np.float64]) -> float | None:
    """In pixels; None without edges. A soft picture is halved until its edges are not: pixels tell little of soft ones."""
    energy, uneven = _edges(frame)
    if energy < _EDGE_MIN_SHARE * uneven + _EDGE_MIN_ENERGY:
        return None
    blurs_px, ratios = _blur_by_ratio()
    scale = 1
    while True:
        frame = _halved(frame)
        halved_energy, _ = _edges(frame)
        blur_px = float(np.interp(halved_energy / energy, ratios, blurs_px))
        if blur_px < _HALVED_ABOVE_PX or scale * blur_px >= BLUR_MAX_PX or min(frame.shape) < 2 * _SIDE_MIN_PX:
            # What halving itself adds is of the pixels, not of the edges.
            return min(scale * sqrt(max(blur_px**2 - (1 - 1 / scale**2) / 12, _LEAST_PX**2)), BLUR_MAX_PX)
        energy, scale = max(halved_energy, _LEAST_ENERGY), 2 * scale


def _edges(frame: npt.NDArray[np.float64]) -> tuple[float, float]:
    """``5 F - L`` and ``L``."""
    across, down = np.diff(frame, axis=1), np.diff(frame, axis=0)
    bent = np.diff(across, axis=1)[1:-1] + np.diff(down, axis=0)[:, 1:-1]
    uneven = float((bent**2).mean())
    return 5 * float((across**2).mean() + (down**2).mean()) - uneven, uneven


def _halved(frame: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    half = (frame.shape[1] // 2, frame.shape[0] // 2)
    return np.asarray(cv2.resize(frame, half, interpolation=cv2.INTER_AREA), np.float64)


@cache
def _blur_by_ratio() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Blurs and the ratios that they come to, both ascending."""
    y, x = np.mgrid[:_EDGE_SIDE_PX, :_EDGE_SIDE_PX] - _EDGE_SIDE_PX / 2
    edges = [
        x * np.cos(angle) + y * np.sin(angle) + place
        for angle in np.deg2rad(np.arange(0.0, 46.0, 9.0))
        for place in np.arange(0.0, 2.0, 0.25)
    ]
    blurs_px = np.geomspace(_LEAST_PX, _EDGE_SIDE_PX / 8, 40)
    ratios = []
    for blur_px in blurs_px:
        frames = [ndtr(distance / blur_px) for distance in edges]
        ratios.append(sum(_edges(_halved(frame))[0] for frame in frames) / sum(_edges(frame)[0] for frame in frames))
    return blurs_px, np.array(ratios)
