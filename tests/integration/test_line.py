"""The whole line, healthy and not: the books outside the service must say that the promise held, and must catch who breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import SyntheticImages
from pipeline.simulator.line import FaultOptions, SpeedChange
from pipeline.simulator.truth import Truth
from tests.chaos.books import (
    check_marks,
    check_promise,
    check_record,
    check_wire_is_recorded,
    read_rows,
    withheld_ns,
)
from tests.models import write_stub_package
from tests.service import let_parts_come
from vision.types import PixelFormat

PARTS = 200
# What a box that is busy with tests can keep; the gate stands as far behind it as on the demo's line.
SLACK: dict[str, Any] = {"deadline_us": 200_000, "gate_offset_pulses": 2_600}


def play(folder: Path, sockets: Path, **plan: Any) -> tuple[dict[str, Any], Truth]:
    """One rehearsal with the stub model; the record checked as after any run."""
    summary, truth, _record = play_on_record(folder, sockets, **plan)
    return summary, truth


def play_on_record(folder: Path, sockets: Path, **plan: Any) -> tuple[dict[str, Any], Truth, Path]:
    """As ``play``; and where its record is."""
    model = write_stub_package(folder / "model", channel_count=plan.pop("channel_count", 1))
    rehearsal = Rehearsal(model=model, **{"parts": PARTS, **SLACK, **plan})
    with RehearsalRun(rehearsal, sockets) as run:
        run.play()
        summary = run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_record(rows)
    check_wire_is_recorded(rows, sockets / "wire.jsonl")
    check_marks(run.record_file, sockets / "line.jsonl")
    assert summary["parts_triggered"] == len(rows) == summary["passed"] + summary["rejected"] + summary["no_decision"]
    assert sum(summary["reasons"].values()) == summary["parts_triggered"]
    return summary, truth, run.record_file


def test_healthy_line(tmp_path: Path, tmp_socket_dir: Path) -> None:
    summary, truth = play(tmp_path, tmp_socket_dir)
    check_promise(truth)
    assert summary["parts_triggered"] == truth.line.triggers_sent == PARTS
    assert summary["late_verdicts"] == truth.controller.late_at_gate == 0
    assert truth.controller.passed_unproven == 0
    assert summary["no_decision"] <= PARTS * 0.02
    # The stub model is right about every picture, so what differs from the labels was not judged in time.
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0
    assert summary["rejected"] + summary["passed"] == PARTS - summary["no_decision"]
    assert truth.wire.results_missing == truth.wire.results_duplicate == truth.wire.seq_gaps == 0


@pytest.mark.parametrize(
    "pixel_format",
    [
        PixelFormat.BGR8,
        PixelFormat.MONO12,
        PixelFormat.MONO10_PACKED,
        PixelFormat.MONO12P,
        PixelFormat.BAYER_GB8,
        PixelFormat.YUV422_8_UYVY,
    ],
)
def test_pixel_formats(tmp_path: Path, tmp_socket_dir: Path, pixel_format: PixelFormat) -> None:
    """Raw frames too are judged as what they show, and the part's number is read in them."""
    images = SyntheticImages(pixel_format=pixel_format, width_px=96, height_px=64)
    channel_count = pixel_format.channel_count
    summary, truth = play(tmp_path, tmp_socket_dir, images=images, channel_count=channel_count, parts=60)
    check_promise(truth)
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0
    assert summary["parts_triggered"] == 60


def test_two_cameras_one_part(tmp_path: Path, tmp_socket_dir: Path) -> None:
    summary, truth = play(tmp_path, tmp_socket_dir, camera_ids=("left", "right"))
    check_promise(truth)
    assert summary["parts_triggered"] == PARTS
    assert summary["no_decision"] <= PARTS * 0.02
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0


def test_two_cameras_one_loses_frames(tmp_path: Path, tmp_socket_dir: Path) -> None:
    fault = FaultOptions(kind="lost_frame", part_numbers=list(range(20, 40)), camera_id="right")
    summary, truth = play(tmp_path, tmp_socket_dir, camera_ids=("left", "right"), faults=(fault,), parts=80)
    check_promise(truth)
    assert summary["parts_triggered"] == 80
    # A defect that the other camera saw still rejects.
    assert summary["reasons"]["MISSED_FRAME"] >= 5
    assert truth.truth.false_accepts == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("missed_frame", "MISSED_FRAME"), ("lost_frame", "MISSED_FRAME"), ("wrong_size_frame", "BAD_FRAME")],
)
def test_frames_that_are_not_there(kind: Any, reason: str, tmp_path: Path, tmp_socket_dir: Path) -> None:
    fault = FaultOptions(kind=kind, part_numbers=list(range(10, 30)))
    summary, truth = play(tmp_path, tmp_socket_dir, faults=(fault,), parts=60)
    check_promise(truth)
    assert summary["reasons"][reason] == 20
    assert summary["parts_triggered"] == 60


