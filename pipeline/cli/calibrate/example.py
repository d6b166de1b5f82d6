"""``lineside calibrate example``: a station to try the calibration with, without a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import fail


def example(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
) -> None:
    """Write a simulated station into a new folder: a line, and the pictures that its operator would have taken."""
    # It brings the model's format along, which takes a while to load.
    from pipeline.bench.example_station import write_example_station

    try:
        line = write_example_station(folder)
    except FileExistsError:
        raise fail(f"{folder}: got a folder that is there, expected a new one", 2) from None
    except OSError as error:
        raise fail(f"{error.filename or folder}: {error.strerror}") from None
    print(f"calibrate it: scripts/calibrate.py {line} --as YOU --images {folder / 'pictures'}")
