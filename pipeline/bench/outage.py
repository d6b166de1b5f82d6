"""Suite ``outage``: does a broker that is frozen, or dead, slow down the inspection of parts?

Windows with a healthy broker and windows with the fault take turns in one run; first the broker is frozen, then it is dead.
Compared is the time from frame in memory to judged. While the service cannot reach its controller it is not RUNNING and gives every
part NO_DECISION at once, but the part is still inspected, and what the inspection said is on record as a late one: that is where
the times of such parts come from. The gate's book tells what became of the parts meanwhile.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.bench.comparison import compared
from pipeline.bench.recorded import read_late_views, read_parts
from pipeline.bench.statistics import Window, percentiles_us
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.truth import TAP_LAG_NS, UNHEARD, WATCHDOG_NS, stream_book
from vision.package import load_package

Fault = Literal["frozen", "dead"]
FAULTS: tuple[Fault, ...] = ("frozen", "dead")

_SETTLE_S = 1.0
_RECOVERY_TIMEOUT_S = 60.0
_TRAVEL_TIMEOUT_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class _Span:
    """One window. ``recovered_ns``: of a fault, when verdicts reached the wire again and the service was RUNNING."""

    fault: Fault
    is_faulty: bool
    start_ns: int
    end_ns: int
    recovered_ns: int

    def holds(self, moment_ns: int) -> bool:
        return self.start_ns <= moment_ns < self.end_ns


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the record says of the parts triggered in one window."""

    times_us: Window
    parts: int
    judged_late: int
    """Inspected after their decision; the time counts all the same."""
    never_judged: int
    not_running: int
    noticed_ns: int | None
    """The first trigger that found the service not RUNNING."""


