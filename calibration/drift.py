"""Whether something drifts away from the calibrated state while parts run, and what: a sequential test with a stated false-alarm
rate.

**What is watched.** Of each part some cheap numbers (``SIGNALS``): its score, the brightness of a reference region, how even that
brightness is, a figure of sharpness, its position. Each has a chart of its own.

**The test.** A value is turned into its normal score among the baseline's values (B. L. van der Waerden, Proc. Koninklijke
Nederlandse Akademie van Wetenschappen 55 (1952)): whatever its distribution, it is then about standard normal while nothing
drifts, and one wild part weighs no more than 2.6. Means of blocks of ``block_parts`` consecutive parts, standardised by mean and
spread of the baseline's own blocks, go into a two-sided CUSUM chart (E. S. Page, Continuous inspection schemes, Biometrika 41
(1954); D. M. Hawkins and D. H. Olwell, Cumulative Sum Charts (1998)): it adds up what the means exceed ``allowance`` by and
raises at ``limit``.

**The false-alarm rate** is that of any false alarm, of all charts together, in ``shift_parts`` parts. Given mean and spread, the
run length of a CUSUM chart is about exponential with the mean of D. Siegmund, Sequential Analysis (1985), section 2.6. But mean
and spread come from N parts and are themselves off, which at a limit from tables makes false alarms many times as frequent (W. A.
Jensen, L. A. Jones-Farmer, C. W. Champ and W. H. Woodall, Effects of parameter estimation on control chart properties, Journal of
Quality Technology 38 (2006)). So the chance is averaged over both errors (normal and chi-square, of as many blocks as there
were), and the limit is set so that this average is the stated rate. ``allowance`` is one half and 2.5 standard errors of the
baseline's mean.

**Neighbours that are alike.** Successive parts share a machine's mood. Blocks are made at least four times as long as the
integrated autocorrelation time of the worst signal (A. D. Sokal's window; N. Madras and A. D. Sokal, Journal of Statistical
Physics 50 (1988)), and the blocks' spread is widened for what is left, as for a first-order autoregression. The baseline has to
hold 20 blocks. Where parts are alike over longer than the baseline shows (a wander over hours), that *is* drift to this test:
give tolerances that such a wander stays within.

**Scores that are mostly one value** are not watched: the law above does not hold for them.

**Tolerance.** A change, the mean since it began by the chart, that is smaller than a signal's ``tolerance`` raises nothing,
however sure it is; that only lowers the false-alarm rate.

**What moved, and why** (``diagnose``), by rule, the first that fits:

1. brightness at half the baseline's or less, whatever raised the alarm: the light is gone (strobe, its cable or trigger, a
shutter). 2. position moved: the part lies elsewhere, or the camera was knocked. Everything else in the picture may have moved for
that reason. 3. one part of the picture darker than the rest, or brightness and sharpness both down: a dirty or misted window. 4.
brightness alone: the light is weaker or stronger (lamp, exposure, another light nearby). 5. sharpness alone: focus, or motion
blur. 6. scores up while no chart of the picture is even half way to its limit: the parts are worse, a bad lot. 7. anything else:
unclear, with what moved.

What cannot be told apart: parts of another colour, from weaker light, where the reference region lies on the part (put it beside
the part, on the belt or a white patch); dirt that darkens the whole region alike and does not blur, from a weaker lamp; a strobe
that fails now and then, which moves no mean by much.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan, sqrt
from statistics import NormalDist
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter

from calibration.refusal import Refusal
from vision.recipe import Strict
from vision.reference_region import ReferenceRegion

Floats = npt.NDArray[np.float64]
Signal = Literal["brightness", "evenness", "sharpness", "position_x", "position_y", "score"]
Cause = Literal["dead_strobe", "position", "dirty_window", "light", "focus", "bad_lot", "unclear"]

SIGNALS: tuple[Signal, ...] = ("brightness", "evenness", "sharpness", "position_x", "position_y", "score")
"""Alarms of one part come in this order: what moves the scores before the scores."""

_GRID_MAX = 101
_BLOCK_PARTS_MIN = 10
_BLOCK_TIMES = 4.0
_BLOCKS_MIN = 20
_SPREAD_MIN = 0.25
"""Of normal scores: where all of 300 baseline values are the same, one in a hundred may still be another."""
_OVERSHOOT = 1.166
"""What Siegmund adds to a two-sided limit for the jump over it."""
_LIMIT_MAX = 50.0
"""With a higher one even the light's going out would have to last many blocks to be told."""
_STANDS_AT = 2.0
"""A CUSUM goes no higher than so many limits, so that an alarm can be taken back when all is well again."""
_GONE = 0.5
_SUSPECT = 0.5
_SAME_SCORE_MAX = 0.5
"""Where more parts than that score the very same (a detector that finds nothing gives 0), the few others make blocks' means so
far from normal that the stated rate is not kept: at 97 % of zeros 17 % of quiet shifts raised alarms where 1 % was stated.
"""


