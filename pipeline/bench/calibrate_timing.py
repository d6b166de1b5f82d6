"""Suite ``calibrate-timing``: a line of known truth, its timing calibrated at one belt speed, and then played at others: does each
part pass the gate within the window that was stated, and is its verdict there before it?

The truth is the simulated line's own book: where the gate is and how many pulses a millimetre has, how late each trigger was, and
what the encoder counted when each part was at the gate. An operator's tape and ruler are off within what they state. What was found
goes into the service's and the controller's configuration, as the command says.
"""

from __future__ import annotations

import bisect
import json
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.timing import BeltRun, Station, time_station
from pipeline.bench.statistics import percentiles_us, share_interval
from pipeline.clock import NS_PER_US
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.belt import Belt
from pipeline.simulator.counting import count_distance
from pipeline.simulator.images import ImageSource
from pipeline.simulator.line import SpeedChange
from pipeline.simulator.truth import Record, stream_book

SPEED_SHARES = (0.2, 0.5, 1.0, 1.5, 2.0)
"""Of the speed that was calibrated at."""

_SPEED_MM_S = 500.0
_PULSES_PER_MM = 9.87
_GATE_PULSES = 2_961
_GATE_MM = _GATE_PULSES / _PULSES_PER_MM
_JITTER_US = 500.0
_ENCODER_BITS = 32
_COUNT_BEFORE_WRAP = 30_000
_GATE_TOLERANCE_MM = 0.5
_CARELESS_MM = 5.0
"""How far off the gate's place is to a careless operator, who states the same tolerance: were that not seen, nothing would be."""
_TAPE_MM = 1_000.0
_TAPE_TOLERANCE_MM = 0.5
_BELT_RUNS = 3
_PART_LENGTH_MM = 15.0
_PITCH_JITTER = 0.05
"""The simulated line's: neighbours may be nearer by twice that."""
_CONTROLLER_US = 12_000.0
_CALIBRATING_DEADLINE_US = 250_000
_COMMAND_TIMEOUT_S = 1_800.0
_LAST_WORDS = 2_000

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Operator:
    """What somebody measured: off within the tolerances, as the truth is not theirs."""

    gate_mm: float
    belt_runs: tuple[BeltRun, ...]


def operator(chance: random.Random, *, is_careless: bool = False) -> Operator:
    """One who measures the gate's place once and moves the belt a few times along one tape."""
    tape_mm = _TAPE_MM + chance.uniform(-1.0, 1.0) * _TAPE_TOLERANCE_MM
    runs = []
    for _ in range(_BELT_RUNS):
        belt = Belt(_SPEED_MM_S, _PULSES_PER_MM, 0)
        begins_ns = chance.randrange(10**9)
        ends_ns = begins_ns + round(tape_mm / _SPEED_MM_S * 1e9)
        pulses = int(belt.position_pulses(ends_ns)) - int(belt.position_pulses(begins_ns))
        runs.append(BeltRun(_TAPE_MM, _TAPE_TOLERANCE_MM, pulses))
    gate_error_mm = chance.choice((-_CARELESS_MM, _CARELESS_MM)) if is_careless else _GATE_TOLERANCE_MM
    return Operator(_GATE_MM + chance.uniform(0.9 if is_careless else -1.0, 1.0) * gate_error_mm, tuple(runs))


@dataclass(frozen=True, slots=True)
class PartAtGate:
    """By the line's book. ``speed_mm_s``: when it was triggered; ``travel_pulses``: counted from its trigger to the gate;
    ``matched``: the controller took it for this part; ``early_us``: its verdict was there so long before the gate had to act, None
    where it never came; ``latency_us``: from trigger to verdict, by the wire tap.
    """

    speed_mm_s: float
    travel_pulses: int
    matched: bool
    early_us: float | None
    latency_us: float | None


