"""What the record is verified against, and how far that is."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.config import Line
from pipeline.record.anchor import Anchor, AnchorLog, read_anchors
from pipeline.record.reader import NotReadable
from pipeline.record.verify import Verified, verify
from pipeline.report.blocks import plain

_LINE_CHARS = 2_000


def anchors_of(anchor: Path | None) -> AnchorLog:
    """Those in the file that was named. Bytes that are no text make their line none, and no more. Raises NotReadable."""
    if anchor is None:
        return AnchorLog([])
    if str(anchor) == "-":
        return read_anchors((line.decode(errors="replace") for line in sys.stdin.buffer), "standard input")
    try:
        with anchor.open(encoding="utf-8", errors="replace") as lines:
            return read_anchors(lines, str(anchor))
    except OSError as error:
        raise NotReadable(f"{anchor}: {error.strerror}") from None


def say_skipped(log: AnchorLog, console: Console) -> None:
    """How many lines of the file are no anchors, if any."""
    if log.skipped:
        text = f"SKIPPED   {log.skipped} lines of the anchors are none: {log.first_skipped}"
        console.print(plain(text, _LINE_CHARS), soft_wrap=True)


def verified_against(anchors: list[Anchor], record: Path, line: Line | None) -> Verified:
    """Says on a terminal how far it is. Raises NotReadable."""
    console = Console(stderr=True, markup=False)
    keeps_all = line is not None and line.config.records.keep_days is None and line.config.records.keep_max_gib is None
    if not console.is_terminal:
        return verify(record, anchors, keeps_all=keeps_all)
    columns = (TextColumn("rows"), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        return verify(
            record,
            anchors,
            keeps_all=keeps_all,
            progress=lambda rows, total: progress.update(task, completed=rows, total=total),
        )
