"""Windows of the real service: every frame and part of a run is in them, and runs again to the bit as it was."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.payloads import ResultPayload
from pipeline.record.reader import read_rows
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.line import FaultOptions
from pipeline.window.reader import WindowReader
from tests.chaos.books import check_promise
from tests.models import write_stub_package
from tests.operator_terminal import Operator
from tests.service import Service, let_parts_come, lineside, workers_of, write_line
from tests.tap import Tap
from tests.waiting import wait_until_recorded

PARTS = 240
SLACK: dict[str, Any] = {"deadline_us": 200_000, "gate_offset_pulses": 2_600}
IMAGES: dict[str, Any] = {"path": "kept", "free_min_gib": 0.0, "memory_mib": 64}
RECORDING: dict[str, Any] = {"path": "windows", "free_min_gib": 0.0}


def rehearsal(folder: Path, **plan: Any) -> Rehearsal:
    service = {"images": IMAGES, "recording": RECORDING}
    arguments = ("--record-s", "60")
    model = write_stub_package(folder / "model")
    return Rehearsal(model=model, service=service, service_arguments=arguments, **{"parts": PARTS, **SLACK, **plan})


def results_of(run: RehearsalRun) -> dict[int, ResultPayload]:
    return {row.result.part_id: msgspec.structs.replace(row.result, row_hash="") for row in read_rows(run.record_file)}


def only_window(folder: Path) -> Path:
    (window,) = folder.iterdir()
    return window


def test_a_run_is_recorded_and_runs_again_to_the_bit(tmp_path: Path, tmp_socket_dir: Path) -> None:
    faults = (
        FaultOptions(kind="lost_frame", part_numbers=list(range(50, 60)), camera_id="right"),
        FaultOptions(kind="lost_frame", part_numbers=list(range(80, 84)), camera_id="left"),
    )
    plan = rehearsal(tmp_path, camera_ids=("left", "right"), faults=faults)
    with RehearsalRun(plan, tmp_socket_dir) as run:
        wait_until_recorded(run.folder / "windows")
        run.play()
        summary = run.stop_service()
        check_promise(run.stop_world())
        results = results_of(run)
        window = only_window(run.folder / "windows")
        reader = WindowReader(window)
        assert not reader.is_cut_off
        assert window.name.startswith(f"{summary['session_id']}-2")
        recorded = {part_id: reader.part(part_id)[1] for part_id in reader.part_ids}
        assert recorded == results
        assert len(results) == PARTS
        assert summary["window_parts"] == PARTS
        assert summary["window_frames"] == len(reader.frames)
        assert len(reader.frames) + summary["window_frames_lost"] == 2 * PARTS - 14
        done = lineside("replay", window, "--json", tmp_path / "replay.json")
        result = json.loads((tmp_path / "replay.json").read_text())
        assert done.returncode == 0, done.stdout
        assert result["must_be_identical"]
        judged = sum(each.reason in ("OK", "DEFECT") for each in results.values())
        assert result["identical"] == result["compared"] == judged - result["parts_incomplete"]
        assert result["missing_frames"] <= summary["window_frames_lost"]
        assert result["compared"] >= PARTS * 0.8
        assert result["damaged_frames"] == 0


def test_killed_it_is_cut_off_and_no_verdict_minds(tmp_path: Path, tmp_socket_dir: Path) -> None:
    with RehearsalRun(rehearsal(tmp_path, parts=160), tmp_socket_dir) as run:
        wait_until_recorded(run.folder / "windows")
        run.line.start_parts()
        let_parts_come(run, 80)
        workers_of(run.service_pid)["images"].send_signal(signal.SIGKILL)
        run.wait_finished(60.0)
        run.stop_service()
        check_promise(run.stop_world())
        window = only_window(run.folder / "windows")
        reader = WindowReader(window)
        assert reader.is_cut_off
        assert 40 < len(reader.part_ids) <= 160
        results = results_of(run)
        assert all(reader.part(part_id)[1] == results[part_id] for part_id in reader.part_ids)
        done = lineside("replay", window, "--processes", "1", "--json", tmp_path / "replay.json")
        assert done.returncode == 0, done.stdout
        result = json.loads((tmp_path / "replay.json").read_text())
        assert result["is_cut_off"]
        assert result["identical"] == result["compared"] > 20


def test_by_command(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, images=IMAGES, recording={**RECORDING, "max_s": 30.0})
    with (
        Service(line) as service,
        Tap(broker_port, "test/line") as tap,
        Operator(broker_port, "test/line", tap) as operator,
    ):
        service.wait_for("RUNNING")
        for wrong, expected in ((None, "Expected `float`"), (31.0, "expected up to recording.max_s 30")):
            told = operator.ask("record_window", duration_s=wrong)
            assert not told["ok"]
            assert expected in told["text"]
        # The second comes before the first is answered.
        for payload in [operator.command(duration_s=1.0) for _ in range(2)]:
            operator.publish("record_window", payload)
        tap.wait_until(lambda: len(tap.bodies("cmd/record_window/reply")) == 4)
        answers = tap.bodies("cmd/record_window/reply")[2:]
        assert sorted(answer["ok"] for answer in answers) == [False, True]
        tap.wait_until(lambda: bool(tap.bodies("alarm/recording")))
        assert "windows" in tap.bodies("alarm/recording")[-1]["text"]
        again = operator.ask("record_window", duration_s=1.0)
        assert not again["ok"]
        assert "is being recorded" in again["text"]
        tap.wait_until(lambda: tap.bodies("alarm/recording")[-1] is None)
        reader = WindowReader(only_window(tmp_path / "windows"))
        end = reader.description.end
        assert end is not None
        assert end.by == "max_s"
        assert end.ns - reader.description.began_ns == 1_000_000_000
        assert len(reader.part_ids) > 5
        # The alarm is gone: the next one may begin, and is there.
        told = operator.ask("record_window", duration_s=1.0)
        assert told["ok"], told
        tap.wait_until(lambda: tap.bodies("alarm/recording")[-1] is not None)
        tap.wait_until(lambda: tap.bodies("alarm/recording")[-1] is None)
        summary = service.stop()
    windows = [WindowReader(folder) for folder in (tmp_path / "windows").iterdir()]
    assert len(windows) == 2
    assert summary["window_parts"] == sum(len(window.part_ids) for window in windows)
    done = lineside("replay", reader.folder)
    assert done.returncode == 0, done.stdout


def test_without_a_place_for_windows(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    done = lineside("run", line, "--record-s", "5")
    assert done.returncode == 2
    assert "expected `recording`" in done.stderr
    line = write_line(tmp_path, broker_port, recording=RECORDING)
    done = lineside("check", line)
    assert done.returncode == 2
    assert "recording: got recording without images, expected images as well" in done.stderr
    line = write_line(tmp_path, broker_port, images=IMAGES, recording={**RECORDING, "path": "kept"})
    assert "expected another folder than images.path" in lineside("check", line).stderr
