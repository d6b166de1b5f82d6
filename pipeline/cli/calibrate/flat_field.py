"""``lineside calibrate flat-field``: what light, lens and sensor add to each picture, from dark and bright ones."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from calibration.flat_field import FlatField, FlatFieldQuality, FlatFieldResult, Measured, fit_flat_field
from pipeline.calibration_file import CameraCalibration, EvenedSection, made_now
from pipeline.cli.calibrate.frames import Frames, frames_in
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of, told_in_force
from pipeline.cli.calibrate.page import write_calibration_page
from pipeline.cli.console import at_work, console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from vision.faults import Fault, FaultsError
from vision.flat_field import FlatFieldSection, MeasuredPercent, dark_png, gain_png, read_flat_field

_LOSSY = (".jpg", ".jpeg")


def flat_field(
    line_file: LineArgument,
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="DIR",
            help="With dark/ in it, pictures with the lens covered, and bright/, pictures of an even, plain target.",
        ),
    ],
    who: WhoOption,
    camera_id: CameraOption = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Even out light, lens and sensor, and find dead and hot pixels; unattended, from pictures.

    Status 0 where the calibration is in force now, 1 where the pictures do not support one: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, images)
    station = station_of(line_file, camera_id, who)
    dark, bright = frames_in(images / "dark", station), frames_in(images / "bright", station)
    bright.expect_distinct()
    _expect_lossless(dark)
    _expect_lossless(bright)
    out = words(json_file)
    print(f"dark      {len(dark.names)} pictures", file=out)
    print(f"bright    {len(bright.names)} pictures", file=out, flush=True)
    with at_work("finding the gains"):
        found = fit_flat_field(dark.pixels, bright.pixels)
    kept: CameraCalibration | None = None
    if found.field is not None and found.quality is not None:
        kept = _kept(station, who, found.field, found.quality, [*dark.digests, *bright.digests])
    show(console_for(json_file), _told(found))
    if kept is not None:
        show(console_for(json_file), told_in_force(station, kept))
    write_json(json_file, _result(found, kept))
    if report is not None:
        from pipeline.calibration_report.light import flat_field_blocks

        blocks = flat_field_blocks(found, bright.pixels, station.frame_format.pixel_format.decoded)
        write_calibration_page(report, "Even light", station, blocks, kept)
    if kept is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in found.refusals)}")


def _expect_lossless(frames: Frames) -> None:
    for name in frames.names:
        if name.lower().endswith(_LOSSY):
            expected = "a PNG, BMP or TIFF: JPEG changes single pixels"
            raise FaultsError([Fault(f"{frames.folder}/{name}", "", "a JPEG", expected)])


def _kept(
    station: Station, who: str, field: FlatField, quality: FlatFieldQuality, digests: list[bytes]
) -> CameraCalibration:
    """Read back as a line reads it before it is in force. Raises FaultsError; ends the command where the disk fails."""
    frames = station.frame_format.decoded
    gains = gain_png(field.gain, field.dead | field.hot, frames.pixel_format)
    darks = dark_png(field.dark, frames.pixel_format)
    section = FlatFieldSection(
        gain_sha256=hashlib.sha256(gains).hexdigest(),
        dark_sha256=hashlib.sha256(darks).hexdigest(),
        dark_frame_count=quality.dark_frame_count,
        bright_frame_count=quality.bright_frame_count,
        held_out_count=quality.held_out_count,
        dead_count=quality.dead_count,
        hot_count=quality.hot_count,
        uneven_before_percent=_percent(quality.uneven_before_percent),
        uneven_after_percent=_percent(quality.uneven_after_percent),
    )
    correction = read_flat_field(section, gains, darks, frames, gain_file="the gains", dark_file="the dark levels")
    try:
        correction.check(frames.shape)
    except ValueError as error:
        raise fail(f"not calibrated: {error}") from None
    station.keep_file(gains)
    station.keep_file(darks)
    return station.keep(flat_field=EvenedSection(made=made_now(who, digests), flat_field=section))


def _percent(measured: Measured) -> MeasuredPercent:
    return MeasuredPercent(value=measured.value, low=measured.low, high=measured.high)


def _told(found: FlatFieldResult) -> Iterator[str]:
    quality = found.quality
    if quality is not None:
        yield f"before    {_uneven(quality.uneven_before_percent)}; {quality.pattern_before_percent:.2f} % from pixel to pixel"
        yield f"after     {_uneven(quality.uneven_after_percent)}; {quality.pattern_after_percent:.2f} % from pixel to pixel"
        yield f"measured  on {quality.held_out_count} bright pictures that had no part in it"
        yield f"light     the brightest part of the picture gets {quality.fall_off:.2f} times the darkest one's"
        yield f"pixels    {quality.dead_count} dead, {quality.hot_count} hot: replaced by their neighbours"
    for refusal in found.refusals:
        yield f"refused   {refusal}"


def _uneven(measured: Measured) -> str:
    return f"uneven by {measured.value:.2f} % (95 %: {measured.low:.2f} to {measured.high:.2f} %)"


def _result(found: FlatFieldResult, kept: CameraCalibration | None) -> dict[str, Any]:
    return {
        "calibration_id": None if kept is None else kept.calibration_id,
        "outdated": [] if kept is None else kept.outdated or [],
        "refusals": [dataclasses.asdict(refusal) for refusal in found.refusals],
        "quality": None if found.quality is None else dataclasses.asdict(found.quality),
    }
