"""Pictures of the real service: under the right name, to the bit what the line sent; whatever becomes of them, no verdict minds."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.image_names import read_name
from pipeline.payloads import ResultPayload
from pipeline.record.reader import read_rows
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import SyntheticImages, load_images, mark_strip
from pipeline.simulator.line import FaultOptions
from pipeline.simulator.truth import read_book
from tests.chaos.books import check_promise
from tests.integration.test_record_faults import mounted, texts_of
from tests.models import write_stub_package
from tests.service import Service, let_parts_come, lineside, workers_of, write_images, write_line
from tests.tap import Tap
from vision import part_mark_reader

ROOT = "test/line"
PARTS = 120
SLACK: dict[str, Any] = {"deadline_us": 200_000, "gate_offset_pulses": 2_600}
IMAGES: dict[str, Any] = {"path": "kept", "free_min_gib": 0.0, "borderline_margin": None, "every_nth_pass": 10}


def rehearsal(folder: Path, **plan: Any) -> Rehearsal:
    service = {"images": IMAGES, **plan.pop("service", {})}
    return Rehearsal(model=write_stub_package(folder / "model"), service=service, **{"parts": PARTS, **SLACK, **plan})


def results_of(run: RehearsalRun) -> dict[tuple[str, int], ResultPayload]:
    rows = [row.result for row in read_rows(run.record_file)]
    return {(result.session_id, result.part_id): result for result in rows}


def pictures_of(run: RehearsalRun) -> dict[tuple[str, int, str], Path]:
    """By session, part and camera."""
    found = {}
    for file in (run.folder / "kept").rglob("*"):
        name = read_name(file.name)
        if name is not None and not name.is_thumbnail:
            found[file.parent.name, name.part_id, name.camera_id] = file
    return found


def check_pictures(run: RehearsalRun, source: SyntheticImages) -> None:
    """Each file holds, to the bit, what the line sent of the very part that its name says."""
    images = load_images(source)
    geometry = images.geometry
    book = list(read_book(run.folder / "line.jsonl"))
    part_at = {each["encoder_count"]: each["part_number"] for each in book if each["event"] == "trigger"}
    image_of = {each["part_number"]: each["image_index"] for each in book if each["event"] == "part"}
    results = results_of(run)
    for (session_id, part_id, camera_id), file in pictures_of(run).items():
        result = results[session_id, part_id]
        name = read_name(file.name)
        assert name is not None
        assert result.image_ref is not None
        assert (name.verdict, file.parent.parent.name) == (result.verdict, result.trigger_utc[:10]), file
        assert str(file.relative_to(run.folder / "kept")).startswith(f"{result.image_ref}-{result.verdict}-{camera_id}")
        number = part_at[result.encoder_count]
        picture = images.pictures[image_of[number]]
        strip = np.frombuffer(mark_strip(geometry, number), np.uint8).reshape(-1, *picture.shape[1:])
        kept = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        mark = part_mark_reader.read(
            kept, x_px=geometry.mark_x_px, y_px=geometry.mark_y_px, cell_px=geometry.mark_cell_px
        )
        assert mark == number, f"{file}: a neighbour's picture"
        assert (kept == np.vstack([picture, strip])).all(), file


def test_rejects_are_on_disk_under_the_name_of_their_part(tmp_path: Path, tmp_socket_dir: Path) -> None:
    fault = FaultOptions(kind="lost_frame", part_numbers=list(range(50, 60)), camera_id="right")
    plan = rehearsal(tmp_path, camera_ids=("left", "right"), faults=(fault,))
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.play()
        summary = run.stop_service()
        truth = run.stop_world()
        assert isinstance(plan.images, SyntheticImages)
        check_pictures(run, plan.images)
        check_promise(truth)
        results, pictures = results_of(run), pictures_of(run)
        rejected = [key for key, result in results.items() if result.verdict == "REJECT"]
        wanted = {(*key, camera) for key in rejected for camera in ("left", "right")}
        # Of a view that was lost there is none.
        wanted -= {(*key, "right") for key, result in results.items() if len(result.views) == 1}
        assert len(rejected) > 20
        assert len(wanted - pictures.keys()) <= summary["images_dropped"]
        assert summary["images_dropped"] == 0 or len(pictures) > len(wanted) / 2
        passes = [key for key, result in results.items() if result.verdict == "PASS"]
        assert len(passes) // 20 <= sum(results[key[:2]].verdict == "PASS" for key in pictures) <= len(passes) // 2
        halves = [key for key, result in results.items() if result.reason == "MISSED_FRAME"]
        assert {(*key, "left") for key in halves} <= pictures.keys() or summary["images_dropped"] > 0
        assert summary["images_kept"] == len(pictures)
        assert summary["images_pruned"] == 0
        session_id, part_id = rejected[0]
        told = lineside("records", "show", run.line_file, str(part_id), "--session", session_id)
        assert told.returncode == 0, told.stderr
        assert str(pictures[session_id, part_id, "left"]) in told.stdout
        pictures[session_id, part_id, "left"].unlink()
        pictures[session_id, part_id, "right"].unlink()
        told = lineside("records", "show", run.line_file, str(part_id), "--session", session_id)
        assert "missing" in told.stdout


def test_images_killed_and_frozen_under_load_costs_pictures_alone(tmp_path: Path, tmp_socket_dir: Path) -> None:
    plan = rehearsal(tmp_path, parts=400, parts_per_min=2_400.0)
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        let_parts_come(run, 60)
        first = workers_of(run.service_pid)["images"]
        first.send_signal(signal.SIGKILL)
        let_parts_come(run, 140)
        second = workers_of(run.service_pid)["images"]
        assert second.pid != first.pid
        second.send_signal(signal.SIGSTOP)
        let_parts_come(run, 60)
        second.send_signal(signal.SIGCONT)
        run.wait_finished(60.0)
        summary = run.stop_service()
        truth = run.stop_world()
        check_promise(truth)
        assert isinstance(plan.images, SyntheticImages)
        check_pictures(run, plan.images)
        assert summary["parts_triggered"] == 400
        # What a busy box costs, as without; and nobody was told of an error.
        assert summary["no_decision"] <= 400 * 0.05
        assert "ERROR" not in run.service_words
        assert "images killed by SIGKILL; restarting" in run.service_errors
        kept = {part_id for _, part_id, _ in pictures_of(run)}
        assert min(kept) < 60
        assert max(kept) > 300
        rejected = [result for result in results_of(run).values() if result.verdict == "REJECT"]
        missing = [result for result in rejected if result.part_id not in kept]
        # The eight slots of its credit, at most, and its memory were with the killed one.
        assert summary["images_dropped"] >= 1
        assert len(missing) < len(rejected)


def test_a_full_disk_costs_pictures_alone(tmp_path: Path, broker_port: int) -> None:
    place = tmp_path / "small"
    write_images(tmp_path / "images", [40, 40, 200])
    with mounted(place, "-t", "tmpfs", "-o", "size=1m", "lineside-test"):
        line = write_line(tmp_path, broker_port, images={**IMAGES, "path": "small/kept"})
        filler = place / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("RUNNING")
            tap.wait_until(lambda: any("No space left" in text for text in texts_of(tap, "images")))
            tap.wait_count("verdict", 20)
            assert tap.bodies("state")[-1]["state"] == "RUNNING"
            filler.unlink()
            tap.wait_until(lambda: tap.bodies("alarm/images")[-1] is None)
            tap.wait_until(lambda: len(list(place.rglob("*-REJECT-cam0.png"))) >= 5)
            summary = service.stop()
        assert "HALTED" not in service.words
        assert "ERROR" not in service.words
        assert summary["images_dropped"] == 0, "what waited in memory is written when there is room"
        assert summary["images_kept"] == len(list(place.rglob("*.png")))
