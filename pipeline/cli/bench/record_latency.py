"""``lineside bench record-latency``: verdicts with a healthy record, one that stands still, and one on a disk that stalls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.record_latency import record_latency as measure_record_latency
from pipeline.cli.bench.differences import TABLE_WIDTH, difference_table
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption
from pipeline.cli.output import JsonOption, check_json_target

_SIDES = {
    "inside": "Frame in memory -> socket, us (the service's books)",
    "outside": "Trigger -> heard, us (line and tap)",
}


def record_latency(
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each window.")] = 60.0,
    windows: Annotated[int, typer.Option(min=1, max=1_000, help="Windows of each kind for each condition.")] = 5,
    rate: Annotated[float, typer.Option(min=1.0, max=6_000.0, help="Parts a minute.")] = 1_200.0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Verdict latency with a healthy record, records stopped, a disk that stalls, and images kept, in turns. Needs root."""
    check_json_target(json_file)
    with failing_in_words():
        result = measure_record_latency(
            package_folder(model),
            solar_cells(),
            seconds=seconds,
            windows=windows,
            parts_per_min=rate,
            progress=tell_progress,
        )
    tell(json_file, result, [*_tables(result), *_words(result)], width=TABLE_WIDTH)
    expect_kept(result["broken_promises"])


def _tables(result: dict[str, Any]) -> Iterator[Table]:
    for side, title in _SIDES.items():
        rows = {condition: told[side] for condition, told in result["conditions"].items()}
        yield difference_table(title, {**rows, "healthy, halves": result["noise"][side]})


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
