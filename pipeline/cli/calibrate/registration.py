"""``lineside calibrate registration``: how the part is found in each picture, so that regions follow it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from calibration.part_outline import template_around_part
from calibration.registration import RegistrationReport, calibrate_registration, grey_of
from calibration.scale import mm_per_px_at
from calibration.spread import Spread
from pipeline.calibration_file import CameraCalibration, RegisteredSection, made_now
from pipeline.cli.calibrate.frames import Frames, frames_in
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of, told_in_force
from pipeline.cli.calibrate.page import write_calibration_page
from pipeline.cli.console import at_work, console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from vision.faults import Fault, FaultsError, faults_of
from vision.registration import TemplateRegion, read_template

Scale = tuple[float, float]
"""mm that a pixel to the right and one down come to, at the template."""


def registration(
    line_file: LineArgument,
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="DIR",
            help="With still/ in it, one part in its place, not moved; parts/, good parts as they come; empty/, the belt.",
        ),
    ],
    who: WhoOption,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="X,Y,W,H",
            help="What the part is found by, in pixels of the first picture in still/; without it the part's outline, from empty/.",
        ),
    ] = None,
    search_px: Annotated[
        int, typer.Option(min=8, max=256, help="How far the part is looked for, to all four sides.")
    ] = 40,
    tolerance_px: Annotated[
        float | None, typer.Option(min=1.0, help="So far may a part lie off; without it, as far as good parts do.")
    ] = None,
    tolerance_mm: Annotated[
        float | None, typer.Option(min=0.001, help="The same in mm, where a geometry is calibrated.")
    ] = None,
    camera_id: CameraOption = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Find how the part is found, how well its place is repeated and how far parts lie apart; unattended, from pictures.

    Status 0 where the calibration is in force now, 1 where the pictures do not support one: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, images)
    station = station_of(line_file, camera_id, who)
    if tolerance_px is not None and tolerance_mm is not None:
        raise fail("--tolerance-mm: got --tolerance-px as well, expected one of them", 2)
    still, parts = frames_in(images / "still", station), frames_in(images / "parts", station)
    empty = frames_in(images / "empty", station) if (images / "empty").exists() else None
    for frames in (still, parts):
        frames.expect_distinct()
    out = words(json_file)
    print(f"still     {len(still.names)} pictures, {still.names[0]} says where the part's place is", file=out)
    print(f"parts     {len(parts.names)} pictures of good parts", file=out)
    print(f"empty     {0 if empty is None else len(empty.names)} pictures of the belt without a part", file=out)
    where = _marked(template) if template is not None else _outlined(station, still, empty, search_px)
    print(f"template  {_told_region(where)}{'' if template else ', around the part'}", file=out, flush=True)
    scale = _scale(station, where)
    regions = [
        region for view in station.line.recipe.views if view.camera_id == station.camera_id for region in view.regions
    ]
    allowed_px = _tolerance(tolerance_px, tolerance_mm, scale)
    with at_work("looking for the part everywhere, in every picture"):
        found = calibrate_registration(
            still.pixels[0],
            where,
            station.frame_format.decoded,
            repeats=list(still.pixels[1:]),
            parts=list(parts.pixels),
            empty=[] if empty is None else list(empty.pixels),
            regions=regions,
            search_x_px=search_px,
            search_y_px=search_px,
            tolerance_px=allowed_px,
        )
    kept: CameraCalibration | None = None
    if found.registration is not None and found.template_file is not None:
        section = found.registration.section
        read_template(found.template_file, section, file="the template")
        station.keep_file(found.template_file)
        digests = [*still.digests, *parts.digests, *([] if empty is None else empty.digests)]
        kept = station.keep(registration=RegisteredSection(made=made_now(who, digests), registration=section))
    show(console_for(json_file), _told(found, parts, scale))
    if kept is not None:
        show(console_for(json_file), told_in_force(station, kept))
    write_json(json_file, _result(found, where, parts, scale, kept))
    if report is not None:
        from pipeline.calibration_report.position import registration_blocks

        blocks = registration_blocks(
            found,
            where,
            still.pixels[0],
            parts.names,
            list(parts.pixels),
            regions,
            station.frame_format.decoded.pixel_format,
            scale,
        )
        write_calibration_page(report, "Where the part lies", station, blocks, kept)
    if kept is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in found.refusals)}")


def _marked(template: str) -> TemplateRegion:
    """Raises FaultsError; ends the command for what are not four whole numbers."""
    numbers = [each.strip() for each in template.split(",")]
    if len(numbers) != 4 or not all(each.isascii() and each.isdigit() for each in numbers):
        raise fail(f"--template: got {template!r}, expected x, y, width and height in pixels, as 120,90,128,120", 2)
    try:
        return TemplateRegion.model_validate(
            dict(zip(("x_px", "y_px", "width_px", "height_px"), map(int, numbers), strict=True))
        )
    except ValidationError as error:
        raise FaultsError(faults_of("--template", error)) from error


def _outlined(station: Station, still: Frames, empty: Frames | None, search_px: int) -> TemplateRegion:
    """Raises FaultsError where there is no picture of the empty belt; ends the command where there is no part on it."""
    if empty is None:
        expected = "pictures of the belt without a part, or --template: what the part is found by"
        raise FaultsError([Fault(str(still.folder.with_name("empty")), "", "no such folder", expected)])
    grey = [grey_of(each, station.frame_format.decoded.pixel_format) for each in (still.pixels[0], empty.pixels[0])]
    where = template_around_part(grey[0], grey[1], search_px, search_px)
    if where is None:
        got = f"got nothing in {still.names[0]} that the empty belt has not, {search_px} px inside the picture's edge"
        raise fail(
            f"not calibrated: {got}, expected a part: mark what it is found by with --template, or search less far"
        )
    return where


def _scale(station: Station, where: TemplateRegion) -> Scale | None:
    """The search reads the camera's raw pictures, and so does this. None where no geometry is in force."""
    geometry = station.before.geometry
    if geometry is None:
        return None
    return mm_per_px_at(geometry.camera, (where.x_px + where.width_px / 2, where.y_px + where.height_px / 2))


