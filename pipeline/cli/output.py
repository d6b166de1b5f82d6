"""Where results and words go: results to ``--json``, words to people."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TextIO

import typer

JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for standard output.")
]

_RESULT_BEGINS = b"{\n  "
_NO_SECOND_NAMES = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""Of a file system such as FAT, where a file has one name only."""


def words(json_file: Path | None) -> TextIO:
    """The stream for people: standard error where the JSON takes standard output."""
    return sys.stderr if json_file is not None and str(json_file) == "-" else sys.stdout


def check_json_target(json_file: Path | None) -> None:
    """Refuse a place that cannot be written before the work is done, not after it."""
    if json_file is None or str(json_file) == "-":
        return
    try:
        if not json_file.name or json_file.is_dir() or not json_file.parent.is_dir():
            raise fail(f"--json: got {json_file}, expected a file in an existing folder, or -", 2)
        if _is_written_in_place(json_file):
            writable = os.access(json_file, os.W_OK)
        elif json_file.exists() and not _is_a_result(json_file):
            text = f"--json: got {json_file}, which holds something other than a result; name another file, or remove that one"
            raise fail(text, 2)
        else:
            writable = True
            scratch = _scratch(json_file)
            scratch.touch()
            scratch.unlink()
    except OSError as error:
        raise fail(f"--json: got {json_file}, expected a place that can be written: {error.strerror}", 2) from None
    if not writable:
        raise fail(f"--json: got {json_file}, expected a place that can be written", 2)


def spare_inputs(targets: Mapping[str, Path | None], *inputs: Path | None) -> None:
    """Nothing is ever written over what a command reads, or among it. ``targets``: by option; ``inputs``: files and folders."""
    for option, target in targets.items():
        if target is None or str(target) == "-":
            continue
        for each in inputs:
            if each is not None and each.resolve() in (target.resolve(), *target.resolve().parents):
                raise fail(f"{option}: got {target}, expected a place outside {each}", 2)


def write_json(json_file: Path | None, result: dict[str, object]) -> None:
    """Write the result where it was asked for; a plain file appears whole or not at all. Ends the command if it cannot."""
    if json_file is None:
        return
    text = json.dumps(result, indent=2) + "\n"
    try:
        _write(json_file, text)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None


def write_new(path: Path, text: str) -> None:
    """A file that was not there, whole or not at all; never over one that is. Raises OSError, of one that is FileExistsError."""
    scratch = _scratch(path)
    try:
        scratch.write_text(text, encoding="utf-8")
        try:
            os.link(scratch, path)  # unlike a rename, never over a file that came meanwhile
        except OSError as error:
            if error.errno not in _NO_SECOND_NAMES:
                raise
            _write_exclusively(path, text)
    finally:
        scratch.unlink(missing_ok=True)


def _write_exclusively(path: Path, text: str) -> None:
    """Whole unless the command is killed meanwhile."""
    with path.open("x", encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
        except OSError:
            path.unlink()
            raise


def _write(json_file: Path, text: str) -> None:
    if str(json_file) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    if _is_written_in_place(json_file):
        json_file.write_text(text, encoding="utf-8")
        return
    scratch = _scratch(json_file)
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(json_file)
    finally:
        scratch.unlink(missing_ok=True)


def _is_written_in_place(json_file: Path) -> bool:
    """A device or a pipe, /dev/null among them, is not to be replaced by a file."""
    return json_file.exists() and not json_file.is_file()


def _is_a_result(json_file: Path) -> bool:
    """Not a record, a line's YAML, a log of anchors: whatever may stand beside --json in the same command."""
    with json_file.open("rb") as file:
        return file.read(len(_RESULT_BEGINS)) in (_RESULT_BEGINS, b"")


def _scratch(json_file: Path) -> Path:
    return json_file.with_name(f".{json_file.name}.{os.getpid()}")


class Failed(typer.Exit):
    """The command ends; ``text`` has been said already."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(status)
        self.text = text


def fail(text: str, status: int = 1) -> Failed:
    """Says why on standard error; to be raised."""
    # A log that takes nothing more is no reason to end otherwise.
    with contextlib.suppress(OSError):
        print(text if status == 2 else f"lineside: {text}", file=sys.stderr)
    return Failed(text, status)
