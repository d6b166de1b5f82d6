"""``lineside calibrate geometry``: pixels to millimetres, from pictures of a board."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import cv2
import typer
from rich.table import Table

from calibration.board import Board, measured_over_all_squares
from calibration.geometry.calibrate import PartHeight, calibrate_geometry
from calibration.geometry.detection import BoardView, find_board
from calibration.geometry.report import GeometryReport
from pipeline.calibration_file import CameraCalibration, GeometrySection, made_now
from pipeline.cli.calibrate.options import (
    CameraOption,
    LineArgument,
    SquareOption,
    SquaresOption,
    Station,
    WhoOption,
    board_of,
    check_size,
    seen_in,
    station_of,
    told_in_force,
)
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from vision.types import PixelFormat


def geometry(
    line_file: LineArgument,
    images: Annotated[
        Path, typer.Option("--images", metavar="DIR", help="Pictures of the board, held at many places and angles.")
    ],
    belt: Annotated[
        Path,
        typer.Option(
            "--belt", metavar="DIR", help="Pictures of it lying flat on the belt: the first says where that is."
        ),
    ],
    across_mm: Annotated[float, typer.Option(help="All squares across, measured on the print.")],
    down_mm: Annotated[float, typer.Option(help="All squares down, measured on the print.")],
    who: WhoOption,
    camera_id: CameraOption = None,
    squares: SquaresOption = "11x8",
    square_mm: SquareOption = 22.0,
    marker_mm: Annotated[float | None, typer.Option(help="A marker's side; without it 0.73 of the square's.")] = None,
    dictionary: Annotated[str, typer.Option(help="OpenCV's name of the markers.")] = "DICT_5X5_100",
    chessboard: Annotated[bool, typer.Option(help="The board has no markers.")] = False,
    thickness_mm: Annotated[float, typer.Option(min=0.0, help="How high the print lies above the belt.")] = 0.0,
    part_height_mm: Annotated[
        float, typer.Option(min=0.0, help="What is measured of the parts, above the belt.")
    ] = 0.0,
    part_tolerance_mm: Annotated[float, typer.Option(min=0.0, help="Parts are so much higher or lower.")] = 0.0,
    reading_mm: Annotated[float, typer.Option(min=0.01, help="How closely the ruler was read, to either side.")] = 0.5,
    json_file: JsonOption = None,
) -> None:
    """Find where pixels lie on the parts, and how far off that may be; unattended, from pictures.

    Status 0 where the calibration is in force now, 1 where the pictures do not support one: nothing is changed then.
    """
    check_json_target(json_file)
    spare_inputs({"--json": json_file}, images, belt)
    station = station_of(line_file, camera_id, who)
    board = board_of(squares, square_mm, marker_mm, dictionary, is_chessboard=chessboard)
    try:
        measured = measured_over_all_squares(
            board, across_mm, down_mm, reading_mm=reading_mm, thickness_mm=thickness_mm
        )
        part = PartHeight(part_height_mm, part_tolerance_mm)
    except ValueError as error:
        raise fail(str(error), 2) from None
    out = words(json_file)
    # Several threads add up in another order each time: the same pictures are to give the same numbers.
    cv2.setNumThreads(1)
    print(f"board     {board.described()}", file=out)
    views, digests = _looked_at(images, board, station, out)
    belt_views, belt_digests = _looked_at(belt, board, station, out)
    try:
        report = calibrate_geometry(board, measured, views, belt_views, part)
    except ValueError as error:
        raise fail(str(error), 2) from None
    kept: CameraCalibration | None = None
    if report.geometry is not None and report.quality is not None:
        section = GeometrySection(
            made=made_now(who, [*digests, *belt_digests]),
            camera=report.geometry,
            worst_error_mm=report.quality.worst_error_mm,
            covered=report.covered.tolist(),
        )
        kept = station.keep(geometry=section)
    show(console_for(json_file), _told(report))
    if kept is not None:
        show(console_for(json_file), told_in_force(station, kept))
    write_json(json_file, _result(report, kept))
    if kept is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in report.refusals)}")


def _looked_at(folder: Path, board: Board, station: Station, out: TextIO) -> tuple[list[BoardView], list[bytes]]:
    """Each picture's view of the board, said as it is found."""
    views, digests = [], []
    pixel_format = station.frame_format.pixel_format
    for name, pixels, digest in seen_in(folder, pixel_format if pixel_format.channel_count == 1 else PixelFormat.MONO8):
        check_size(f"{folder}/{name}", pixels, PixelFormat.MONO8, station)
        view = find_board(f"{folder.name}/{name}", pixels, board)
        seen = f"{len(view.corner_ids)} of {board.corner_count} corners"
        told = f"{seen}, blur {view.blur_px:.2f} px" if view.is_usable else f"NOT USED: {view.told}"
        print(f"picture   {view.name}: {told}", file=out, flush=True)
        views.append(view)
        digests.append(digest)
    return views, digests


def _told(report: GeometryReport) -> Iterator[Table | str]:
    quality = report.quality
    if quality is not None:
        focal = quality.focal_px
        yield f"lens      {quality.lens_model}, focal length {focal.value:.0f} +- {focal.standard_error:.1f} px"
        yield f"corners   {report.corners_count} in {len(report.fitted)} views, {report.outliers_count} left aside"
        sigmas = f"{quality.held_out_sigma_px:.3f} px (fitted ones {quality.fit_sigma_px:.3f} px)"
        yield f"held out  {len(report.held_out)} views: {sigmas}"
        width_mm, height_mm = quality.field_mm
        yield f"picture   shows {width_mm:.1f} x {height_mm:.1f} mm, {quality.mm_per_px:.4f} mm a pixel in the middle"
        table = Table("place", "may be off by (95 %)")
        for error in quality.errors:
            table.add_row(error.place, f"{error.error_mm:.3f} mm")
        table.add_row(
            "anywhere", f"{quality.worst_error_mm:.3f} mm, {quality.worst_share_of_field:.3%} of the picture's width"
        )
        yield table
        for check in quality.checks:
            yield f"check     {check.view}: its squares in mm are off by {check.rms_mm:.3f} mm (at most {check.max_mm:.3f})"
    for refusal in report.refusals:
        yield f"refused   {refusal}"


def _result(report: GeometryReport, kept: CameraCalibration | None) -> dict[str, Any]:
    quality = report.quality
    return {
        "calibration_id": None if kept is None else kept.calibration_id,
        "outdated": [] if kept is None else kept.outdated or [],
        "refusals": [dataclasses.asdict(refusal) for refusal in report.refusals],
        "fitted": list(report.fitted),
        "held_out": list(report.held_out),
        "unused": [{"picture": name, "why": why} for name, why in report.unused],
        "covered": report.covered.tolist(),
        "geometry": None if report.geometry is None else report.geometry.model_dump(mode="json"),
        "quality": None
        if quality is None
        else {
            "lens_model": quality.lens_model,
            "held_out_sigma_px": quality.held_out_sigma_px,
            "fit_sigma_px": quality.fit_sigma_px,
            "mm_per_px": quality.mm_per_px,
            "field_mm": list(quality.field_mm),
            "errors_mm": {error.place: error.error_mm for error in quality.errors},
            "worst_error_mm": quality.worst_error_mm,
        },
    }