def outage(
    model: Path,
    images: ImageSource,
    *,
    seconds: float,
    windows: int,
    parts_per_min: float = 1_200.0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """``windows`` of each kind of ``seconds``, for each fault. ``progress`` is told as each window begins."""
    package = load_package(model)
    plan = Rehearsal(model=model, images=images, rules=package.card.thresholds, parts_per_min=parts_per_min)
    spans: list[_Span] = []
    with tempfile.TemporaryDirectory(prefix="lineside-") as name, RehearsalRun(plan, Path(name)) as run:
        folder = Path(name)
        run.line.start_parts()
        time.sleep(_SETTLE_S)
        for fault in FAULTS:
            for window in range(1, windows + 1):
                if progress is not None:
                    progress(
                        f"broker {fault}: window {window} of {windows}, {seconds:g} s healthy, then {seconds:g} s with it"
                    )
                spans += _play(run, fault, seconds)
        run.line.finish()
        run.wait_finished(_TRAVEL_TIMEOUT_S)
        summary = run.stop_service()
        truth = run.stop_world()
        seen = _read_record(run.record_file, spans)
        gate = {fault: _at_gate(folder / "gate.jsonl", spans, fault) for fault in FAULTS}
    pairs = {fault: _pairs(spans, seen, fault) for fault in FAULTS}
    # Where nothing is done nothing must be found: one half of each healthy window against the other.
    halves = [healthy.halves() for fault in FAULTS for _, healthy in pairs[fault]]
    return {
        "suite": "outage",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "seconds": seconds,
        "windows": windows,
        "faults": {
            fault: {
                **compared(f"broker {fault}: inspection", pairs[fault]),
                "windows": [_told(span, each) for span, each in zip(spans, seen, strict=True) if span.fault == fault],
                "gate": gate[fault],
            }
            for fault in FAULTS
        },
        "noise": compared("healthy against healthy: inspection", halves),
        "summary": summary,
        "truth": {key: value for key, value in truth.figures().items() if key != "violations"},
        "broken_promises": {
            **Counter[str](each.kind for each in truth.violations if each.kind not in UNHEARD),
            "passed_during_fault": sum(each["passed_after_watchdog"] for each in gate.values()),
            "triggers_not_on_record": truth.line.triggers_observable - summary["parts_triggered"],
        },
    }


def _play(run: RehearsalRun, fault: Fault, seconds: float) -> list[_Span]:
    """A healthy window, then one with the fault, then back to health."""
    healthy_ns = now_ns()
    time.sleep(seconds)
    healthy = _Span(fault, False, healthy_ns, now_ns(), 0)
    if fault == "frozen":
        run.broker.pause()
    else:
        run.broker.halt()
    fault_ns = now_ns()
    time.sleep(seconds)
    end_ns = now_ns()
    if fault == "frozen":
        run.broker.resume()
    else:
        run.broker.restart()
    _wait_judging(run)
    recovered_ns = now_ns()
    time.sleep(_SETTLE_S)
    return [healthy, _Span(fault, True, fault_ns, end_ns, recovered_ns)]


def _wait_judging(run: RehearsalRun) -> None:
    """Until a heartbeat says RUNNING that knows of the triggers sent until now: one that the broker held back does not."""
    triggers_sent = run.line.report()["triggers_sent"]
    give_up_ns = now_ns() + int(_RECOVERY_TIMEOUT_S * NS_PER_S)
    while now_ns() < give_up_ns:
        heartbeat = run.observer.latest()["heartbeat"]
        if heartbeat is not None and heartbeat["state"] == "RUNNING" and heartbeat["triggers_seen"] >= triggers_sent:
            return
        time.sleep(_POLL_S)
    raise RehearsalError(
        f"the service was not RUNNING {_RECOVERY_TIMEOUT_S:.0f} s after the broker was back: {run.service_errors}"
    )


def _read_record(record: Path, spans: Sequence[_Span]) -> list[_Seen]:
    """For each window the inspections of the parts triggered in it, in time or late."""
    late = {(view.session_id, view.part_id): view.inspection_us for view in read_late_views(record)}
    windows = [Window() for _ in spans]
    counts = [dict.fromkeys(("parts", "judged_late", "never_judged", "not_running"), 0) for _ in spans]
    noticed: list[int | None] = [None] * len(spans)
    for part in read_parts(record):
        index = next((index for index, span in enumerate(spans) if span.holds(part.trigger_ns)), None)
        if index is None:
            continue
        count = counts[index]
        count["parts"] += 1
        if part.reason == "NOT_RUNNING":
            count["not_running"] += 1
            if noticed[index] is None:
                noticed[index] = part.trigger_ns
        inspection_us = part.inspection_us
        if inspection_us is None:
            inspection_us = late.get((part.session_id, part.part_id))
            count["judged_late" if inspection_us is not None else "never_judged"] += 1
        if inspection_us is not None:
            windows[index].add(part.trigger_ns, inspection_us)
    return [
        _Seen(times_us=window, noticed_ns=moment, **count)
        for window, count, moment in zip(windows, counts, noticed, strict=True)
    ]


def _pairs(spans: Sequence[_Span], seen: Sequence[_Seen], fault: Fault) -> list[tuple[Window, Window]]:
    """Each window with the fault, and the healthy one before it."""
    mine = [each.times_us for span, each in zip(spans, seen, strict=True) if span.fault == fault]
    return list(zip(mine[1::2], mine[::2], strict=True))


def _told(span: _Span, seen: _Seen) -> dict[str, object]:
    return {
        "is_faulty": span.is_faulty,
        "parts": seen.parts,
        "inspection_us": percentiles_us(seen.times_us.values) if seen.times_us.values else None,
        "judged_late": seen.judged_late,
        "never_judged": seen.never_judged,
        "not_running": seen.not_running,
        "noticed_after_ms": None if seen.noticed_ns is None else (seen.noticed_ns - span.start_ns) // NS_PER_MS,
        "recovered_after_ms": (span.recovered_ns - span.end_ns) // NS_PER_MS if span.is_faulty else None,
    }


def _at_gate(book: Path, spans: Sequence[_Span], fault: Fault) -> dict[str, Any]:
    """Parts at the gate while the fault lasted, from the controller's own book."""
    mine = [span for span in spans if span.fault == fault and span.is_faulty]
    blind_after_ns = WATCHDOG_NS + TAP_LAG_NS
    counted = dict.fromkeys(
        (
            "parts_at_gate",
            "passed_before_watchdog",
            "parts_after_watchdog",
            "passed_after_watchdog",
            "late_at_gate",
            "late_passes_at_gate",
            "unmatched_verdicts",
        ),
        0,
    )
    for record in stream_book(book):
        if record["event"] == "gate":
            span = next((span for span in mine if span.holds(record["gate_ns"])), None)
            if span is None:
                continue
            counted["parts_at_gate"] += 1
            if record["gate_ns"] >= span.start_ns + blind_after_ns:
                counted["parts_after_watchdog"] += 1
                counted["passed_after_watchdog"] += record["passed"]
            else:
                counted["passed_before_watchdog"] += record["passed"]
        elif record["event"] in ("late", "unmatched") and any(
            span.start_ns <= record["heard_ns"] < span.recovered_ns for span in mine
        ):
            is_late = record["event"] == "late"
            counted["late_at_gate" if is_late else "unmatched_verdicts"] += 1
            counted["late_passes_at_gate"] += is_late and record["payload"]["verdict"] == "PASS"
    return counted
