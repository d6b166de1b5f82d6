"""Suite ``record-power``: the box loses its power again and again under load; how much of the record does that cost?

The record lies on an ext4 of the suite's own. A power cut is this: every process of the service stands still, the file system is
shut down without another byte put on its disk, the processes are killed, the ledger in the memory goes, and when the disk is there
again the box has another boot id. What the wire tap heard before is compared with what is on the disk then.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.chaos.disk import BlockDisk, cover, record_disk
from pipeline.bench.chaos.processes import has_ended, send_signal
from pipeline.bench.processes import service_pids
from pipeline.clock import NS_PER_MS, now_ns
from pipeline.ledger_file import ledger_files
from pipeline.record.reader import NotReadable, read_rows
from pipeline.record.verify import verify
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.truth import UNHEARD, stream_book
from vision.package import load_package

_COMMIT_INTERVAL_MS = 20
_ALLOWANCE_MS = 250
"""For the sync itself and for a process that waits for a core."""
_UP_S = (1.5, 4.0)
_END_TIMEOUT_S = 60.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Cut:
    """``keys``: (session, seq) of the rows that are on the disk after it; ``session_id`` of the newest one."""

    at_ns: int
    keys: frozenset[tuple[str, int]]
    findings: int
    session_id: str | None


def record_power(
    model: Path,
    images: ImageSource,
    *,
    cuts: int,
    parts_per_min: float,
    sync_interval_ms: int,
    seed: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Raises DiskUnavailable where no disk can be mounted, RehearsalError, SimulatorError."""
    package = load_package(model)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        folder = Path(name)
        parts = parts_per_min / 60 * (_UP_S[1] + 2) * (cuts + 1)
        with closing(record_disk(folder / "disk", parts)) as disk:
            boot_id = folder / "boot_id"
            boot_id.write_text(f"{uuid.UUID(int=chance.getrandbits(128))}\n")
            cover(_BOOT_ID, boot_id)
            plan = Rehearsal(
                model=model,
                images=images,
                rules=package.card.thresholds,
                parts_per_min=parts_per_min,
                service={
                    "records": {
                        "path": str(disk.folder / "records.db"),
                        "sync_interval_ms": sync_interval_ms,
                        "commit_interval_ms": _COMMIT_INTERVAL_MS,
                    }
                },
                seed=seed,
            )
            with RehearsalRun(plan, folder) as run:
                run.line.start_parts()
                done: list[_Cut] = []
                for number in range(1, cuts + 1):
                    time.sleep(chance.uniform(*_UP_S))
                    at_ns = _cut_power(run, disk)
                    done.append(_look(run.record_file, at_ns))
                    boot_id.write_text(f"{uuid.UUID(int=chance.getrandbits(128))}\n")
                    run.start_service()
                    progress(f"cut {number} of {cuts}: {len(done[-1].keys)} rows on the disk")
                time.sleep(_UP_S[0])
                run.line.finish()
                run.wait_finished(_END_TIMEOUT_S)
                run.stop_service()
                truth = run.stop_world()
                last = verify(run.record_file)
        wire = [entry for entry in stream_book(folder / "wire.jsonl") if entry["event"] == "message"]
    told = [_told(cut, wire) for cut in done]
    bound_ms = sync_interval_ms + _COMMIT_INTERVAL_MS + _ALLOWANCE_MS
    return {
        "suite": "record-power",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "sync_interval_ms": sync_interval_ms,
        "commit_interval_ms": _COMMIT_INTERVAL_MS,
        "allowance_ms": _ALLOWANCE_MS,
        "seed": seed,
        "power_cuts": len(done),
        "rows_at_the_end": last.rows,
        "rows_lost": sum(each["rows_lost"] for each in told),
        "rows_told_and_lost": sum(each["rows_told_and_lost"] for each in told),
        "worst_loss_ms": max((each["loss_ms"] for each in told), default=0.0),
        "each": told,
        "broken_promises": {
            "verdicts_lost_that_were_due_on_disk": sum(each["loss_ms"] > bound_ms for each in told),
            "holes_in_what_is_there": sum(each["holes"] for each in told),
            "findings_of_verify": last.finding_count + sum(cut.findings for cut in done),
            "power_cuts_not_told": sum(not each["is_told"] for each in told),
            **Counter[str](each.kind for each in truth.violations if each.kind not in UNHEARD),
        },
    }


def _cut_power(run: RehearsalRun, disk: BlockDisk) -> int:
    """The moment. All that the service leaves is on the disk."""
    run.read_words()
    pids = list(service_pids(run.service_pid).values())
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    at_ns = now_ns()
    disk.cut_power()
    for pid in pids:
        send_signal(pid, signal.SIGKILL)
    for pid in pids:
        if not has_ended(pid, _END_TIMEOUT_S):
            raise RehearsalError(f"process {pid} of the service did not end within {_END_TIMEOUT_S:.0f} s")
    for ledger in ledger_files(run.record_file):
        ledger.unlink()
    disk.restore_power()
    return at_ns


def _look(record: Path, at_ns: int) -> _Cut:
    """At the record as the next start will find it."""
    try:
        rows = [row.result for row in read_rows(record)]
        findings = verify(record).finding_count
    except NotReadable as error:
        raise RehearsalError(f"after a power cut: {error}") from error
    keys = frozenset((result.session_id, result.seq) for result in rows)
    return _Cut(at_ns, keys, findings, rows[-1].session_id if rows else None)


def _told(cut: _Cut, wire: list[dict[str, Any]]) -> dict[str, Any]:
    """What was heard until the cut, of the session that it ended."""
    heard: dict[tuple[str, int], int] = {}
    results: set[tuple[str, int]] = set()
    alarms: list[str] = []
    session_id: str | None = None
    for entry in wire:
        topic, payload = entry["topic"], entry["payload"]
        if topic == "alarm/power-lost" and isinstance(payload, dict) and entry["arrival_ns"] > cut.at_ns:
            alarms.append(payload["text"])
        if entry["arrival_ns"] >= cut.at_ns:
            continue
        if topic == "verdict":
            session_id = payload["session_id"]
            heard[session_id, payload["seq"]] = entry["arrival_ns"]
        elif topic in ("result", "history"):
            results.add((payload["session_id"], payload["seq"]))
    mine = {key: at_ns for key, at_ns in heard.items() if key[0] == session_id}
    lost = {key: at_ns for key, at_ns in mine.items() if key not in cut.keys}
    kept = [seq for session, seq in cut.keys if session == session_id]
    loss_ms = (cut.at_ns - min(lost.values())) / NS_PER_MS if lost else 0.0
    return {
        "session_id": session_id,
        "rows_on_disk": len(cut.keys),
        "verdicts_heard": len(mine),
        "rows_lost": len(lost),
        "rows_told_and_lost": len(results & lost.keys()),
        "loss_ms": round(loss_ms, 1),
        "holes": max(kept, default=0) - len(kept),
        "is_told": cut.session_id != session_id or any(str(session_id) in text for text in alarms),
    }
