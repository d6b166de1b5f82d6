"""The folder that a report is written to: one file, which appears whole or not at all."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

PAGE_NAME = "index.html"
MARK = '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="generator" content="Lineside report">'
"""What each page of ours begins with, and nobody else's."""
_SCRATCH_NAME = f".{PAGE_NAME}.new"
_NEEDED = ("jinja2", "matplotlib", "scipy")


class CannotReport(RuntimeError):
    """The text says what is missing, or expected."""


def check_folder(folder: Path) -> None:
    """Whether a report can be made, and written there. Raises CannotReport; changes nothing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotReport(f"--report needs {', '.join(missing)}: pip install 'lineside[report]'")
    _check_ours(folder)
    above = folder if folder.exists() else folder.parent
    if not above.is_dir():
        raise CannotReport(
            f"--report: got {folder}, expected a folder that is there, or one to be made in a folder that is"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise CannotReport(f"--report: got {folder}, expected a place that can be written")


def write_page(folder: Path, html: str) -> Path:
    """Puts the page into the folder, which is made where it is not there; an earlier report gives way. The page's file.

    Raises CannotReport where the folder holds anything else by now, and OSError.
    """
    _check_ours(folder)
    folder.mkdir(exist_ok=True)
    scratch, page = folder / _SCRATCH_NAME, folder / PAGE_NAME
    scratch.unlink(missing_ok=True)
    try:
        with scratch.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(html)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(page)
    finally:
        scratch.unlink(missing_ok=True)
    return page


def _check_ours(folder: Path) -> None:
    """Not there, empty, or an earlier report."""
    expected = "a new or empty folder, or one with an earlier report"
    try:
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            raise CannotReport(f"--report: got {folder}, expected {expected}")
        for found in folder.iterdir():
            if found.name == _SCRATCH_NAME and found.is_file() and not found.is_symlink():
                continue  # of a report that was killed
            if found.name != PAGE_NAME or not _is_report(found):
                raise CannotReport(f"--report: got {folder} with {found.name} in it, expected {expected}")
    except OSError as error:
        raise CannotReport(f"--report: got {folder}, which cannot be read: {error.strerror}") from error


def _is_report(page: Path) -> bool:
    if page.is_symlink() or not page.is_file():
        return False
    with page.open("rb") as stream:
        return stream.read(len(MARK)) == MARK.encode()
