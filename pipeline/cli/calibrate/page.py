"""What a calibration found, as a page for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from pipeline.calibration_file import CameraCalibration
from pipeline.cli.calibrate.options import Station
from pipeline.cli.output import fail
from pipeline.report.blocks import Block, Fact, Facts, Section
from pipeline.report.folder import CannotReport, write_page


def write_calibration_page(
    folder: Path, title: str, station: Station, blocks: Sequence[Block], kept: CameraCalibration | None
) -> None:
    """``kept``: what is in force now, None where nothing was changed. Ends the command where it cannot be written."""
    # It brings jinja2 along.
    from pipeline.calibration_report.page import calibration_page
    from pipeline.report.page import render

    where = f"camera {station.camera_id}, product {station.before.recipe_id}"
    facts = Facts([Fact("calibration_id", "nothing changed" if kept is None else kept.calibration_id)])
    try:
        page = write_page(folder, render(calibration_page(title, where, [facts], [Section(title, blocks)])))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
