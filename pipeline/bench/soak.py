"""Suite ``soak``: does anything grow, or slow down, when the whole line runs for a long time?

Line, broker, controller and wire tap play round the real service. Every few seconds the kernel is asked for each of the service's
processes: memory, descriptors, threads, processor time; and the disk for the record's size. Latency comes from the record, read at
the end. A slope has an interval, and what is not flat is explained or said to be unexplained.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.processes import ProcessSample, sample_service, stolen_cpu_s
from pipeline.bench.recorded import RecordedPart, count_rows, read_parts
from pipeline.bench.trend import Trend, trend_per_hour
from pipeline.clock import NS_PER_S, now_ns
from pipeline.deadline import REMEMBERED_MIB, REMEMBERED_TRIGGERS
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.truth import Truth
from vision.package import load_package

_MIB = 1 << 20
_SAMPLE_EVERY_S = 5.0
_PROGRESS_EVERY_S = 1.0
_WARM_UP_SHARE = 0.2
_WARM_UP_SHARE_MAX = 0.5
"""Of the run, cut off before slopes are taken: until what holds the latest so many of something is full."""
_FILL_MARGIN = 1.2
_TRAVEL_TIMEOUT_S = 120.0
_S_PER_MIN = 60

BOUNDS_PER_HOUR = {
    "rss_bytes": _MIB,
    "pss_bytes": _MIB,
    "anonymous_bytes": _MIB,
    "descriptors": 1.0,
    "threads": 1.0,
}
"""Less than this is flat: memory that would take six weeks to grow by 1 GiB; a descriptor or a thread is never lost in part."""
LATENCY_BOUND_US_PER_HOUR = 250.0
"""A twentieth of the usual budget."""
_WAL_BOUND_PER_HOUR = _MIB
_WAL_MAX_BYTES = 8 * _MIB
_ARENAS_BYTES = 2 * _MIB
"""Python's allocator takes and gives back memory in arenas of 1 MiB; within two of them the size says little."""
_TABLE_BYTES = 2 * _MIB
"""Of a dict with 2**16 places: indices, entries and the order's nodes take 1.75 MiB. A million triggers put straight
through ``DeadlineMachine`` show one step of 1.25 MiB at the 104,000th, and 16 KiB in the 900,000 after it."""
_MEMORY = ("rss_bytes", "pss_bytes", "anonymous_bytes")


@dataclass(slots=True)
class _Watch:
    """What was seen of one place in the line-up."""

    at_s: list[float] = field(default_factory=list)
    samples: list[ProcessSample] = field(default_factory=list)


@dataclass(slots=True)
class Host:
    """What a virtual machine's host kept from it, in seconds of one core since the machine's start."""

    at_s: list[float] = field(default_factory=list)
    stolen_s: list[float] = field(default_factory=list)

    def stolen_share(self, minute: int) -> float | None:
        """Of all cores, within this minute; None where it was not looked at twice."""
        seen = [
            (at_s, stolen_s)
            for at_s, stolen_s in zip(self.at_s, self.stolen_s, strict=True)
            if minute * _S_PER_MIN <= at_s < (minute + 1) * _S_PER_MIN
        ]
        if len(seen) < 2:
            return None
        (first_at_s, first_s), (last_at_s, last_s) = seen[0], seen[-1]
        return round((last_s - first_s) / (last_at_s - first_at_s) / (os.cpu_count() or 1), 4)


@dataclass(slots=True)
class _Disk:
    at_s: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    database_bytes: list[int] = field(default_factory=list)
    wal_bytes: list[int] = field(default_factory=list)
    books_bytes: list[int] = field(default_factory=list)


