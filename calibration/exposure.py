"""How long to expose and how much to amplify: from a frame's grey levels, and from how fast the part moves."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

import numpy as np
import numpy.typing as npt

TARGET_LEVEL = 215.0
"""Where the brightest of the picture should be: bright, with room for a part that is brighter."""
BRIGHT_ENOUGH_LEVEL = 190.0
"""Below, levels are given away."""
SATURATED_LEVEL = 250
SATURATED_SHARE_MAX = 0.0005
_MUCH_SATURATED_SHARE = 0.01
BRIGHTEST_SHARE = 0.999
"""The brightest of the picture: so many of its pixels are darker. A few glints may be brighter."""

US_PER_S = 1e6


@dataclass(frozen=True, slots=True)
class ExposureAdvice:
    """What to change at a camera's setting, after a look at frames that it made.

    is_good: nothing need be changed. brightest_level, typical_level: of the brightest channel, 0..255. saturated_share: 0..1, of
    the pixels. light_factor: so many times the level is wanted. exposure_time_us, gain_db: what to set: exposure first, as far as
    motion allows, gain for the rest. missing_light_factor: what neither gives, 1 where all is given: a brighter light or a wider
    iris must.
    """

    is_good: bool
    brightest_level: float
    typical_level: float
    saturated_share: float
    light_factor: float
    exposure_time_us: float
    gain_db: float
    missing_light_factor: float

    def in_words(self) -> str:
        """One sentence for the operator."""
        seen = f"The brightest of the picture is at {self.brightest_level:.0f} of 255"
        if self.saturated_share > SATURATED_SHARE_MAX:
            seen += f", and {100 * self.saturated_share:.2f} % of it is saturated"
        if self.is_good:
            return f"{seen}: good."
        advice = f"set exposure_time_us to {self.exposure_time_us:.0f} and gain_db to {self.gain_db:.1f}"
        if self.missing_light_factor > 1.0:
            advice += f", and give {self.missing_light_factor:.1f} times the light: a brighter lamp, or a wider iris"
        return f"{seen}: {advice}."


def advise_exposure(
    frames: npt.NDArray[np.uint8],
    *,
    exposure_time_us: float,
    gain_db: float,
    exposure_max_us: float,
    gain_max_db: float = 12.0,
    dark_level: float = 0.0,
) -> ExposureAdvice:
    """Setting that brings the brightest of the picture near ``TARGET_LEVEL``.

    frames: uint8 (n, height, width) or (n, height, width, 3), of parts as they are in production. exposure_time_us, gain_db: what
    they were taken with, 20 dB being ten times the level. exposure_max_us: the longest that motion allows
    (``longest_exposure_us``). dark_level: of the camera without light. Light is proportional to level less dark level (no gamma).
    What is saturated is brighter than it looks: then half the light or less is advised, and another look. Raises ValueError.
    """
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.size == 0:
        raise ValueError(
            f"frames: got {frames.dtype} of shape {frames.shape}, expected uint8 (frames, height, width[, 3])"
        )
    if not (exposure_time_us > 0 and exposure_max_us > 0 and gain_max_db >= 0 and 0 <= dark_level < TARGET_LEVEL):
        raise ValueError(
            f"setting: got exposure_time_us {exposure_time_us}, exposure_max_us {exposure_max_us}, gain_max_db {gain_max_db}, "
            f"dark_level {dark_level}, expected times above 0, a gain of at least 0 and a dark level below {TARGET_LEVEL}"
        )
    by_channel = frames.reshape(-1, 1 if frames.ndim == 3 else 3)
    brightest = float(np.quantile(by_channel, BRIGHTEST_SHARE, axis=0).max())
    saturated = float((by_channel >= SATURATED_LEVEL).mean(axis=0).max())
    if saturated > SATURATED_SHARE_MAX:
        # How much brighter the saturated ones are cannot be seen: the more of them, the further down.
        factor = 0.5 if saturated < _MUCH_SATURATED_SHARE else 0.25
    elif brightest >= BRIGHT_ENOUGH_LEVEL:
        factor = 1.0
    else:
        factor = (TARGET_LEVEL - dark_level) / max(brightest - dark_level, 1.0)
    is_good = factor == 1.0 and exposure_time_us <= exposure_max_us
    wanted = exposure_time_us * 10 ** (gain_db / 20) * factor
    exposure = min(wanted, exposure_max_us)
    amplified_db = 20 * log10(wanted / exposure)
    gain = min(amplified_db, gain_max_db)
    return ExposureAdvice(
        is_good=is_good,
        brightest_level=brightest,
        typical_level=float(np.median(by_channel, axis=0).max()),
        saturated_share=saturated,
        light_factor=factor,
        exposure_time_us=exposure_time_us if is_good else exposure,
        gain_db=gain_db if is_good else gain,
        missing_light_factor=1.0 if is_good else 10 ** ((amplified_db - gain) / 20),
    )


def longest_exposure_us(*, belt_speed_mm_per_s: float, mm_per_px: float, blur_max_px: float) -> float:
    """The longest exposure in which a part moves by at most ``blur_max_px``: ``blur * mm_per_px / speed``.

    With a strobe the time of its flash counts, not the shutter's. belt_speed_mm_per_s: the highest one. Half a pixel is a usual
    limit, one pixel the most for measuring. Raises ValueError where one is not above 0.
    """
    given = {"belt_speed_mm_per_s": belt_speed_mm_per_s, "mm_per_px": mm_per_px, "blur_max_px": blur_max_px}
    for name, value in given.items():
        if not value > 0:
            raise ValueError(f"{name}: got {value}, expected above 0")
    return blur_max_px * mm_per_px / belt_speed_mm_per_s * US_PER_S


def motion_blur_px(*, exposure_time_us: float, belt_speed_mm_per_s: float, mm_per_px: float) -> float:
    """How far a part moves while it is exposed, in pixels."""
    return exposure_time_us / US_PER_S * belt_speed_mm_per_s / mm_per_px
