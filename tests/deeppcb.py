"""The DeepPCB data set: in ``shared/datasets/deeppcb`` beside the checkout, or where LINESIDE_DEEPPCB says."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LINESIDE_DEEPPCB"
MISSING = f"DeepPCB is not there: neither in shared/datasets/deeppcb beside the checkout nor where {VARIABLE} says"


def deeppcb_folder() -> Path | None:
    """None where it is not there."""
    named = os.environ.get(VARIABLE)
    folders = [Path(named)] if named else [each / "shared/datasets/deeppcb" for each in Path(__file__).parents]
    return next((folder for folder in folders if (folder / "PCBData/test.txt").is_file()), None)