def soak(
    model: Path,
    images: ImageSource,
    *,
    minutes: float,
    parts_per_min: float = 6_000.0,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Run for ``minutes``. ``progress`` gets the figures of the moment about once a second.

    The result holds per process the trend of each measure, per minute rate and latency, what the books say, and the series.
    """
    package = load_package(model)
    plan = Rehearsal(model=model, images=images, rules=package.card.thresholds, parts_per_min=parts_per_min)
    watches: dict[str, _Watch] = {}
    disk, host = _Disk(), Host()
    with tempfile.TemporaryDirectory(prefix="lineside-") as name, RehearsalRun(plan, Path(name)) as run:
        run.line.start_parts()
        cpu_before_s, start_ns = time.process_time(), now_ns()
        end_ns, sample_ns, progress_ns = start_ns + int(minutes * _S_PER_MIN * NS_PER_S), start_ns, start_ns
        while (now := now_ns()) < end_ns:
            if now >= sample_ns:
                sample_ns += int(_SAMPLE_EVERY_S * NS_PER_S)
                _look(run, (now - start_ns) / NS_PER_S, watches, disk)
                host.at_s.append((now - start_ns) / NS_PER_S)
                host.stolen_s.append(stolen_cpu_s())
            if progress is not None and now >= progress_ns:
                progress_ns += int(_PROGRESS_EVERY_S * NS_PER_S)
                progress(_figures(run, (now - start_ns) / NS_PER_S, watches))
            due_ns = min(end_ns, sample_ns, progress_ns if progress is not None else sample_ns)
            time.sleep(max(0.0, (due_ns - now_ns()) / NS_PER_S))
        watching_cpu_s = time.process_time() - cpu_before_s
        run.line.finish()
        run.wait_finished(_TRAVEL_TIMEOUT_S)
        summary = run.stop_service()
        truth = run.stop_world()
        parts = list(read_parts(run.record_file))
    per_minute = _per_minute(parts, start_ns, host)
    fill_s = REMEMBERED_TRIGGERS * _S_PER_MIN / parts_per_min
    warm_up_s = _warm_up_s(minutes * _S_PER_MIN, fill_s)
    processes = {role: _of_process(watch, warm_up_s) for role, watch in sorted(watches.items())}
    _explain(processes, is_full=warm_up_s >= fill_s)
    told = [(f"{role} {measure}", processes[role][measure]) for role in processes for measure in BOUNDS_PER_HOUR]
    return {
        "suite": "soak",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "minutes": minutes,
        "sample_every_s": _SAMPLE_EVERY_S,
        "warm_up_s": warm_up_s,
        "flat_below_per_hour": {**BOUNDS_PER_HOUR, "latency_us": LATENCY_BOUND_US_PER_HOUR},
        "processes": processes,
        "unexplained": [
            name for name, each in told if each["told"] in ("grows", "shrinks") and not each["explanation"]
        ],
        "not_told": [name for name, each in told if each["told"] == "not told"],
        "disk": _of_disk(disk, warm_up_s),
        "latency_trend": _latency_trend(per_minute, warm_up_s),
        "per_minute": per_minute,
        "summary": summary,
        "truth": truth.figures(),
        "verdicts_unsent": sum(not part.is_sent for part in parts),
        "broken_promises": broken_promises(truth, parts),
        "watching_cpu_share": round(watching_cpu_s / (minutes * _S_PER_MIN), 4),
        "series": {
            "processes": {role: _series(watch) for role, watch in sorted(watches.items())},
            "disk": asdict(disk),
        },
    }


def broken_promises(truth: Truth, parts: Sequence[RecordedPart]) -> dict[str, int]:
    """How often each was broken, in the words of ``Violation.kind``, and ``triggers_not_on_record``.

    A ``PASS`` that the record says was withheld, as one is that is late before it can be sent, is not missing on the wire.
    Any other verdict is: with a healthy broker there is no reason not to send it.
    """
    withheld_ns = {part.trigger_ns for part in parts if part.verdict == "PASS" and not part.is_sent}
    found = Counter[str](
        violation.kind
        for violation in truth.violations
        if not (violation.kind == "no_verdict" and violation.at_ns in withheld_ns)
    )
    return {**found, "triggers_not_on_record": truth.line.triggers_observable - len(parts)}


def _look(run: RehearsalRun, at_s: float, watches: dict[str, _Watch], disk: _Disk) -> None:
    for role, sample in sample_service(run.service_pid).items():
        watch = watches.setdefault(role, _Watch())
        watch.at_s.append(round(at_s, 2))
        watch.samples.append(sample)
    record = run.record_file
    disk.at_s.append(round(at_s, 2))
    disk.rows.append(count_rows(record))
    disk.database_bytes.append(_size(record))
    disk.wal_bytes.append(_size(record.with_name(f"{record.name}-wal")))
    disk.books_bytes.append(sum(_size(run.folder / name) for name in ("line.jsonl", "gate.jsonl", "wire.jsonl")))


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _figures(run: RehearsalRun, at_s: float, watches: dict[str, _Watch]) -> dict[str, Any]:
    return {
        "at_s": at_s,
        "stats": run.observer.latest()["stats"] or {},
        "gate": run.controller.report(),
        "pss_bytes": {role: watch.samples[-1].pss_bytes for role, watch in watches.items()},
    }


def _warm_up_s(duration_s: float, fill_s: float) -> float:
    return max(_WARM_UP_SHARE * duration_s, min(_WARM_UP_SHARE_MAX * duration_s, _FILL_MARGIN * fill_s))


def _explain(processes: dict[str, dict[str, Any]], *, is_full: bool) -> None:
    """Why something that is not flat is as it should be, with the bound it cannot pass."""
    for role, measures in processes.items():
        pss = measures["pss_bytes"]
        if pss["told"] != "flat" and measures["anonymous_bytes"]["told"] == "flat":
            pss["explanation"] = (
                "moves with the other programs that map the same files; the process's own memory is flat"
            )
        for measure in _MEMORY:
            told = measures[measure]
            if told["told"] == "not told" and told["interval_95"] is not None and told["range"] <= _ARENAS_BYTES:
                told["explanation"] = (
                    f"moved within {told['range'] / _MIB:.1f} MiB in all: "
                    "arenas of 1 MiB that Python's allocator takes and gives back"
                )
        if role == "signalling":
            for measure in _MEMORY:
                _explain_signalling(measures[measure], is_full=is_full)
            if pss["told"] != "flat" and pss["explanation"] is None and measures["anonymous_bytes"]["explanation"]:
                pss["explanation"] = (
                    "moves with the process's own memory, and with the other programs that map the same files"
                )


def _explain_signalling(told: dict[str, Any], *, is_full: bool) -> None:
    if not is_full and told["told"] == "grows":
        told["explanation"] = (
            f"by design: it remembers the latest {REMEMBERED_TRIGGERS} triggers, in at most {REMEMBERED_MIB} MiB, "
            "and was not full yet"
        )
    elif is_full and told["told"] != "flat" and told["explanation"] is None and told["range"] <= _TABLE_BYTES:
        told["explanation"] = (
            f"by design: {told['range'] / _MIB:.1f} MiB in all; the table of the triggers it remembers is laid anew again and "
            f"again, and the allocator comes to keep room for a second one, of at most {_TABLE_BYTES / _MIB:g} MiB"
        )


def _of_process(watch: _Watch, warm_up_s: float) -> dict[str, Any]:
    last = watch.samples[-1]
    first = next(sample for sample in watch.samples if sample.pid == last.pid)
    span_s = watch.at_s[-1] - watch.at_s[watch.samples.index(first)]
    # A slope over two incarnations would tell of neither.
    kept = [
        (at_s, sample)
        for at_s, sample in zip(watch.at_s, watch.samples, strict=True)
        if sample.pid == last.pid and at_s >= warm_up_s
    ]
    at_s = [moment for moment, _ in kept]
    measures = {
        measure: _of_measure(at_s, [getattr(sample, measure) for _, sample in kept], getattr(last, measure), bound)
        for measure, bound in BOUNDS_PER_HOUR.items()
    }
    return {
        "incarnations": len({sample.pid for sample in watch.samples}),
        "cpu_share": round((last.cpu_s - first.cpu_s) / span_s, 4) if span_s > 0 else None,
        **measures,
    }


def _of_measure(at_s: Sequence[float], values: Sequence[float], last: float, bound: float) -> dict[str, Any]:
    trend = trend_per_hour(at_s, values)
    most = max(values, default=last)
    return {"last": last, "max": most, "range": most - min(values, default=last), **_told(trend, bound)}


def _told(trend: Trend | None, bound: float) -> dict[str, Any]:
    if trend is None:
        return {"per_hour": None, "interval_95": None, "told": "not told", "explanation": "too few samples"}
    told = trend.told(bound)
    explanation = None
    if told == "not told":
        explanation = "the interval holds 0, and more than the bound: a longer run would tell"
    return {
        "per_hour": round(trend.per_hour, 1) + 0.0,  # no minus before a 0
        "interval_95": [round(trend.low, 1) + 0.0, round(trend.high, 1) + 0.0],
        "told": told,
        "explanation": explanation,
    }


def _of_disk(disk: _Disk, warm_up_s: float) -> dict[str, object]:
    kept = [index for index, at_s in enumerate(disk.at_s) if at_s >= warm_up_s] or [len(disk.at_s) - 1]
    first, last = kept[0], kept[-1]
    rows = disk.rows[last] - disk.rows[first]
    grown = disk.database_bytes[last] - disk.database_bytes[first]
    at_s = [disk.at_s[index] for index in kept]
    per_part = round(grown / rows, 1) if rows else None
    wal = _of_measure(at_s, [disk.wal_bytes[index] for index in kept], disk.wal_bytes[last], _WAL_BOUND_PER_HOUR)
    if wal["told"] == "grows" and wal["max"] <= _WAL_MAX_BYTES:
        wal["explanation"] = (
            "by design: written back at 1,000 pages (4 MiB) and not cut, so it keeps the size of the largest batch"
        )
    return {
        "database_bytes": {
            **_of_measure(at_s, [disk.database_bytes[index] for index in kept], disk.database_bytes[last], 0.0),
            "per_part": per_part,
            "explanation": "too few samples" if per_part is None else f"by design: one row a part, {per_part} bytes",
        },
        "wal_bytes": wal,
        "rows": disk.rows[last],
        "simulators_books_bytes": disk.books_bytes[last],
    }


def _per_minute(parts: Iterable[RecordedPart], start_ns: int, host: Host) -> list[dict[str, object]]:
    """Rate, NO_DECISION and latency of each minute of the run, by the moment of the trigger, and what the host took of it."""
    latencies: dict[int, list[int]] = {}
    verdicts: dict[int, Counter[str]] = {}
    for part in parts:
        minute = (part.trigger_ns - start_ns) // (_S_PER_MIN * NS_PER_S)
        verdicts.setdefault(minute, Counter())[part.verdict] += 1
        if part.latency_us is not None:
            latencies.setdefault(minute, []).append(part.latency_us)
    return [
        {
            "minute": minute,
            "parts": sum(verdicts[minute].values()),
            "no_decision": verdicts[minute]["NO_DECISION"],
            "latency_us": _percentiles(latencies.get(minute, [])),
            "stolen_share": host.stolen_share(minute),
        }
        for minute in sorted(verdicts)
    ]


def _percentiles(values_us: list[int]) -> dict[str, int]:
    if not values_us:
        return {}
    shares = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "max": 100.0}
    found = np.percentile(np.asarray(values_us), list(shares.values()), method="inverted_cdf")
    return {name: int(value) for name, value in zip(shares, found, strict=True)}


def _latency_trend(per_minute: list[dict[str, Any]], warm_up_s: float) -> dict[str, object]:
    """Over the whole minutes after the warm-up."""
    whole = [each for each in per_minute[:-1] if each["minute"] * _S_PER_MIN >= warm_up_s and each["latency_us"]]
    at_s = [each["minute"] * float(_S_PER_MIN) for each in whole]
    return {
        name: _told(trend_per_hour(at_s, [each["latency_us"][name] for each in whole]), LATENCY_BOUND_US_PER_HOUR)
        for name in ("p50", "p99")
    }


def _series(watch: _Watch) -> dict[str, list[float]]:
    columns = ("pid", *BOUNDS_PER_HOUR, "cpu_s")
    return {
        "at_s": watch.at_s,
        **{column: [getattr(sample, column) for sample in watch.samples] for column in columns},
    }
