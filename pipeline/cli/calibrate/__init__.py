"""``lineside calibrate``: what an operator does at changeover, step by step."""

from __future__ import annotations

import typer

from pipeline.cli.calibrate.board import board
from pipeline.cli.calibrate.challenge import challenge
from pipeline.cli.calibrate.drift import drift
from pipeline.cli.calibrate.geometry import geometry
from pipeline.cli.calibrate.timing import timing

calibrate = typer.Typer(
    name="calibrate",
    help="Bring a station to a state that can be proved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (board, geometry, timing, drift, challenge):
    calibrate.command()(command)


@calibrate.callback()
def _root() -> None:
    """Bring a station to a state that can be proved."""
