"""Pictures taken with a camera of the line, kept as files and read again."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from rich.console import Console

from pipeline.cli.calibrate.gates import Looked
from pipeline.cli.calibrate.grabbing import GrabbingCamera
from pipeline.cli.calibrate.taking import take_pictures
from pipeline.config import load_line
from pipeline.image_reading import read_image
from tests.labelled import write_image
from tests.service import write_line
from vision.raw import decoded_pixels
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
COUNT = 3


class AllGate:
    """Keeps every picture."""

    def __init__(self) -> None:
        self.seen: list[Pixels] = []

    def look(self, pixels: Pixels) -> Looked:
        self.seen.append(pixels.copy())
        return Looked(True, "kept")

    def missing(self) -> str:
        return "more" if len(self.seen) < COUNT else ""

    def panel(self) -> list[str]:
        return []


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_picture_is_looked_at_as_a_picture_and_kept_as_the_frame_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixel_format: PixelFormat
) -> None:
    line_file = write_line(tmp_path, 1)
    written = yaml.safe_load(line_file.read_text())
    camera = written["cameras"][0] | {"pixel_format": pixel_format.value, "parts_per_min": 6000.0}
    line_file.write_text(yaml.safe_dump(written | {"cameras": [camera]}))
    shape = pixel_format.decoded.shape(camera["width_px"], camera["height_px"])
    for file in (tmp_path / camera["folder"]).iterdir():
        file.unlink()
    for number in range(COUNT):
        levels = (
            np.linspace(20 * number, 180, shape[1])[:, None]
            if len(shape) == 3
            else np.linspace(20 * number, 180, shape[1])
        )
        write_image(tmp_path / camera["folder"] / f"{number}.png", np.broadcast_to(levels, shape).astype(np.uint8))
    reading, writing = os.pipe()
    with os.fdopen(reading) as nothing, os.fdopen(writing, "w"):
        monkeypatch.setattr("sys.stdin", nothing)
        gate, line = AllGate(), load_line(line_file)
        with GrabbingCamera(line, "cam0") as grabbing:
            console = Console(file=io.StringIO())
            take_pictures(grabbing, tmp_path / "kept", gate, COUNT, pixel_format, console)
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == len(gate.seen) == COUNT
    for file, seen in zip(files, gate.seen, strict=True):
        assert seen.shape == shape
        again = read_image(file, pixel_format)
        assert again is not None
        near = 1 if pixel_format.value.startswith("YUV") else 0
        assert np.abs(decoded_pixels(again, pixel_format).astype(int) - seen).max() <= near
