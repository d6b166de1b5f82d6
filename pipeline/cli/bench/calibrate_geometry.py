"""``lineside bench calibrate-geometry``: are a calibrated camera's millimetres as good as its report says?"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.bench.board_setups import wrong_setups
from pipeline.bench.calibrate_geometry import calibrate_geometry_suite, faults_of
from pipeline.cli.bench.measuring import tell
from pipeline.cli.output import JsonOption, check_json_target, fail

_TABLE_WIDTH = 140


def calibrate_geometry(
    setups: Annotated[int, typer.Option(min=1, max=10_000, help="Rendered, with known truth.")] = 50,
    json_file: JsonOption = None,
) -> None:
    """Calibrate cameras of known geometry from rendered pictures, and wrong set-ups. Exit status 1 where a promise breaks."""
    check_json_target(json_file)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("set-ups", total=setups + len(wrong_setups()))
        result = calibrate_geometry_suite(
            setups=setups, workers=os.cpu_count() or 1, progress=lambda _: progress.advance(task)
        )
    tell(json_file, result, [_table(result), _refusals(result)], width=_TABLE_WIDTH)
    if faults := faults_of(result):
        raise fail("; ".join(faults))


def _table(result: dict[str, Any]) -> Table:
    error, stated = result["field_share_of_error"], result["stated_error"]
    table = Table(title=f"{result['setups']} set-ups, errors as shares of the field's width")
    for title in ("what", "median", "worst", "set-ups or places within"):
        table.add_column(title, justify="left" if title == "what" else "right")
    within = f"{error['setups_within']['count']} of {error['setups_within']['total']} within {error['limit']:.1%}"
    table.add_row("true error, root mean square", *_percent(error["rms"]), "")
    table.add_row("true error, worst place", *_percent(error["max"]), within)
    table.add_row("stated error, worst place", *_percent(stated["stated_share_of_field"]), "")
    for name, words in (
        ("places_covered", "stated covers true: corners and middle"),
        ("setups_covered_everywhere", "stated covers true: everywhere"),
    ):
        covered = stated[name]
        interval = (
            ""
            if covered["share"] is None
            else f"{covered['share']:.1%} ({covered['low']:.1%} .. {covered['high']:.1%})"
        )
        table.add_row(words, "", "", f"{covered['count']} of {covered['total']}: {interval}")
    return table


def _refusals(result: dict[str, Any]) -> Table:
    table = Table(title="Wrong set-ups", show_lines=True)
    table.add_column("what is wrong")
    table.add_column("refused")
    for name, refusals in result["wrong_setups"].items():
        table.add_row(name, "\n".join(refusals) or "no")
    return table


def _percent(spread: dict[str, float | None]) -> tuple[str, str]:
    return tuple("" if spread[key] is None else f"{spread[key]:.4%}" for key in ("median", "max"))  # type: ignore[return-value]
