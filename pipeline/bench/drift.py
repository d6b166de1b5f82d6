"""Suite ``drift``: how often quiet shifts raise a false alarm, and after how many parts a change is named, and as what.

The parts are solar cells on a dark belt, with a printed patch beside them that light and sharpness are read from; each lies a
little elsewhere, under light that flickers by a hundredth, with the sensor's noise. Brightness, evenness and sharpness are read
from the frames and scores are the model's; the position is the true one with the error of a tenth of a pixel that a registration
makes. Frames are drawn at random from those rendered, for each shift and its baseline anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy  # its stats are loaded where they are first used: other suites start without them
from scipy.special import ndtr

from calibration.drift import (
    SIGNALS,
    Cause,
    DriftBaseline,
    DriftTest,
    Signal,
    State,
    diagnose,
    fit_drift,
    usual_tolerances,
)
from pipeline.bench.cells import CellJudge, pictures_of, read_cells
from pipeline.simulator.images import SOLAR_CELL_SIDE_PX
from vision.frame_signals import FrameSignals, SignalReader, evenness
from vision.preprocess import FrameFormat
from vision.recipe import Region
from vision.types import PixelFormat

Floats = npt.NDArray[np.float64]
Pool = Mapping[Signal, Floats]
"""The signals of many frames, as many of each."""

_MARGIN_PX = 24
_SIDE_PX = SOLAR_CELL_SIDE_PX + 2 * _MARGIN_PX
_PATCH = Region(name="patch", x_px=_MARGIN_PX, y_px=_SIDE_PX + 2, width_px=96, height_px=32)
_MIDDLE = Region(name="middle", x_px=_MARGIN_PX + 20, y_px=_MARGIN_PX + 20, width_px=260, height_px=260)
_FORMAT = FrameFormat(_SIDE_PX, _SIDE_PX + 36, PixelFormat.MONO8)
_SQUARE_PX = 8
_BELT, _DARK, _LIGHT = 15.0, 60.0, 170.0
_OPTICS_PX, _JITTER_PX, _READING_PX, _FLICKER, _NOISE = 0.7, 0.5, 0.1, 0.01, 2.0
_MM_PER_PX = 156.0 / SOLAR_CELL_SIDE_PX
"""A cell is 156 mm wide."""

_FRAMES = 300
_QUIET_MAX_PARTS, _WAIT_PARTS, _AFTERWARDS_PARTS = 300, 2_000, 200
_ALIKE = 0.5
_ALIKE_BASELINE = 3
"""Times as many parts make the baseline where neighbours are alike."""
_DOUBT = 0.001
_TRIES = 50


class NoBaseline(RuntimeError):
    """So few parts give no baseline for so rare false alarms."""


@dataclass(frozen=True, slots=True)
class Change:
    """What befalls the line, which signal is to be named, and as what cause at last."""

    signal: Signal
    cause: Cause
    light: float = 1.0
    blur_px: float = 0.0
    shift_px: float = 0.0
    has_dirt: bool = False
    is_bad_lot: bool = False


CHANGES: Mapping[str, Change] = {
    "10 % less light": Change("brightness", "light", light=0.9),
    "a blur of 1 px": Change("sharpness", "focus", blur_px=1.0),
    "a shift of 2 mm": Change("position_x", "position", shift_px=2.0 / _MM_PER_PX),
    "a dead strobe": Change("brightness", "dead_strobe", light=0.02),
    "a dirty window": Change("evenness", "dirty_window", has_dirt=True),
    "a bad lot": Change("score", "bad_lot", is_bad_lot=True),
}
_QUIET = Change("score", "unclear")


def drift(
    model: Path,
    *,
    shifts: int = 200,
    shift_parts: int = 10_000,
    baseline_parts: int = 400,
    false_alarm_rate: float = 0.05,
    is_read_from_part: bool = False,
    seed: int = 1,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """``shifts`` of each kind, and as many of each change; ``is_read_from_part``: light and sharpness, from the middle of the
    cell.

    Raises ImageError, FaultsError, RuntimeProviderError, InferenceError, NoBaseline.
    """
    generator = np.random.default_rng(seed)
    pools = _pools(generator, model, _MIDDLE if is_read_from_part else _PATCH)
    quiet = pools[None]
    progress(f"{sum(len(pool['score']) for pool in pools.values())} frames are rendered and judged")
    tolerances = usual_tolerances({signal: float(np.mean(values)) for signal, values in quiet.items()})
    kinds: dict[str, tuple[float, int, Mapping[Signal, float]]] = {
        "each part by itself": (0.0, baseline_parts, {}),
        "each part half like the one before": (_ALIKE, baseline_parts * _ALIKE_BASELINE, {}),
        "each part by itself, with the usual tolerances": (0.0, baseline_parts, tolerances),
    }
    alarms = {}
    for name, (likeness, parts, tolerated) in kinds.items():
        station = _Station(generator, quiet, likeness, parts, tolerated, shift_parts, false_alarm_rate)
        raised = sum(_raises(*station.calibrated(), shift_parts) for _ in range(shifts))
        alarms[name] = _rate(raised, shifts, false_alarm_rate) | {
            "baseline_parts": parts,
            "baselines_refused": station.refused_count,
        }
        progress(f"{shifts} quiet shifts, {name}: {raised} with a false alarm")
    station = _Station(generator, quiet, 0.0, baseline_parts, tolerances, shift_parts, false_alarm_rate)
    delays = {}
    for name, change in CHANGES.items():
        runs: list[_Run] = []
        while len(runs) < shifts:
            if (told := _delay(generator, *station.calibrated(), pools[change], change)) is not None:
                runs.append(told)
        delays[name] = _delays(runs, change)
        progress(f"{name}: named after {delays[name]['parts']['p50']:g} parts")
    return {
        "suite": "drift",
        "shifts": shifts,
        "shift_parts": shift_parts,
        "baseline_parts": baseline_parts,
        "false_alarm_rate": false_alarm_rate,
        "is_read_from_part": is_read_from_part,
        "seed": seed,
        "tolerances": tolerances,
        "quiet_shifts": alarms,
        "changes": delays,
        "broken_promises": {
            "more_false_alarms_than_stated": sum(each["fits_the_rate_p"] < _DOUBT for each in alarms.values()),
            # Of a region on the part no more is promised than that parts differ less than the change.
            "changes_never_named": 0 if is_read_from_part else sum(each["never_named"] for each in delays.values()),
        },
    }


@dataclass(slots=True)
class _Station:
    """Calibrates itself on its quiet parts, again and again."""

    generator: np.random.Generator
    quiet: Pool
    likeness: float
    baseline_parts: int
    tolerances: Mapping[Signal, float]
    shift_parts: int
    false_alarm_rate: float
    refused_count: int = 0

    def calibrated(self) -> tuple[DriftBaseline, Iterator[Mapping[Signal, float]]]:
        """With the parts that come next. Raises NoBaseline."""
        for _ in range(_TRIES):
            draws = _draws(self.generator, self.quiet, self.likeness)
            drawn = [next(draws) for _ in range(self.baseline_parts)]
            report = fit_drift(
                {signal: [part[signal] for part in drawn] for signal in SIGNALS},
                shift_parts=self.shift_parts,
                false_alarm_rate=self.false_alarm_rate,
                tolerances=self.tolerances,
            )
            if report.baseline is not None:
                return report.baseline, draws
            self.refused_count += 1
        raise NoBaseline(f"no baseline in {_TRIES} tries; {report.refusals[0]}")


def _rate(count: int, total: int, rate: float) -> dict[str, Any]:
    interval = scipy.stats.binomtest(count, total).proportion_ci(0.95, "exact")
    return {
        "false_alarms": count,
        "shifts": total,
        "stated": rate,
        "share": round(count / total, 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
        "fits_the_rate_p": round(float(scipy.stats.binomtest(count, total, rate, alternative="greater").pvalue), 4),
    }


def _raises(baseline: DriftBaseline, draws: Iterator[Mapping[Signal, float]], parts: int) -> bool:
    """Whether so many parts raise an alarm."""
    test = DriftTest(baseline)
    state = test.start()
    for _ in range(parts):
        state, drifts = test.observe(state, next(draws))
        if drifts:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Run:
    """``parts``: from the change to the alarm of its signal, None where there was none."""

    parts: int | None
    first_named: Signal
    cause_at_once: Cause
    cause_afterwards: Cause


def _delay(
    generator: np.random.Generator,
    baseline: DriftBaseline,
    draws: Iterator[Mapping[Signal, float]],
    changed: Pool,
    change: Change,
) -> _Run | None:
    """None where the quiet parts before had a false alarm already."""
    test = DriftTest(baseline)
    state = test.start()
    for _ in range(int(generator.integers(_QUIET_MAX_PARTS))):
        state, drifts = test.observe(state, next(draws))
        if drifts:
            return None
    after = _draws(generator, changed, 0.0)
    first: Signal | None = None
    at_once: Cause | None = None
    for part in range(1, _WAIT_PARTS + 1):
        state, drifts = test.observe(state, next(after))
        if drifts and first is None:
            first, at_once = drifts[0].signal, _cause(baseline, state)
        if any(found.signal == change.signal for found in drifts):
            assert first is not None
            assert at_once is not None
            for _ in range(_AFTERWARDS_PARTS):
                state, _drifts = test.observe(state, next(after))
            return _Run(part, first, at_once, _cause(baseline, state))
    return _Run(None, first or "score", at_once or "unclear", _cause(baseline, state))


def _cause(baseline: DriftBaseline, state: State) -> Cause:
    told = diagnose(baseline, state)
    return "unclear" if told is None else told.cause


def _delays(runs: list[_Run], change: Change) -> dict[str, Any]:
    named = [float(run.parts) for run in runs if run.parts is not None]
    parts = np.array(named or [np.nan])
    p50, p90 = np.percentile(parts, [50, 90])
    return {
        "signal": change.signal,
        "runs": len(runs),
        "never_named": sum(run.parts is None for run in runs),
        "parts": {"p50": float(p50), "p90": float(p90), "max": float(parts.max())},
        "first_named": _counts(run.first_named for run in runs),
        "cause": change.cause,
        "cause_at_the_first_alarm": _counts(run.cause_at_once for run in runs),
        f"cause_{_AFTERWARDS_PARTS}_parts_later": _counts(run.cause_afterwards for run in runs),
    }


def _counts(words: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _draws(generator: np.random.Generator, pool: Pool, likeness: float) -> Iterator[Mapping[Signal, float]]:
    """Parts without end. With ``likeness`` each signal by itself is a first-order autoregression in normal scores; the values'
    own distribution stays what it is.
    """
    count = len(pool["score"])
    if not likeness:
        values = np.stack([pool[signal] for signal in SIGNALS], axis=1)
        while True:
            for row in values[generator.integers(0, count, 1_000)].tolist():
                yield dict(zip(SIGNALS, row, strict=True))
    rising = [np.sort(pool[signal]) for signal in SIGNALS]
    normal = generator.normal(size=len(SIGNALS))
    while True:
        normal = likeness * normal + np.sqrt(1 - likeness**2) * generator.normal(size=len(SIGNALS))
        places = np.minimum((ndtr(normal) * count).astype(np.int64), count - 1)
        yield {signal: float(values[place]) for signal, values, place in zip(SIGNALS, rising, places, strict=True)}


def _pools(generator: np.random.Generator, model: Path, region: Region) -> dict[Change | None, Pool]:
    cells = read_cells()
    good, defective = pictures_of(cells.held_out_good), pictures_of(cells.held_out_defective)
    judge = CellJudge(model, _FORMAT, x_px=_MARGIN_PX, y_px=_MARGIN_PX)
    reader = SignalReader("cam0", region, _FORMAT)
    raw: dict[Change | None, list[tuple[FrameSignals, float, float, float]]] = {}
    for change in (None, *CHANGES.values()):
        change_now = change or _QUIET
        pictures = defective if change_now.is_bad_lot else good
        count = 2 * len(good) if change is None else _FRAMES
        raw[change] = []
        for number in range(count):
            offset = generator.normal((change_now.shift_px, 0.0), _JITTER_PX)
            frame = _render(generator, pictures[number % len(pictures)], offset, change_now)
            x_px, y_px = offset + generator.normal(0.0, _READING_PX, 2)
            raw[change].append((reader.read(frame), judge.score(frame), x_px, y_px))
    calibrated = np.mean([signals.tile_shares for signals, *_ in raw[None]], axis=0).tolist()
    return {change: _pool(its, calibrated) for change, its in raw.items()}


def _pool(raw: list[tuple[FrameSignals, float, float, float]], calibrated: list[float]) -> Pool:
    return {
        "score": np.array([score for _, score, _, _ in raw]),
        "brightness": np.array([signals.brightness for signals, *_ in raw]),
        "evenness": np.array([evenness(signals.tile_shares, calibrated) for signals, *_ in raw]),
        "sharpness": np.array([signals.sharpness for signals, *_ in raw]),
        "position_x": np.array([x_px for _, _, x_px, _ in raw]),
        "position_y": np.array([y_px for _, _, _, y_px in raw]),
    }


def _render(
    generator: np.random.Generator, cell: npt.NDArray[np.uint8], offset_px: Floats, change: Change
) -> npt.NDArray[np.uint8]:
    scene: Any = np.full(_FORMAT.shape, _BELT, np.float32)
    move = np.array([[1.0, 0.0, _MARGIN_PX + offset_px[0]], [0.0, 1.0, _MARGIN_PX + offset_px[1]]])
    size = (_SIDE_PX, _SIDE_PX)
    scene[:_SIDE_PX] = cv2.warpAffine(
        cell.astype(np.float32),
        move,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(_BELT,),
    )
    y, x = np.indices((_PATCH.height_px, _PATCH.width_px)) // _SQUARE_PX
    inside = np.s_[_PATCH.y_px : _PATCH.y_px + _PATCH.height_px, _PATCH.x_px : _PATCH.x_px + _PATCH.width_px]
    scene[inside] = np.where((x + y) % 2 == 0, _DARK, _LIGHT)
    # The cells' pictures went through optics already; the printed patch has not.
    scene[_SIDE_PX:] = cv2.GaussianBlur(scene[_SIDE_PX:], (0, 0), _OPTICS_PX)
    if change.blur_px:
        scene = cv2.GaussianBlur(scene, (0, 0), change.blur_px)
    if change.has_dirt:
        smear: Any = np.zeros(_FORMAT.shape, np.float32)
        cv2.circle(smear, (_MARGIN_PX + 20, _SIDE_PX - 10), 40, (1.0,), -1)
        smear = cv2.GaussianBlur(smear, (0, 0), 10.0)
        scene *= 1.0 - 0.3 * smear
    scene *= change.light * (1.0 + generator.normal(0.0, _FLICKER))
    scene += generator.standard_normal(_FORMAT.shape, np.float32) * np.float32(_NOISE)
    return np.asarray(np.clip(np.rint(scene), 0, 255), np.uint8)
