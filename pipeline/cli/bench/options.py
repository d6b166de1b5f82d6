"""Options that several benches have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RateOption = Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")]
SeedOption = Annotated[int, typer.Option(help="Of the moments.")]
ModelOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Another model package.")]
CellModelOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Another model package for the same images of solar cells.")
]
