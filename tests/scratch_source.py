"""The source once more, for tests that plant a defect in it."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_source(folder: Path) -> Path:
    """What runs, with its compiled kernels: by a file's time and size it is seen what has changed since. Returns ``folder``.

    Left out is what other tests are just compiling: Python's, pytest's and numba's caches are written beside their places, and
    renamed.
    """
    for name in ("vision", "pipeline", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc.*", "*.tmp.*"))
    return folder
