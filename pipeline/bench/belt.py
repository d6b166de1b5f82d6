"""Suite ``belt``: the whole service on a belt that changes its speed, stops and runs back, with cameras along it.

Two cameras stand apart; every trigger, count and part has its jitter; the counter wraps. What line, wire and gate wrote down is
compared: each verdict must be for the very part whose views it came from, and in that part's window.
"""

from __future__ import annotations

import bisect
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.line import SpeedChange
from pipeline.simulator.truth import Truth, stream_book
from vision.package import load_package

SPEED_MM_S = 1_000.0
PULSES_PER_MM = 10.0
SLOWEST, FASTEST = 0.2, 2.0
_SPEEDS = (SLOWEST, 0.5, 1.0, 1.5, FASTEST)
_SPEED_HELD_S = 4.0
_STOP_MS = (200.0, 1_000.0, 4_000.0)
"""The last is longer than a part waits for its last camera."""
_JITTER_US = 300.0
_JITTER_PULSES = 3
_SLIP_PULSES = 5.0
_MATCH_PULSES = 20
_LIMIT_SPARE = 1.5
_BACK_MM_S = -500.0


def belt(
    model: Path,
    images: ImageSource,
    *,
    parts: int,
    parts_per_min: float = 3_000.0,
    way_pulses: int = 1_500,
    deadline_us: int = 150_000,
    encoder_bits: int = 20,
    seed: int = 0,
    progress: Callable[[RehearsalRun], None] | None = None,
) -> dict[str, Any]:
    """``parts_per_min`` at 1 m/s. ``way_pulses``: from the first camera to the second."""
    plan = belt_plan(model, images, parts, parts_per_min, way_pulses, deadline_us, encoder_bits, seed)
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder, RehearsalRun(plan, Path(folder)) as run:
        # The belt stands for a while, and goes at a fifth of its speed for another.
        timeout_s = 60.0 + 3.0 * parts * 60.0 / parts_per_min
        run.play(progress=None if progress is None else lambda: progress(run), timeout_s=timeout_s)
        unmatched = run.controller.report()["unmatched_verdicts"]
        summary = run.stop_service()
        truth = run.stop_world()
        strangers, differing = views_of_strangers(Path(folder)), _verdicts_differing(Path(folder), truth)
    return {
        "suite": "belt",
        "parts_per_min": parts_per_min,
        "speeds": [SLOWEST, FASTEST],
        "speed_changes": len(plan.speed_changes),
        "stops": sum(change.speed_mm_s == 0 for change in plan.speed_changes),
        "reversals": sum(change.speed_mm_s < 0 for change in plan.speed_changes),
        "wraps": _wraps(plan, parts),
        "summary": summary,
        **truth.figures(),
        "gate_words": dict(Counter(gate.why for gate in truth.gates)),
        "broken_promises": {
            "passed_without_pass": truth.controller.passed_without_pass,
            "wrong_part_passed": truth.controller.wrong_part_passed,
            "passed_after_stop": truth.controller.passed_after_stop,
            "views_of_another_part": strangers,
            "verdicts_of_one_picture_differing": differing,
            "triggers_without_verdict": truth.wire.triggers_without_verdict,
            "verdicts_without_trigger": truth.wire.verdicts_without_trigger,
            "verdicts_in_no_window": unmatched,
            "violations": len(truth.violations),
        },
    }


