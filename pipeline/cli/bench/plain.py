"""Benches without options of their own, whose result is shown as the JSON that it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.bench.cameras import cameras as measure_cameras
from pipeline.bench.capacity import capacity as measure_capacity
from pipeline.bench.decode import decode as measure_decode
from pipeline.bench.handover import handover as measure_handover
from pipeline.bench.line import line as measure_line
from pipeline.bench.preprocess import preprocess as measure_preprocess
from pipeline.bench.registration import registration as measure_registration
from pipeline.cli.bench.measuring import failing_in_words, package_folder, solar_cells, tell_as_json
from pipeline.cli.bench.options import CellModelOption
from pipeline.cli.output import JsonOption, check_json_target


def line(model: CellModelOption = None, json_file: JsonOption = None) -> None:
    """What the whole service adds to the bare model, windows of both taking turns."""
    _run(json_file, lambda: measure_line(package_folder(model), solar_cells()))


def capacity(model: CellModelOption = None, json_file: JsonOption = None) -> None:
    """The highest rate at which almost every part is judged in time, line and controller on the same box."""
    _run(json_file, lambda: measure_capacity(package_folder(model), solar_cells()))


def cameras(model: CellModelOption = None, json_file: JsonOption = None) -> None:
    """Latency, capacity and CPU with one camera on the real protocol and with four simulated ones, beside the bare model. Needs
    root, and aravis-tools.
    """
    _run(json_file, lambda: measure_cameras(package_folder(model), solar_cells()))


def handover(json_file: JsonOption = None) -> None:
    """Frames between processes: through shared memory and through a socket, small and large."""
    _run(json_file, measure_handover)


def preprocess(json_file: JsonOption = None) -> None:
    """The fused kernel against the quickest OpenCV and NumPy chain, with lens and light put right, and on raw frames."""
    _run(json_file, measure_preprocess)


def registration(json_file: JsonOption = None) -> None:
    """Where the part lies in a frame: by edges, by grey levels and by phase; times beside the pre-processing, errors and scores."""
    _run(json_file, measure_registration)


def decode(json_file: JsonOption = None) -> None:
    """A detector's output to findings, against OpenCV's and NumPy's non-maximum suppression."""
    _run(json_file, measure_decode)


def _run(json_file: Path | None, measure: Callable[[], dict[str, Any]]) -> None:
    check_json_target(json_file)
    with failing_in_words():
        result = measure()
    tell_as_json(json_file, result)
