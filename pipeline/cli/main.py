"""The ``lineside`` command: each subcommand is a thin module of its own."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from pipeline.cli.bench import bench
from pipeline.cli.check import check
from pipeline.cli.demo import demo
from pipeline.cli.run import run
from pipeline.cli.signals import end_orderly_when_told
from vision.faults import FaultsError

app = typer.Typer(
    name="lineside",
    help="Inspects every part beside a production line and tells the line controller which to take out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(check)
app.command()(run)
app.command()(demo)
app.add_typer(bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lineside {metadata.version('lineside')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of ``lineside`` itself."""


def main() -> None:
    """Run the command. Exit status: 0 done, 1 failed, 2 bad usage or malformed configuration, 128 + N ended by signal N."""
    end_orderly_when_told()
    try:
        app()
    except FaultsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
