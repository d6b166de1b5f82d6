"""``lineside model``: a model package: verify, quantize."""

from __future__ import annotations

import typer

from pipeline.cli.model.quantize import quantize
from pipeline.cli.model.verify import verify

model = typer.Typer(
    name="model",
    help="A model package: verify, quantize.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
model.command("verify")(verify)
model.command("quantize")(quantize)
