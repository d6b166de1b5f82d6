"""``lineside bench record-kills``: records killed again and again under load, and its book against those kept outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline.bench.record_kills import record_kills as measure_record_kills
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices


def record_kills(
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="How often records is killed.")] = 50,
    rate: Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")] = 6_000.0,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Another model package.")] = None,
    json_file: JsonOption = None,
) -> None:
    """SIGKILL to records at random moments: every verdict on record once, each told to a persistent subscriber. Else status 1."""
    check_json_target(json_file)
    progress_console = Console(stderr=True, markup=False)
    try:
        result = measure_record_kills(
            model if model is not None else configs_folder() / "models" / "solar-cell",
            SolarCellImages(indices=test_indices()),
            kills=kills,
            parts_per_min=rate,
            seed=seed,
            progress=lambda text: progress_console.print(text, soft_wrap=True),
        )
    except (RehearsalError, SimulatorError, ImageError) as error:
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
        raise fail(f"the promise did not hold: {broken}\n" + "\n".join(result["examples"]))


def _words(result: dict[str, Any]) -> list[str]:
    broken, recovery, verified = result["broken_promises"], result["recovery_ms"], result["verified"]
    return [
        f"{result['kills']} kills of records in {result['seconds']} s at {result['parts_per_min']:g} parts a minute",
        f"verdicts   {result['verdicts_sent']} sent, {broken['verdicts_not_on_record']} not on record, "
        f"{broken['verdicts_recorded_otherwise']} recorded otherwise",
        f"record     {result['rows']} rows in {result['segments']} segments, {broken['keys_twice_on_record']} keys twice; "
        f"verify with {verified['anchors']} anchors: {verified['findings']} findings",
        f"told       {result['told']}; {broken['rows_not_told']} rows not told, {broken['told_out_of_order']} out of order, "
        f"{broken['told_otherwise']} otherwise; {result['redeliveries']['raw']} raw redeliveries",
        f"recovery   from the kill to the first part told that was decided after it, ms: {recovery}; where no other kill came "
        f"between: {result['undisturbed_recovery_ms']}",
    ]