def belt_plan(
    model: Path,
    images: ImageSource,
    parts: int,
    parts_per_min: float,
    way_pulses: int,
    deadline_us: int,
    encoder_bits: int,
    seed: int,
) -> Rehearsal:
    """What is played."""
    fastest_pulses_per_s = FASTEST * SPEED_MM_S * PULSES_PER_MM
    limit_s = _LIMIT_SPARE * way_pulses / (SLOWEST * SPEED_MM_S * PULSES_PER_MM)
    gate_pulses = way_pulses + int(fastest_pulses_per_s * (deadline_us * 1e-6 + 0.05))
    return Rehearsal(
        model=model,
        images=images,
        rules=load_package(model).card.thresholds,
        parts=parts,
        parts_per_min=parts_per_min,
        speed_mm_s=SPEED_MM_S,
        pulses_per_mm=PULSES_PER_MM,
        trigger_jitter_us=_JITTER_US,
        encoder_jitter_pulses=_JITTER_PULSES,
        slip_pulses=_SLIP_PULSES,
        camera_ids=("upstream", "downstream"),
        belt_offsets_pulses=(0, way_pulses),
        deadline_us=deadline_us,
        gate_offset_pulses=gate_pulses,
        encoder_bits=encoder_bits,
        # Before half of the parts it wraps, also where there are few.
        encoder_start_count=(1 << encoder_bits)
        - int(parts / 2 * SPEED_MM_S * 60.0 / parts_per_min * PULSES_PER_MM) % (1 << encoder_bits),
        speed_changes=_speed_changes(parts, parts_per_min, random.Random(seed)),
        service={
            "encoder": {"match_pulses": _MATCH_PULSES, "speed_max_pulses_per_s": fastest_pulses_per_s * 1.05},
            "assembly_limit_us": int(limit_s * 1e6),
        },
        seed=seed,
    )


def _speed_changes(parts: int, parts_per_min: float, chance: random.Random) -> tuple[SpeedChange, ...]:
    """Another speed every few seconds; between them, in turn, a stop or a run back."""
    changes, part, number = [], 10, 0
    while part < parts:
        speed = _SPEEDS[number] if number < len(_SPEEDS) else chance.choice(_SPEEDS)
        changes.append(SpeedChange(at_part=part, speed_mm_s=speed * SPEED_MM_S))
        held = max(4, int(_SPEED_HELD_S * speed * parts_per_min / 60.0))
        if number % 4 == 1:
            changes.append(SpeedChange(at_part=part + held // 2, speed_mm_s=0.0, for_ms=chance.choice(_STOP_MS)))
        elif number % 4 == 3:
            back_ms = chance.uniform(50.0, 400.0)
            changes.append(SpeedChange(at_part=part + held // 2, speed_mm_s=_BACK_MM_S, for_ms=back_ms))
        part += held
        number += 1
    return tuple(change for change in changes if change.at_part <= parts)


def _wraps(plan: Rehearsal, parts: int) -> int:
    moved = int(parts * plan.speed_mm_s * 60.0 / plan.parts_per_min * plan.pulses_per_mm)
    return (plan.encoder_start_count + moved) >> plan.encoder_bits


def views_of_strangers(folder: Path) -> int:
    """Views in results, whatever the verdict, whose pixels carry another part's number than the part that has the count."""
    triggers: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for entry in stream_book(folder / "line.jsonl"):
        if entry["event"] == "trigger":
            triggers[entry["part_count"]].append((entry["trigger_ns"], entry["part_number"]))
    for fired in triggers.values():
        fired.sort()
    strangers = 0
    for entry in stream_book(folder / "wire.jsonl"):
        if entry["event"] == "message" and entry["topic"] in ("result", "history"):
            result = entry["payload"]
            fired = triggers[result["encoder_count"]]
            # The counter's laps tell them apart.
            last = bisect.bisect_right(fired, (result["decided_ns"], 0)) - 1
            number = fired[last][1] if last >= 0 else None
            strangers += sum(view["part_mark"] != number for view in result["views"])
    return strangers


def _verdicts_differing(folder: Path, truth: Truth) -> int:
    """Parts that were judged otherwise than others with the same picture."""
    picture_of = {
        entry["part_number"]: entry["image_index"]
        for entry in stream_book(folder / "line.jsonl")
        if entry["event"] == "part"
    }
    judged: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for trigger in truth.triggers:
        said = {heard.verdict for heard in trigger.verdicts} - {"NO_DECISION"}
        judged[picture_of[trigger.part_number]].update(said)
    return sum(said.total() - max(said.values()) for said in judged.values() if said)
