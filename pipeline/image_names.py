"""What the kept pictures are called, and where they lie.

``<folder>/<UTC date of the trigger>/<session_id>/<part_id>-<VERDICT>-<camera_id>.png`` (or ``.jpg``), with a thumbnail beside it
that has ``~thumb.jpg`` in the place of the suffix; ``part_id`` has at least eight digits. What a part's pictures begin with is
its ``image_ref``. Whatever has another name was put there by somebody else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from vision.types import Verdict

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_SESSION = re.compile(r"[0-9a-z]{1,32}")
_NAME = re.compile(
    r"(?P<part>\d{8,19})-(?P<verdict>PASS|REJECT|NO_DECISION)-(?P<camera>[A-Za-z0-9_.-]{1,32})(?P<kind>\.png|\.jpg|~thumb\.jpg)"
)
_REF = re.compile(r"(?P<folder>\d{4}-\d\d-\d\d/[0-9a-z]{1,32})/(?P<part>\d{8,19})")
_THUMBNAIL = "~thumb.jpg"
_SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


class ImageName(NamedTuple):
    """What a file's name says."""

    part_id: int
    verdict: Verdict
    camera_id: str
    is_thumbnail: bool


def image_ref(trigger_utc: str, session_id: str, part_id: int) -> str:
    """What the paths of a part's pictures begin with, below the folder for pictures."""
    return f"{trigger_utc[:10]}/{session_id}/{part_id:08d}"


def image_names(part_id: int, verdict: str, camera_id: str, kind: str) -> tuple[str, str]:
    """A picture's file and its thumbnail's; ``kind`` is "png" or "jpeg"."""
    stem = f"{part_id:08d}-{verdict}-{camera_id}"
    return stem + _SUFFIXES[kind], stem + _THUMBNAIL


def read_name(name: str) -> ImageName | None:
    """None for a name that this program does not give."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return ImageName(int(match["part"]), Verdict(match["verdict"]), match["camera"], match["kind"] == _THUMBNAIL)


def unfinished(name: str) -> str:
    """What a file is called while it is written."""
    return f".{name}.new"


def is_unfinished(name: str) -> bool:
    """Whether it is such a name, of one of our files."""
    return name.startswith(".") and name.endswith(".new") and read_name(name[1:-4]) is not None


def is_date(name: str) -> bool:
    """Whether a folder may be one of our days."""
    return _DATE.fullmatch(name) is not None


def is_session(name: str) -> bool:
    """Whether a folder in it may be one of our sessions."""
    return _SESSION.fullmatch(name) is not None


def pictures_of(folder: Path, ref: str) -> list[Path]:
    """The files of the part with this ``image_ref``, without thumbnails. Raises OSError where the folder cannot be read."""
    match = _REF.fullmatch(ref)
    if match is None:
        return []
    of_session = folder / match["folder"]
    try:
        names = sorted(entry.name for entry in of_session.iterdir())
    except FileNotFoundError:
        return []
    found = [(name, read_name(name)) for name in names if name.startswith(f"{match['part']}-")]
    return [of_session / name for name, read in found if read is not None and not read.is_thumbnail]
