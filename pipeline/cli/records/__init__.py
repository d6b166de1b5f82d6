"""``lineside records``: what the record of every verdict says, and whether it can be believed."""

from __future__ import annotations

import typer

from pipeline.cli.records.export import export
from pipeline.cli.records.review import review
from pipeline.cli.records.show import show
from pipeline.cli.records.stats import stats
from pipeline.cli.records.verify import verify

records = typer.Typer(
    name="records",
    help="The record of every verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (stats, show, export, review, verify):
    records.command()(command)


@records.callback()
def _root() -> None:
    """The record of every verdict."""
