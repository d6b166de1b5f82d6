"""``lineside records``: what the record of every verdict says, and whether it can be believed."""

from __future__ import annotations

import itertools
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
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
from pipeline.command_sender import NoAnswer, send_command
from pipeline.config import Line, load_line
from pipeline.image_names import pictures_of
from pipeline.payloads import ReviewPayload, TraceabilityKeys
from pipeline.record.anchor import Anchor, AnchorLog, read_anchors
from pipeline.record.commands import keys_text
from pipeline.record.export import CannotExport
from pipeline.record.export import export as export_rows
from pipeline.record.reader import (
    LateWord,
    NotReadable,
    RecordedRow,
    Wanted,
    count_late_words,
    files_of,
    read_context,
    read_late_words,
    read_reviews,
    read_rows,
)
from pipeline.record.reviews import Review, agreement
from pipeline.record.stats import HOUR, MINUTE, RecordStats
from pipeline.record.survey import PICTURES_MAX, RecordSurvey
from pipeline.record.verify import CANNOT_PROVE, DROPPED_OR_REMOVED, NOT_CHAINED, Verified
from pipeline.record.verify import verify as verify_record
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
LotOption = Annotated[str | None, typer.Option(metavar="LOT", help="Only parts of this lot.")]
OrderOption = Annotated[str | None, typer.Option(metavar="ORDER", help="Only parts of this order.")]
SerialOption = Annotated[str | None, typer.Option(metavar="SERIAL", help="Only parts with this serial number.")]
ShiftOption = Annotated[str | None, typer.Option(metavar="SHIFT", help="Only parts of this shift.")]


