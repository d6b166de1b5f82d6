"""``lineside records``: what the record of every verdict says, and whether it can be believed."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.config import load_line
from pipeline.record_verify import CANNOT_PROVE, Anchor, NotVerifiable, Verified, read_anchors
from pipeline.record_verify import verify as verify_record

_FINDINGS_TOLD = 20

RecordArgument = Annotated[
    Path, typer.Argument(metavar="RECORD", help="The record's file, or the YAML file of the line whose record it is.")
]

records = typer.Typer(
    name="records",
    help="The record of every verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@records.callback()
def _root() -> None:
    """The record of every verdict."""


@records.command()
def verify(
    record: RecordArgument,
    anchor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the topic `anchor` carried, one JSON object a line; - for standard input. Kept elsewhere than the record.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Whether anybody edited, removed, added, exchanged or cut off rows, and where. Exit status 1 where somebody did."""
    check_json_target(json_file)
    console = Console(file=words(json_file), markup=False, highlight=False)
    try:
        file = _record_file(record)
        anchors = _anchors(anchor)
        began_s = time.monotonic()
        verified = _verify(file, anchors, Console(stderr=True, markup=False))
    except NotVerifiable as error:
        raise fail(str(error)) from None
    took_s = time.monotonic() - began_s
    for line in _words(file, verified, anchors, took_s):
        console.print(line, soft_wrap=True)
    result: dict[str, Any] = {
        "record": str(file),
        **asdict(verified),
        "anchors": [structs.asdict(each) for each in anchors],
        "rows_per_s": round(verified.rows / took_s) if took_s > 0 else None,
        "cannot_prove": list(CANNOT_PROVE),
    }
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    if verified.finding_count:
        raise typer.Exit(1)


def _record_file(record: Path) -> Path:
    if record.suffix in (".yaml", ".yml"):
        return load_line(record).config.records.path
    return record


def _anchors(anchor: Path | None) -> list[Anchor]:
    if anchor is None:
        return []
    if str(anchor) == "-":
        return read_anchors(sys.stdin, "standard input")
    try:
        with anchor.open(encoding="utf-8") as lines:
            return read_anchors(lines, str(anchor))
    except OSError as error:
        raise NotVerifiable(f"{anchor}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotVerifiable(f"{anchor}: expected anchors, one JSON object a line, got no text") from None


def _verify(record: Path, anchors: list[Anchor], console: Console) -> Verified:
    if not console.is_terminal:
        return verify_record(record, anchors)
    columns = (TextColumn("rows"), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        return verify_record(
            record, anchors, progress=lambda rows, total: progress.update(task, completed=rows, total=total)
        )


def _words(record: Path, verified: Verified, anchors: list[Anchor], took_s: float) -> list[str]:
    lines = [
        f"record    {record}",
        f"rows      {verified.rows}, of {len(verified.sessions)} sessions, {verified.first_utc} to {verified.last_utc}",
        f"head      row {verified.last_row}: {verified.head}",
        f"took      {took_s:.1f} s",
    ]
    for finding in verified.findings[:_FINDINGS_TOLD]:
        part = f" (session {finding.session_id}, part {finding.part_id})" if finding.session_id is not None else ""
        lines.append(f"FOUND     row {finding.row}{part}: {finding.kind}: {finding.text}")
    if verified.finding_count > _FINDINGS_TOLD:
        lines.append(f"FOUND     and {verified.finding_count - _FINDINGS_TOLD} more")
    if not verified.finding_count:
        lines.append("sound     every row follows from the one before it")
    if verified.covered_rows:
        lines.append(
            f"anchored  row {verified.covered_rows} is as it was anchored: up to there nothing was worked out anew"
        )
    if not anchors:
        lines.append(f"NOT PROVEN, as no anchor was given: that there were {_not_proven()}")
    elif verified.covered_rows < verified.last_row:
        lines.append(f"NOT PROVEN behind row {verified.covered_rows}: that there were {_not_proven()}")
    return lines


def _not_proven() -> str:
    return ", ".join(f"no {each}" for each in CANNOT_PROVE)
