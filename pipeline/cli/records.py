"""``lineside records``: what the record of every verdict says, and whether it can be believed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs, to_builtins
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder, write_report
from pipeline.clock import NS_PER_US
from pipeline.config import Line, load_line
from pipeline.image_names import pictures_of
from pipeline.record_export import CannotExport
from pipeline.record_export import export as export_rows
from pipeline.record_reader import (
    LateWord,
    NotReadable,
    RecordedRow,
    Wanted,
    count_late_words,
    files_of,
    read_late_words,
    read_rows,
)
from pipeline.record_stats import HOUR, MINUTE, RecordStats
from pipeline.record_survey import PICTURES_MAX, RecordSurvey
from pipeline.record_verify import CANNOT_PROVE, Anchor, Verified, read_anchors
from pipeline.record_verify import verify as verify_record
from pipeline.report.blocks import plain

_FINDINGS_TOLD = 20
_SPANS_TOLD = 48
_TABLE_WIDTH = 100
_LINE_CHARS = 2_000
_PROGRESS_ROWS = 5_000
_UTC = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d+)?Z?)?)?)?")


class Span(str, Enum):
    """Of time, for rates."""

    HOUR = "hour"
    MINUTE = "minute"


RecordArgument = Annotated[
    Path, typer.Argument(metavar="RECORD", help="The record's file, or the YAML file of the line whose record it is.")
]

SessionOption = Annotated[str | None, typer.Option("--session", metavar="ID", help="Only this session.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="UTC", help="Only parts from then on: 2026-01-31, or 2026-01-31T06:00.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="UTC", help="Only parts before then.")]


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
def stats(
    record: RecordArgument,
    session: SessionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    by: Annotated[Span, typer.Option(help="How finely the rates over time are told.")] = Span.HOUR,
    report: ReportOption = None,
    anchor: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For --report: what the record is verified against, as in `records verify`."),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="For --report: whether the record is verified, which reads all of it.")
    ] = True,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="For --report: the folder of kept pictures, if not the one in the line's YAML file."
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Yield, defects, reject rate over time, latency: of all parts, or of those wanted."""
    check_json_target(json_file)
    wanted = _wanted(session, since, until)
    if report is None and (anchor is not None or images is not None):
        raise fail("--anchor, --images: expected with --report", 2)
    check_report_folder(report)
    if images is not None and not images.is_dir():
        raise fail(f"--images: got {images}, expected a folder", 2)
    line = _line(record)
    file = record if line is None else line.config.records.path
    counts = RecordStats(MINUTE if by is Span.MINUTE else HOUR)
    survey = (
        RecordSurvey(None if line is None else line.config.timing.budget_us, PICTURES_MAX)
        if report is not None
        else None
    )
    try:
        anchors = _anchors(anchor)
        for row in _with_progress(read_rows(file, wanted)):
            counts.add(row.result)
            if survey is not None:
                survey.add(row)
        figures = counts.figures()
        if report is not None and survey is not None:
            parts = {session_id: seen.part_ids for session_id, seen in survey.sessions.items()}
            write_report(
                report,
                file,
                wanted,
                counts,
                survey,
                late_words=count_late_words(file, parts),
                verified=_verify(file, anchors, Console(stderr=True, markup=False)) if verify else None,
                anchor_count=len(anchors),
                line=line,
                images=images if images is not None else _images_folder(line),
            )
    except NotReadable as error:
        raise fail(str(error)) from None
    console = Console(file=words(json_file), markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _TABLE_WIDTH
    for each in _stats_tables(figures):
        console.print(each, soft_wrap=isinstance(each, str))
    try:
        write_json(json_file, figures)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None


@records.command()
def show(
    record: RecordArgument,
    part: Annotated[int, typer.Argument(metavar="PART", help="The part_id.")],
    session: SessionOption = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where its pictures are looked for, instead of the line's images.path."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """All that is on record of one part: verdict, why, by what, where the time went, and its pictures' files."""
    check_json_target(json_file)
    file = _record_file(record)
    folder = images if images is not None else _images_folder(_line(record))
    try:
        found = list(read_rows(file, Wanted(session_id=session, part_id=part)))
        if not found:
            within = f" of session {session}" if session is not None else ""
            raise fail(f"record {file}: no part {part}{within}")
        shown = found[-1]
        late = read_late_words(file, shown.result.session_id, part)
    except NotReadable as error:
        raise fail(str(error)) from None
    ref = shown.result.image_ref
    try:
        pictures = pictures_of(folder, ref) if folder is not None and ref is not None else []
    except OSError as error:
        raise fail(f"pictures in {folder}: {error.strerror}") from None
    console = Console(file=words(json_file), markup=False, highlight=False)
    lines = [
        *_part_lines(shown, late, [each.result.session_id for each in found[:-1]]),
        *_picture_lines(ref, folder, pictures),
    ]
    for line in lines:
        console.print(plain(line, _LINE_CHARS), soft_wrap=True)
    result = {
        "row": shown.row,
        "file": str(shown.file),
        "result": to_builtins(shown.result),
        "late_inspections": [asdict(each) for each in late],
        "pictures": [str(each) for each in pictures],
    }
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None


@records.command()
def export(
    record: RecordArgument,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ends in .csv or .parquet; replaced where it is there.")
    ],
    session: SessionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> None:
    """One flat table, a row a part."""
    wanted = _wanted(session, since, until)
    file = _record_file(record)
    try:
        if target.resolve() in [each.resolve() for each in files_of(file)]:
            raise fail(f"got {target}, expected a file that is not the record's own", 2)
        count = export_rows(_with_progress(read_rows(file, wanted)), target)
    except CannotExport as error:
        raise fail(str(error), 2) from None
    except NotReadable as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{target}: {error.strerror}") from None
    print(f"{count} parts in {target}")


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
    except NotReadable as error:
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


def _wanted(session: str | None, since: str | None, until: str | None) -> Wanted:
    for name, value in (("--since", since), ("--until", until)):
        if value is not None and not _UTC.fullmatch(value):
            raise fail(f"{name}: got {value!r}, expected a moment as 2026-01-31 or 2026-01-31T06:00:00, in UTC", 2)
    return Wanted(session_id=session, since_utc=since, until_utc=until)


def _with_progress(rows: Iterator[RecordedRow]) -> Iterator[RecordedRow]:
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


def _stats_tables(figures: dict[str, Any]) -> Iterator[Table | str]:
    yield f"{figures['parts']} parts of {len(figures['sessions'])} sessions, {figures['first_utc']} to {figures['last_utc']}"
    ratio = _percent(figures["yield_ratio"])
    yield f"passed {figures['passed']}, rejected {figures['rejected']}, not judged {figures['no_decision']}; yield {ratio}"
    yield f"verdicts on record as not sent: {figures['verdicts_unsent']}"
    if figures["reasons"]:
        yield _table(
            "Reasons",
            ("reason", "parts", "of all"),
            [(reason, str(count), _percent(count / figures["parts"])) for reason, count in figures["reasons"].items()],
        )
    if figures["defects"]:
        yield _table(
            "Defects of rejected parts",
            ("class", "parts", "of the rejected", "together"),
            [
                (
                    each["class"],
                    str(each["parts"]),
                    _percent(each["share_of_rejected"]),
                    _percent(each["cumulative_share"]),
                )
                for each in figures["defects"]
            ],
        )
    if figures["latency_us"]["max"]:
        times = {"frame in memory -> socket": figures["latency_us"], **figures["stages_us"]}
        yield _table(
            "Time, us",
            ("", "p50", "p90", "p99", "p99.9", "max"),
            [(name, *map(str, told.values())) for name, told in times.items()],
        )
    yield _table(
        "Over time",
        ("from, UTC", "parts", "passed", "rejected", "not judged", "yield", "reject rate"),
        [
            (
                each["from_utc"],
                *(str(each[key]) for key in ("parts", "passed", "rejected", "no_decision")),
                _percent(each["yield_ratio"]),
                _percent(each["reject_ratio"]),
            )
            for each in figures["over_time"][-_SPANS_TOLD:]
        ],
    )
    if len(figures["over_time"]) > _SPANS_TOLD:
        yield f"and {len(figures['over_time']) - _SPANS_TOLD} before; --json has all"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The first column is words, the others are numbers."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _part_lines(shown: RecordedRow, late: list[LateWord], others: list[str]) -> Iterator[str]:
    result = shown.result
    yield f"part      {result.part_id} of session {result.session_id}, seq {result.seq}, encoder count {result.encoder_count}"
    yield f"verdict   {result.verdict} ({result.reason})"
    yield f"trigger   {result.trigger_utc}"
    yield f"recipe    {result.recipe_id} {result.recipe_version}, model {result.model_sha256}, calibration {result.calibration_id}"
    for view in result.views:
        yield f"view      {view.camera_id}: frame {view.frame_id}, score {view.score}"
    for defect in result.defects:
        yield f"defect    {defect.class_name} on {defect.camera_id}: score {defect.score}, box {defect.box_px} px"
    if result.stages_us:
        yield f"time, us  {', '.join(f'{stage} {stage_us}' for stage, stage_us in result.stages_us.items())}"
    decided_us = (result.decided_ns - result.trigger_ns) // NS_PER_US
    sent = (
        "not sent" if result.sent_ns is None else f"sent {result.age_us} us, {result.valid_us} us before the deadline"
    )
    yield f"          decided {decided_us} us after the trigger, {sent}"
    for word in late:
        after_us = (word.arrived_ns - result.trigger_ns) // NS_PER_US
        yield f"late      {word.camera_id} said {word.verdict} ({word.reason}), score {word.score}, {after_us} us after the trigger"
    yield f"record    row {shown.row} of {shown.file}, hash {result.row_hash}"
    if others:
        yield f"also      part {result.part_id} of earlier sessions: {', '.join(others)} (--session)"


def _picture_lines(ref: str | None, folder: Path | None, pictures: list[Path]) -> Iterator[str]:
    if ref is None:
        yield "pictures  none were kept"
    elif folder is None:
        yield f"pictures  {ref}* in the line's folder for them: give the line's YAML file as RECORD, or --images"
    elif not pictures:
        yield f"pictures  missing: {folder / ref}* was dropped before it was written, or pruned since"
    for each in pictures:
        yield f"picture   {each}"


def _images_folder(line: Line | None) -> Path | None:
    return None if line is None or line.config.images is None else line.config.images.path


def _record_file(record: Path) -> Path:
    line = _line(record)
    return record if line is None else line.config.records.path


def _line(record: Path) -> Line | None:
    """Whose record it is, where that was told."""
    return load_line(record) if record.suffix in (".yaml", ".yml") else None


def _anchors(anchor: Path | None) -> list[Anchor]:
    if anchor is None:
        return []
    if str(anchor) == "-":
        return read_anchors(sys.stdin, "standard input")
    try:
        with anchor.open(encoding="utf-8") as lines:
            return read_anchors(lines, str(anchor))
    except OSError as error:
        raise NotReadable(f"{anchor}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotReadable(f"{anchor}: expected anchors, one JSON object a line, got no text") from None


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
