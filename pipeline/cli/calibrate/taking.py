"""Pictures taken at the station while the operator watches a terminal: each is kept when it is good and new."""

from __future__ import annotations

import hashlib
import select
import sys
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from pipeline.cli.calibrate.gates import Gate, Pixels
from pipeline.cli.calibrate.grabbing import GrabbingCamera
from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.image_encoder import encode_image
from pipeline.image_reading import read_image
from pipeline.whole_file import write_whole
from vision.faults import one_line
from vision.raw import decoded_pixels
from vision.types import PixelFormat

_WAIT_S = 0.5
_SILENT_AFTER = 10


def pictures_of(folder: Path) -> list[Path]:
    """By name; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def take_pictures(
    camera: GrabbingCamera, folder: Path, gate: Gate, count: int, pixel_format: PixelFormat, console: Console
) -> None:
    """Until the gate misses nothing, or the operator presses Enter. Those that lie in the folder count.

    Every picture is on disk when it is told. Raises CannotGrab and OSError.
    """
    kept = pictures_of(folder)
    seen: set[bytes] = set()
    for file in kept:
        pixels = read_image(file, pixel_format)
        if pixels is not None:
            gate.look(decoded_pixels(pixels, pixel_format))
            seen.add(_digest(pixels))
    kept_count, told, silent = len(kept), "waiting for the camera ...", 0
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while missing := gate.missing():
            live.update(_panel(gate, folder.name, kept_count, count, missing, told))
            if _has_pressed_enter():
                break
            pixels = camera.frame(_WAIT_S)
            if pixels is None:
                silent += 1
                if silent >= _SILENT_AFTER:
                    told = camera.lost_text or "no picture comes: let the belt run, or trigger the camera"
                continue
            silent = 0
            if _digest(pixels) in seen:
                told = "the very same picture again"
                continue
            looked = gate.look(decoded_pixels(pixels, pixel_format))
            told = looked.told
            if looked.is_kept:
                kept_count += 1
                seen.add(_digest(pixels))
                folder.mkdir(parents=True, exist_ok=True)
                write_whole(_next_file(folder), encode_image(pixels, pixel_format, "png", 0))
    if not kept_count:
        return
    console.print(f"{kept_count} pictures in {folder}", soft_wrap=True, highlight=False)


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(pixels.tobytes()).digest()


def _panel(gate: Gate, name: str, kept_count: int, count: int, missing: str, told: str) -> Group:
    return Group(
        Text(f"{name}: {kept_count} kept, wanted: {missing}  (Enter: that is enough)"),
        *([ProgressBar(total=count, completed=min(kept_count, count), width=40)] if count else []),
        *map(Text, gate.panel()),
        Text(one_line(told)),
    )


def _next_file(folder: Path) -> Path:
    numbers = [int(file.stem) for file in pictures_of(folder) if file.stem.isdigit()]
    return folder / f"{max(numbers, default=0) + 1:04d}.png"


def _has_pressed_enter() -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready) and bool(sys.stdin.readline())
