"""``lineside bench drift``: false alarms of quiet shifts, and how soon a change is named."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.drift import NoBaseline
from pipeline.bench.drift import drift as measure_drift
from pipeline.cli.bench.measuring import (
    expect_kept,
    failing_in_words,
    package_folder,
    tell,
    tell_progress,
)
from pipeline.cli.bench.options import ModelOption
from pipeline.cli.output import JsonOption, check_json_target, fail
from vision.runtime import InferenceError, RuntimeProviderError


def drift(
    shifts: Annotated[
        int, typer.Option(min=10, max=10_000, help="Quiet ones of each kind, and runs of each change.")
    ] = 200,
    shift_parts: Annotated[int, typer.Option(min=100, max=10_000_000, help="Parts a shift.")] = 10_000,
    baseline_parts: Annotated[int, typer.Option(min=200, max=100_000, help="Parts that calibration sees.")] = 400,
    false_alarm_rate: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Stated, of a shift.")] = 0.05,
    on_part: Annotated[
        bool, typer.Option("--on-part", help="Read light and sharpness from the part, not from a patch beside it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Quiet shifts against the stated rate of false alarms, and changes: after how many parts each is named, and as what.

    Exit status 1 where there are more false alarms than stated, or a change is not named.
    """
    check_json_target(json_file)
    with failing_in_words():
        try:
            result = measure_drift(
                package_folder(model),
                shifts=shifts,
                shift_parts=shift_parts,
                baseline_parts=baseline_parts,
                false_alarm_rate=false_alarm_rate,
                is_read_from_part=on_part,
                seed=seed,
                progress=tell_progress,
            )
        except (RuntimeProviderError, InferenceError, NoBaseline) as error:
            raise fail(str(error)) from None
    tell(json_file, result, [_quiet(result), _changes(result)], width=140, highlight=False)
    expect_kept(result["broken_promises"])


def _quiet(result: dict[str, Any]) -> Table:
    title = (
        f"Quiet shifts of {result['shift_parts']} parts, false alarms stated: {result['false_alarm_rate']:.1%} of them"
    )
    table = Table(title=title)
    for column in ("", "baseline parts", "shifts", "with a false alarm", "share (95 %)", "fits"):
        table.add_column(column, justify="right" if column else "left")
    for name, each in result["quiet_shifts"].items():
        table.add_row(
            name,
            str(each["baseline_parts"]),
            str(each["shifts"]),
            str(each["false_alarms"]),
            f"{each['share']:.1%} ({each['low']:.1%} to {each['high']:.1%})",
            f"p {each['fits_the_rate_p']:.2f}",
        )
    return table


def _changes(result: dict[str, Any]) -> Table:
    table = Table(title="Changes: parts until the signal is named, and the cause told 200 parts later")
    for column in ("", "signal", "p50", "p90", "max", "never", "named first", "cause"):
        table.add_column(column, justify="left" if column in ("", "signal", "named first", "cause") else "right")
    for name, each in result["changes"].items():
        parts = each["parts"]
        table.add_row(
            name,
            each["signal"],
            *(f"{parts[key]:g}" for key in ("p50", "p90", "max")),
            str(each["never_named"]),
            _told(each["first_named"]),
            _told(each["cause_200_parts_later"]),
        )
    return table


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in counts.items())