class SignalBaseline(Strict):
    """One signal while all was well. ``grid``: its values, or about a hundred of them at even steps, rising; ``mean``: of all of
    them; ``block_mean`` and ``block_spread``: of the blocks' mean normal scores; ``tolerance``: in the signal's own unit.
    """

    signal: Signal
    grid: Annotated[list[float], Field(min_length=2)]
    mean: float
    block_mean: float
    block_spread: Annotated[float, Field(gt=0.0)]
    tolerance: Annotated[float, Field(ge=0.0)]


class DriftBaseline(Strict):
    """What calibration leaves for the test while parts run. ``false_alarm_rate``: of any false alarm in ``shift_parts`` parts;
    ``region``: where brightness, evenness and sharpness are read (``vision.frame_signals``), None where they are not watched.
    """

    false_alarm_rate: Annotated[float, Field(gt=0.0, lt=1.0)]
    shift_parts: Annotated[int, Field(ge=1)]
    baseline_parts: Annotated[int, Field(ge=1)]
    block_parts: Annotated[int, Field(ge=1)]
    allowance: Annotated[float, Field(gt=0.0)]
    limit: Annotated[float, Field(gt=0.0)]
    signals: Annotated[list[SignalBaseline], Field(min_length=1)]
    region: ReferenceRegion | None = None


@dataclass(frozen=True, slots=True)
class DriftReport:
    """``baseline`` None: refused. ``same_score_share``: of the score that most parts have. ``alike_parts``: over so many parts
    each signal's values are alike (1: not at all).
    """

    baseline: DriftBaseline | None
    alike_parts: Mapping[Signal, float]
    refusals: tuple[Refusal, ...]
    same_score_share: float = 0.0

    @property
    def watches_score(self) -> bool:
        """Whether the scores are watched, where there were any."""
        return self.same_score_share <= _SAME_SCORE_MAX


