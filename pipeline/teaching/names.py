"""Names that are told to people and kept in files."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

EXPECTED_NAME = "a name without control characters, in UTF-8"


def oddity(name: str) -> str:
    """What is wrong with it, in words; empty where nothing is.

    What else is not printable, such as the spaces of some languages, is shown by ``vision.faults.one_line`` as it can be.
    """
    kinds = {unicodedata.category(character) for character in name}
    if "Cs" in kinds:  # as Python reads names of files that are no UTF-8
        return "bytes that are no UTF-8"
    return "control characters" if "Cc" in kinds else ""


def _sound(name: str) -> str:
    if oddity(name):
        raise ValueError(EXPECTED_NAME)
    return name


SoundName = Annotated[str, AfterValidator(_sound)]
