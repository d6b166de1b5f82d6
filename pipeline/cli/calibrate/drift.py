"""``lineside calibrate drift``: what is usual of good parts, so that the line says when something moves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
import typer
from pydantic import ValidationError
from rich.table import Table

from calibration.drift import DriftReport, fit_drift, usual_tolerances
from calibration.refusal import Refusal
from calibration.usual import Usual, refusals_of
from pipeline.calibrated_line import open_calibrated
from pipeline.calibration_file import CameraCalibration, DriftSection, made_now
from pipeline.cli.calibrate.good_parts import GoodParts, Pixels, look_at, pictures_of, pictures_of_window
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of, told_in_force
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.drift_baseline import found_with
from pipeline.model_probe import probe_model
from pipeline.report.folder import CannotReport, write_page
from vision.faults import FaultsError, faults_of
from vision.frame_signals import SignalReader
from vision.package import ModelPackage, load_package
from vision.recipe import Region
from vision.reference_region import ReferenceRegion
from vision.runtime import InferenceError, RuntimeProviderError

_TOLD_EVERY = 100


def drift(
    line_file: LineArgument,
    who: WhoOption,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Pictures of good parts, by name in their order.")
    ] = None,
    window: Annotated[
        Path | None, typer.Option("--window", metavar="DIR", help="In their place: a recorded window of good parts.")
    ] = None,
    camera_id: CameraOption = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Where light and sharpness are read: beside the part, on something with edges. Without it the one in force.",
        ),
    ] = None,
    shift_parts: Annotated[int, typer.Option(min=100, max=100_000_000, help="Parts a shift.")] = 10_000,
    false_alarm_rate: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Of shifts in which nothing moves: the share with an alarm.")
    ] = 0.01,
    report: ReportOption = None,
    json_file: JsonOption = None,
) -> None:
    """Find what is usual of good parts, at least 200 of them, so that the running line raises an alarm when something moves.

    Status 0 where the baseline is in force now, 1 where the parts do not support one: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, images, window)
    station = station_of(line_file, camera_id, who)
    place = _region(region, station)
    try:
        reader = SignalReader(station.camera_id, place, station.frame_format)
    except ValueError as error:
        raise fail(f"--region: {error}", 2) from None
    out = words(json_file)
    pictures = _pictures(images, window, station)
    try:
        package, parts = _looked_at(pictures, station, reader, out)
    except (RuntimeProviderError, InferenceError) as error:
        raise fail(str(error)) from None
    if not parts.seen:
        raise fail(f"{window}: got no frame of camera {station.camera_id}, expected those of good parts", 2)
    shares = parts.tile_shares()
    found, refusals = _fitted(
        parts, ReferenceRegion(**place.model_dump(), tile_shares=shares), shift_parts, false_alarm_rate
    )
    kept: CameraCalibration | None = None
    if found.baseline is not None and not refusals:
        body = station.before.model_dump(mode="json", by_alias=True, exclude_none=True)
        section = DriftSection(
            made=made_now(who, parts.digests),
            baseline=found.baseline,
            found_with=found_with(station.line.recipe, station.camera_id, package.sha256, body),
        )
        kept = station.keep(drift=section)
    show(console_for(json_file), _told(found, refusals))
    if kept is not None:
        show(console_for(json_file), told_in_force(station, kept))
    write_json(json_file, _result(parts, found, refusals, kept))
    if report is not None:
        _write_report(report, station, who, parts, found, refusals, kept)
    if kept is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in refusals)}")


def _region(given: str | None, station: Station) -> Region:
    """As given, or the one in force."""
    if given is None:
        before = None if station.before.drift is None else station.before.drift.baseline.region
        if before is None:
            raise fail("--region: got none, expected X,Y,W,H in pixels, as 20,400,96,64: none is in force yet", 2)
        return Region(**before.model_dump(exclude={"tile_shares"}))
    numbers = [each.strip() for each in given.split(",")]
    if len(numbers) != 4 or not all(each.isascii() and each.isdigit() for each in numbers):
        raise fail(f"--region: got {given!r}, expected X,Y,W,H in pixels, as 20,400,96,64", 2)
    x_px, y_px, width_px, height_px = map(int, numbers)
    try:
        return Region(name="reference", x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)
    except ValidationError as error:
        raise FaultsError(faults_of("--region", error)) from error


