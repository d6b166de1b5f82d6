"""The ``lineside`` command: each subcommand is a thin module of its own."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli.signals import end_orderly_when_told
from vision.faults import FaultsError

_COMMANDS = ("check", "run", "demo", "evaluate", "teach", "model", "calibrate", "cameras", "records", "replay", "bench")
"""Each a function, or an app of its own, in the module of its name."""


class _Commands(TyperGroup):
    """A command's module is imported when it is asked for: the service needs nothing of what the benches and the demo do.

    ``lineside run`` imports 0.6 s for it and not 2.1 s, at each start after a crash; numba, OpenCV and the simulators stay
    out of its supervisor.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        found = getattr(importlib.import_module(f"pipeline.cli.{cmd_name}"), cmd_name)
        if not isinstance(found, typer.Typer):
            function, found = found, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            found.command(cmd_name)(function)
        return typer.main.get_command(found)


app = typer.Typer(
    name="lineside",
    cls=_Commands,
    help="Inspects every part beside a production line and tells the line controller which to take out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
