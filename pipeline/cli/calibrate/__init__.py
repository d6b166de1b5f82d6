"""``lineside calibrate``: what an operator does at changeover, step by step."""

from __future__ import annotations

import typer

from pipeline.cli.calibrate.board import board
from pipeline.cli.calibrate.challenge import challenge
from pipeline.cli.calibrate.drift import drift
from pipeline.cli.calibrate.example import example
from pipeline.cli.calibrate.flat_field import flat_field
from pipeline.cli.calibrate.geometry import geometry
from pipeline.cli.calibrate.guide import guide
from pipeline.cli.calibrate.light import light
from pipeline.cli.calibrate.registration import registration
from pipeline.cli.calibrate.repeatability import repeatability
from pipeline.cli.calibrate.report import report
from pipeline.cli.calibrate.threshold import threshold
from pipeline.cli.calibrate.timing import timing

calibrate = typer.Typer(
    name="calibrate",
    help="Bring a station to a state that can be proved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    guide,
    board,
    light,
    geometry,
    flat_field,
    registration,
    threshold,
    repeatability,
    drift,
    timing,
    challenge,
    report,
    example,
):
    calibrate.command()(command)


@calibrate.callback()
def _root() -> None:
    """Bring a station to a state that can be proved."""
