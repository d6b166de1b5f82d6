"""Dark and bright frames -> gains, dark levels, dead and hot pixels, and how even held-out frames become.

The two-point correction of every flat-field procedure: ``level = (raw - dark) * gain`` with
``gain = typical / (bright - dark)``, where ``dark`` and ``bright`` are means over frames, and ``typical`` is the median of
``bright - dark``, for each channel by itself: the picture keeps its brightness and the light its colour. Noise is told from
pattern as in EMVA Standard 1288 (spatial nonuniformity): the variance of a mean frame is that of its pixels plus the noise's,
divided by the count of frames.

A gain map cannot tell light from what it falls on: a pattern of the bright target becomes a pattern of the gains. Coarse
patterns are found here, a soft gradient of the target itself cannot be: use a clean, plain, matt target, filling the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from calibration.refusal import Refusal
from vision.correction import substitutes_of

DARK_COUNT_MIN = 8
BRIGHT_COUNT_MIN = 12
HELD_OUT_EVERY = 3
"""Every third bright frame has no part in the gains."""

DARK_MAX_LEVEL = 40.0
SATURATED_LEVEL = 245.0
SATURATED_SHARE_MAX = 0.001
BRIGHT_MIN_LEVEL, BRIGHT_BEST_LEVEL = 80.0, 170.0
FALL_OFF_MAX = 4.0
"""Brightest over darkest part of the picture: so much more does noise weigh in one than in the other."""
FLICKER_MAX = 0.02
"""Spread of the frames' mean levels, of their mean."""
MOVING_MAX = 0.02
"""Spread over time of a part of the picture, frames made equally bright, of its mean, beyond noise."""
TEXTURE_MAX = 0.02
"""Typical deviation of a pixel from those around it, of their level, beyond noise; sensors have less than 0.01."""
MARKED_DEVIATION, MARKED_SHARE_MAX = 0.05, 0.01
"""Dust darkens some pixels by more than so much; edges and print do that to more than so many."""

HOT_ABOVE_LEVELS = 20.0
BLINKING_SPREAD_LEVELS = 10.0
ANSWER_MIN, ANSWER_MAX = 0.5, 1.5
"""Of a pixel against those around it: beyond, it is dead."""
DEAD_SHARE_MAX = 0.005

_AROUND_PX = 31
_PARTS = 16
"""Parts along each side that the evenness of a picture is told of, unless they were smaller than ``_PART_MIN_PX``."""
_PART_MIN_PX = 16
_CONFIDENCE = 0.95
_SPREAD_OF_MEDIAN_DEVIATION = 1.4826

