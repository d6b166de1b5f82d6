"""When a verdict is there, how far the belt has moved by then, and how wide the reject window has to be.

Times follow no law that could be relied on, so their tail is bounded by order statistics: the share of all parts that take longer
than the k-th longest of N follows Beta(k, N - k + 1) (H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, 2.2), whatever
the law of the times, as long as the parts measured are a fair sample of those to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, floor, hypot, inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from calibration.intervals import CONFIDENCE, confidence_of, parts_needed
from calibration.refusal import Refusal
from calibration.timing_figures import TimingFigures

Floats = npt.NDArray[np.float64]

_UNIFORM = 1.0 / sqrt(3.0)
"""Standard deviation of what lies anywhere within +-1 (JCGM 100:2008, GUM, 4.3.7)."""
_COVERAGE = 2.0
"""GUM's k for about 95 %."""


@dataclass(frozen=True, slots=True)
class TimeBound:
    """At most ``share`` of all parts take longer than ``bound_us``, with ``confidence``: the ``rank``-th longest of ``count``.

    ``bound_us`` None: too few parts for that, ``parts_missing`` more are needed, all of which may take longer than the others.
    """

    share: float
    confidence: float
    count: int
    rank: int
    bound_us: float | None
    parts_missing: int


def time_bound(times_us: Sequence[float] | Floats, *, share: float, confidence: float = CONFIDENCE) -> TimeBound:
    """``times_us``: one time a part, inf where it never came. Raises ValueError for a ``share`` or ``confidence`` outside 0..1."""
    for name, value in (("share", share), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name}: got {value:g}, expected more than 0 and less than 1")
    times = np.sort(np.asarray(times_us, np.float64))
    count = len(times)
    if np.isnan(times).any():
        raise ValueError("times_us: got NaN, expected a time, or inf for a part that never came")
    needed = parts_needed(share, confidence)
    if count < needed:
        return TimeBound(share, confidence, count, 0, None, needed - count)
    # The more of the longest may be left out, the closer the bound: so many as still give the confidence.
    rank = 1
    while rank < count and confidence_of(rank, count, share) >= confidence:
        rank += 1
    return TimeBound(share, confidence, count, rank, float(times[count - rank]), 0)


@dataclass(frozen=True, slots=True)
class BeltRun:
    """The belt was moved, and the encoder counted: ``pulses`` over ``distance_mm``, which was measured to +-``tolerance_mm``."""

    distance_mm: float
    tolerance_mm: float
    pulses: int


@dataclass(frozen=True, slots=True)
class PulsesPerMm:
    """``error`` is half of an interval of about 95 %: of the spread over the runs, the tape and the last pulse together."""

    value: float
    error: float
    run_count: int


def pulses_per_mm(runs: Sequence[BeltRun]) -> PulsesPerMm:
    """The mean over the runs. Raises ValueError where there is none, or one without a distance or pulses."""
    if not runs:
        raise ValueError("runs: got none, expected at least one")
    for run in runs:
        if not (run.distance_mm > 0.0 and run.tolerance_mm >= 0.0 and run.pulses > 0):
            raise ValueError(f"runs: got {run}, expected a distance and pulses above 0, and a tolerance not below")
    ratios = np.array([run.pulses / run.distance_mm for run in runs])
    value = float(ratios.mean())
    # The tape is the same in all runs: its error does not average out.  A count ends anywhere within a pulse.
    tape = max(run.tolerance_mm / run.distance_mm for run in runs) * value * _UNIFORM
    pulse = max(1.0 / run.distance_mm for run in runs) * _UNIFORM
    error = _COVERAGE * hypot(tape, pulse)
    if len(runs) > 1:
        spread = float(ratios.std(ddof=1)) / sqrt(len(runs))
        error = hypot(error, float(stdtrit(len(runs) - 1, 0.975)) * spread)
    return PulsesPerMm(value, error, len(runs))