class Said(str, Enum):
    """What a person says of a part."""

    GOOD = "good"
    DEFECTIVE = "defective"
    UNCLEAR = "unclear"


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
    wanted = replace(_wanted(session, since, until), lot=lot, order=order, shift=shift)
    if report is None and (anchor is not None or images is not None):
        raise fail("--anchor, --images: expected with --report", 2)
    check_report_folder(report)
    if images is not None and not images.is_dir():
        raise fail(f"--images: got {images}, expected a folder", 2)
    line = _line(record)
    file = record if line is None else line.config.records.path
    survey = (
        RecordSurvey(None if line is None else line.config.timing.budget_us, PICTURES_MAX)
        if report is not None
        else None
    )
    try:
        log = _anchors(anchor)
        anchors = log.anchors
        counts = RecordStats(MINUTE if by is Span.MINUTE else HOUR, read_reviews(file))
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
                verified=_verify(file, anchors, line, Console(stderr=True, markup=False)) if verify else None,
                anchor_count=len(anchors),
                line=line,
                images=images if images is not None else _images_folder(line),
            )
    except NotReadable as error:
        raise fail(str(error), 2) from None
    console = Console(file=words(json_file), markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _TABLE_WIDTH
    for each in _stats_tables(figures):
        console.print(each, soft_wrap=isinstance(each, str))
    _say_skipped(log, console)
    try:
        write_json(json_file, figures)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None


@records.command()
def show(
    record: RecordArgument,
    part: Annotated[int, typer.Argument(metavar="PART", help="The part_id.")],
    session: SessionOption = None,
    lot: LotOption = None,
    order: OrderOption = None,
    shift: ShiftOption = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where its pictures are looked for, instead of the line's images.path."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """All that is on record of one part: verdict, why, by what, what people said, where the time went, its pictures' files."""
    check_json_target(json_file)
    file = _record_file(record)
    folder = images if images is not None else _images_folder(_line(record))
    try:
        wanted = Wanted(session_id=session, part_id=part, lot=lot, order=order, shift=shift)
        found = list(read_rows(file, wanted))
        if not found:
            asked = {"session": session, "lot": lot, "order": order, "shift": shift}
            within = "".join(f" of {name} {value}" for name, value in asked.items() if value is not None)
            raise fail(f"record {file}: no part {part}{within}")
        shown = found[-1]
        late = read_late_words(file, shown.result.session_id, part)
        reviews = [
            review
            for review in read_reviews(file)
            if (review.session_id, review.part_id) == (shown.result.session_id, part)
        ]
        context = read_context(shown)
    except NotReadable as error:
        raise fail(str(error), 2) from None
    ref = shown.result.image_ref
    try:
        pictures = pictures_of(folder, ref) if folder is not None and ref is not None else []
    except OSError as error:
        raise fail(f"pictures in {folder}: {error.strerror}") from None
    console = Console(file=words(json_file), markup=False, highlight=False)
    others = [each.result.session_id for each in found[:-1]]
    lines = itertools.chain(
        _part_lines(shown, late),
        _picture_lines(ref, folder, pictures),
        _review_lines(reviews),
        _context_lines(shown, context),
        _place_lines(shown, others),
    )
    for line in lines:
        console.print(plain(line, _LINE_CHARS), soft_wrap=True)
    result = {
        "row": shown.row,
        "file": str(shown.file),
        "result": to_builtins(shown.result),
        "late_inspections": [asdict(each) for each in late],
        "reviews": [to_builtins(each) for each in reviews],
        "context": context,
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
    lot: LotOption = None,
    order: OrderOption = None,
    serial: SerialOption = None,
    shift: ShiftOption = None,
) -> None:
    """One flat table, a row a part."""
    wanted = replace(_wanted(session, since, until), lot=lot, order=order, serial=serial, shift=shift)
    file = _record_file(record)
    try:
        if target.resolve() in [each.resolve() for each in files_of(file)]:
            raise fail(f"got {target}, expected a file that is not the record's own", 2)
        count = export_rows(_with_progress(read_rows(file, wanted)), target)
    except CannotExport as error:
        raise fail(str(error), 2) from None
    except NotReadable as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"{target}: {error.strerror}") from None
    print(f"{count} parts in {target}")


@records.command()
def review(
    line_file: Annotated[Path, typer.Argument(metavar="LINE", help="The YAML file of the running line.")],
    part: Annotated[int, typer.Argument(metavar="PART", min=1, help="The part_id.")],
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Who says so.")],
    said: Annotated[Said, typer.Option(help="What the part is.")],
    note: Annotated[str, typer.Option(help="Why, in up to 500 characters.")] = "",
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="The part's; the newest that has such a part else.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Puts on record what a person says of a part, by the service that runs: it alone writes."""
    check_json_target(json_file)
    line = load_line(line_file)

    def make(request_id: str, session_id: str, heartbeat_count: int) -> ReviewPayload:
        return ReviewPayload(
            schema="lineside.command/1",
            request_id=request_id,
            session_id=session_id,
            heartbeat_count=heartbeat_count,
            who=who,
            part_id=part,
            part_session_id=session,
            said=said.value,
            note=note,
        )

    try:
        reply = send_command(line.config, "review", make)
    except NoAnswer as error:
        raise fail(str(error)) from None
    if not reply.ok:
        raise fail(f"refused: {reply.text}")
    print(reply.text, file=words(json_file))
    try:
        write_json(json_file, to_builtins(reply))
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None


@records.command()
def verify(
    record: RecordArgument,
    anchor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the topic `anchor` carried, as mosquitto_sub prints it, one a line; all are checked. - for standard input."
            " Kept elsewhere than the record.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Whether anybody edited, removed, added, exchanged or cut off rows, and where. Exit status 1 where somebody did."""
    check_json_target(json_file)
    console = Console(file=words(json_file), markup=False, highlight=False)
    try:
        file = _record_file(record)
        log = _anchors(anchor)
        anchors = log.anchors
        began_s = time.monotonic()
        verified = _verify(file, anchors, _line(record), Console(stderr=True, markup=False))
    except NotReadable as error:
        raise fail(str(error), 2) from None
    took_s = time.monotonic() - began_s
    for line in _words(file, verified, anchors, took_s):
        console.print(line, soft_wrap=True)
    _say_skipped(log, console)
    result: dict[str, Any] = {
        "record": str(file),
        **asdict(verified),
        "anchors": [structs.asdict(each) for each in anchors],
        "anchor_lines_skipped": log.skipped,
        "rows_per_s": round(verified.rows / took_s) if took_s > 0 else None,
        "cannot_prove": list(CANNOT_PROVE) if verified.covered_rows < verified.last_row or not anchors else [],
        "cannot_prove_of_dropped": DROPPED_OR_REMOVED if verified.dropped_rows else None,
        "not_proven_behind_row": verified.covered_rows,
        "not_chained": list(NOT_CHAINED),
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
    belongs = [each for each in figures["traceability"] if (each["lot"], each["order"], each["shift"]) != (None,) * 3]
    if belongs:
        yield _table(
            "Lots, orders, shifts",
            ("lot", "order", "shift", "parts", "passed", "rejected", "not judged", "yield"),
            [
                (
                    *(each[key] or "-" for key in ("lot", "order", "shift")),
                    *(str(each[key]) for key in ("parts", "passed", "rejected", "no_decision")),
                    _percent(each["yield_ratio"]),
                )
                for each in belongs[-_SPANS_TOLD:]
            ],
        )
    said = figures["reviews"]
    if said["reviewed"]:
        yield (
            f"reviewed {said['reviewed']}: confirmed {said['confirmed']}, overruled {said['overruled']}"
            f" ({said['false_rejects']} rejected and good, {said['false_accepts']} passed and defective),"
            f" undecided {said['undecided']}"
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


def _part_lines(shown: RecordedRow, late: list[LateWord]) -> Iterator[str]:
    result = shown.result
    yield f"part      {result.part_id} of session {result.session_id}, seq {result.seq}, encoder count {result.encoder_count}"
    yield f"verdict   {result.verdict} ({result.reason})"
    yield f"trigger   {result.trigger_utc}"
    yield f"recipe    {result.recipe_id} {result.recipe_version}, model {result.model_sha256}, calibration {result.calibration_id}"
    for view in result.views:
        yield f"view      {view.camera_id}: frame {view.frame_id}, score {view.score}"
    for defect in result.defects:
        yield f"defect    {defect.class_name} on {defect.camera_id}: score {defect.score}, box {defect.box_px} px"
    keys = result.traceability
    if keys != TraceabilityKeys():
        yield f"belongs   {keys_text(keys)}"
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


def _review_lines(reviews: list[Review]) -> Iterator[str]:
    for review in reviews:
        note = f": {review.note}" if review.note else ""
        yield f"review    {review.who} said {review.said} on {review.utc} ({agreement(review)}){note}"


def _context_lines(shown: RecordedRow, context: dict[str, Any] | None) -> Iterator[str]:
    if context is None:
        yield "context   not known: decided before the model was, or its session was killed whole"
        return
    yield f"context   {shown.result.context_sha256}"
    yield f"          Lineside {context['version']}, line {context['line_sha256']}"
    yield f"          recipe {context['recipe_sha256']}: {json.dumps(context['recipe'], ensure_ascii=False)}"
    yield f"          runtime {context['fingerprint_sha256']}"
    for name, value in context["fingerprint"].items():
        yield f"            {name}: {value}"


def _place_lines(shown: RecordedRow, others: list[str]) -> Iterator[str]:
    result = shown.result
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


def _anchors(anchor: Path | None) -> AnchorLog:
    """Bytes that are no text make their line none, and no more."""
    if anchor is None:
        return AnchorLog([])
    if str(anchor) == "-":
        return read_anchors((line.decode(errors="replace") for line in sys.stdin.buffer), "standard input")
    try:
        with anchor.open(encoding="utf-8", errors="replace") as lines:
            return read_anchors(lines, str(anchor))
    except OSError as error:
        raise NotReadable(f"{anchor}: {error.strerror}") from None


def _say_skipped(log: AnchorLog, console: Console) -> None:
    if log.skipped:
        text = f"SKIPPED   {log.skipped} lines of the anchors are none: {log.first_skipped}"
        console.print(plain(text, _LINE_CHARS), soft_wrap=True)


def _verify(record: Path, anchors: list[Anchor], line: Line | None, console: Console) -> Verified:
    keeps_all = line is not None and line.config.records.keep_days is None and line.config.records.keep_max_gib is None
    if not console.is_terminal:
        return verify_record(record, anchors, keeps_all=keeps_all)
    columns = (TextColumn("rows"), BarColumn(), TextColumn("{task.completed} of {task.total}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("rows", total=None)
        return verify_record(
            record,
            anchors,
            keeps_all=keeps_all,
            progress=lambda rows, total: progress.update(task, completed=rows, total=total),
        )


def _words(record: Path, verified: Verified, anchors: list[Anchor], took_s: float) -> list[str]:
    lines = [
        f"record    {record}",
        f"rows      {verified.rows}, of {len(verified.sessions)} sessions, {verified.first_utc} to {verified.last_utc}",
        f"head      row {verified.last_row}: {verified.head}",
        f"beside    {verified.contexts} contexts, {verified.reviews} reviews",
        f"took      {took_s:.1f} s",
    ]
    if verified.dropped_rows:
        lines.insert(
            2,
            f"dropped   rows 1 to {verified.dropped_rows} are not there with their segments, only their roots are known; "
            + DROPPED_OR_REMOVED,
        )
    if verified.unchecked_anchors:
        lines.append(
            f"unchecked {verified.unchecked_anchors} anchors name rows that are not there any more: nothing to compare them with"
        )
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
    if anchors and verified.covered_reviews < verified.reviews:
        lines.append(f"NOT PROVEN behind review {verified.covered_reviews}: the same of the reviews")
    lines.append(f"NOT COVERED by any hash: {', '.join(NOT_CHAINED)}")
    return lines


def _not_proven() -> str:
    return ", ".join(f"no {each}" for each in CANNOT_PROVE)