Frames = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over ``count`` frames; ``low`` to ``high`` holds the true one with 95 % confidence (Student's t)."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class FlatField:
    """gain, dark: float32, of a frame's shape; dead, hot: bool (height, width), each pixel in at most one of them."""

    gain: Levels
    dark: Levels
    dead: npt.NDArray[np.bool_]
    hot: npt.NDArray[np.bool_]

    def corrected(self, frame: Frames) -> Levels:
        """A raw frame's even levels, 0..255, float32, as the line's kernel makes them at full size."""
        spoiled = self.dead | self.hot
        levels = substitutes_of(spoiled).fill(frame.astype(np.float64))
        corrected: Levels = ((levels - self.dark) * self.gain).clip(0.0, 255.0).astype(np.float32)
        return corrected


@dataclass(frozen=True, slots=True)
class FlatFieldQuality:
    """How even frames that had no part in the gains are, before and after, in per cent.

    uneven_*_percent: the brightest part of the picture less the darkest, of the mean (the worst channel's), parts being about a
    sixteenth of the picture wide and high. pattern_*_percent: the spread from pixel to pixel within parts, noise taken off.
    noise_percent: what noise in the gains themselves adds to that. fall_off: brightest over darkest part, raw.
    """

    uneven_before_percent: Measured
    uneven_after_percent: Measured
    pattern_before_percent: float
    pattern_after_percent: float
    noise_percent: float
    fall_off: float
    dead_count: int
    hot_count: int
    dark_frame_count: int
    bright_frame_count: int
    held_out_count: int


@dataclass(frozen=True, slots=True)
class FlatFieldResult:
    """``field`` is None where there is a refusal; ``quality`` where nothing could be measured."""

    field: FlatField | None
    quality: FlatFieldQuality | None
    refusals: tuple[Refusal, ...]


def fit_flat_field(dark_frames: Frames, bright_frames: Frames) -> FlatFieldResult:
    """Both uint8 (frames, height, width) or (frames, height, width, 3), of one camera in one setting.

    Dark: lens covered, the exposure and gain of production. Bright: an even target that fills the picture, moved a little between
    frames if it can be. Raises ValueError where these are no frames of one shape.
    """
    for name, frames in (("dark_frames", dark_frames), ("bright_frames", bright_frames)):
        if frames.dtype != np.uint8 or frames.ndim not in (3, 4):
            raise ValueError(
                f"{name}: got {frames.dtype} of shape {frames.shape}, expected uint8 (frames, height, width[, 3])"
            )
    if dark_frames.shape[1:] != bright_frames.shape[1:]:
        raise ValueError(
            f"frames: got dark {dark_frames.shape[1:]}, bright {bright_frames.shape[1:]}, expected one shape"
        )

    if refusals := _too_few(len(dark_frames), len(bright_frames)):
        return FlatFieldResult(None, None, refusals)
    dark, dark_noise = _mean_and_noise(dark_frames)
    if refusals := (*_light(dark, bright_frames), *_unsteady(bright_frames)):
        return FlatFieldResult(None, None, refusals)

    held_out = np.arange(len(bright_frames)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    fitted = bright_frames[~held_out]
    bright, bright_noise = _mean_and_noise(fitted)
    answer = bright - dark
    around = np.maximum(_around(answer), 1.0)
    hot = _any_channel((dark - np.median(dark, axis=(0, 1)) > HOT_ABOVE_LEVELS) | (dark_noise > BLINKING_SPREAD_LEVELS))
    relative = answer / around
    dead = _any_channel((relative < ANSWER_MIN) | (relative > ANSWER_MAX)) & ~hot
    if refusals := _spoiled(dead | hot):
        return FlatFieldResult(None, None, refusals)
    substitutes = substitutes_of(dead | hot)
    answer = substitutes.fill(answer.astype(np.float64))
    around = _around(answer)
    noise = float(np.median(bright_noise / around)) / sqrt(len(fitted))
    if refusals := _fall_off(answer) or _texture(answer / around, noise):
        return FlatFieldResult(None, None, refusals)

    field = FlatField(
        gain=(np.median(answer, axis=(0, 1)) / answer).astype(np.float32),
        dark=substitutes.fill(dark.astype(np.float64)).astype(np.float32),
        dead=dead,
        hot=hot,
    )
    quality = _quality(field, bright_frames[held_out], 100 * noise, len(dark_frames), len(bright_frames))
    return FlatFieldResult(field, quality, ())


def evenness_percent(levels: npt.NDArray[np.floating[Any]]) -> float:
    """Brightest part of a frame less its darkest one, of the frame's mean, in per cent; of the worst channel.

    ``levels``: (height, width) or (height, width, 3), any numbers. Parts are a sixteenth of the frame wide and high, at least
    16 px.
    """
    means = _part_means(levels)
    return float((100 * (means.max(axis=(0, 1)) - means.min(axis=(0, 1))) / means.mean(axis=(0, 1))).max())


def _quality(
    field: FlatField, held_out: Frames, noise_percent: float, dark_count: int, bright_count: int
) -> FlatFieldQuality:
    spoiled = substitutes_of(field.dead | field.hot)
    before = _looked_at(spoiled.fill(frame.astype(np.float64)) - field.dark for frame in held_out)
    after = _looked_at(field.corrected(frame) for frame in held_out)
    means = _part_means(before.mean)
    return FlatFieldQuality(
        uneven_before_percent=_measured(before.uneven_percent),
        uneven_after_percent=_measured(after.uneven_percent),
        pattern_before_percent=_pattern_percent(before),
        pattern_after_percent=_pattern_percent(after),
        noise_percent=noise_percent,
        fall_off=float((means.max(axis=(0, 1)) / means.min(axis=(0, 1))).max()),
        dead_count=int(field.dead.sum()),
        hot_count=int(field.hot.sum()),
        dark_frame_count=dark_count,
        bright_frame_count=bright_count,
        held_out_count=len(held_out),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Looked:
    """Of some frames: how uneven each is, their mean, and the noise's share in the variance of that mean's pixels."""

    uneven_percent: list[float]
    mean: npt.NDArray[np.float64]
    noise_variance: float


def _looked_at(frames: Iterable[npt.NDArray[np.floating[Any]]]) -> _Looked:
    """One frame at a time: all at once would take gigabytes. At least two."""
    uneven: list[float] = []
    total, squares = np.zeros(()), 0.0
    for frame in frames:
        uneven.append(evenness_percent(frame))
        total = total + frame
        squares += float(np.square(frame, dtype=np.float64).mean())
    count = len(uneven)
    variance = (squares - float(np.square(total).mean()) / count) / (count - 1)
    return _Looked(uneven, total / count, variance / count)


def _pattern_percent(looked: _Looked) -> float:
    """Spread of the mean frame's pixels against those around them, less the share that noise has in it, of their level."""
    around = _around(looked.mean)
    spread = float(np.var(looked.mean - around)) - looked.noise_variance
    return 100 * sqrt(max(spread, 0.0)) / float(around.mean())


def _too_few(dark_count: int, bright_count: int) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(
            f"too few {kind} frames",
            f"{count}",
            f"at least {least}",
            f"Take {least - count} more: noise in them becomes a pattern in every picture.",
        )
        for kind, count, least in (("dark", dark_count, DARK_COUNT_MIN), ("bright", bright_count, BRIGHT_COUNT_MIN))
        if count < least
    )


def _light(dark: Levels, bright_frames: Frames) -> tuple[Refusal, ...]:
    refusals = []
    dark_level = float(np.median(dark))
    if dark_level > DARK_MAX_LEVEL:
        refusals.append(
            Refusal(
                "the dark frames are not dark",
                f"a typical level of {dark_level:.0f} of 255",
                f"at most {DARK_MAX_LEVEL:.0f}",
                "Put the cap on the lens and the light out; if it stays so, lower the camera's black level.",
            )
        )
    bright, _ = _mean_and_noise(bright_frames)
    level = float(np.median(bright, axis=(0, 1)).min())
    saturated = float((bright >= SATURATED_LEVEL).mean())
    if saturated > SATURATED_SHARE_MAX:
        refusals.append(
            Refusal(
                "the bright frames are saturated",
                f"{100 * saturated:.1f} % of the pixels at {SATURATED_LEVEL:.0f} or more",
                f"at most {100 * SATURATED_SHARE_MAX:.1f} %",
                "Shorten the exposure, close the iris or dim the light until the brightest spot is near 220.",
            )
        )
    elif level <= dark_level:
        refusals.append(
            Refusal(
                "the bright frames are not brighter than the dark ones",
                f"a typical level of {level:.0f} of 255",
                f"more than the {dark_level:.0f} of the dark ones",
                "See whether the two are mixed up: dark ones are taken with the cap on, bright ones of a lit sheet.",
            )
        )
    elif level < BRIGHT_MIN_LEVEL:
        more = (BRIGHT_BEST_LEVEL - dark_level) / max(level - dark_level, 1.0)
        refusals.append(
            Refusal(
                "the bright frames are too dark",
                f"a typical level of {level:.0f} of 255",
                f"at least {BRIGHT_MIN_LEVEL:.0f}, best about {BRIGHT_BEST_LEVEL:.0f}",
                f"Give about {more:.1f} times the light: a brighter target, a longer exposure or a wider iris.",
            )
        )
    return tuple(refusals)


def _unsteady(bright_frames: Frames) -> tuple[Refusal, ...]:
    parts = np.stack([_part_means(frame.astype(np.float32)) for frame in bright_frames])
    means = parts.reshape(len(parts), -1).mean(axis=1)
    flicker = float(means.std(ddof=1) / means.mean())
    if flicker > FLICKER_MAX:
        return (
            Refusal(
                "the light flickers",
                f"frames whose brightness spreads by {100 * flicker:.1f} %",
                f"at most {100 * FLICKER_MAX:.0f} %",
                "Shut out daylight and lamps, trigger the strobe with the camera, and let the light warm up.",
            ),
        )
    alike = parts / means.reshape(-1, *[1] * (parts.ndim - 1))
    moving = float((alike.std(axis=0, ddof=1) / alike.mean(axis=0)).max())
    if moving > MOVING_MAX:
        return (
            Refusal(
                "something moves in the bright frames",
                f"a part of the picture that changes by {100 * moving:.1f} % from frame to frame",
                f"at most {100 * MOVING_MAX:.0f} %",
                "Stop the belt, keep hands and parts out of the picture, and use a plain target.",
            ),
        )
    return ()


def _spoiled(spoiled: npt.NDArray[np.bool_]) -> tuple[Refusal, ...]:
    share = float(spoiled.mean())
    if share > DEAD_SHARE_MAX:
        return (
            Refusal(
                "too many pixels look dead",
                f"{int(spoiled.sum())} of {spoiled.size} ({100 * share:.2f} %)",
                f"at most {100 * DEAD_SHARE_MAX:.1f} %",
                "Use a plain target without print or holes, and clean lens and window; if it stays so, replace the camera.",
            ),
        )
    try:
        substitutes_of(spoiled)
    except ValueError as error:
        return (
            Refusal(
                "dead pixels lie too close together",
                str(error),
                "good pixels around each dead one",
                "Clean lens, window and sensor; if it stays so, replace the camera.",
            ),
        )
    return ()


def _fall_off(answer: npt.NDArray[np.float64]) -> tuple[Refusal, ...]:
    means = _part_means(answer)
    darkest = float((means.min(axis=(0, 1)) / means.max(axis=(0, 1))).min())
    if darkest * FALL_OFF_MAX >= 1.0:
        return ()
    return (
        Refusal(
            "the light is too uneven to be evened out",
            f"a darkest part of the picture with {100 * max(darkest, 0.0):.0f} % of the brightest part's light",
            f"at least {100 / FALL_OFF_MAX:.0f} %",
            "Move or add a light, or use a lens for a sensor of this size: gains would make noise of the dark parts.",
        ),
    )


def _texture(relative: npt.NDArray[np.float64], noise: float) -> tuple[Refusal, ...]:
    deviation = np.abs(relative - np.median(relative))
    spread = _SPREAD_OF_MEDIAN_DEVIATION * float(np.median(deviation))
    texture = sqrt(max(spread**2 - noise**2, 0.0))
    marked = float((deviation > MARKED_DEVIATION).mean())
    if texture <= TEXTURE_MAX and marked <= MARKED_SHARE_MAX:
        return ()
    return (
        Refusal(
            "the bright target is not plain",
            f"pixels that differ by {100 * texture:.1f} % from those around them, "
            f"{100 * marked:.1f} % of them by more than {100 * MARKED_DEVIATION:.0f} %",
            f"at most {100 * TEXTURE_MAX:.0f} %, and {100 * MARKED_SHARE_MAX:.0f} % of them",
            "Use a clean matt sheet that fills the picture, a little out of focus or moved between frames: "
            "its pattern would be taken off every part.",
        ),
    )


def _mean_and_noise(frames: Frames) -> tuple[Levels, Levels]:
    """Each pixel's mean and spread over the frames, exact sums."""
    total = np.zeros(frames.shape[1:], np.uint32)
    squares = np.zeros(frames.shape[1:], np.uint32)
    for frame in frames:
        wide = frame.astype(np.uint32)
        total += wide
        squares += wide * wide
    count = len(frames)
    variance = (squares - total.astype(np.float64) ** 2 / count) / (count - 1)
    return (total / count).astype(np.float32), np.sqrt(variance.clip(0.0)).astype(np.float32)


def _around(levels: npt.NDArray[np.floating[Any]]) -> Levels:
    """The mean of the pixels around each one."""
    return np.asarray(cv2.blur(levels.astype(np.float32), (_AROUND_PX, _AROUND_PX)), np.float32)


def _any_channel(which: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(which if which.ndim == 2 else which.any(axis=2), np.bool_)


def _part_means(levels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """(parts down, parts across) or (parts down, parts across, channels)."""
    starts = [
        np.linspace(0, size, max(1, min(_PARTS, size // _PART_MIN_PX)), endpoint=False).astype(np.int64)
        for size in levels.shape[:2]
    ]
    sizes = [np.diff([*start, size]) for start, size in zip(starts, levels.shape[:2], strict=True)]
    sums = np.add.reduceat(np.add.reduceat(levels.astype(np.float64), starts[0], axis=0), starts[1], axis=1)
    counts = np.multiply.outer(*sizes)
    means: npt.NDArray[np.float64] = sums / counts.reshape(*counts.shape, *[1] * (levels.ndim - 2))
    return means


def _measured(values: Sequence[float]) -> Measured:
    """Student, The probable error of a mean, Biometrika 6 (1908)."""
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2)) * spread / sqrt(len(values))
    return Measured(mean, max(0.0, mean - reach), mean + reach, len(values))
