"""The kind `video` in the running service."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from tests.camera_benches import write_video
from tests.chaos.books import read_rows
from tests.service import lineside, write_line
from vision.types import PixelFormat

CAMERA = {"camera_id": "cam0", "kind": "video", "file": "parts.mkv", "width_px": 32, "height_px": 32}


def write_station(folder: Path, port: int, greys: list[int]) -> Path:
    """Parts of these greys, at 20 a second."""
    pictures = [np.full((32, 32), grey, np.uint8) for grey in greys]
    write_video(folder / "parts.mkv", pictures, PixelFormat.MONO8, 20.0)
    return write_line(folder, port, cameras=[{**CAMERA, "pixel_format": "Mono8"}])


def test_each_frame_of_a_video_gets_the_verdict_of_its_own(tmp_path: Path, broker_port: int) -> None:
    line = write_station(tmp_path, broker_port, [40, 200, 40, 40, 200, 200, 40])
    done = lineside("run", line, "--parts", "14", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parts_triggered"] >= 14
    verdicts = [row.verdict for row in read_rows(tmp_path / "records.db")]
    expected = itertools.cycle(["PASS", "REJECT", "PASS", "PASS", "REJECT", "REJECT", "PASS"])
    # A busy machine may miss a deadline; it never gives a part its neighbour's verdict.
    assert all(got in (own, "NO_DECISION") for got, own in zip(verdicts, expected, strict=False)), verdicts
    assert {"PASS", "REJECT"} <= set(verdicts)


def test_what_is_no_video_is_an_alarm_and_no_traceback(tmp_path: Path, broker_port: int) -> None:
    line = write_station(tmp_path, broker_port, [40])
    (tmp_path / "parts.mkv").write_bytes(b"no video")
    done = lineside("run", line, "--duration", "3")
    words = done.stdout + done.stderr
    assert f"camera cam0: {tmp_path}/parts.mkv is no video that OpenCV's FFmpeg can read" in words
    assert "Traceback" not in words


def test_a_result_does_not_take_the_place_of_the_video(tmp_path: Path, broker_port: int) -> None:
    line = write_station(tmp_path, broker_port, [40])
    before = (tmp_path / "parts.mkv").read_bytes()
    done = lineside("run", line, "--parts", "1", "--json", tmp_path / "parts.mkv")
    assert done.returncode == 2
    assert "expected a file that is none of the line's own" in done.stderr
    assert (tmp_path / "parts.mkv").read_bytes() == before
