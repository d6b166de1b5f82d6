"""Two cameras along the belt in the whole service: each part is put together from its own views, or it is not passed."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.belt import belt, views_of_strangers
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import SyntheticImages
from pipeline.simulator.line import FaultOptions
from pipeline.simulator.truth import Truth, read_book
from tests.chaos.books import check_promise, check_record, check_wire_is_recorded, read_rows
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

WAY = 1_500
"""150 ms at the belt's speed: three parts are on their way between the cameras."""
LIMIT_US = 600_000
PARTS = 120


def play(folder: Path, sockets: Path, **plan: Any) -> tuple[dict[str, Any], Truth, list[dict[str, Any]]]:
    """Summary, truth and the results that were told."""
    service = {
        "encoder": {"match_pulses": 30, "speed_max_pulses_per_s": 12_000.0},
        "assembly_limit_us": LIMIT_US,
        **plan.pop("service", {}),
    }
    usual: dict[str, Any] = {
        "camera_ids": ("up", "down"),
        "belt_offsets_pulses": (0, WAY),
        "parts": PARTS,
        "deadline_us": 200_000,
        "gate_offset_pulses": WAY + 2_600,
    }
    rehearsal = Rehearsal(model=write_stub_package(folder / "model"), service=service, **{**usual, **plan})
    with RehearsalRun(rehearsal, sockets) as run:
        run.play()
        summary = run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_record(rows)
    check_wire_is_recorded(rows, sockets / "wire.jsonl")
    check_promise(truth)
    assert views_of_strangers(sockets) == 0
    results = [each["payload"] for each in read_book(sockets / "wire.jsonl") if each.get("topic") == "result"]
    assert len(rows) == summary["parts_triggered"] == len(results)
    return summary, truth, results


def test_views_are_put_together_under_jitter(tmp_path: Path, tmp_socket_dir: Path) -> None:
    summary, truth, results = play(
        tmp_path, tmp_socket_dir, trigger_jitter_us=500.0, encoder_jitter_pulses=4, slip_pulses=5.0
    )
    assert summary["parts_triggered"] == truth.line.parts_sent == PARTS
    assert summary["no_decision"] <= PARTS * 0.02
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0
    assert truth.controller.passed_unproven == truth.controller.late_at_gate == 0
    judged = [result for result in results if result["verdict"] != "NO_DECISION"]
    assert {tuple(view["camera_id"] for view in result["views"]) for result in judged} == {("up", "down")}
    fired = {
        (each["camera_id"], each["part_number"]): each["trigger_ns"]
        for each in read_book(tmp_socket_dir / "line.jsonl")
        if each["event"] == "trigger"
    }
    # The deadline counts from the last camera.
    assert all(result["trigger_ns"] == fired["down", result["views"][0]["part_mark"]] for result in judged)


def test_a_view_does_not_wait_for_one_further_down_the_belt(tmp_path: Path, tmp_socket_dir: Path) -> None:
    """It would wait longer than a part has."""
    summary, _, _ = play(tmp_path, tmp_socket_dir, parts=40, service={"view_wait_us": 500_000})
    assert summary["no_decision"] <= 2


def test_three_cameras_two_of_them_at_one_place(tmp_path: Path, tmp_socket_dir: Path) -> None:
    summary, truth, results = play(
        tmp_path,
        tmp_socket_dir,
        parts=60,
        camera_ids=("left", "right", "end"),
        belt_offsets_pulses=(0, 0, WAY),
    )
    assert summary["parts_triggered"] == 60
    assert summary["no_decision"] <= 2
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0
    judged = [result for result in results if result["verdict"] != "NO_DECISION"]
    assert {len(result["views"]) for result in judged} == {3}


