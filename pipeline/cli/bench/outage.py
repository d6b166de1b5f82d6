"""``lineside bench outage``: inspection with the broker there, frozen and dead, in turns, and a table of the differences."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.bench.outage import outage as measure_outage
from pipeline.cli.bench.differences import TABLE_WIDTH, difference_table
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption, RateOption
from pipeline.cli.output import JsonOption, check_json_target


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
    check_json_target(json_file)
    with failing_in_words():
        result = measure_outage(
            package_folder(model),
            solar_cells(),
            seconds=seconds,
            windows=windows,
            parts_per_min=rate,
            progress=tell_progress,
        )
    rows = {**{f"broker {fault}": told for fault, told in result["faults"].items()}, "healthy, halves": result["noise"]}
    table = difference_table("Frame in memory -> judged, us", rows)
    tell(json_file, result, [table, *_words(result)], width=TABLE_WIDTH)
    expect_kept(result["broken_promises"])


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
