"""Suite ``record-latency``: do verdicts come later when the record is in trouble?

Windows with a healthy record and windows with a condition of the table ``CONDITIONS`` take turns in one run, with
``on_record_fault: continue``, so that parts are judged throughout. The latency is told twice: frame in memory to verdict at
the socket, from the service's own books (they are on record by the end), and trigger to verdict heard, from the line's book and the
wire tap's. The noise floor is one half of the healthy windows against the other.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.bench.chaos.disk import BlockDisk, record_disk
from pipeline.bench.chaos.processes import send_signal
from pipeline.bench.comparison import compared
from pipeline.bench.processes import service_pids
from pipeline.bench.recorded import RecordedPart, read_parts
from pipeline.bench.statistics import Window, percentiles_us
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.truth import Truth
from vision.package import load_package

_SETTLE_S = 2.0
_CAUGHT_UP_TIMEOUT_S = 120.0
_TRAVEL_TIMEOUT_S = 60.0
_POLL_S = 0.05
_STALL_S, _BREATH_S = 1.6, 0.4
_LEDGER_PARTS = 131_072


@dataclass(frozen=True, slots=True)
class World:
    """What a condition can lay hands on."""

    run: RehearsalRun
    disk: BlockDisk


@contextmanager
def _records_stopped(world: World) -> Iterator[None]:
    pid = service_pids(world.run.service_pid)["records"]
    send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(pid, signal.SIGCONT)


@contextmanager
def _disk_stalls(world: World) -> Iterator[None]:
    """Every write waits for most of the time."""
    is_over = threading.Event()

    def stall() -> None:
        while not is_over.is_set():
            with world.disk.stalled():
                is_over.wait(_STALL_S)
            is_over.wait(_BREATH_S)

    thread = threading.Thread(target=stall)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _images_of_rejects(world: World) -> Iterator[None]:
    """As configured by default. The service is started anew for it, and anew afterwards."""
    with _images_on(world, {}):
        yield


@contextmanager
def _images_of_all(world: World) -> Iterator[None]:
    """Every part's picture is kept: the most that can be asked of it."""
    with _images_on(world, {"every_nth_pass": 1}):
        yield


@contextmanager
def _images_on(world: World, kept: Mapping[str, Any]) -> Iterator[None]:
    run = world.run
    path = run.folder / "images"
    _restart(run, {"images": {"path": str(path), "free_min_gib": 0.0, **kept}})
    try:
        yield
    finally:
        _restart(run, {})


def _restart(run: RehearsalRun, changes: Mapping[str, Any]) -> None:
    """With ``changes`` in the line's configuration, in which nothing else is said of images."""
    line = yaml.safe_load(run.line_file.read_text(encoding="utf-8"))
    line.pop("images", None)
    run.stop_service()
    run.line_file.write_text(yaml.safe_dump({**line, **changes}), encoding="utf-8")
    run.start_service()
    time.sleep(_SETTLE_S)


Condition = Callable[[World], AbstractContextManager[None]]
"""Holds for a window; what it needs to begin and to end lies outside of that."""

CONDITIONS: dict[str, Condition] = {
    "records stopped": _records_stopped,
    "disk stalls": _disk_stalls,
    "images of rejects": _images_of_rejects,
    "images of all": _images_of_all,
}


@dataclass(frozen=True, slots=True)
class _Span:
    condition: str
    is_faulty: bool
    start_ns: int
    end_ns: int
    caught_up_ns: int
    """With a condition: when the record had every part again."""


@dataclass(slots=True)
class _Seen:
    """Parts triggered in one window. ``inside``: frame in memory to socket; ``outside``: trigger to heard."""

    inside: Window = field(default_factory=Window)
    outside: Window = field(default_factory=Window)
    parts: int = 0
    no_decision: int = 0
    unsent: int = 0


