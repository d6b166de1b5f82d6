"""What commands print for people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table

from pipeline.cli.output import fail, words
from vision.faults import one_line


def console_for(json_file: Path | None, *, width: int | None = None, highlight: bool = True) -> Console:
    """For people. ``width``: of a file or a pipe, which has none of its own to keep to."""
    console = Console(file=words(json_file), markup=False, highlight=highlight)
    if width is not None and not console.is_terminal:
        console.width = width
    return console


def show(console: Console, told: Iterable[Table | str]) -> None:
    """Lines are not broken, tables have the console's width. What no terminal should be sent is replaced."""
    try:
        for each in told:
            if isinstance(each, str):
                console.print(one_line(each), soft_wrap=True)
            else:
                console.print(_Printable(each))
    except OSError as error:
        # What is left in the stream's buffer would fail once more at the end, with another status.
        os.dup2(os.open(os.devnull, os.O_WRONLY), console.file.fileno())
        raise fail(f"cannot print the result: {error.strerror}") from None


@contextmanager
def at_work(what: str) -> Iterator[None]:
    """Shows that something goes on, to whoever looks."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


class _Printable:
    """A table without the control characters of its cells."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._table, options):
            lines = segment.text.split("\n")  # the table's own ends of lines
            yield Segment("\n".join(map(one_line, lines)), segment.style, segment.control)
