"""``lineside bench outage``: inspection with the broker there, frozen and dead, in turns, and a table of the differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.bench.outage import outage as measure_outage
from pipeline.cli.differences import TABLE_WIDTH, difference_table
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices


def outage(
    seconds: Annotated[float, typer.Option(min=1.0, max=86_400.0, help="Length of each window.")] = 60.0,
    windows: Annotated[
        int, typer.Option(min=1, max=1_000, help="Windows of each kind for each fault: a frozen broker, a dead one.")
    ] = 2,
    rate: Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")] = 1_200.0,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Another model package.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Inspection's latency with a healthy broker and with a frozen, then a dead one; and what the gate did meanwhile."""
    check_json_target(json_file)
    progress_console = Console(stderr=True, markup=False)
    try:
        result = measure_outage(
            model if model is not None else configs_folder() / "models" / "solar-cell",
            SolarCellImages(indices=test_indices()),
            seconds=seconds,
            windows=windows,
            parts_per_min=rate,
            progress=lambda text: progress_console.print(text, soft_wrap=True),
        )
    except (RehearsalError, SimulatorError, ImageError) as error:
        raise fail(str(error)) from None
    console = Console(file=words(json_file), markup=False)
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    rows = {**{f"broker {fault}": told for fault, told in result["faults"].items()}, "healthy, halves": result["noise"]}
    console.print(difference_table("Frame in memory -> judged, us", rows))
    for line in _words(result):
        console.print(line, soft_wrap=True)
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    broken = {name: count for name, count in result["broken_promises"].items() if count}
    if broken:
        raise fail(f"the promise did not hold: {broken}")


def _words(result: dict[str, Any]) -> list[str]:
    said = [result["noise"]["statement"]]
    for fault, told in result["faults"].items():
        gate = told["gate"]
        faulty = [window for window in told["windows"] if window["is_faulty"]]
        said += [
            told["statement"],
            f"broker {fault}: {gate['parts_after_watchdog']} parts at the gate after the controller's watchdog, "
            f"{gate['passed_after_watchdog']} passed; {gate['late_at_gate']} verdicts late at the gate, discarded",
            f"broker {fault}: noticed after {[window['noticed_after_ms'] for window in faulty]} ms, judging again "
            f"{[window['recovered_after_ms'] for window in faulty]} ms after it was back",
        ]
    return said
