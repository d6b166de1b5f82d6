"""Which view of a part a picture shows, where a model knows its views by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision.faults import Fault, FaultsError

ANY_VIEW = "image"
"""Of a model to which all pictures are alike."""


def view_of(picture: Path, views: Sequence[str]) -> str:
    """What the nearest folder above the picture is called that is called as a view. Raises FaultsError where none is."""
    if not views:
        return ANY_VIEW
    for folder in picture.absolute().parents:
        if folder.name in views:
            return folder.name
    expected = (
        f"it in a folder called as the view that it shows, since the model knows each by name: {', '.join(views)}"
    )
    raise FaultsError([Fault(str(picture), "", "a picture of no view", expected)])
