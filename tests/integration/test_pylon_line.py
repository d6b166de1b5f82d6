"""The whole service with pylon's emulated camera: each frame has the verdict of its picture, failed ones have none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.payloads import ResultPayload
from pipeline.record.reader import read_rows
from tests.pylon_emulator import PylonEmulator, expect_pypylon
from tests.service import lineside, write_images, write_line

expect_pypylon()

pytestmark = pytest.mark.slow
PARTS = 60
FAILED = 100
"""So many buffers fail where nothing else is written."""


@pytest.fixture
def emulator() -> Iterator[PylonEmulator]:
    made = PylonEmulator()
    yield made
    made.close()


def played(
    folder: Path, port: int, emulator: PylonEmulator, *, parts: int = PARTS, rate_hz: float = 20.0, **features: Any
) -> tuple[dict[str, Any], list[ResultPayload]]:
    """The summary of a run over two good parts and a bad one, over and over, and its record."""
    write_images(folder / "images", [40, 40, 200])
    camera = {
        "camera_id": "cam0",
        "kind": "pylon",
        "serial": emulator.serial,
        "width_px": 32,
        "height_px": 32,
        "pixel_format": "Mono8",
        "trigger": "free_running",
        "frame_rate_hz": rate_hz,
        "features": {**emulator.plays(folder / "images"), **features},
    }
    line = write_line(folder, port, cameras=[camera])
    run = lineside("run", line, "--parts", str(parts), "--json", folder / "summary.json")
    assert run.returncode == 0, run.stderr
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary, [row.result for row in read_rows(folder / "records.db")]


def test_every_frame_is_one_part_with_the_verdict_of_its_picture(
    tmp_path: Path, broker_port: int, emulator: PylonEmulator
) -> None:
    summary, results = played(tmp_path, broker_port, emulator)
    print({key: summary[key] for key in ("parts_triggered", "passed", "rejected", "no_decision", "reasons")})
    assert len(results) == summary["parts_triggered"] >= PARTS
    assert summary["frames_refused"] == 0
    judged = [each for each in results if each.verdict != "NO_DECISION"]
    assert len(judged) > PARTS // 2
    for each in judged:
        (view,) = each.views
        assert (each.verdict == "REJECT") == (view.frame_id % 3 == 2)
    assert Counter(each.reason for each in results).keys() <= {"OK", "DEFECT", "NOT_RUNNING", "DEADLINE"}


def test_failed_buffers_are_reported_and_not_judged(tmp_path: Path, broker_port: int, emulator: PylonEmulator) -> None:
    summary, results = played(
        tmp_path, broker_port, emulator, parts=FAILED + PARTS, rate_hz=50.0, ForceFailedBuffer=True
    )
    print({key: summary[key] for key in ("parts_triggered", "passed", "rejected", "no_decision", "reasons")})
    assert summary["parts_triggered"] == len(results) > FAILED
    reasons = [each.reason for each in results]
    assert set(reasons[:FAILED]) <= {"BAD_FRAME", "NOT_RUNNING"}
    assert "BAD_FRAME" in reasons
    assert all(each.verdict == "NO_DECISION" for each in results[:FAILED])
    assert any(each.verdict == "PASS" for each in results[FAILED:]), "and the line goes on"
