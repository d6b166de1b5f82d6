"""Suite ``record-kills``: the records worker is killed again and again under load; is every verdict on record once, and told?

The books outside are the wire tap's, which hears every verdict, and that of a persistent subscriber (no clean start, QoS 1, a
session of its own) of ``result`` and ``history``, in a process of its own. They are compared with the record at the end.
"""

from __future__ import annotations

import json
import math
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.bench.chaos.processes import has_ended, send_signal
from pipeline.bench.processes import service_pids
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.record.anchor import Anchor
from pipeline.record.files import record_files
from pipeline.record.reader import NotReadable, read_rows
from pipeline.record.verify import verify
from pipeline.rehearsal import TOPIC_ROOT, Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.observer import ObserverOptions, ObserverProcess
from pipeline.simulator.truth import stream_book
from vision.package import load_package

_FIRST_S = 2.0
_AT_WORK_S = (0.0, 1.0)
"""Most kills come so long after the successor of the one killed before has told its first part."""
_STARTING_S = (0.0, 1.5)
"""The others come so long after its first breath, whatever it does by then."""
_STARTING_SHARE = 0.25
_BACK_TIMEOUT_S = 60.0
_TOLD_TIMEOUT_S = 20.0
"""Without a word: history is told some hundred times a second."""
_POLL_S = 0.01
_SEGMENT_MIB = 1
"""So that it is killed while it seals, too."""
_TOLD_MAX = 20


class PartKey(NamedTuple):
    """Names a part on record and on the wire."""

    session_id: str
    part_id: int


