"""``lineside bench``: the project's own measurements, each a command with options of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.bench.capacity import capacity as measure_capacity
from pipeline.bench.handover import handover as measure_handover
from pipeline.bench.line import line as measure_line
from pipeline.bench.outage import outage as measure_outage
from pipeline.bench.preprocess import preprocess as measure_preprocess
from pipeline.bench.soak import soak as measure_soak
from pipeline.cli.chaos import chaos
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices

ModelOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Another model package for the same images of solar cells.")
]
RateOption = Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")]

_WORDS_EVERY_S = 60.0
_MIB = 1 << 20

bench = typer.Typer(
    name="bench",
    help="Measure: each against a named alternative, or against time, in one run on this box.",
    no_args_is_help=True,
)


bench.command()(chaos)


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


@bench.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.05, max=100_000.0, help="How long parts come down the line.")],
    rate: RateOption = 6_000.0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Whether anything grows or slows down in a long run: memory, descriptors, threads, disk, latency; per process."""
    console = Console(stderr=True)

    def measure() -> dict[str, Any]:
        console.print(f"Starting the line: {rate:g} parts a minute for {minutes:g} minutes ...")
        if console.is_terminal:
            with Live(console=console, refresh_per_second=2) as live:
                progress = _soak_display(minutes, live.update)
                return measure_soak(_package(model), _images(), minutes=minutes, parts_per_min=rate, progress=progress)
        progress = _now_and_then(lambda figures: console.print(_soak_words(figures), soft_wrap=True))
        return measure_soak(_package(model), _images(), minutes=minutes, parts_per_min=rate, progress=progress)

    _hold(_run(json_file, measure, without=("series", "per_minute", "truth")))


@bench.command()
def outage(
    seconds: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="Length of each window.")] = 60.0,
    windows: Annotated[
        int, typer.Option(min=1, max=1_000, help="Windows of each kind for each fault: a frozen broker, a dead one.")
    ] = 2,
    rate: RateOption = 1_200.0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Inspection's latency with a healthy broker and with a frozen, then a dead one; and what the gate did meanwhile."""
    console = Console(stderr=True)

    def measure() -> dict[str, Any]:
        return measure_outage(
            _package(model),
            _images(),
            seconds=seconds,
            windows=windows,
            parts_per_min=rate,
            progress=lambda text: console.print(text, soft_wrap=True),
        )

    _hold(_run(json_file, measure))


def _package(model: Path | None) -> Path:
    return model if model is not None else configs_folder() / "models" / "solar-cell"


def _images() -> SolarCellImages:
    return SolarCellImages(indices=test_indices())


def _run(
    json_file: Path | None, measure: Callable[[], dict[str, Any]], *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Measure, write what was found, and show it, less the keys that are only for the file."""
    check_json_target(json_file)
    try:
        result = measure()
    except (RehearsalError, SimulatorError, ImageError) as error:
        raise fail(str(error)) from None
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    shown = {key: value for key, value in result.items() if key not in without}
    print(json.dumps(shown, indent=2), file=words(json_file))
    return result


def _hold(result: dict[str, Any]) -> None:
    broken = {name: count for name, count in result["broken_promises"].items() if count}
    if broken:
        raise fail(f"the promise did not hold: {broken}")


def _now_and_then(call: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    due_s = 0.0

    def progress(figures: dict[str, Any]) -> None:
        nonlocal due_s
        if figures["at_s"] >= due_s:
            due_s += _WORDS_EVERY_S
            call(figures)

    return progress


def _soak_display(minutes: float, show: Callable[[Table], None]) -> Callable[[dict[str, Any]], None]:
    def progress(figures: dict[str, Any]) -> None:
        stats, gate = figures["stats"], figures["gate"]
        latency = stats.get("latency_us", {})
        table = Table(title="Lineside soak", show_header=False, min_width=60)
        table.add_row("minutes", f"{figures['at_s'] / 60:.1f} of {minutes:g}")
        table.add_row("rate", f"{stats.get('rate_per_min', 0):.0f} a minute")
        table.add_row("latency, last second", f"p50 {latency.get('p50', 0)}  p99 {latency.get('p99', 0)} us")
        table.add_row("NO_DECISION", str(stats.get("no_decision", 0)))
        table.add_row("gate", f"{gate['gate_passes']} passed, {gate['gate_rejects']} rejected")
        for role, size in sorted(figures["pss_bytes"].items()):
            table.add_row(f"{role}, PSS", f"{size / _MIB:.1f} MiB")
        show(table)

    return progress


def _soak_words(figures: dict[str, Any]) -> str:
    stats = figures["stats"]
    latency = stats.get("latency_us", {})
    sizes = ", ".join(f"{role} {size / _MIB:.1f}" for role, size in sorted(figures["pss_bytes"].items()))
    return (
        f"{figures['at_s'] / 60:.1f} min, {stats.get('rate_per_min', 0):.0f}/min, no decision {stats.get('no_decision', 0)}, "
        f"latency p50 {latency.get('p50', 0)} p99 {latency.get('p99', 0)} us, PSS MiB: {sizes}"
    )
