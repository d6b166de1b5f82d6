"""How sharp a picture is: the blur of its edges in pixels, whatever the light and their strength, and how near the best that is.

A straight edge under a Gaussian blur of standard deviation ``s`` (the lens's, the sensor's pixel included) is the integral of
a Gaussian. Of it, the energy of differences over ``h`` pixels is
``D(h) = h erf(h / 2s) - 2s (1 - exp(-h^2 / 4s^2)) / sqrt(pi)``, the mean of ``h - |u - v|`` where that is positive, ``u`` and ``v``
being independent with that spread; the energy of second differences is ``4 D(1) - D(2)``. The ratio of the two energies knows
only ``s``, so a picture's ratio tells its blur. Noise, measured from frame to frame, adds four times its variance to the one and
twenty times to the other, and is taken off. (Scale from derivatives at edges: J. H. Elder and S. W. Zucker, Local scale control for
edge detection and blur estimation, IEEE PAMI 20, 1998.)

It is right for a target of edges, such as the printed board or a part's outline. It says too little blur of a fine texture, and
of a board whose squares are less than some twenty times the blur; below 0.6 px, pixels hide how sharp the edges are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import erf, stdtrit

from calibration.refusal import Refusal

FRAME_COUNT_MIN = 4
TARGET_BLUR_PX = 1.0
"""A good lens in focus has 0.5 to 0.8."""
NEAR_BEST = 1.1
"""So many times the least blur seen is as good as that."""
PAST_BEST = 1.25
"""So many times the least blur, on both sides of it, shows that it was a least one."""

_EDGE_MIN_ENERGY, _EDGE_MIN_SHARE = 0.2, 0.3
"""Mean square of the differences between neighbours, noise taken off: an edge of 50 grey levels every few hundred pixels; and so
much of the noise, that it is not one."""
_HALVED_ABOVE_PX = 1.8
_SIDE_MIN_PX = 16
_BLUR_MAX_PX = 12.0
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
    blur = _blur_of_mean(total / count, noise / count)
    if blur is None:
        return Refusal(
            "nothing to focus on",
            f"a picture without edges, but for noise of {sqrt(noise):.1f} grey levels",
            "clear edges all over the picture",
            "Put the printed board or a part with sharp edges in front of the camera, and give it light.",
        )
    without_one = [_blur_of_mean((total - frame) / (count - 1), noise / (count - 1)) for frame in grey]
    spread = float(np.std([one if one is not None else _BLUR_MAX_PX for one in without_one]))
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


def _blur_of_mean(frame: npt.NDArray[np.float64], noise: float) -> float | None:
    """In pixels; None without edges. ``noise``: the variance that is left in the frame.

    A soft picture is halved until its edges are not: its second differences are little, and noise becomes less.
    """
    scale = 1
    while True:
        first, second = _energies(frame)
        first, second = first - 4 * noise, second - 20 * noise
        if first < _EDGE_MIN_SHARE * noise + _EDGE_MIN_ENERGY / scale:
            return None
        blur = float(np.interp(first / max(second, 1e-9), _RATIOS, _BLURS_PX)) if second > 0 else _BLUR_MAX_PX
        if blur < _HALVED_ABOVE_PX or scale * blur >= _BLUR_MAX_PX or min(frame.shape) < 2 * _SIDE_MIN_PX:
            return min(scale * blur, _BLUR_MAX_PX)
        half = (frame.shape[1] // 2, frame.shape[0] // 2)
        frame = np.asarray(cv2.resize(frame, half, interpolation=cv2.INTER_AREA), np.float64)
        noise, scale = noise / 4, 2 * scale


def _energies(frame: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean squares of first differences, both directions' added, and of both directions' second differences' sum."""
    across, down = np.diff(frame, axis=1), np.diff(frame, axis=0)
    bent = np.diff(across, axis=1)[1:-1] + np.diff(down, axis=0)[:, 1:-1]
    return float((across**2).mean() + (down**2).mean()), float((bent**2).mean())


def _difference_energy(distance_px: float, blur_px: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    reach = distance_px / (2 * blur_px)
    energy: npt.NDArray[np.float64] = distance_px * erf(reach) - 2 * blur_px / np.sqrt(np.pi) * (
        1 - np.exp(-(reach**2))
    )
    return energy


_BLURS_PX = np.geomspace(0.1, _BLUR_MAX_PX, 400)
_RATIOS = _difference_energy(1, _BLURS_PX) / (4 * _difference_energy(1, _BLURS_PX) - _difference_energy(2, _BLURS_PX))