def test_late_frames_are_late_inspections(tmp_path: Path, tmp_socket_dir: Path) -> None:
    fault = FaultOptions(kind="late_frame", part_numbers=list(range(10, 20)), time_ms=250.0)
    summary, truth = play(tmp_path, tmp_socket_dir, faults=(fault,), parts=60)
    check_promise(truth)
    assert summary["reasons"]["MISSED_FRAME"] == 10
    assert truth.truth.false_accepts == 0


def test_triggers_missing_and_doubled_under_changing_speed_over_the_wrap(tmp_path: Path, tmp_socket_dir: Path) -> None:
    faults = (
        FaultOptions(kind="missing_trigger", rate=0.1),
        FaultOptions(kind="doubled_trigger", rate=0.1, time_ms=3.0),
    )
    speeds = (
        SpeedChange(at_part=40, speed_mm_s=500.0),
        SpeedChange(at_part=80, speed_mm_s=0.0, for_ms=700.0),
        SpeedChange(at_part=120, speed_mm_s=1_000.0),
    )
    bits = 20
    summary, truth = play(
        tmp_path,
        tmp_socket_dir,
        faults=faults,
        speed_changes=speeds,
        encoder_bits=bits,
        encoder_start_count=(1 << bits) - 40_000,
    )
    check_promise(truth)
    assert truth.line.triggers_missing > 5
    assert truth.line.triggers_doubled > 5
    assert summary["parts_triggered"] == truth.line.triggers_sent
    assert truth.controller.gate_rejects >= truth.line.triggers_missing
    assert truth.truth.false_accepts == 0


MISSING = (FaultOptions(kind="missing_trigger", rate=0.15),)


@pytest.mark.parametrize("mutant", ["fails_open", "order_of_arrival"])
def test_a_broken_controller_is_seen(mutant: Any, tmp_path: Path, tmp_socket_dir: Path) -> None:
    """The same line, service and books: only the controller is another one."""
    _, truth = play(tmp_path, tmp_socket_dir, faults=MISSING, mutant=mutant)
    assert truth.controller.passed_without_pass + truth.controller.wrong_part_passed > 0
    with pytest.raises(AssertionError):
        check_promise(truth)


def test_the_controller_they_are_mutants_of(tmp_path: Path, tmp_socket_dir: Path) -> None:
    _, truth = play(tmp_path, tmp_socket_dir, faults=MISSING)
    check_promise(truth)
    assert truth.line.triggers_missing > 10


def test_a_frozen_broker_delays_nothing_and_passes_nothing_late(tmp_path: Path, tmp_socket_dir: Path) -> None:
    plan = Rehearsal(model=write_stub_package(tmp_path / "model"), **SLACK)
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        let_parts_come(run, 20)
        run.broker.pause()
        let_parts_come(run, 40)
        run.broker.resume()
        let_parts_come(run, 40)
        run.line.finish()
        run.wait_finished(60.0)
        summary = run.stop_service()
        truth = run.stop_world()
    check_record(read_rows(run.record_file))
    check_promise(truth, sender_died=True)
    assert truth.controller.late_at_gate > 0
    assert truth.controller.gate_rejects >= 25
    # Judging went on in time all the while.
    assert summary["reasons"].get("DEADLINE", 0) <= 3
    assert summary["passed"] + summary["rejected"] >= 60


def test_overrun_is_said_and_recovers(tmp_path: Path, tmp_socket_dir: Path) -> None:
    """Far beyond what the box can do, no slot is free: refused frames are counted, and nothing passes unjudged."""
    camera = {"ring_slots": 2}
    summary, truth, record = play_on_record(
        tmp_path,
        tmp_socket_dir,
        parts=3_000,
        parts_per_min=60_000.0,
        deadline_us=40_000,
        gate_offset_pulses=1_000,
        camera=camera,
    )
    check_promise(truth, withheld_ns=withheld_ns(record))
    assert summary["parts_triggered"] == truth.line.triggers_sent
    # A refusal that was told after the choice finds its part decided.
    assert 0 < summary["reasons"].get("OVERRUN", 0) <= summary["frames_refused"]