@dataclass(frozen=True, slots=True)
class Station:
    """What is known of the line. Places are along the belt, from where a part is triggered. Raises ValueError for what cannot be.

    gate_mm: where the part's middle is when the gate must act, measured to +-``gate_tolerance_mm``;
    speed_max_mm_s: the highest belt speed; part_length_mm; pitch_mm: from part to part at the least;
    controller_us: scan, and the gate's own time to act; trigger_jitter_us: how late a trigger may be, at most.
    """

    gate_mm: float
    gate_tolerance_mm: float
    speed_max_mm_s: float
    part_length_mm: float
    pitch_mm: float
    controller_us: float
    trigger_jitter_us: float

    def __post_init__(self) -> None:
        for name in ("gate_mm", "speed_max_mm_s", "part_length_mm", "pitch_mm"):
            if not 0.0 < (value := getattr(self, name)) < inf:
                raise ValueError(f"{name}: got {value:g}, expected more than 0")
        for name in ("gate_tolerance_mm", "controller_us", "trigger_jitter_us"):
            if not 0.0 <= (value := getattr(self, name)) < inf:
                raise ValueError(f"{name}: got {value:g}, expected at least 0")


@dataclass(frozen=True, slots=True)
class TimingReport:
    """``guard_us``: from the final choice to the verdict's arrival; ``deadline_us``: from the trigger to the latest useful verdict.

    deadline_min: the shortest deadline with which, ``guard_us`` set aside for the sending, no more than the share of the parts is
    either cut off by the final choice or told too late. gate_min_mm: the earliest place where a gate is safe at the highest speed;
    reject_offset_pulses: from trigger to gate; window_pulses: the part's middle passes the gate within +- so many pulses of the
    offset, the errors of all that was measured included; window_max_pulses: from there on a neighbour's verdict could be meant,
    half of the pitch.
    """

    latency: TimeBound
    arrival: TimeBound
    deadline_min: TimeBound | None
    speed_pulses: PulsesPerMm
    guard_us: int | None
    deadline_us: int
    gate_min_mm: float | None
    reject_offset_pulses: int
    window_pulses: int
    window_max_pulses: int
    refusals: tuple[Refusal, ...]


def time_station(
    latencies_us: Sequence[float] | Floats,
    arrivals_us: Sequence[float] | Floats,
    runs: Sequence[BeltRun],
    station: Station,
    *,
    share: float,
    confidence: float = CONFIDENCE,
) -> TimingReport:
    """``latencies_us``: from trigger to the verdict's arrival, as if each part had all the time it takes: inf where none came, and
    where the deadline cut the inspection off, since nobody knows how long it would have been. ``arrivals_us``: from when the
    verdict could be decided to its arrival; inf where none came. One of each a part. ``share``: of parts that may come too late.
    """
    latency = time_bound(latencies_us, share=share, confidence=confidence)
    arrival = time_bound(arrivals_us, share=share, confidence=confidence)
    scale = pulses_per_mm(runs)
    speed_mm_us = station.speed_max_mm_s / 1e6
    # The gate acts before the part's front is there, and where its place is known to be at the nearest.
    free_mm = station.gate_mm - station.gate_tolerance_mm - station.part_length_mm / 2.0
    deadline_us = floor(free_mm / speed_mm_us - station.controller_us - station.trigger_jitter_us)
    guard_us = ceil(arrival.bound_us) if arrival.bound_us is not None and arrival.bound_us < inf else None
    deadline_min = gate_min_mm = None
    if guard_us is not None:
        deadline_min = _deadline_min(latencies_us, arrivals_us, guard_us, share=share, confidence=confidence)
    if deadline_min is not None and deadline_min.bound_us is not None and deadline_min.bound_us < inf:
        travel_us = deadline_min.bound_us + station.controller_us + station.trigger_jitter_us
        gate_min_mm = travel_us * speed_mm_us + station.part_length_mm / 2.0 + station.gate_tolerance_mm
    offset = station.gate_mm * scale.value
    errors_pulses = (
        station.gate_tolerance_mm * scale.value,
        station.gate_mm * scale.error,
        station.trigger_jitter_us * speed_mm_us * scale.value,
        1.0,  # the count is latched within a pulse, at the trigger and at the gate
        1.0,
        0.5,  # of the offset, rounded to whole pulses
    )
    report = TimingReport(
        latency=latency,
        arrival=arrival,
        deadline_min=deadline_min,
        speed_pulses=scale,
        guard_us=guard_us,
        deadline_us=deadline_us,
        gate_min_mm=gate_min_mm,
        reject_offset_pulses=round(offset),
        window_pulses=ceil(sum(errors_pulses)),
        window_max_pulses=floor(station.pitch_mm * scale.value / 2.0),
        refusals=(),
    )
    return replace(report, refusals=tuple(_refusals(report, station)))


