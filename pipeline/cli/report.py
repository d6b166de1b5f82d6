"""``--report DIR``: a page for people, where the extra that it needs is installed."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import fail
from pipeline.config import Line
from pipeline.record.reader import Wanted
from pipeline.record.stats import RecordStats
from pipeline.record.survey import RecordSurvey
from pipeline.record.verify import Verified
from pipeline.report.folder import CannotReport, check_folder, write_page

ReportOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="DIR", help="Write a page with plots and pictures there, as DIR/index.html."),
]


def check_report_folder(folder: Path | None) -> None:
    """Refuse, before the work is done, a folder that is not for reports, and a report that cannot be made here."""
    if folder is None:
        return
    try:
        check_folder(folder)
    except CannotReport as error:
        raise fail(str(error), 2) from None


def write_report(
    folder: Path,
    record: Path,
    wanted: Wanted,
    stats: RecordStats,
    survey: RecordSurvey,
    *,
    late_words: Counter[tuple[str, str, str]],
    verified: Verified | None,
    anchor_count: int,
    line: Line | None,
    images: Path | None,
) -> None:
    """The record's page, and where it is on standard error."""
    # They bring plotting along, which takes a second to load.
    from pipeline.record.report.page import record_page
    from pipeline.record.report.shown import RecordShown
    from pipeline.report.page import render

    shown = RecordShown(
        record=record,
        wanted=wanted,
        figures=stats.figures(),
        latency=stats.latency,
        survey=survey,
        late_words=late_words,
        verified=verified,
        anchor_count=anchor_count,
        reject_at={rule.class_name: rule.reject_at_score for rule in line.recipe.rules} if line is not None else {},
        images=images,
        made_utc=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        version=metadata.version("lineside"),
    )
    try:
        page = write_page(folder, render(record_page(shown)))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
    if verified is not None and verified.finding_count:
        typer.echo(
            f"lineside: record {record}: NOT as it was written: see the report, or lineside records verify", err=True
        )
