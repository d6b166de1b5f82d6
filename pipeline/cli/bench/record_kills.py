"""``lineside bench record-kills``: records killed again and again under load, and its book against those kept outside."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.bench.record_kills import record_kills as measure_record_kills
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption, RateOption, SeedOption
from pipeline.cli.output import JsonOption, check_json_target


def record_kills(
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="How often records is killed.")] = 50,
    rate: RateOption = 6_000.0,
    seed: SeedOption = 1,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """SIGKILL to records at random moments: every verdict on record once, each told to a persistent subscriber. Else status 1."""
    check_json_target(json_file)
    with failing_in_words():
        result = measure_record_kills(
            package_folder(model),
            solar_cells(),
            kills=kills,
            parts_per_min=rate,
            seed=seed,
            progress=tell_progress,
        )
    tell(json_file, result, _words(result), highlight=False)
    expect_kept(result["broken_promises"], result["examples"])


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
