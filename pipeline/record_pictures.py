"""Which kept pictures belong to a part: ``FOLDER/<image_ref>-<VERDICT>-<camera_id>.png`` (or ``.jpg``)."""

from __future__ import annotations

import re
from pathlib import Path

_REF = re.compile(r"(?P<folder>\d{4}-\d\d-\d\d/[0-9A-Za-z_-]{1,64})/(?P<part>\d{1,19})")
_NAME = re.compile(r"\d{1,19}-(?:PASS|REJECT|NO_DECISION)-(?P<camera>[A-Za-z0-9_.-]{1,64})\.(?:png|jpg)")


def pictures_of(folder: Path, image_ref: str) -> dict[str, Path]:
    """By camera_id; none where they were dropped or pruned, or ``image_ref`` is none of ours.

    Raises OSError where the folder cannot be read.
    """
    ref = _REF.fullmatch(image_ref)
    if ref is None:
        return {}
    of_session = folder / ref["folder"]
    try:
        names = [entry.name for entry in of_session.iterdir() if entry.name.startswith(f"{ref['part']}-")]
    except FileNotFoundError:
        return {}
    named = [(_NAME.fullmatch(name), name) for name in sorted(names)]
    return {match["camera"]: of_session / name for match, name in named if match is not None}
