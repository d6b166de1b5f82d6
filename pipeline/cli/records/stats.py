"""``lineside records stats``: figures of all parts, or of those wanted, and a page of them."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json
from pipeline.cli.records.options import (
    LotOption,
    OrderOption,
    RecordArgument,
    SessionOption,
    ShiftOption,
    SinceOption,
    UntilOption,
    wanted_of,
)
from pipeline.cli.records.places import images_folder, line_of, record_file
from pipeline.cli.records.proof import anchors_of, say_skipped, verified_against
from pipeline.cli.records.reading import with_progress
from pipeline.cli.records.stats_tables import stats_tables
from pipeline.cli.report import ReportOption, check_report_folder, write_report
from pipeline.record.reader import NotReadable, count_late_words, read_reviews, read_rows
from pipeline.record.stats import HOUR, MINUTE, RecordStats
from pipeline.record.survey import PICTURES_MAX, RecordSurvey

_TABLE_WIDTH = 100


class Span(str, Enum):
    """Of time, for rates."""

    HOUR = "hour"
    MINUTE = "minute"


def stats(
    record: RecordArgument,
    session: SessionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    lot: LotOption = None,
    order: OrderOption = None,
    shift: ShiftOption = None,
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
    wanted = replace(wanted_of(session, since, until), lot=lot, order=order, shift=shift)
    if report is None and (anchor is not None or images is not None):
        raise fail("--anchor, --images: expected with --report", 2)
    check_report_folder(report)
    if images is not None and not images.is_dir():
        raise fail(f"--images: got {images}, expected a folder", 2)
    line = line_of(record)
    file = record_file(record, line)
    survey = (
        RecordSurvey(None if line is None else line.config.timing.budget_us, PICTURES_MAX)
        if report is not None
        else None
    )
    try:
        log = anchors_of(anchor)
        anchors = log.anchors
        counts = RecordStats(MINUTE if by is Span.MINUTE else HOUR, read_reviews(file))
        for row in with_progress(read_rows(file, wanted)):
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
                verified=verified_against(anchors, file, line) if verify else None,
                anchor_count=len(anchors),
                line=line,
                images=images if images is not None else images_folder(line),
            )
    except NotReadable as error:
        raise fail(str(error), 2) from None
    console = console_for(json_file, width=_TABLE_WIDTH, highlight=False)
    show(console, stats_tables(figures))
    say_skipped(log, console)
    write_json(json_file, figures)