def timing_figures(report: TimingReport, station: Station) -> TimingFigures:
    """What is to be kept of a report. Raises ValueError where it was refused."""
    latency_us, deadline_min = report.latency.bound_us, report.deadline_min
    if report.refusals or latency_us is None or deadline_min is None or deadline_min.bound_us is None:
        raise ValueError("report: got a refused one, expected one without refusals")
    assert report.guard_us is not None
    assert report.gate_min_mm is not None
    return TimingFigures(
        parts_count=report.latency.count,
        late_share_max=report.latency.share,
        confidence=report.latency.confidence,
        latency_us=ceil(latency_us),
        guard_us=report.guard_us,
        deadline_min_us=ceil(deadline_min.bound_us),
        deadline_max_us=report.deadline_us,
        pulses_per_mm=report.speed_pulses.value,
        pulses_per_mm_error=report.speed_pulses.error,
        gate_min_mm=report.gate_min_mm,
        reject_offset_pulses=report.reject_offset_pulses,
        window_pulses=report.window_pulses,
        window_max_pulses=report.window_max_pulses,
        **asdict(station),
    )


def _deadline_min(
    latencies_us: Sequence[float] | Floats,
    arrivals_us: Sequence[float] | Floats,
    guard_us: int,
    *,
    share: float,
    confidence: float,
) -> TimeBound:
    """Of the longer of two times: until the verdict is there, and until it could be decided, with the guard behind that."""
    latencies, arrivals = np.asarray(latencies_us, np.float64), np.asarray(arrivals_us, np.float64)
    never = np.isinf(latencies)  # inf less inf would be no number
    ready = np.where(never, inf, latencies - np.where(never, 0.0, arrivals))
    return time_bound(np.maximum(latencies, ready + guard_us), share=share, confidence=confidence)


def _refusals(report: TimingReport, station: Station) -> list[Refusal]:
    refusals = []
    missing = max(report.latency.parts_missing, report.arrival.parts_missing)
    if missing:
        got = f"{report.latency.count} parts"
        expected = f"{report.latency.count + missing} for {report.latency.share:.3g} at {report.latency.confidence:.0%}"
        refusals.append(Refusal("too few parts", got, expected, f"Let {missing} more parts pass and measure again."))
    elif report.guard_us is None:
        advice = "Find out why verdicts did not come: the service, the broker or the network."
        refusals.append(Refusal("verdicts missing", "parts without a verdict", "a verdict for each", advice))
    elif report.gate_min_mm is None:
        advice = "Give them more time while it is measured (timing.deadline_us), and find out what the others lacked."
        refusals.append(Refusal("parts not inspected", "parts cut off or not inspectable", "all inspected", advice))
    elif report.gate_min_mm > station.gate_mm:
        got, expected = f"a gate at {station.gate_mm:g} mm", f"at least {report.gate_min_mm:.1f} mm"
        advice = "Move the gate away from the camera, or run the belt more slowly."
        refusals.append(Refusal("gate too near", got, expected, advice))
    if report.window_pulses > report.window_max_pulses:
        got, expected = (
            f"a window of +-{report.window_pulses} pulses",
            f"at most {report.window_max_pulses}, half a pitch",
        )
        advice = "Measure the gate's place and the encoder's scale more closely, or keep parts further apart."
        refusals.append(Refusal("window too wide", got, expected, advice))
    return refusals