def _tolerance(
    tolerance_px: float | None, tolerance_mm: float | None, scale: Scale | None
) -> tuple[float, float] | None:
    for option, value in (("--tolerance-px", tolerance_px), ("--tolerance-mm", tolerance_mm)):
        if value is not None and not isfinite(value):
            raise fail(f"{option}: got {value}, expected a number", 2)
    if tolerance_mm is None:
        return None if tolerance_px is None else (tolerance_px, tolerance_px)
    if scale is None:
        expected = "--tolerance-px, or a calibrated geometry (lineside calibrate geometry)"
        raise fail(f"--tolerance-mm: got {tolerance_mm:g} where no geometry is in force, expected {expected}", 2)
    return tolerance_mm / scale[0], tolerance_mm / scale[1]


def _told(found: RegistrationReport, parts: Frames, scale: Scale | None) -> Iterator[str]:
    for name, across, down in (
        ("one part ", found.repeats_x, found.repeats_y),
        ("parts    ", found.parts_x, found.parts_y),
    ):
        for axis, spread, mm in (("to either side", across, 0), ("up and down", down, 1)):
            if spread is not None:
                yield f"{name} {axis}: {_in_words(spread, None if scale is None else scale[mm])}"
    if found.good_score_low is not None and found.other_score is not None:
        yield f"score     good parts {found.good_score_low:.2f} or more, other places {found.other_score:.2f} at most"
    if found.registration is not None:
        section = found.registration.section
        yield (
            f"tolerance {section.tolerance_x_px:.1f} px to either side and {section.tolerance_y_px:.1f} px up and down"
            f"{_in_mm(section.tolerance_x_px, section.tolerance_y_px, scale)}: a part further off gets no decision"
        )
    lost = [name for name, position in zip(parts.names, found.positions, strict=False) if not position.is_found]
    if lost:
        yield f"NOT FOUND in {', '.join(lost[:10])}{', ...' if len(lost) > 10 else ''}"
    for note in found.notes:
        yield f"note      {note}"
    for refusal in found.refusals:
        yield f"refused   {refusal}"


def _in_words(spread: Spread, mm_per_px: float | None) -> str:
    mm = "" if mm_per_px is None else f" ({mm_per_px * spread.spread_px:.4f} mm)"
    interval = f"95 %: {spread.spread_low_px:.3f} to {spread.spread_high_px:.3f} px"
    return (
        f"spread {spread.spread_px:.3f} px{mm} ({interval}), mean {spread.mean_px:+.2f} px, "
        f"farthest {spread.farthest_px:.2f} px, {spread.count} pictures"
    )


def _in_mm(x_px: float, y_px: float, scale: Scale | None) -> str:
    return "" if scale is None else f" ({x_px * scale[0]:.2f} and {y_px * scale[1]:.2f} mm)"


def _told_region(where: TemplateRegion) -> str:
    return f"{where.width_px} x {where.height_px} px at x {where.x_px}, y {where.y_px}"


def _result(
    found: RegistrationReport,
    where: TemplateRegion,
    parts: Frames,
    scale: Scale | None,
    kept: CameraCalibration | None,
) -> dict[str, Any]:
    positions = [
        {"picture": name, **dataclasses.asdict(position)}
        for name, position in zip(parts.names, found.positions, strict=False)
    ]
    spreads = {
        name: None if spread is None else dataclasses.asdict(spread)
        for name, spread in (
            ("repeats_x", found.repeats_x),
            ("repeats_y", found.repeats_y),
            ("parts_x", found.parts_x),
            ("parts_y", found.parts_y),
        )
    }
    return {
        "calibration_id": None if kept is None else kept.calibration_id,
        "outdated": [] if kept is None else kept.outdated or [],
        "refusals": [dataclasses.asdict(refusal) for refusal in found.refusals],
        "notes": list(found.notes),
        "template": where.model_dump(mode="json"),
        "template_quality": None if found.template is None else dataclasses.asdict(found.template),
        "registration": None if found.registration is None else found.registration.section.model_dump(mode="json"),
        **spreads,
        "mm_per_px": None if scale is None else list(scale),
        "positions": positions,
        "good_score_low": found.good_score_low,
        "other_score": found.other_score,
    }
