"""A folder that appears whole: made beside its place and renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision.faults import Fault, FaultsError


def expect_free(folder: Path) -> None:
    """Raises FaultsError where the package cannot appear there."""
    try:
        is_empty = folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())
        if folder.is_symlink() or (folder.exists() and not is_empty):
            raise FaultsError([Fault("--out", "", str(folder), "a folder that is not there yet, or an empty one")])
        if not folder.parent.is_dir():
            raise FaultsError([Fault("--out", "", str(folder), "a folder in one that is there")])
        if not os.access(folder.parent, os.W_OK | os.X_OK):
            raise FaultsError([Fault("--out", "", str(folder), "a place that can be written")])
    except OSError as error:
        raise FaultsError([Fault("--out", "", f"{folder}: {error.strerror}", "a place that can be written")]) from error


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """Beside ``out``, so that a rename is all that is left to do; gone at the end, unless renamed."""
    folder = out.with_name(f".{out.name}.{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
