"""``lineside bench tampering``: is a record that somebody changed told from a sound one?"""

from __future__ import annotations

import os
import sqlite3
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.bench.tampering import TAMPERINGS
from pipeline.bench.tampering import tampering as measure_tampering
from pipeline.cli.bench.measuring import tell
from pipeline.cli.output import JsonOption, check_json_target, fail

_TABLE_WIDTH = 100


def tampering(
    rows: Annotated[int, typer.Option(min=10, max=10_000_000, help="Parts in the record.")] = 100_000,
    tamperings: Annotated[int, typer.Option(min=1, help="How often it is spoiled, in every way in turn.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the choices.")] = 1,
    json_file: JsonOption = None,
) -> None:
    """Spoil a record in every way, and verify it with its anchors and without. Exit status 1 where one was not found."""
    check_json_target(json_file)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("tamperings", total=tamperings)
            result = measure_tampering(
                rows=rows,
                tamperings=tamperings,
                seed=seed,
                workers=os.cpu_count() or 1,
                progress=lambda _: progress.advance(task),
            )
    except (OSError, sqlite3.Error) as error:
        raise fail(f"the records to be spoiled: {error}") from None
    tell(json_file, result, [_table(result), *_words(result)], width=_TABLE_WIDTH)
    missed = tamperings - result["found_with_anchor"]
    if missed or result["findings_in_the_sound_record"]:
        raise fail(
            f"{missed} of {tamperings} were not found, {result['findings_in_the_sound_record']} in the sound record"
        )


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"A record of {result['rows']} parts, spoiled")
    for title in ("tampering", "times", "found with the anchor", "found without"):
        table.add_column(title, justify="left" if title == "tampering" else "right")
    for kind in TAMPERINGS:
        told = result["kinds"][kind]
        table.add_row(kind, *(str(told[key]) for key in ("tamperings", "found_with_anchor", "found_without_anchor")))
    table.add_row(
        "all", *(str(result[key]) for key in ("tamperings", "found_with_anchor", "found_without_anchor")), style="bold"
    )
    return table


def _words(result: dict[str, Any]) -> list[str]:
    missed = {kind: result["kinds"][kind] for kind in result["not_found_without_anchor"]}
    words_of = [
        f"{kind} ({each['tamperings'] - each['found_without_anchor']} of {each['tamperings']})"
        for kind, each in missed.items()
    ]
    return [
        f"not found without an anchor: {', '.join(words_of) or 'none'}",
        f"the sound record: {result['findings_in_the_sound_record']} findings",
        f"{result['bytes_a_part']} bytes a part; {result['written_rows_per_s']} rows a second written, "
        f"{result['verified_rows_per_s']} verified",
    ]