def _pictures(images: Path | None, window: Path | None, station: Station) -> Iterator[tuple[str, Pixels, bytes]]:
    if images is not None and window is None:
        return pictures_of(images, station)
    if window is not None and images is None:
        return pictures_of_window(window, station)
    got = "neither" if images is None else "both"
    raise fail(f"--images, --window: got {got}, expected one of them: where the pictures of good parts are", 2)


def _looked_at(
    pictures: Iterable[tuple[str, Pixels, bytes]], station: Station, reader: SignalReader, out: TextIO
) -> tuple[ModelPackage, GoodParts]:
    line = station.line
    package = load_package(line.recipe.model)
    # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
    probe_model(line.recipe.model, batch_rows=line.recipe.region_count)
    inspector, _ = open_calibrated(line, package, tell=lambda text: print(text, file=out, flush=True))
    parts = look_at(_said(pictures, out), station, inspector, reader)
    print(f"parts     {len(parts.seen)}, {len(parts.rejected)} rejected, {len(parts.unjudged)} not judged", file=out)
    return package, parts


def _said(pictures: Iterable[tuple[str, Pixels, bytes]], out: TextIO) -> Iterator[tuple[str, Pixels, bytes]]:
    for count, each in enumerate(pictures):
        if count and count % _TOLD_EVERY == 0:
            print(f"parts     {count} looked at", file=out, flush=True)
        yield each


def _fitted(
    parts: GoodParts, region: ReferenceRegion, shift_parts: int, false_alarm_rate: float
) -> tuple[DriftReport, tuple[Refusal, ...]]:
    values = parts.values(region.tile_shares)
    brightness = float(np.mean(values["brightness"]))
    refusals = refusals_of(Usual(len(parts.seen), tuple(parts.unjudged), tuple(parts.rejected), brightness))
    if refusals:
        return DriftReport(None, {}, refusals), refusals
    means = {signal: float(np.nanmean(each)) for signal, each in values.items()}
    found = fit_drift(
        values,
        shift_parts=shift_parts,
        false_alarm_rate=false_alarm_rate,
        tolerances=usual_tolerances(means),
        region=region,
    )
    return found, found.refusals


def _told(found: DriftReport, refusals: tuple[Refusal, ...]) -> Iterator[Table | str]:
    baseline = found.baseline
    if baseline is not None:
        table = Table("signal", "mean", "two of three parts", "alike over", "told from a change of")
        for each in baseline.signals:
            middle = each.grid[len(each.grid) // 6], each.grid[-1 - len(each.grid) // 6]
            table.add_row(
                each.signal,
                f"{each.mean:.4g}",
                f"{middle[0]:.4g} to {middle[1]:.4g}",
                f"{found.alike_parts[each.signal]:.1f} parts",
                f"{each.tolerance:.3g}",
            )
        yield table
        if not found.watches_score:
            share = f"{found.same_score_share:.0%} of the parts have the very same"
            yield f"NOT       watched: the score, of which {share}; a bad lot is not told by it (line rules count rejects)"
        rate, parts = baseline.false_alarm_rate, baseline.shift_parts
        yield f"promise   a false alarm in {rate:.2%} of shifts of {parts} parts in which nothing moves"
        yield f"blocks    of {baseline.block_parts} parts; a large change is told after two or three of them"
    for refusal in refusals:
        yield f"refused   {refusal}"


def _result(
    parts: GoodParts, found: DriftReport, refusals: tuple[Refusal, ...], kept: CameraCalibration | None
) -> dict[str, Any]:
    return {
        "calibration_id": None if kept is None else kept.calibration_id,
        "refusals": [dataclasses.asdict(refusal) for refusal in refusals],
        "parts": len(parts.seen),
        "rejected": parts.rejected,
        "not_judged": parts.unjudged,
        "alike_parts": dict(found.alike_parts),
        "same_score_share": found.same_score_share,
        "baseline": None if found.baseline is None else found.baseline.model_dump(mode="json"),
    }


def _write_report(
    folder: Path,
    station: Station,
    who: str,
    parts: GoodParts,
    found: DriftReport,
    refusals: tuple[Refusal, ...],
    kept: CameraCalibration | None,
) -> None:
    # It brings jinja2 along.
    from pipeline.cli.calibrate.drift_page import drift_page
    from pipeline.report.page import render

    calibration_id = None if kept is None else kept.calibration_id
    page = drift_page(station, who, parts, found, refusals, calibration_id)
    try:
        file = write_page(folder, render(page))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {file}", err=True)
