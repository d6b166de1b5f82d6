"""kill -9 of each process while parts run: nothing passes unjudged, nothing observed goes unrecorded, it runs again by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from pipeline.clock import now_ns
from pipeline.rehearsal import Rehearsal, RehearsalRun
from tests.chaos.books import (
    Window,
    check_marks,
    check_promise,
    check_record,
    check_wire_is_recorded,
    no_decision_outside,
    read_rows,
)
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

KILLS = 6
RECOVERY_TIMEOUT_S = 60.0
PARTS_BETWEEN_KILLS = 15
# A deadline that a box busy with the tests themselves keeps; the gate is as far behind it as on the demo's line.
DEADLINE_US = 200_000
GATE_OFFSET_PULSES = 2_600


def plan_for(folder: Path) -> Rehearsal:
    return Rehearsal(
        model=write_stub_package(folder / "model"),
        deadline_us=DEADLINE_US,
        gate_offset_pulses=GATE_OFFSET_PULSES,
        service={"supervision": {"restarts_max_count": 50, "back_off_max_s": 0.2}},
    )


@pytest.mark.parametrize("role", ["inspection", "acquisition", "signalling", "records"])
def test_worker_killed(role: str, tmp_path: Path, tmp_socket_dir: Path) -> None:
    plan = plan_for(tmp_path)
    windows: list[Window] = []
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        for _ in range(KILLS):
            let_parts_come(run, PARTS_BETWEEN_KILLS)
            worker = workers_of(run.service_pid)[role]
            fault_ns = now_ns()
            worker.send_signal(signal.SIGKILL)
            run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
            windows.append(Window(fault_ns, now_ns()))
        let_parts_come(run, PARTS_BETWEEN_KILLS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        summary = run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_promise(truth, sender_died=role == "signalling")
    check_record(rows)
    assert check_wire_is_recorded(rows, tmp_socket_dir / "wire.jsonl") > KILLS * PARTS_BETWEEN_KILLS
    proven = check_marks(run.record_file, tmp_socket_dir / "line.jsonl")
    assert proven >= summary["passed"] - (KILLS if role == "signalling" else 0)
    assert summary["parts_triggered"] == len(rows) == summary["passed"] + summary["rejected"] + summary["no_decision"]
    # The cameras' triggers were all observed unless it was the camera's own process that died.
    assert truth.line.triggers_observable <= len(rows) <= truth.line.triggers_sent
    if role != "acquisition":
        assert len(rows) == truth.line.triggers_sent
    failed, judged = no_decision_outside(rows, windows, DEADLINE_US * 1_000)
    assert judged >= KILLS * PARTS_BETWEEN_KILLS * 0.8
    assert failed <= max(1, 0.01 * judged), f"{failed} of {judged} NO_DECISION with nothing the matter"


def test_supervisor_killed(tmp_path: Path, tmp_socket_dir: Path) -> None:
    plan = plan_for(tmp_path)
    windows: list[Window] = []
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        for _ in range(KILLS):
            let_parts_come(run, PARTS_BETWEEN_KILLS)
            workers = list(workers_of(run.service_pid).values())
            assert len(workers) == 4
            fault_ns = now_ns()
            os.kill(run.service_pid, signal.SIGKILL)
            _, alive = psutil.wait_procs(workers, timeout=RECOVERY_TIMEOUT_S)
            assert not alive, f"left behind: {alive}"
            run.start_service()
            windows.append(Window(fault_ns, now_ns()))
        let_parts_come(run, PARTS_BETWEEN_KILLS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_promise(truth, sender_died=True)
    check_record(rows)
    assert len({row.session_id for row in rows}) == KILLS + 1
    check_wire_is_recorded(rows, tmp_socket_dir / "wire.jsonl")
    check_marks(run.record_file, tmp_socket_dir / "line.jsonl")
    assert truth.line.triggers_observable <= len(rows)
    failed, judged = no_decision_outside(rows, windows, DEADLINE_US * 1_000)
    assert failed <= max(1, 0.01 * judged), f"{failed} of {judged} NO_DECISION with nothing the matter"