def record_latency(
    model: Path,
    images: ImageSource,
    *,
    seconds: float,
    windows: int,
    parts_per_min: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """``windows`` of each kind of ``seconds``, for each condition. Raises DiskUnavailable where no disk can be mounted."""
    package = load_package(model)
    spans: list[_Span] = []
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        folder = Path(name)
        parts = parts_per_min / 60 * (seconds + _SETTLE_S) * windows * 2 * len(CONDITIONS)
        with closing(record_disk(folder / "disk", parts)) as disk:
            plan = Rehearsal(
                model=model,
                images=images,
                rules=package.card.thresholds,
                parts_per_min=parts_per_min,
                service={
                    "records": {"path": str(disk.folder / "records.db"), "on_record_fault": "continue"},
                    "supervision": {"records_silent_after_s": seconds + _CAUGHT_UP_TIMEOUT_S},
                    "ledger_parts": _LEDGER_PARTS,
                },
            )
            with RehearsalRun(plan, folder) as run:
                world = World(run, disk)
                run.line.start_parts()
                time.sleep(_SETTLE_S)
                for condition, holds in CONDITIONS.items():
                    for window in range(1, windows + 1):
                        progress(
                            f"{condition}: window {window} of {windows}, {seconds:g} s healthy, then {seconds:g} s so"
                        )
                        spans += _play(world, condition, holds, seconds)
                run.line.finish()
                run.wait_finished(_TRAVEL_TIMEOUT_S)
                summary = run.stop_service()
                truth = run.stop_world()
                recorded = list(read_parts(run.record_file))
    seen = _seen(spans, recorded, truth)
    pairs = {condition: _pairs(spans, seen, condition) for condition in CONDITIONS}
    healthy = [each for some in pairs.values() for _, each in some]
    return {
        "suite": "record-latency",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "seconds": seconds,
        "windows": windows,
        "stall_s": _STALL_S,
        "breath_s": _BREATH_S,
        "conditions": {
            condition: {
                "inside": compared(
                    f"{condition}: frame to socket", [(bad.inside, good.inside) for bad, good in pairs[condition]]
                ),
                "outside": compared(
                    f"{condition}: trigger to heard", [(bad.outside, good.outside) for bad, good in pairs[condition]]
                ),
                "windows": [
                    _told(span, each) for span, each in zip(spans, seen, strict=True) if span.condition == condition
                ],
            }
            for condition in CONDITIONS
        },
        "noise": {
            "inside": compared("healthy against healthy: frame to socket", [each.inside.halves() for each in healthy]),
            "outside": compared(
                "healthy against healthy: trigger to heard", [each.outside.halves() for each in healthy]
            ),
        },
        "summary": summary,
        "broken_promises": {
            **Counter[str](each.kind for each in truth.violations),
            "triggers_not_on_record": max(0, truth.line.triggers_observable - len(recorded)),
        },
    }


def _play(world: World, condition: str, holds: Condition, seconds: float) -> list[_Span]:
    """A healthy window, then one with the condition, then until the record has caught up."""
    healthy_ns = now_ns()
    time.sleep(seconds)
    healthy = _Span(condition, False, healthy_ns, now_ns(), 0)
    with holds(world):
        fault_ns = now_ns()
        time.sleep(seconds)
        end_ns = now_ns()
    _wait_caught_up(world.run)
    caught_up_ns = now_ns()
    time.sleep(_SETTLE_S)
    return [healthy, _Span(condition, True, fault_ns, end_ns, caught_up_ns)]


def _wait_caught_up(run: RehearsalRun) -> None:
    """Until ``stats`` counts every trigger that the service has seen by now."""
    heartbeat = run.observer.latest()["heartbeat"]
    give_up_ns = now_ns() + int(_CAUGHT_UP_TIMEOUT_S * NS_PER_S)
    while now_ns() < give_up_ns:
        run.read_words()
        stats = run.observer.latest()["stats"]
        is_of_session = stats is not None and stats["session_id"] == heartbeat["session_id"]
        if is_of_session and stats["parts_triggered"] >= heartbeat["triggers_seen"]:
            return
        time.sleep(_POLL_S)
    raise RehearsalError(
        f"the record had not caught up {_CAUGHT_UP_TIMEOUT_S:.0f} s after the window's end: {run.service_errors}"
    )


def _seen(spans: Sequence[_Span], recorded: Sequence[RecordedPart], truth: Truth) -> list[_Seen]:
    seen = [_Seen() for _ in spans]

    def window_of(trigger_ns: int) -> _Seen | None:
        found = (each for span, each in zip(spans, seen, strict=True) if span.start_ns <= trigger_ns < span.end_ns)
        return next(found, None)

    for part in recorded:
        each = window_of(part.trigger_ns)
        if each is None:
            continue
        each.parts += 1
        each.no_decision += part.verdict == "NO_DECISION"
        each.unsent += not part.is_sent
        if part.latency_us is not None:
            each.inside.add(part.trigger_ns, part.latency_us)
    for trigger in truth.triggers:
        each = window_of(trigger.trigger_ns)
        if each is not None and trigger.verdicts:
            heard_ns = min(verdict.arrival_ns for verdict in trigger.verdicts)
            each.outside.add(trigger.trigger_ns, (heard_ns - trigger.trigger_ns) / NS_PER_US)
    return seen


def _pairs(spans: Sequence[_Span], seen: Sequence[_Seen], condition: str) -> list[tuple[_Seen, _Seen]]:
    """Each window with the condition, and the healthy one before it."""
    mine = [each for span, each in zip(spans, seen, strict=True) if span.condition == condition]
    return list(zip(mine[1::2], mine[::2], strict=True))


def _told(span: _Span, seen: _Seen) -> dict[str, object]:
    return {
        "is_faulty": span.is_faulty,
        "parts": seen.parts,
        "no_decision": seen.no_decision,
        "unsent": seen.unsent,
        "inside_us": percentiles_us(seen.inside.values) if seen.inside.values else None,
        "outside_us": percentiles_us(seen.outside.values) if seen.outside.values else None,
        "caught_up_after_s": round((span.caught_up_ns - span.end_ns) / NS_PER_S, 2) if span.is_faulty else None,
    }
