"""``lineside model``: what a model is, whether it can be trusted, and smaller ones made of it."""

from __future__ import annotations

import typer

from pipeline.cli.model.info import info
from pipeline.cli.model.quantize import quantize
from pipeline.cli.model.verify import verify

model = typer.Typer(
    name="model",
    help="A model package: look, check, shrink.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (info, verify, quantize):
    model.command()(command)