@pytest.mark.parametrize("camera_id", ["up", "down"])
def test_one_camera_stops(camera_id: str, tmp_path: Path, tmp_socket_dir: Path) -> None:
    """It is there and says nothing: its parts are decided all the same, in time, with the reason."""
    fault = FaultOptions(kind="silent_camera", part_numbers=[40], camera_id=camera_id, time_ms=1_000.0)
    summary, truth, results = play(tmp_path, tmp_socket_dir, faults=(fault,))
    assert truth.truth.false_accepts == 0
    undecided = [result for result in results if result["verdict"] == "NO_DECISION"]
    assert len(undecided) >= 10
    assert {result["reason"] for result in undecided} == {"MISSED_FRAME"}
    assert summary["late_verdicts"] == 0
    # No longer after its first trigger than it may wait for the last one's, the guard aside.
    fired: dict[int, int] = {}
    for each in read_book(tmp_socket_dir / "line.jsonl"):
        if each["event"] == "trigger":
            fired.setdefault(each["part_count"], each["trigger_ns"])
    for result in undecided:
        waited_ns = result["decided_ns"] - fired[result["encoder_count"]]
        assert waited_ns <= LIMIT_US * 1_000 + 200_000_000, result
    wire = read_book(tmp_socket_dir / "wire.jsonl")
    alarms = [each["payload"]["text"] for each in wire if each.get("topic") == "alarm/parts-apart" and each["payload"]]
    assert alarms
    assert "all parts between the cameras were given up" in alarms[0]
    # Afterwards parts are judged again.
    assert {row["verdict"] for row in results[-20:]} <= {"PASS", "REJECT"}


def test_an_unplugged_camera_halts_and_comes_back(tmp_path: Path, tmp_socket_dir: Path) -> None:
    fault = FaultOptions(kind="unplugged_camera", part_numbers=[40], camera_id="down", time_ms=500.0)
    summary, truth, results = play(tmp_path, tmp_socket_dir, faults=(fault,))
    assert truth.truth.false_accepts == 0
    assert summary["reasons"]["FAULT"] >= 1
    assert {row["verdict"] for row in results[-10:]} <= {"PASS", "REJECT"}


@pytest.mark.parametrize("role", ["signalling", "inspection", "acquisition"])
def test_killed_with_parts_between_the_cameras(role: str, tmp_path: Path, tmp_socket_dir: Path) -> None:
    plan = Rehearsal(
        model=write_stub_package(tmp_path / "model"),
        camera_ids=("up", "down"),
        belt_offsets_pulses=(0, WAY),
        deadline_us=200_000,
        gate_offset_pulses=WAY + 2_600,
        service={
            "encoder": {"match_pulses": 30, "speed_max_pulses_per_s": 12_000.0},
            "assembly_limit_us": LIMIT_US,
            "supervision": {"back_off_max_s": 0.2},
        },
    )
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        for _ in range(2):
            let_parts_come(run, 20)
            workers_of(run.service_pid)[role].send_signal(signal.SIGKILL)
            run.wait_for("RUNNING", 60.0)
        let_parts_come(run, 30)
        run.line.finish()
        run.wait_finished(60.0)
        run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_record(rows)
    check_promise(truth, sender_died=True)
    assert views_of_strangers(tmp_socket_dir) == 0
    assert truth.truth.false_accepts == 0
    assert any(row.verdict == "NO_DECISION" for row in rows)
    assert {row.verdict for row in rows[-10:]} <= {"PASS", "REJECT"}


def test_triggers_lost_and_doubled_at_one_place(tmp_path: Path, tmp_socket_dir: Path) -> None:
    faults = (
        FaultOptions(kind="missing_trigger", rate=0.02, camera_id="down"),
        FaultOptions(kind="missing_trigger", rate=0.02, camera_id="up"),
        FaultOptions(kind="doubled_trigger", rate=0.05, camera_id="up"),
        FaultOptions(kind="doubled_trigger", rate=0.05, camera_id="down"),
    )
    summary, truth, _ = play(tmp_path, tmp_socket_dir, faults=faults, seed=3)
    assert truth.truth.false_accepts == 0
    assert summary["no_decision"] > 0
    assert truth.controller.gate_passes >= PARTS * 0.2


def test_changing_speed_stops_and_runs_back_over_the_wrap(tmp_path: Path) -> None:
    result = belt(write_stub_package(tmp_path / "model"), SyntheticImages(), parts=600, parts_per_min=2_400.0, seed=5)
    assert not any(result["broken_promises"].values()), result["violations"]
    assert result["wraps"] >= 1
    assert result["stops"] >= 1
    assert result["reversals"] >= 1
    assert result["truth"]["false_accepts"] == 0
    # The gate lets nothing pass that lay before it at a stop; all others were judged.
    assert result["controller"]["gate_passes"] + result["controller"]["gate_rejects"] == 600
    assert result["controller"]["gate_passes"] >= 0.3 * result["truth"]["good"]
