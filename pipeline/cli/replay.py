"""``lineside replay``: recorded frames once more through the same code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.replay import Changes, Replay, ReplayBroken, ReplayPlan, usable_processes
from pipeline.replay_figures import ReplayFigures
from pipeline.report.folder import CannotReport, write_page
from pipeline.window.reader import NotAWindow
from vision.runtime import InferenceError, RuntimeProviderError

_NAMED_MAX = 20
_TABLE_WIDTH = 100


def replay(
    window: Annotated[Path, typer.Argument(metavar="WINDOW", help="The folder of a recorded window.")],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another model package than the one that judged.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Another recipe; the model stays the window's own unless --model names one."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=256, help="As many at once; by default as the machine has cores for.")
    ] = None,
    report: ReportOption = None,
    json_file: JsonOption = None,
) -> None:
    """Run a recorded window again. With the same model, recipe and runtime every score and verdict must be as recorded, bit for
    bit: exit status 1 where one is not, or a frame is damaged. With another one: what that changes.
    """
    check_json_target(json_file)
    check_report_folder(report)
    _spare_window(window, json_file, report)
    console = Console(file=words(json_file), markup=False, highlight=False)
    if not console.is_terminal:
        console.width = _TABLE_WIDTH
    try:
        opened = Replay(ReplayPlan(window, model, recipe))
        count = processes if processes is not None else usable_processes(opened.line)
        figures = ReplayFigures()
        began_s = time.monotonic()
        for outcome in _with_progress(opened, count):
            figures.add(outcome)
        took_s = time.monotonic() - began_s
    except NotAWindow as error:
        raise fail(str(error), 2) from None
    except (ReplayBroken, RuntimeProviderError, InferenceError) as error:
        raise fail(str(error)) from None
    result = _result(opened, figures, count, took_s)
    for line in _words(opened, figures, result):
        console.print(line, soft_wrap=isinstance(line, str))
    write_json(json_file, result)
    if report is not None:
        _write_report(report, opened, figures, result)
    if figures.damaged or not figures.compared or (opened.setting.is_same and figures.differing):
        raise typer.Exit(1)


def _spare_window(window: Path, json_file: Path | None, report: Path | None) -> None:
    """Nothing is ever written into a window."""
    for option, target in (("--json", json_file), ("--report", report)):
        if (
            target is not None
            and str(target) != "-"
            and window.resolve() in (target.resolve(), *target.resolve().parents)
        ):
            raise fail(f"{option}: got {target}, expected a place outside the window {window}", 2)


def _write_report(folder: Path, opened: Replay, figures: ReplayFigures, result: dict[str, Any]) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.replay_report import ReplayShown, replay_page
    from pipeline.report.page import render

    made_utc = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    shown = ReplayShown(opened, figures, result, made_utc, metadata.version("lineside"))
    try:
        page = write_page(folder, render(replay_page(shown)))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)


def _with_progress(opened: Replay, processes: int) -> Iterator[Any]:
    console = Console(stderr=True, markup=False)
    outcomes = opened.outcomes(processes)
    if not console.is_terminal:
        yield from outcomes
        return
    columns = (TextColumn("parts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("parts", total=len(opened.reader.part_ids))
        for outcome in outcomes:
            progress.advance(task)
            yield outcome


def _result(opened: Replay, figures: ReplayFigures, processes: int, took_s: float) -> dict[str, Any]:
    facts, setting = opened.reader.description.facts, opened.setting
    end = opened.reader.description.end
    return {
        "window": str(opened.plan.window),
        "session_id": facts.session_id,
        "began_utc": opened.reader.description.began_utc,
        "ended_by": None if end is None else end.by,
        "is_cut_off": opened.reader.is_cut_off,
        "unread_bytes": opened.reader.unread_bytes,
        "frames_lost": opened.reader.frames_lost,
        "parts_lost": opened.reader.parts_lost,
        "model_sha256": opened.package.sha256,
        "recipe_id": opened.recipe.recipe_id,
        "recipe_version": opened.recipe.recipe_version,
        "must_be_identical": setting.is_same,
        "differs": {
            what: {key: {"recorded": recorded, "replayed": replayed} for key, (recorded, replayed) in changes.items()}
            for what, changes in (("model", setting.model), ("recipe", setting.recipe), ("runtime", setting.runtime))
        },
        **figures.figures(),
        "processes": processes,
        "took_s": round(took_s, 3),
        "parts_per_s": round(figures.parts / took_s, 1) if took_s > 0 else None,
    }


def _words(opened: Replay, figures: ReplayFigures, result: dict[str, Any]) -> Iterator[str | Table]:
    description = opened.reader.description
    yield f"window    {result['window']}, session {result['session_id']}, from {result['began_utc']}"
    if description.end is None:
        yield "          CUT OFF: whoever recorded it was killed; what was whole before that is here"
    else:
        yield f"          to {description.end.utc}: {description.end.text}"
    if lost := sum(result["frames_lost"].values()):
        yield f"          {lost} frames were not kept: {result['frames_lost']}"
    if lost := sum(result["parts_lost"].values()):
        yield f"          {lost} parts and late inspections were not kept: {result['parts_lost']}"
    if result["unread_bytes"]:
        yield f"          {result['unread_bytes']} bytes of its index are not readable, from its first bad line on"
    yield f"model     {result['model_sha256']}"
    yield f"recipe    {result['recipe_id']} {result['recipe_version']}"
    setting = opened.setting
    if setting.is_same:
        what = f"the {result['compared']} parts compared" if result["parts_incomplete"] else "everything"
        yield f"same      model, recipe and runtime are those that judged: {what} must be as recorded, bit for bit"
    for what, changes in (("model", setting.model), ("recipe", setting.recipe), ("runtime", setting.runtime)):
        yield from _told_changes(what, changes)
    yield _table(result)
    yield from _parts_words(opened, figures)
    yield f"took      {result['took_s']} s, {result['parts_per_s']} parts a second in {result['processes']} processes"


def _told_changes(what: str, changes: Changes) -> Iterator[str]:
    for key, (recorded, replayed) in list(changes.items())[:_NAMED_MAX]:
        yield f"OTHER     {what}: {key}: recorded {recorded}, now {replayed}"
    if len(changes) > _NAMED_MAX:
        yield f"OTHER     {what}: and {len(changes) - _NAMED_MAX} more; --json has all"


def _table(result: dict[str, Any]) -> Table:
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    flips = {name.replace("_", " "): count for name, count in result["flips"].items()}
    difference = result["score_difference"]
    rows: list[tuple[str, Any]] = [
        ("parts", result["parts"]),
        ("frames judged", result["frames"]),
        ("parts compared", result["compared"]),
        ("of these identical", result["identical"]),
        *((f"verdict flips, {name}", count) for name, count in flips.items()),
        ("views with a score in both", difference["views"]),
        ("of these with another score", difference["changed"]),
        ("largest |score difference|", _number(difference["largest"])),
        ("|score difference|, 50 / 90 / 99 %", " / ".join(_number(difference[key]) for key in ("p50", "p90", "p99"))),
        ("late inspections compared", result["late_inspections"]["compared"]),
        ("of these identical", result["late_inspections"]["identical"]),
        *((f"from the record: {reason}{_says(result, reason)}", n) for reason, n in result["from_record"].items()),
        ("frames that are not in the window", result["missing_frames"]),
        ("DAMAGED frames" if result["damaged_frames"] else "damaged frames", result["damaged_frames"]),
        ("parts not compared for these", result["parts_incomplete"]),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    return table


def _says(result: dict[str, Any], reason: str) -> str:
    says = result["from_record_model_says"].get(reason)
    return f" (the model says {', '.join(f'{verdict} {count}' for verdict, count in says.items())})" if says else ""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _parts_words(opened: Replay, figures: ReplayFigures) -> Iterator[str]:
    if opened.setting.is_same:
        for outcome in figures.differing[:_NAMED_MAX]:
            yield f"DIFFERS   part {outcome.part_id}: {'; '.join(outcome.differences)}"
        if len(figures.differing) > _NAMED_MAX:
            yield f"DIFFERS   and {len(figures.differing) - _NAMED_MAX} more parts"
    else:
        for outcome in figures.flipped[:_NAMED_MAX]:
            yield f"flips     part {outcome.part_id}: {outcome.recorded_verdict} -> {outcome.verdict} ({outcome.reason})"
        if len(figures.flipped) > _NAMED_MAX:
            yield f"flips     and {len(figures.flipped) - _NAMED_MAX} more parts; --json and --report name them"
    for text in figures.damaged[:_NAMED_MAX]:
        yield f"DAMAGED   {text}"
    if len(figures.damaged) > _NAMED_MAX:
        yield f"DAMAGED   and {len(figures.damaged) - _NAMED_MAX} more"
    if figures.parts_incomplete:
        yield (
            f"NOT ALL   {figures.parts_incomplete} of {figures.parts} parts were not compared: "
            "frames of them are not in the window, or damaged"
        )
    if not figures.compared:
        yield "NOTHING   was compared: the window holds no part that was judged and whose frames are all there"
