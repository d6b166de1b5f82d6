"""``lineside bench record-power``: power cuts under load, and what they cost the record."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.bench.record_power import record_power as measure_record_power
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption, RateOption, SeedOption
from pipeline.cli.output import JsonOption, check_json_target


def record_power(
    cuts: Annotated[int, typer.Option(min=1, max=10_000, help="How often the power goes.")] = 20,
    rate: RateOption = 6_000.0,
    sync_interval_ms: Annotated[int, typer.Option(min=10, max=60_000, help="As in the line's configuration.")] = 1_000,
    seed: SeedOption = 1,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Power cuts at random moments: no more lost than sync_interval_ms, and said; else status 1. Needs root for the disk."""
    check_json_target(json_file)
    with failing_in_words():
        result = measure_record_power(
            package_folder(model),
            solar_cells(),
            cuts=cuts,
            parts_per_min=rate,
            sync_interval_ms=sync_interval_ms,
            seed=seed,
            progress=tell_progress,
        )
    tell(json_file, result, _words(result), highlight=False)
    expect_kept(result["broken_promises"])


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
