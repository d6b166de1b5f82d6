"""``lineside bench``: the project's own measurements, each a command with options of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.bench.capacity import capacity as measure_capacity
from pipeline.bench.handover import handover as measure_handover
from pipeline.bench.line import line as measure_line
from pipeline.bench.preprocess import preprocess as measure_preprocess
from pipeline.cli.bench_replay import replay
from pipeline.cli.chaos import chaos
from pipeline.cli.outage import outage
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.cli.record_bench import record
from pipeline.cli.record_kills import record_kills
from pipeline.cli.record_latency import record_latency
from pipeline.cli.record_power import record_power
from pipeline.cli.soak import soak
from pipeline.cli.tampering import tampering
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices

ModelOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Another model package for the same images of solar cells.")
]

bench = typer.Typer(
    name="bench",
    help="Measure: each against a named alternative, or against time, in one run on this box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench.command()(chaos)
bench.command()(soak)
bench.command()(outage)
bench.command()(tampering)
bench.command()(replay)
bench.command()(record)
bench.command()(record_kills)
bench.command()(record_latency)
bench.command()(record_power)


@bench.command()
def line(model: ModelOption = None, json_file: JsonOption = None) -> None:
    """What the whole service adds to the bare model, windows of both taking turns."""
    _run(json_file, lambda: measure_line(_package(model), _images()))


@bench.command()
def capacity(model: ModelOption = None, json_file: JsonOption = None) -> None:
    """The highest rate at which almost every part is judged in time, line and controller on the same box."""
    _run(json_file, lambda: measure_capacity(_package(model), _images()))


@bench.command()
def handover(json_file: JsonOption = None) -> None:
    """Frames between processes: through shared memory and through a socket, small and large."""
    _run(json_file, measure_handover)


@bench.command()
def preprocess(json_file: JsonOption = None) -> None:
    """The fused pre-processing kernel against the quickest OpenCV and NumPy chain."""
    _run(json_file, measure_preprocess)


def _package(model: Path | None) -> Path:
    return model if model is not None else configs_folder() / "models" / "solar-cell"


def _images() -> SolarCellImages:
    return SolarCellImages(indices=test_indices())


def _run(json_file: Path | None, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure, write what was found and show it."""
    check_json_target(json_file)
    try:
        result = measure()
    except (RehearsalError, SimulatorError, ImageError) as error:
        raise fail(str(error)) from None
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    print(json.dumps(result, indent=2), file=words(json_file))