@dataclass(frozen=True, slots=True)
class Row:
    """A part on record. ``said``: seq, verdict, reason and encoder count."""

    key: PartKey
    number: int
    row_hash: str
    said: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row as the subscriber was told it; ``topic`` is ``result`` or ``history``."""

    topic: str
    key: PartKey
    row_hash: str
    decided_ns: int
    arrival_ns: int


def record_kills(
    model: Path,
    images: ImageSource,
    *,
    kills: int,
    parts_per_min: float,
    seed: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """``broken_promises`` counts what must not be. Raises RehearsalError, SimulatorError."""
    package = load_package(model)
    plan = Rehearsal(
        model=model,
        images=images,
        rules=package.card.thresholds,
        parts_per_min=parts_per_min,
        service={
            "records": {"segment_max_mib": _SEGMENT_MIB},
            "supervision": {"restarts_max_count": kills + 20, "back_off_max_s": 0.2},
        },
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="lineside-") as name, RehearsalRun(plan, Path(name)) as run:
        folder = Path(name)
        options = ObserverOptions(
            broker=run.broker.address(),
            root=TOPIC_ROOT,
            log_path=folder / "told.jsonl",
            topics=("result", "history"),
            client_id="lineside-historian",
            keeps_session=True,
        )
        began_ns = now_ns()
        with ObserverProcess(options), _Told(options.log_path) as told:
            run.line.start_parts()
            killed_ns = _kill_again_and_again(run, told, kills, random.Random(seed), progress)
            time.sleep(_FIRST_S)
            run.line.finish()
            run.wait_finished(_BACK_TIMEOUT_S)
            progress("waiting until every row was told")
            told.wait_for_all(run.line.report()["triggers_sent"])
            summary = run.stop_service()
        truth = run.stop_world()
        verdicts, anchors = _read_wire(folder / "wire.jsonl")
        deliveries = read_deliveries(options.log_path)
        try:
            rows = [
                Row(
                    PartKey(row.result.session_id, row.result.part_id),
                    row.row,
                    row.result.row_hash,
                    _said(row.result.seq, row.result.verdict, row.result.reason, row.result.encoder_count),
                )
                for row in read_rows(run.record_file)
            ]
            verified = verify(run.record_file, anchors)
        except NotReadable as error:
            raise RehearsalError(str(error)) from error
        file_count = len(record_files(run.record_file))
    found = compare(rows, verdicts, deliveries)
    recoveries = _recoveries_ms(killed_ns, deliveries)
    next_kill_ms = [(later - earlier) / NS_PER_MS for earlier, later in pairwise(killed_ns)] + [math.inf]
    undisturbed = [took for took, until in zip(recoveries, next_kill_ms, strict=False) if took < until]
    violations = [each.text for each in truth.violations]
    return {
        "suite": "record-kills",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "seed": seed,
        "kills": len(killed_ns),
        "seconds": round((now_ns() - began_ns) / NS_PER_S, 1),
        "triggers_observed": truth.line.triggers_observable,
        "verdicts_sent": len(verdicts),
        "rows": len(rows),
        "segments": file_count,
        "told": dict(Counter(each.topic for each in deliveries)),
        "redeliveries": {
            "raw": found.redeliveries,
            "share": round(found.redeliveries / max(1, len(rows)), 4),
        },
        "recovery_ms": _percentiles(recoveries),
        "undisturbed_recovery_ms": {**(_percentiles(undisturbed) or {}), "count": len(undisturbed)},
        "verified": {
            "findings": verified.finding_count,
            "covered_rows": verified.covered_rows,
            "anchors": len(anchors),
            "first": [each.text for each in verified.findings[:_TOLD_MAX]],
        },
        "examples": [*found.examples, *violations[:_TOLD_MAX]],
        "summary": summary,
        "broken_promises": {
            **found.counts,
            "findings_of_verify": verified.finding_count,
            "triggers_not_on_record": max(0, truth.line.triggers_observable - len(rows)),
            "kills_not_recovered": len(killed_ns) - len(recoveries),
            "violations_on_the_line": len(violations),
        },
    }


def _kill_again_and_again(
    run: RehearsalRun, told: _Told, kills: int, chance: random.Random, progress: Callable[[str], None]
) -> list[int]:
    """The moments of the kills."""
    killed_ns: list[int] = []
    time.sleep(_FIRST_S)
    for number in range(1, kills + 1):
        pid = _await_records(run)
        if chance.random() < _STARTING_SHARE:
            time.sleep(chance.uniform(*_STARTING_S))
        else:
            told.wait_for_part_after(killed_ns[-1] if killed_ns else 0)
            time.sleep(chance.uniform(*_AT_WORK_S))
            pid = _await_records(run)
        run.read_words()
        killed_ns.append(now_ns())
        send_signal(pid, signal.SIGKILL)
        if not has_ended(pid, _BACK_TIMEOUT_S):
            raise RehearsalError(f"records (process {pid}) did not end within {_BACK_TIMEOUT_S:.0f} s")
        progress(f"kill {number} of {kills}")
    _await_records(run)
    return killed_ns


def _await_records(run: RehearsalRun) -> int:
    """The pid of the worker that is there, or of the next one."""
    give_up_ns = now_ns() + int(_BACK_TIMEOUT_S * NS_PER_S)
    while now_ns() < give_up_ns:
        if run.service_has_ended:
            break
        pid = service_pids(run.service_pid).get("records")
        if pid is not None and not has_ended(pid):
            return pid
        time.sleep(_POLL_S)
    raise RehearsalError(f"no records process was started again: {run.service_errors}")


class _Told:
    """Follows the subscriber's book while it is written."""

    def __init__(self, log: Path) -> None:
        self._file = log.open("rb")
        self._rest = b""
        self._keys: set[PartKey] = set()
        self._decided_ns = 0

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def wait_for_part_after(self, moment_ns: int) -> None:
        """Until a part was told that was decided after that. Raises RehearsalError."""
        give_up_ns = now_ns() + int(_BACK_TIMEOUT_S * NS_PER_S)
        while self._decided_ns <= moment_ns:
            if now_ns() > give_up_ns:
                raise RehearsalError(f"nothing was told for {_BACK_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
            self._read()

    def wait_for_all(self, part_count: int) -> None:
        """Until so many parts were told, however long history takes, or nothing is told any more."""
        news_ns = now_ns()
        while len(self._keys) < part_count and now_ns() < news_ns + int(_TOLD_TIMEOUT_S * NS_PER_S):
            time.sleep(_POLL_S)
            if self._read():
                news_ns = now_ns()

    def _read(self) -> bool:
        """Whether there was anything new."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for delivery in _deliveries(json.loads(line) for line in lines):
            self._keys.add(delivery.key)
            self._decided_ns = max(self._decided_ns, delivery.decided_ns)
        return bool(lines)


def _read_wire(log: Path) -> tuple[dict[PartKey, tuple[object, ...]], list[Anchor]]:
    """Every verdict that was sent, and what was anchored."""
    verdicts: dict[PartKey, tuple[object, ...]] = {}
    anchors: list[Anchor] = []
    for entry in stream_book(log):
        if entry["event"] != "message":
            continue
        payload = entry["payload"]
        if entry["topic"] == "verdict":
            said = _said(payload["seq"], payload["verdict"], payload["reason"], payload["encoder_count"])
            verdicts[PartKey(payload["session_id"], payload["part_id"])] = said
        elif entry["topic"] == "anchor":
            anchors.append(Anchor(row_count=payload["row_count"], head=payload["head"]))
    return verdicts, anchors


def _said(seq: int, verdict: str, reason: str, encoder_count: int | None) -> tuple[object, ...]:
    return seq, verdict, reason, encoder_count


def read_deliveries(log: Path) -> list[Delivery]:
    """In order of arrival, repeated ones too."""
    return list(_deliveries(stream_book(log)))


def _deliveries(entries: Iterable[Mapping[str, Any]]) -> Iterable[Delivery]:
    for entry in entries:
        if entry["event"] == "message":
            payload = entry["payload"]
            yield Delivery(
                entry["topic"],
                PartKey(payload["session_id"], payload["part_id"]),
                payload["row_hash"],
                payload["decided_ns"],
                entry["arrival_ns"],
            )


@dataclass(frozen=True, slots=True)
class Compared:
    """``counts`` by the name of what must not be; ``redeliveries``: times that a row was told once more."""

    counts: dict[str, int]
    redeliveries: int
    examples: list[str]


def compare(
    rows: Sequence[Row], verdicts: Mapping[PartKey, tuple[object, ...]], deliveries: Sequence[Delivery]
) -> Compared:
    """The record against the books outside.

    ``verdicts_not_on_record``, ``verdicts_recorded_otherwise``, ``keys_twice_on_record``, ``rows_not_told``,
    ``told_not_on_record``, ``told_otherwise`` (another row hash) and ``told_out_of_order``: a row's first delivery on a topic
    after a later row's there.
    """
    by_key = {row.key: row for row in rows}
    found: dict[str, list[PartKey]] = {
        "verdicts_not_on_record": [key for key in verdicts if key not in by_key],
        "verdicts_recorded_otherwise": [
            key for key, said in verdicts.items() if key in by_key and by_key[key].said != said
        ],
        "keys_twice_on_record": [key for key, count in Counter(row.key for row in rows).items() if count > 1],
        "rows_not_told": sorted(by_key.keys() - {each.key for each in deliveries}),
        "told_not_on_record": [each.key for each in deliveries if each.key not in by_key],
        "told_otherwise": [
            each.key for each in deliveries if each.key in by_key and by_key[each.key].row_hash != each.row_hash
        ],
        "told_out_of_order": _out_of_order(by_key, deliveries),
    }
    return Compared(
        counts={name: len(keys) for name, keys in found.items()},
        redeliveries=len(deliveries) - len({each.key for each in deliveries}),
        examples=[f"{name}: {[tuple(key) for key in keys[:_TOLD_MAX]]}" for name, keys in found.items() if keys],
    )


def _out_of_order(by_key: Mapping[PartKey, Row], deliveries: Sequence[Delivery]) -> list[PartKey]:
    late: list[PartKey] = []
    last: Counter[str] = Counter()
    seen: set[tuple[str, PartKey]] = set()
    for each in deliveries:
        row = by_key.get(each.key)
        if row is None or (each.topic, each.key) in seen:
            continue
        seen.add((each.topic, each.key))
        if row.number < last[each.topic]:
            late.append(each.key)
        last[each.topic] = max(last[each.topic], row.number)
    return late


def _recoveries_ms(killed_ns: Sequence[int], deliveries: Sequence[Delivery]) -> list[float]:
    """From each kill until a part was told that was decided after it: only a successor can have recorded that."""
    told = sorted((each.decided_ns, each.arrival_ns) for each in deliveries)
    # The earliest arrival of any part decided then or later.
    earliest = np.minimum.accumulate([arrival for _, arrival in reversed(told)])[::-1] if told else np.array([])
    decided = [moment for moment, _ in told]
    recoveries = []
    for moment in killed_ns:
        index = int(np.searchsorted(decided, moment, side="right"))
        if index < len(decided):
            recoveries.append((int(earliest[index]) - moment) / NS_PER_MS)
    return recoveries


def _percentiles(values_ms: Sequence[float]) -> dict[str, float] | None:
    if not values_ms:
        return None
    p50, p90, p99 = np.percentile(values_ms, [50, 90, 99])
    return {
        "p50": round(float(p50), 1),
        "p90": round(float(p90), 1),
        "p99": round(float(p99), 1),
        "max": round(max(values_ms), 1),
    }