def calibrate_timing_suite(
    model: Path,
    images: ImageSource,
    *,
    parts_each: int = 150,
    calibration_parts: int = 480,
    share: float = 0.01,
    operators: int = 1_000,
    parts_per_min: float = 1_200.0,
    seed: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Calibrated once at ``parts_per_min`` and the speed that goes with it, then ``parts_each`` at each of ``SPEED_SHARES``.

    ``operators``: so many others measure the same line, each against the same parts. Raises RehearsalError.
    """
    tell = progress if progress is not None else lambda _: None
    chance = random.Random(seed)
    measured = operator(chance)
    pitch_mm = _SPEED_MM_S * 60.0 / parts_per_min
    station = Station(
        gate_mm=measured.gate_mm,
        gate_tolerance_mm=_GATE_TOLERANCE_MM,
        speed_max_mm_s=max(SPEED_SHARES) * _SPEED_MM_S,
        part_length_mm=_PART_LENGTH_MM,
        pitch_mm=pitch_mm * (1.0 - 2.0 * _PITCH_JITTER),
        controller_us=_CONTROLLER_US,
        trigger_jitter_us=_JITTER_US,
    )
    plan = Rehearsal(
        model=model,
        images=images,
        parts_per_min=parts_per_min,
        speed_mm_s=_SPEED_MM_S,
        pulses_per_mm=_PULSES_PER_MM,
        trigger_jitter_us=_JITTER_US,
        deadline_us=_CALIBRATING_DEADLINE_US,
        gate_offset_pulses=_GATE_PULSES,
        encoder_bits=_ENCODER_BITS,
        encoder_start_count=(1 << _ENCODER_BITS) - _COUNT_BEFORE_WRAP,
        seed=seed,
    )
    tell(f"calibrating at {_SPEED_MM_S:g} mm/s, {calibration_parts} parts ...")
    found, less_true_us = _calibrated(plan, measured, station, calibration_parts, share)
    tell(
        f"playing {parts_each} parts at each of {', '.join(f'{each:g}' for each in SPEED_SHARES)} times that speed ..."
    )
    parts = _played(plan, found, parts_each)
    speeds = {f"{speed / _SPEED_MM_S:g}": _figures(each, found) for speed, each in _by_speed(parts)}
    others = _other_operators(parts, station, [operator(chance) for _ in range(operators)])
    careless = _other_operators(parts, station, [operator(chance, is_careless=True) for _ in range(operators)])
    late = [each["verdict_in_time"] for each in speeds.values()]
    return {
        "suite": "calibrate-timing",
        "truth": {
            "gate_mm": _GATE_MM,
            "pulses_per_mm": _PULSES_PER_MM,
            "gate_pulses": _GATE_PULSES,
            "trigger_jitter_us": _JITTER_US,
            "speed_mm_s": _SPEED_MM_S,
        },
        "measured": {
            "gate_mm": measured.gate_mm,
            "gate_tolerance_mm": _GATE_TOLERANCE_MM,
            "pulses": [run.pulses for run in measured.belt_runs],
            "tape_mm": _TAPE_MM,
            "tape_tolerance_mm": _TAPE_TOLERANCE_MM,
        },
        "calibrated": {key: value for key, value in found.items() if key != "times_us"},
        "latency_found_less_true_us": less_true_us,
        "scale_error": {
            "true_error": abs(found["pulses_per_mm"] - _PULSES_PER_MM),
            "stated_error": found["pulses_per_mm_error"],
        },
        "speeds": speeds,
        "other_operators": others,
        "careless_operators": careless,
        "broken_promises": {
            "parts_outside_window": sum(
                each["in_window"]["total"] - each["in_window"]["count"] for each in speeds.values()
            ),
            "parts_taken_for_another": sum(each["mismatched"] for each in speeds.values()),
            "speeds_with_more_late_than_stated": sum(1.0 - each["high"] > share for each in late),
            "operators_with_parts_outside": others["with_parts_outside"],
            "careless_operators_unseen": operators - careless["with_parts_outside"],
            "parts_missing": len(SPEED_SHARES) * parts_each - len(parts),
        },
    }


def inside(travel_pulses: Integers, offset: int, window: int) -> npt.NDArray[np.bool_]:
    """Which parts pass the gate within the window."""
    return np.asarray(np.abs(travel_pulses - offset) <= window)


def _calibrated(
    plan: Rehearsal, measured: Operator, station: Station, parts: int, share: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """What ``lineside calibrate timing`` finds of the running line, and how much longer its latencies are than the line's book and
    the wire tap say. Raises RehearsalError where it refuses.
    """
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        folder = Path(name)
        plan = replace(plan, service={"calibrations": str(folder / "calibrations")})
        with RehearsalRun(plan, folder) as run:
            run.line.start_parts()
            options = {
                "--parts": parts,
                "--share": share,
                "--as": "bench",
                "--gate-mm": measured.gate_mm,
                "--gate-tolerance-mm": station.gate_tolerance_mm,
                "--speed-max-mm-s": station.speed_max_mm_s,
                "--part-length-mm": station.part_length_mm,
                "--pitch-mm": station.pitch_mm,
                "--controller-us": station.controller_us,
                "--trigger-jitter-us": station.trigger_jitter_us,
                "--json": folder / "found.json",
            }
            words = [str(word) for pair in options.items() for word in pair]
            for each in measured.belt_runs:
                words += ["--belt-run", f"{each.distance_mm}:{each.tolerance_mm}:{each.pulses}"]
            done = subprocess.run(
                [sys.executable, "-m", "pipeline.cli", "calibrate", "timing", str(run.line_file), *words],
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
                cwd=Path(__file__).resolve().parents[2],
            )
            if done.returncode != 0:
                raise RehearsalError(f"calibrate timing: {done.stdout[-_LAST_WORDS:]}{done.stderr[-_LAST_WORDS:]}")
            run.line.finish()
            run.stop_service()
            run.stop_world()
        found: dict[str, Any] = json.loads((folder / "found.json").read_text())
        true_us = _true_latencies_us(stream_book(folder / "line.jsonl"), stream_book(folder / "wire.jsonl"))
    less_true_us = [each["latency"] - true_us[each["seq"]] for each in found["times_us"] if each["latency"] is not None]
    return found, percentiles_us(less_true_us)


def _true_latencies_us(line_book: Iterable[Record], wire_log: Iterable[Record]) -> dict[int, float]:
    """By ``seq``: from the moment of the trigger to when the tap had the verdict."""
    sensed_ns = {record["encoder_count"]: record["trigger_ns"] for record in line_book if record["event"] == "trigger"}
    return {
        record["payload"]["seq"]: (record["arrival_ns"] - sensed_ns[record["payload"]["encoder_count"]]) / NS_PER_US
        for record in wire_log
        if record["event"] == "message" and record["topic"] == "verdict"
    }


def _played(plan: Rehearsal, found: dict[str, Any], parts_each: int) -> list[PartAtGate]:
    """All parts at all speeds, with what was found in the service's and the controller's configuration."""
    first, *later = (share * _SPEED_MM_S for share in SPEED_SHARES)
    changes = [
        SpeedChange(at_part=number * parts_each, speed_mm_s=speed) for number, speed in enumerate(later, start=1)
    ]
    rate = plan.parts_per_min * first / _SPEED_MM_S
    plan = replace(
        plan,
        parts=parts_each * len(SPEED_SHARES),
        speed_mm_s=first,
        parts_per_min=rate,
        speed_changes=tuple(changes),
        deadline_us=found["deadline_max_us"],
        service={
            "timing": {"guard_us": found["guard_us"]},
            "encoder": {"reject_offset_pulses": found["reject_offset_pulses"]},
        },
        controller={
            "gate_offset_pulses": found["reject_offset_pulses"],
            "window_pulses": found["window_pulses"],
        },
    )
    with tempfile.TemporaryDirectory(prefix="lineside-") as name, RehearsalRun(plan, Path(name)) as run:
        run.play()
        run.stop_service()
        run.stop_world()
        books = (stream_book(Path(name) / book) for book in ("line.jsonl", "gate.jsonl", "wire.jsonl"))
        speeds_mm_s = [share * _SPEED_MM_S for share in SPEED_SHARES]
        return parts_at_gate(*books, speeds_mm_s=speeds_mm_s, parts_each=parts_each)


def parts_at_gate(
    line_book: Iterable[Record],
    gate_book: Iterable[Record],
    wire_log: Iterable[Record],
    *,
    speeds_mm_s: Sequence[float],
    parts_each: int,
) -> list[PartAtGate]:
    """The three books joined by the encoder's count at the trigger, which is each part's own within a lap. ``parts_each`` were
    triggered at each of the speeds, in their order.
    """
    sensed: dict[int, Record] = {}
    gates: list[Record] = []
    changes_ns, speeds = [0], [speeds_mm_s[0]]
    for record in line_book:
        if record["event"] == "part":
            sensed[record["part_number"]] = record
        elif record["event"] == "gate":
            gates.append(record)
        elif record["event"] == "belt":
            changes_ns.append(record["at_ns"])
            speeds.append(record["speed_mm_s"])
    matched = {record["gate_ns"]: record["latch"] for record in gate_book if record["event"] == "gate"}
    arrived_ns: dict[int, int] = {}
    for record in wire_log:
        if record["event"] == "message" and record["topic"] == "verdict":
            arrived_ns.setdefault(record["payload"]["encoder_count"], record["arrival_ns"])

    def speed_at(moment_ns: int) -> float:
        return speeds[bisect.bisect_right(changes_ns, moment_ns) - 1]

    told = []
    for gate in gates:
        part = sensed[gate["part_number"]]
        count, sensed_ns, gate_ns = part["encoder_count"], part["sensed_ns"], gate["gate_ns"]
        at_ns = arrived_ns.get(count)
        half_part_us = _PART_LENGTH_MM / 2.0 / speed_at(gate_ns) * 1e6
        early_us = None if at_ns is None else (gate_ns - at_ns) / NS_PER_US - half_part_us - _CONTROLLER_US
        told.append(
            PartAtGate(
                speed_mm_s=speeds_mm_s[(part["part_number"] - 1) // parts_each],
                travel_pulses=count_distance(gate["encoder_count"], count, _ENCODER_BITS),
                matched=matched.get(gate_ns) == count,
                early_us=early_us,
                latency_us=None if at_ns is None else (at_ns - sensed_ns) / NS_PER_US,
            )
        )
    return told


def _by_speed(parts: Sequence[PartAtGate]) -> list[tuple[float, list[PartAtGate]]]:
    speeds = sorted({part.speed_mm_s for part in parts})
    return [(speed, [part for part in parts if part.speed_mm_s == speed]) for speed in speeds]


def _figures(parts: list[PartAtGate], found: dict[str, Any]) -> dict[str, Any]:
    offset, window = found["reject_offset_pulses"], found["window_pulses"]
    travel = np.array([part.travel_pulses for part in parts], np.int64)
    errors = travel - offset
    early = [part.early_us for part in parts if part.early_us is not None]
    latencies = [part.latency_us for part in parts if part.latency_us is not None]
    return {
        "parts": len(parts),
        "error_pulses": {"min": int(errors.min()), "mean": round(float(errors.mean()), 2), "max": int(errors.max())},
        "window_pulses": window,
        "in_window": share_interval(int(inside(travel, offset, window).sum()), len(parts)),
        "mismatched": sum(not part.matched for part in parts),
        "verdict_in_time": share_interval(sum(each >= 0 for each in early), len(parts)),
        "earliness_min_us": round(min(early)) if early else None,
        "within_stated_latency": share_interval(sum(each <= found["latency_us"] for each in latencies), len(parts)),
        "latency_us": percentiles_us(latencies or [math.nan]),
    }


def _other_operators(parts: Sequence[PartAtGate], station: Station, operators: Sequence[Operator]) -> dict[str, Any]:
    """The window does not depend on the times, so none are measured for it."""
    travel = np.array([part.travel_pulses for part in parts], np.int64)
    outside, windows, used = [], [], []
    for who in operators:
        there = replace(station, gate_mm=who.gate_mm)
        report = time_station([0.0] * 5, [0.0] * 5, who.belt_runs, there, share=0.5)
        offset, window = report.reject_offset_pulses, report.window_pulses
        outside.append(int((~inside(travel, offset, window)).sum()))
        windows.append(window)
        used.append(float(np.abs(travel - offset).max()) / window)
    return {
        "operators": len(operators),
        "with_parts_outside": sum(each > 0 for each in outside),
        "parts": share_interval(travel.size * len(operators) - sum(outside), travel.size * len(operators)),
        "window_pulses": {"min": min(windows), "max": max(windows)},
        "largest_error_over_window": round(max(used), 3),
    }
