"""``lineside calibrate report``: everything that is calibrated of a line, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.calibration_file import CalibrationStore
from pipeline.challenge_file import BadChallengeFile, ChallengeFile
from pipeline.cli.calibrate.options import LineArgument
from pipeline.cli.output import fail, spare_inputs
from pipeline.cli.report import check_report_folder
from pipeline.config import load_line
from pipeline.line_inspector import frame_formats
from pipeline.report.folder import CannotReport, write_page
from vision.faults import Fault


def report(
    line_file: LineArgument,
    folder: Annotated[Path, typer.Option("--report", metavar="DIR", help="Where the page goes, as DIR/index.html.")],
) -> None:
    """Write one page of all cameras: what is in force, who found it, when and from what, and what was before it."""
    check_report_folder(folder)
    line = load_line(line_file)
    if line.config.calibrations is None:
        expected = "the folder that calibrations are kept in, e.g. calibrations: calibrations"
        raise fail(str(Fault(str(line.file), "calibrations", "none", expected)), 2)
    spare_inputs({"--report": folder}, line.config.calibrations)
    # They bring plotting along, which takes a second to load.
    from pipeline.calibration_report.station import shown_of, station_page
    from pipeline.report.page import render

    store = CalibrationStore(line.config.calibrations)
    try:
        challenge = ChallengeFile(line.config.records.path).read()
    except BadChallengeFile as error:
        raise fail(str(error)) from None
    try:
        cameras = [shown_of(line, store, camera_id, each) for camera_id, each in frame_formats(line.config).items()]
        page = write_page(folder, render(station_page(line, store, cameras, challenge)))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"{error.filename or folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
