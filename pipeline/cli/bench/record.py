"""``lineside bench record``: rows a second, bytes a part, and a month in a minute."""

from __future__ import annotations

import sqlite3
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.record import record as measure_record
from pipeline.cli.bench.measuring import expect_kept, tell, tell_progress
from pipeline.cli.output import JsonOption, check_json_target, fail

_TABLE_WIDTH = 120
_SAMPLES_TOLD = 10


def record(
    days: Annotated[int, typer.Option(min=2, max=366, help="Of the month in compressed time.")] = 30,
    rate: Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute of that month.")] = 1_200.0,
    scale: Annotated[
        int, typer.Option(min=1, max=256, help="Divides the month's rows, the size of a segment and the quota.")
    ] = 128,
    json_file: JsonOption = None,
) -> None:
    """Rows a second against a plain table, bytes a part, speed of verify and export, and a month under retention."""
    check_json_target(json_file)
    try:
        result = measure_record(
            scale=scale,
            days=days,
            parts_per_min=rate,
            progress=tell_progress,
        )
    except (OSError, sqlite3.Error) as error:
        raise fail(f"the records to be measured: {error}") from None
    tables = [_writing_table(result), *(_month_table(kind, told) for kind, told in result["month"].items())]
    tell(json_file, result, [*tables, *_words(result)], width=_TABLE_WIDTH)
    expect_kept(result["broken_promises"])


def _writing_table(result: dict[str, Any]) -> Table:
    table = Table(title="Rows a second, synced every second; against a plain table")
    for title in ("rows a commit", "record", "plain", "time, ratio (95 %)", "bytes a part", "plain"):
        table.add_column(title, justify="right")
    for told in result["writing"].values():
        ratio, rates, sizes = told["time_ratio"], told["rows_per_s"], told["bytes_a_part"]
        table.add_row(
            str(told["batch_rows"]),
            str(rates["record"]),
            str(rates["plain"]),
            f"{ratio['ratio']:.2f} ({ratio['low']:.2f} .. {ratio['high']:.2f})",
            str(sizes["record"]),
            str(sizes["plain"]),
        )
    return table


def _month_table(kind: str, told: dict[str, Any]) -> Table:
    table = Table(
        title=f"{told['days']} days at {told['parts_per_min']:g} parts a minute, pruned {kind}, {told['scaled']}"
    )
    for title in ("day", "rows written", "on the disk, MiB", "segments", "dropped"):
        table.add_column(title, justify="right")
    samples = told["samples"]
    for sample in samples[:: max(1, len(samples) // _SAMPLES_TOLD)]:
        table.add_row(
            str(sample["day"]),
            str(sample["rows_written"]),
            f"{sample['disk_bytes'] / (1 << 20):.1f}",
            str(sample["segments"]),
            str(sample["segments_dropped"]),
        )
    return table


def _words(result: dict[str, Any]) -> list[str]:
    reading = result["reading"]
    said = [
        f"verify: {reading['verified_rows_per_s']} rows a second, {reading['findings']} findings; to read them alone: "
        f"{reading['plain_read_rows_per_s']}",
    ]
    for kind in ("csv", "parquet"):
        told = reading[kind]
        said.append(
            f"export to {kind}: not run: {told['not_run']}"
            if "not_run" in told
            else f"export to {kind}: {told['exported_rows_per_s']} rows a second, {told['bytes_a_part']} bytes a part"
        )
    for kind, told in result["month"].items():
        verified = told["verified"]
        said += [
            f"a month, pruned {kind}: {told['rows_written']} rows in {told['took_s']} s; grows by {told['growth_share']} of a "
            f"day's rows a day ({'flat' if told['is_flat'] else 'NOT flat'}); first row kept {verified['first_row_kept']}",
            f"a month, pruned {kind}: {told['segments_dropped']} segments dropped; verify: {verified['findings']} findings; "
            f"an archived one is {'' if told['is_archive_proven'] else 'NOT '}proven by the roots",
        ]
    return said
