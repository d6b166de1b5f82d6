"""``lineside calibrate timing``: when verdicts are there, how near the gate may be, and where its window is."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from calibration.intervals import CONFIDENCE, parts_needed
from calibration.timing import BeltRun, Station, TimingReport, pulses_per_mm, time_station, timing_figures
from calibration.timing_figures import TimingFigures
from pipeline.calibrated_timing import settings
from pipeline.calibration_file import TimingSection, made_now
from pipeline.cli.calibrate.options import LineArgument, WhoOption, station_of
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.config import Line, load_line
from pipeline.line_terminal import NoAnswer
from pipeline.line_timing import ClocksDiffer, PartTimes, TimesHeard, follow
from pipeline.line_timing import Progress as Heard
from pipeline.report.folder import CannotReport, write_page


def timing(
    line_file: LineArgument,
    belt_run: Annotated[
        list[str],
        typer.Option(
            "--belt-run",
            metavar="DISTANCE_MM:TOLERANCE_MM:PULSES",
            help="The belt was moved so far, measured to +- the tolerance, and the encoder counted so much. Several times.",
        ),
    ],
    gate_mm: Annotated[
        float, typer.Option(help="From the trigger (the last camera's) to where the part's middle is at the gate.")
    ],
    gate_tolerance_mm: Annotated[float, typer.Option(help="How closely that was measured, to either side.")],
    speed_max_mm_s: Annotated[float, typer.Option(help="The highest belt speed there will be.")],
    part_length_mm: Annotated[float, typer.Option(help="Along the belt.")],
    pitch_mm: Annotated[float, typer.Option(help="From part to part, at the least.")],
    controller_us: Annotated[float, typer.Option(help="One scan of the controller, and the gate's own time to act.")],
    trigger_jitter_us: Annotated[float, typer.Option(help="How late the trigger may be, at most.")],
    who: WhoOption,
    share: Annotated[float, typer.Option(help="Of all parts, so many may be too late at most.")] = 0.001,
    parts: Annotated[
        int | None, typer.Option(min=1, help="How many are measured; without it as many as the share needs.")
    ] = None,
    give_up_s: Annotated[float, typer.Option(min=0.1, help="No part for so long ends it.")] = 60.0,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Measure a running line's times beside its service, and find deadline, guard, and the gate's window.

    Status 0 where the calibration is in force now, 1 where the line does not support one: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, line_file)
    line = load_line(line_file)
    stations = [station_of(line_file, camera.camera_id, who) for camera in line.config.cameras]
    runs = [_belt_run(text) for text in belt_run]
    try:
        place = Station(
            gate_mm=gate_mm,
            gate_tolerance_mm=gate_tolerance_mm,
            speed_max_mm_s=speed_max_mm_s,
            part_length_mm=part_length_mm,
            pitch_mm=pitch_mm,
            controller_us=controller_us,
            trigger_jitter_us=trigger_jitter_us,
        )
        pulses_per_mm(runs)
        if not 0.0 < share < 1.0:
            raise ValueError(f"share: got {share:g}, expected more than 0 and less than 1")
    except ValueError as error:
        raise fail(str(error), 2) from None
    needed = parts_needed(share, CONFIDENCE)
    wanted = needed if parts is None else parts
    if wanted < needed:
        raise fail(f"--parts: got {wanted}, expected at least {needed} for a share of {share:g} at {CONFIDENCE:.0%}", 2)
    out = words(json_file)
    print(
        f"measuring {wanted} parts of {line.config.topic_root}; let it run as in production, Ctrl-C ends it without a result",
        file=out,
        flush=True,
    )
    heard = _measured(line, wanted, give_up_s, json_file)
    try:
        times = heard.parts(wanted)
    except ClocksDiffer as error:
        raise fail(f"{error}: not one clock; run this where the service runs") from None
    found = time_station(
        [part.latency_us for part in times], [part.arrival_us for part in times], runs, place, share=share
    )
    show(console_for(json_file), _told(found, times, heard, place))
    figures, ids = None, {}
    if not found.refusals:
        figures = timing_figures(found, place)
        section = TimingSection(made=made_now(who, []), figures=figures)
        ids = {station.camera_id: station.keep(timing=section).calibration_id for station in stations}
    write_json(json_file, _result(found, times, heard, ids))
    if report is not None:
        _write_report(report, line, found, times, who)
    if figures is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in found.refusals)}")
    for text in _to_do(line, figures):
        print(text, file=out)
    for station in stations:
        print(f"in force  {station.path}, calibration_id {ids[station.camera_id]}", file=out)


def _belt_run(text: str) -> BeltRun:
    try:
        distance_mm, tolerance_mm, pulses = text.split(":")
        run = BeltRun(float(distance_mm), float(tolerance_mm), int(pulses))
    except ValueError:
        raise fail(f"--belt-run: got {text!r}, expected DISTANCE_MM:TOLERANCE_MM:PULSES, as 1000:0.5:9872", 2) from None
    if not (isfinite(run.distance_mm) and isfinite(run.tolerance_mm)):
        raise fail(f"--belt-run: got {text!r}, expected lengths that there are", 2)
    return run


def _measured(line: Line, wanted: int, give_up_s: float, json_file: Path | None) -> TimesHeard:
    """Ends the command where it cannot be measured, and says how far it came where it is ended."""
    heard_count = 0
    # No thread draws: it would take the interpreter from a verdict that is just arriving.
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        task: TaskID = progress.add_task("parts", total=wanted)

        def tell(text: str) -> None:
            # Asked for each time: while the bar is drawn, the stream is one that prints above it.
            print(text, file=words(json_file), flush=True)

        def drawn(heard: Heard) -> None:
            nonlocal heard_count
            heard_count = heard.count
            lost = f", {heard.lost_count} lost" if heard.lost_count else ""
            progress.update(task, completed=heard.count, description=f"parts{lost}", refresh=True)

        try:
            return follow(
                line.config,
                wanted,
                give_up_s=give_up_s,
                tell=lambda text: tell(f"line      {text}"),
                progress=drawn,
            )
        except NoAnswer as error:
            raise fail(str(error)) from None
        except (KeyboardInterrupt, SystemExit):
            tell(f"ended after {heard_count} of {wanted} parts: nothing is changed")
            raise


def _told(report: TimingReport, times: list[PartTimes], heard: TimesHeard, place: Station) -> Iterator[Table | str]:
    fates = Counter(part.fate for part in times)
    yield f"parts     {len(times)}: {', '.join(f'{count} {fate}' for fate, count in fates.items())}"
    for fate in ("cut off", "not inspected"):
        if reasons := Counter(part.reason for part in times if part.fate == fate):
            yield f"          {fate}: {', '.join(f'{count} {reason}' for reason, count in reasons.items())}"
    if heard.left_out:
        left_out = ", ".join(f"{count} {reason}" for reason, count in heard.left_out.items())
        yield f"          left out: {left_out}"
    table = Table("us", "median", "longest", f"all but {report.latency.share:g}, {report.latency.confidence:.0%} sure")
    for name, values, bound in (
        ("trigger to verdict's arrival", [part.latency_us for part in times], report.latency),
        ("decision to arrival: the guard", [part.arrival_us for part in times], report.arrival),
    ):
        ordered = sorted(values) or [float("inf")]
        table.add_row(name, _us(ordered[len(ordered) // 2]), _us(ordered[-1]), _us(bound.bound_us))
    yield table
    scale = report.speed_pulses
    yield f"encoder   {scale.value:.4f} +- {scale.error:.4f} pulses per mm, of {scale.run_count} belt runs"
    at = f"at {place.speed_max_mm_s:g} mm/s"
    yield f"deadline  {report.deadline_us} us after the trigger a verdict is of no use {at}"
    if report.gate_min_mm is not None:
        yield f"gate      at {place.gate_mm:g} mm; from {report.gate_min_mm:.1f} mm on it is safe {at}"
    yield (
        f"window    +-{report.window_pulses} pulses around {report.reject_offset_pulses} behind the trigger; "
        f"half a pitch is {report.window_max_pulses}"
    )
    for refusal in report.refusals:
        yield f"refused   {refusal}"


def _us(value_us: float | None) -> str:
    return "-" if value_us is None else "never" if not isfinite(value_us) else f"{value_us:.0f}"


def _to_do(line: Line, figures: TimingFigures) -> Iterator[str]:
    """What belongs where; ``lineside check`` compares it again."""
    timing, encoder = line.config.timing, line.config.encoder
    now = {
        "timing.deadline_us": timing.deadline_us,
        "timing.guard_us": timing.guard_us,
        "encoder.reject_offset_pulses": None if encoder is None else encoder.reject_offset_pulses,
    }
    for key, value in settings(figures, line.config).items():
        was = "as it is" if now[key] == value else f"now {'nothing' if now[key] is None else now[key]}"
        yield f"set       {key}: {value} in {line.file} ({was})"
    yield f"set       in the controller: the gate's window +-{figures.window_pulses} pulses around reject_at_encoder_count"


def _result(report: TimingReport, times: list[PartTimes], heard: TimesHeard, ids: dict[str, str]) -> dict[str, Any]:
    def finite(value: float | None) -> float | None:
        return None if value is None or not isfinite(value) else value

    return {
        "calibration_ids": ids,
        "refusals": [dataclasses.asdict(refusal) for refusal in report.refusals],
        "parts": len(times),
        "fates": dict(Counter(part.fate for part in times)),
        "reasons": dict(Counter(part.reason for part in times)),
        "left_out": heard.left_out,
        "share": report.latency.share,
        "confidence": report.latency.confidence,
        "latency_us": finite(report.latency.bound_us),
        "guard_us": report.guard_us,
        "deadline_min_us": None if report.deadline_min is None else finite(report.deadline_min.bound_us),
        "deadline_max_us": report.deadline_us,
        "pulses_per_mm": report.speed_pulses.value,
        "pulses_per_mm_error": report.speed_pulses.error,
        "gate_min_mm": report.gate_min_mm,
        "reject_offset_pulses": report.reject_offset_pulses,
        "window_pulses": report.window_pulses,
        "window_max_pulses": report.window_max_pulses,
        "times_us": [
            {
                "seq": part.seq,
                "reason": part.reason,
                "fate": part.fate,
                "latency": finite(part.latency_us),
                "arrival": finite(part.arrival_us),
            }
            for part in times
        ],
    }


def _write_report(folder: Path, line: Line, report: TimingReport, times: list[PartTimes], who: str) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.cli.calibrate.timing_page import timing_page
    from pipeline.report.page import render

    try:
        page = write_page(folder, render(timing_page(line, report, times, who)))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
