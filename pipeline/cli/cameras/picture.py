"""The picture that a grab leaves."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli.output import fail
from pipeline.image_encoder import CannotEncode, encode_image
from pipeline.whole_file import write_whole
from vision.types import Frame

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_picture_target(file: Path) -> None:
    """Refuse a place that cannot be written before the work is done; only another PNG is replaced. Ends the command."""
    if file.suffix.lower() != ".png":
        raise fail(f"--out: got {file}, expected a name that ends in .png", 2)
    try:
        if file.is_dir() or not file.parent.is_dir():
            raise fail(f"--out: got {file}, expected a file in an existing folder", 2)
        if file.exists() and not (file.is_file() and _is_png(file)):
            text = f"--out: got {file}, which holds something other than a PNG; name another file, or remove that one"
            raise fail(text, 2)
        scratch = file.with_name(f"{file.name}.new")
        scratch.touch()
        scratch.unlink()
    except OSError as error:
        raise fail(f"--out: got {file}, expected a place that can be written: {error.strerror}", 2) from None


def write_picture(file: Path, frame: Frame) -> None:
    """Whole or not at all. Ends the command where it cannot be."""
    try:
        write_whole(file, encode_image(frame.pixels, frame.pixel_format, "png", jpeg_quality=0))
    except CannotEncode as error:
        raise fail(f"{file}: {error}") from None
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from None


def _is_png(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(len(_SIGNATURE)) in (_SIGNATURE, b"")
