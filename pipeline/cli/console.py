"""What commands print for people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.cli.output import words


def console_for(json_file: Path | None, *, width: int | None = None, highlight: bool = True) -> Console:
    """For people. ``width``: of a file or a pipe, which has none of its own to keep to."""
    console = Console(file=words(json_file), markup=False, highlight=highlight)
    if width is not None and not console.is_terminal:
        console.width = width
    return console


def show(console: Console, told: Iterable[Table | str]) -> None:
    """Lines are not broken, tables have the console's width."""
    for each in told:
        console.print(each, soft_wrap=isinstance(each, str))
