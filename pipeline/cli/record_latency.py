"""``lineside bench record-latency``: verdicts with a healthy record, one that stands still, and one on a disk that stalls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.bench.chaos.disk import DiskUnavailable
from pipeline.bench.record_latency import record_latency as measure_record_latency
from pipeline.cli.differences import TABLE_WIDTH, difference_table
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices

_SIDES = {
    "inside": "Frame in memory -> socket, us (the service's books)",
    "outside": "Trigger -> heard, us (line and tap)",
}


def record_latency(
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each window.")] = 60.0,
    windows: Annotated[int, typer.Option(min=1, max=1_000, help="Windows of each kind for each condition.")] = 5,
    rate: Annotated[float, typer.Option(min=1.0, max=6_000.0, help="Parts a minute.")] = 1_200.0,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Another model package.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Verdict latency with a healthy record, records stopped, a disk that stalls, and images kept, in turns. Needs root."""
    check_json_target(json_file)
    progress_console = Console(stderr=True, markup=False)
    try:
        result = measure_record_latency(
            model if model is not None else configs_folder() / "models" / "solar-cell",
            SolarCellImages(indices=test_indices()),
            seconds=seconds,
            windows=windows,
            parts_per_min=rate,
            progress=lambda text: progress_console.print(text, soft_wrap=True),
        )
    except (RehearsalError, SimulatorError, ImageError, DiskUnavailable) as error:
        raise fail(str(error)) from None
    console = Console(file=words(json_file), markup=False)
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    for side, title in _SIDES.items():
        rows = {condition: told[side] for condition, told in result["conditions"].items()}
        console.print(difference_table(title, {**rows, "healthy, halves": result["noise"][side]}))
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
    said = [result["noise"][side]["statement"] for side in _SIDES]
    for condition, told in result["conditions"].items():
        said += [told[side]["statement"] for side in _SIDES]
        for kind, is_faulty in (("healthy", False), (condition, True)):
            mine = [window for window in told["windows"] if window["is_faulty"] is is_faulty]
            parts, no_decision, unsent = (sum(each[key] for each in mine) for key in ("parts", "no_decision", "unsent"))
            said.append(
                f"{condition}: {kind} windows: {parts} parts, {no_decision} not judged, {unsent} verdicts not sent"
            )
        caught_up = [window["caught_up_after_s"] for window in told["windows"] if window["is_faulty"]]
        said.append(f"{condition}: everything on record again {caught_up} s after the window")
    return said
