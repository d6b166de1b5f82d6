"""kill -9 of every process at the same instant, and the service started again: nothing observed goes unrecorded."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.clock import now_ns
from pipeline.ledger_file import ledger_files
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.truth import read_book
from tests.chaos.books import (
    check_marks,
    check_promise,
    check_record,
    check_wire_is_recorded,
    observed,
    read_rows,
)
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

KILLS = 6
PARTS_BETWEEN_KILLS = 15
RECOVERY_TIMEOUT_S = 60.0
READING_NS = 10_000_000
"""From the camera to acquisition's journal, with much to spare."""
TOLD = ("result", "history")


def plan_for(folder: Path, **records: Any) -> Rehearsal:
    return Rehearsal(
        model=write_stub_package(folder / "model"),
        deadline_us=200_000,
        gate_offset_pulses=2_600,
        service={"records": records},
    )


def kill_all(run: RehearsalRun, order: random.Random) -> int:
    """Returns the moment of the first kill."""
    workers = list(workers_of(run.service_pid).values())
    assert len(workers) == 4
    pids = [run.service_pid, *(worker.pid for worker in workers)]
    order.shuffle(pids)
    killed_ns = now_ns()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=RECOVERY_TIMEOUT_S)
    assert not alive, f"left behind: {alive}"
    return killed_ns


def check_books(run: RehearsalRun, folder: Path, kills_ns: list[int]) -> None:
    truth = run.stop_world()
    rows = read_rows(run.record_file)
    # What the belt's book takes for observed where a kill took long to take effect is worked out below instead.
    violations = tuple(found for found in truth.violations if not found.kind.startswith("no_verdict"))
    check_promise(replace(truth, violations=violations), sender_died=True)
    check_record(rows)
    assert len({row.session_id for row in rows}) == len(kills_ns) + 1
    check_wire_is_recorded(rows, folder / "wire.jsonl")
    check_marks(run.record_file, folder / "line.jsonl")
    sent = {entry["encoder_count"] for entry in read_book(folder / "line.jsonl") if entry["event"] == "trigger"}
    recorded = Counter(row.encoder_count for row in rows)
    assert recorded.keys() <= sent
    assert observed(folder / "line.jsonl", kills_ns, READING_NS) <= recorded.keys()
    assert recorded.total() == len(recorded), f"recorded twice: {recorded - Counter(dict.fromkeys(recorded, 1))}"
    results = [entry["payload"] for entry in read_book(folder / "wire.jsonl") if entry.get("topic") in TOLD]
    told = {(result["session_id"], result["part_id"]): result["verdict"] for result in results}
    assert told.items() <= {(row.session_id, row.part_id): row.verdict for row in rows}.items()
    assert any(entry.get("topic") == "history" for entry in read_book(folder / "wire.jsonl"))
    assert ledger_files(run.record_file) == []


@pytest.mark.parametrize("commit_interval_ms", [20, 300])
def test_all_killed_at_once(commit_interval_ms: int, tmp_path: Path, tmp_socket_dir: Path) -> None:
    order = random.Random(commit_interval_ms)
    plan = plan_for(tmp_path, commit_interval_ms=commit_interval_ms)
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        kills_ns = []
        for _ in range(KILLS):
            let_parts_come(run, PARTS_BETWEEN_KILLS)
            kills_ns.append(kill_all(run, order))
            run.start_service()
        let_parts_come(run, PARTS_BETWEEN_KILLS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        run.stop_service()
        closed = run.service_errors.count("of its parts were put on record now")
        check_books(run, tmp_socket_dir, kills_ns)
    # Committed every 20 ms, a part may have had the luck to be on disk already.
    assert closed >= (1 if commit_interval_ms == 20 else KILLS)


def test_all_killed_again_and_again_while_nothing_can_be_written(tmp_path: Path, tmp_socket_dir: Path) -> None:
    order = random.Random(1)
    with RehearsalRun(plan_for(tmp_path, on_record_fault="continue"), tmp_socket_dir) as run:
        run.line.start_parts()
        let_parts_come(run, PARTS_BETWEEN_KILLS)
        other = sqlite3.connect(run.record_file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        kills_ns = []
        for sessions in range(1, 4):
            let_parts_come(run, PARTS_BETWEEN_KILLS)
            kills_ns.append(kill_all(run, order))
            assert len(ledger_files(run.record_file)) == sessions
            run.start_service()
        other.execute("ROLLBACK")
        other.close()
        let_parts_come(run, PARTS_BETWEEN_KILLS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        run.stop_service()
        assert "are not on record yet" in run.service_errors
        check_books(run, tmp_socket_dir, kills_ns)
