"""``lineside bench record-power``: power cuts under load, and what they cost the record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.bench.chaos.disk import DiskUnavailable
from pipeline.bench.record_power import record_power as measure_record_power
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices


def record_power(
    cuts: Annotated[int, typer.Option(min=1, max=10_000, help="How often the power goes.")] = 20,
    rate: Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")] = 6_000.0,
    sync_interval_ms: Annotated[int, typer.Option(min=10, max=60_000, help="As in the line's configuration.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Another model package.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Power cuts at random moments: no more lost than sync_interval_ms, and said; else status 1. Needs root for the disk."""
    check_json_target(json_file)
    progress_console = Console(stderr=True, markup=False)
    try:
        result = measure_record_power(
            model if model is not None else configs_folder() / "models" / "solar-cell",
            SolarCellImages(indices=test_indices()),
            cuts=cuts,
            parts_per_min=rate,
            sync_interval_ms=sync_interval_ms,
            seed=seed,
            progress=lambda text: progress_console.print(text, soft_wrap=True),
        )
    except (RehearsalError, SimulatorError, ImageError, DiskUnavailable) as error:
        raise fail(str(error)) from None
    console = Console(file=words(json_file), markup=False, highlight=False)
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
    cuts, broken = result["power_cuts"], result["broken_promises"]
    return [
        f"{cuts} power cuts at {result['parts_per_min']:g} parts a minute, a sync every {result['sync_interval_ms']} ms",
        f"lost   {result['rows_lost']} rows, {result['rows_told_and_lost']} of them told on `result` before; the oldest of each "
        f"cut, ms before it: {[each['loss_ms'] for each in result['each']]}",
        f"kept   {result['rows_at_the_end']} rows, {broken['holes_in_what_is_there']} missing between them; "
        f"verify: {broken['findings_of_verify']} findings",
        f"said   {cuts - broken['power_cuts_not_told']} of {cuts} by the alarm power-lost",
    ]
