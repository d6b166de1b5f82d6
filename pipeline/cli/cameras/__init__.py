"""``lineside cameras``: find and try a camera."""

from __future__ import annotations

import typer

from pipeline.cli.cameras.grab import grab
from pipeline.cli.cameras.listing import list_cameras
from pipeline.cli.cameras.show import show

cameras = typer.Typer(
    name="cameras",
    help="Find and try a camera.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cameras.command("list")(list_cameras)
for command in (show, grab):
    cameras.command()(command)
