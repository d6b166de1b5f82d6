"""Rows that are read while somebody waits."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress, TextColumn

from pipeline.record.reader import RecordedRow

_PROGRESS_ROWS = 5_000


def with_progress(rows: Iterator[RecordedRow]) -> Iterator[RecordedRow]:
    """Says on a terminal how far it is."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield from rows
        return
    with Progress(TextColumn("{task.completed} parts"), console=console, transient=True) as progress:
        task = progress.add_task("parts", total=None)
        for count, row in enumerate(rows, 1):
            if count % _PROGRESS_ROWS == 0:
                progress.update(task, completed=count)
            yield row