def fit_drift(
    values: Mapping[Signal, Sequence[float] | Floats],
    *,
    shift_parts: int,
    false_alarm_rate: float = 0.01,
    tolerances: Mapping[Signal, float] | None = None,
    region: ReferenceRegion | None = None,
) -> DriftReport:
    """``values``: of consecutive good parts, in their order, as many of each signal, NaN where a part has none; ``region``: what
    they were read from.

    Raises ValueError for no signal, signals of different lengths, infinite values, or a rate outside 0 and 1.
    """
    if not 0.0 < false_alarm_rate < 1.0:
        raise ValueError(f"false_alarm_rate: got {false_alarm_rate:g}, expected more than 0 and less than 1")
    series = {signal: np.asarray(values[signal], np.float64).reshape(-1) for signal in SIGNALS if signal in values}
    lengths = {given.size for given in series.values()}
    if len(lengths) != 1 or any(np.isinf(given).any() for given in series.values()):
        raise ValueError(f"values: got {sorted(lengths)} of the signals, expected as many finite ones of each of them")
    (parts_count,) = lengths
    kept = {signal: given[~np.isnan(given)] for signal, given in series.items()}
    refusals = [_too_few(signal, given.size, _least()) for signal, given in kept.items() if given.size < _least()]
    if refusals:
        return DriftReport(None, {}, tuple(refusals))
    same_share = _same_share(kept["score"]) if "score" in kept else 0.0
    if same_share > _SAME_SCORE_MAX and len(kept) > 1:
        del kept["score"], series["score"]
    grids = {signal: _grid_of(given) for signal, given in kept.items()}
    scores = {signal: _NormalScores(grids[signal]).of_all(given) for signal, given in kept.items()}
    alike = {signal: alike_parts(given) for signal, given in scores.items()}
    worst = max(alike, key=lambda signal: alike[signal])
    block_parts = max(_BLOCK_PARTS_MIN, ceil(_BLOCK_TIMES * alike[worst]))
    block_counts = {signal: given.size // block_parts for signal, given in scores.items()}
    fewest = min(block_counts, key=lambda signal: block_counts[signal])
    if block_counts[fewest] < _BLOCKS_MIN:
        refusal = _too_few(fewest, kept[fewest].size, block_parts * _BLOCKS_MIN, worst, alike[worst])
        return DriftReport(None, alike, (refusal,))
    shift_blocks, rate_each = shift_parts / block_parts, false_alarm_rate / len(series)
    allowance, limit = cusum_of(block_counts[fewest], shift_blocks, rate_each)
    if limit > _LIMIT_MAX:
        blocks_count = block_counts[fewest]
        while cusum_of(blocks_count, shift_blocks, rate_each)[1] > _LIMIT_MAX:
            blocks_count += 1
        refusal = _too_few(fewest, kept[fewest].size, block_parts * blocks_count, worst, alike[worst])
        return DriftReport(None, alike, (refusal,))
    signals = []
    for signal, given in scores.items():
        blocks = given[: block_counts[signal] * block_parts].reshape(-1, block_parts).mean(axis=1)
        spread = float(blocks.std(ddof=1)) * _widening(alike[signal], block_parts)
        signals.append(
            SignalBaseline(
                signal=signal,
                grid=grids[signal],
                mean=float(kept[signal].mean()),
                block_mean=float(blocks.mean()),
                block_spread=max(spread, _SPREAD_MIN / sqrt(block_parts)),
                tolerance=float((tolerances or {}).get(signal, 0.0)),
            )
        )
    baseline = DriftBaseline(
        false_alarm_rate=false_alarm_rate,
        shift_parts=shift_parts,
        baseline_parts=parts_count,
        block_parts=block_parts,
        allowance=allowance,
        limit=limit,
        signals=signals,
        region=region,
    )
    return DriftReport(baseline, alike, (), same_share)


def _same_share(values: Floats) -> float:
    """Of the value that is met most often."""
    return float(np.unique(values, return_counts=True)[1].max() / values.size)


def usual_tolerances(means: Mapping[Signal, float]) -> dict[Signal, float]:
    """Changes that are not worth an operator's walk: of brightness 2 % and of sharpness 4 % of their means, of evenness 0.02, of
    the position a quarter of a pixel (in pixels), of the score 0.01.
    """
    shares: Mapping[Signal, float] = {"brightness": 0.02, "sharpness": 0.04}
    fixed: Mapping[Signal, float] = {"evenness": 0.02, "position_x": 0.25, "position_y": 0.25, "score": 0.01}
    return {signal: shares[signal] * abs(mean) if signal in shares else fixed[signal] for signal, mean in means.items()}


def alike_parts(values: Floats) -> float:
    """The integrated autocorrelation time, 1 + 2 times the sum of the autocorrelations, with one standard error on top.

    The sum goes to the first lag that is five times the time so far (Sokal). 1 at least; of values that are all the same, 1.
    """
    centred = values - values.mean()
    count, power = values.size, float(centred @ centred)
    if power == 0.0:
        return 1.0
    time, lag = 1.0, 0
    while lag < count // 2 and lag < 5.0 * time:
        lag += 1
        time = max(1.0, time + 2.0 * float(centred[lag:] @ centred[:-lag]) / power)
    return time * (1.0 + sqrt(2.0 * (2.0 * lag + 1.0) / count)) if time > 1.0 else 1.0


def cusum_of(blocks_count: int, shift_blocks: float, false_alarm_rate: float) -> tuple[float, float]:
    """Allowance and limit of a two-sided chart, in standard deviations of a block's mean.

    ``blocks_count``: of the baseline, 2 at least; ``false_alarm_rate``: of this chart in ``shift_blocks`` blocks.
    """
    allowance = 0.5 + 2.5 / sqrt(blocks_count)
    low, high = 0.0, 1.0
    while false_alarm_chance(blocks_count, shift_blocks, allowance, high) > false_alarm_rate:
        low, high = high, high * 2
    while high - low > 1e-3:
        middle = (low + high) / 2
        if false_alarm_chance(blocks_count, shift_blocks, allowance, middle) > false_alarm_rate:
            low = middle
        else:
            high = middle
    return allowance, high


def false_alarm_chance(blocks_count: int, shift_blocks: float, allowance: float, limit: float) -> float:
    """Of a two-sided chart in ``shift_blocks`` quiet blocks, over the errors of a baseline of ``blocks_count`` blocks.

    In true standard deviations the baseline's mean is off by ``offset`` and its spread is ``scale``: the chart adds up normal
    numbers of mean -offset - allowance * scale to one side, and offset - allowance * scale to the other, up to limit * scale.
    """
    offsets, offset_weights = _NORMAL
    freedom = blocks_count - 1
    # The cube root of a chi-square over its freedom is about normal (E. B. Wilson and M. M. Hilferty, PNAS 17 (1931)).
    thirds = np.maximum(1 - 2 / (9 * freedom) + offsets * sqrt(2 / (9 * freedom)), 0.05)
    scales = thirds**1.5
    offset = (offsets / sqrt(blocks_count))[:, None]
    drifts = np.stack([-offset - allowance * scales, offset - allowance * scales])
    heights = limit * scales + _OVERSHOOT
    alarms = shift_blocks * (1 / _run_length(drifts, heights)).sum(axis=0)
    return float(offset_weights @ -np.expm1(-alarms) @ offset_weights)


def _run_length(drift: Floats, height: Floats) -> Floats:
    """Siegmund's mean run length of a one-sided CUSUM chart of unit normal numbers, in blocks; 1 at least."""
    product = np.maximum(drift * height, -300.0)
    small = np.abs(product) < 1e-4
    safe = np.where(small, 1.0, drift)
    mean = np.where(small, height**2, (np.exp(-2 * product) - 1 + 2 * product) / (2 * safe**2))
    return np.maximum(mean, 1.0)


def _normal_nodes() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return np.asarray(nodes, np.float64), np.asarray(weights / weights.sum(), np.float64)


_NORMAL = _normal_nodes()


def _widening(alike: float, block_parts: int) -> float:
    """What neighbouring blocks still share, in the spread of their means: by it the sum of many blocks spreads more than of
    blocks of their own. Exact for a first-order autoregression, whose time of likeness is ``alike``.
    """
    return sqrt(block_parts * alike / (block_parts * alike - (alike**2 - 1) / 2))


def _least() -> int:
    return _BLOCK_PARTS_MIN * _BLOCKS_MIN


def _too_few(signal: str, count: int, needed: int, worst: str = "", alike: float = 1.0) -> Refusal:
    advice = f"Let {needed - count} more good parts pass."
    if alike * _BLOCK_TIMES > _BLOCK_PARTS_MIN:
        advice += f" {worst} is alike over about {alike:.0f} parts, which makes so many necessary."
    return Refusal("too few parts for a baseline", f"{count} values of {signal}", f"{needed} at least", advice)


def _grid_of(values: Floats) -> list[float]:
    rising = np.sort(values)
    places = np.unique(np.rint(np.linspace(0, rising.size - 1, min(_GRID_MAX, rising.size))).astype(np.int64))
    return [float(value) for value in rising[places]]


class _NormalScores:
    """A value's normal score among a grid of values: by its rank, ties in the middle."""

    __slots__ = ("_grid", "_scores")

    def __init__(self, grid: Sequence[float]) -> None:
        self._grid = list(grid)
        quantile = NormalDist().inv_cdf
        steps = 2 * len(grid)
        self._scores = [quantile((step + 1) / (steps + 2)) for step in range(steps + 1)]

    def of(self, value: float) -> float:
        return self._scores[bisect_left(self._grid, value) + bisect_right(self._grid, value)]

    def of_all(self, values: Floats) -> Floats:
        return np.array([self.of(value) for value in values.tolist()], np.float64)


class ChartState(NamedTuple):
    """One signal's chart. Sums are over the open block (``block_*``) and, of whole blocks, since a side was last 0 (``up_*``,
    ``down_*``).

    ``last``: the mean of the last whole block, None before the first; ``raised``: 1 up, -1 down, 0 no alarm stands.
    """

    block_count: int = 0
    block_scores: float = 0.0
    block_values: float = 0.0
    up: float = 0.0
    up_count: int = 0
    up_values: float = 0.0
    down: float = 0.0
    down_count: int = 0
    down_values: float = 0.0
    last: float | None = None
    raised: int = 0


State = Mapping[Signal, ChartState]
"""All that the test remembers; as long as there are signals, however many parts there were."""


_STATES = TypeAdapter(dict[Signal, ChartState], config=ConfigDict(allow_inf_nan=False))


def dump_state(state: State) -> bytes:
    """As JSON, for a process that goes on later. It holds for its own baseline alone: keep that one's name with it."""
    return _STATES.dump_json(dict(state))


def load_state(kept: bytes, baseline: DriftBaseline) -> State:
    """What ``dump_state`` gave. Raises ValueError for anything else, and for a state of other signals than the baseline's."""
    state = _STATES.validate_json(kept)
    if state.keys() != {each.signal for each in baseline.signals}:
        raise ValueError(
            f"state: got charts of {sorted(state)}, expected of {[each.signal for each in baseline.signals]}"
        )
    return state


@dataclass(frozen=True, slots=True)
class Drift:
    """An alarm raised, or taken back where ``is_raised`` is False.

    ``direction`` 1 up, -1 down; ``before``: the baseline's mean; ``now``: the last block's; ``parts_count``: so many parts ago
    the change began, by the chart.
    """

    signal: Signal
    is_raised: bool
    direction: int
    before: float
    now: float
    parts_count: int


class DriftTest:
    """The test for one baseline. Holds nothing of the parts: what it is to remember comes in and goes out."""

    def __init__(self, baseline: DriftBaseline) -> None:
        self.baseline = baseline
        self._charts = {each.signal: (each, _NormalScores(each.grid)) for each in baseline.signals}

    def start(self) -> State:
        """Just after calibration. A new shift goes on with the state of the last one."""
        return {signal: ChartState() for signal in self._charts}

    def observe(self, state: State, values: Mapping[Signal, float]) -> tuple[State, tuple[Drift, ...]]:
        """One part. A signal that is missing or no finite number (a part without a score, NO_DECISION) leaves its chart as it
        was.

        Constant time. Raises ValueError for a state of other signals.
        """
        if state.keys() != self._charts.keys():
            raise ValueError(f"state: got charts of {sorted(state)}, expected of {sorted(self._charts)}")
        after: dict[Signal, ChartState] = {}
        drifts: list[Drift] = []
        for signal, (chart, normal_scores) in self._charts.items():
            before = after[signal] = state[signal]
            value = values.get(signal, nan)
            if not isfinite(value):
                continue
            count = before.block_count + 1
            scores, total = before.block_scores + normal_scores.of(value), before.block_values + value
            if count < self.baseline.block_parts:
                after[signal] = ChartState(count, scores, total, *before[3:])
                continue
            after[signal], drift = self._block(chart, before, scores, total)
            if drift is not None:
                drifts.append(drift)
        return after, tuple(drifts)

    def _block(
        self, chart: SignalBaseline, state: ChartState, scores: float, total: float
    ) -> tuple[ChartState, Drift | None]:
        count, limit, allowance = self.baseline.block_parts, self.baseline.limit, self.baseline.allowance
        excess = (scores / count - chart.block_mean) / chart.block_spread
        most = _STANDS_AT * limit
        up = min(max(0.0, state.up + excess - allowance), most)
        down = min(max(0.0, state.down - excess - allowance), most)
        after = ChartState(
            up=up,
            up_count=state.up_count + count if up else 0,
            up_values=state.up_values + total if up else 0.0,
            down=down,
            down_count=state.down_count + count if down else 0,
            down_values=state.down_values + total if down else 0.0,
            last=total / count,
            raised=state.raised,
        )
        if state.raised:
            if (up if state.raised > 0 else down) > 0.0:
                return after, None
            return after._replace(raised=0), Drift(chart.signal, False, state.raised, chart.mean, total / count, count)
        for direction, height, parts_count, values in (
            (1, up, after.up_count, after.up_values),
            (-1, down, after.down_count, after.down_values),
        ):
            if height >= limit and direction * (values / parts_count - chart.mean) >= chart.tolerance:
                drift = Drift(chart.signal, True, direction, chart.mean, total / count, parts_count)
                return after._replace(raised=direction), drift
        return after, None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``moved``: the signals whose alarms stand, with their directions, and brightness where the light is gone; ``text`` is for the
    operator.
    """

    cause: Cause
    moved: tuple[tuple[Signal, int], ...]
    text: str


def diagnose(baseline: DriftBaseline, state: State) -> Diagnosis | None:
    """Why the alarms that stand were raised, by the rules above; None where none stands. Later alarms may say more."""
    moved = {signal: chart.raised for signal, chart in state.items() if chart.raised}
    if not moved:
        return None
    means = {each.signal: each.mean for each in baseline.signals}
    if "brightness" in state and _now(state["brightness"]) <= _GONE * means["brightness"]:
        moved["brightness"] = -1
        cause: Cause = "dead_strobe"
    else:
        cause = _cause(moved, baseline, state)
    told = ", ".join(_told(signal, means[signal], _now(state[signal])) for signal in moved)
    return Diagnosis(cause, tuple(moved.items()), f"{_ADVICE[cause]} (moved since calibration: {told})")


def _cause(moved: Mapping[Signal, int], baseline: DriftBaseline, state: State) -> Cause:
    brightness, sharpness = moved.get("brightness", 0), moved.get("sharpness", 0)
    if "position_x" in moved or "position_y" in moved:
        return "position"
    if moved.get("evenness", 0) < 0 or (brightness < 0 and sharpness < 0):
        return "dirty_window"
    if brightness and not sharpness:
        return "light"
    if sharpness and not brightness:
        return "focus"
    suspects = (chart for signal, chart in state.items() if signal != "score")
    doubt = max((max(chart.up, chart.down) for chart in suspects), default=0.0)
    return "bad_lot" if moved == {"score": 1} and doubt < _SUSPECT * baseline.limit else "unclear"


def _now(chart: ChartState) -> float:
    return nan if chart.last is None else chart.last


_ADVICE: Mapping[Cause, str] = {
    "dead_strobe": "The light is gone: look at the strobe, its cable and its trigger, and for a closed shutter",
    "position": "The parts lie elsewhere in the picture, or the camera was knocked: look at guides, trigger and mount",
    "dirty_window": "The window or the lens looks dirty or misted: clean it",
    "light": "The light is not what it was: look at the lamp, the exposure time, and for other light nearby",
    "focus": "The picture is not as sharp as it was: look at the focus, the distance and the belt's speed",
    "bad_lot": "The scores rose while light, sharpness and position stayed as they were: look at the parts, the lot may be bad",
    "unclear": "Something moved, and it cannot be told why: look at the pictures",
}


def _told(signal: Signal, before: float, now: float) -> str:
    change = f" ({now / before - 1:+.0%})" if before and not signal.startswith("position") and signal != "score" else ""
    return f"{signal} {before:.4g} -> {now:.4g}{change}"
