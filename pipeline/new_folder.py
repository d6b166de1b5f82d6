"""A folder that appears whole: made beside its place and renamed into it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vision.faults import Fault, FaultsError

_TOKEN_BYTES = 4


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
    """Beside ``out``, so that a rename is all that is left to do; gone at the end, unless renamed. Those that killed processes left
    for the same ``out`` are removed first. Raises OSError.
    """
    with _locked(out.parent):
        for left in _left_over(out):
            shutil.rmtree(left, ignore_errors=True)
        folder = out.with_name(f".{out.name}.{secrets.token_hex(_TOKEN_BYTES)}.draft")
        folder.mkdir()
        held = contextlib.ExitStack()
        held.enter_context(_locked(folder))
    with held:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _left_over(out: Path) -> Iterator[Path]:
    """Folders of this kind that no process holds any more."""
    is_draft = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.draft")
    for folder in list(out.parent.iterdir()):
        if is_draft.fullmatch(folder.name) is None or folder.is_symlink() or not folder.is_dir():
            continue
        with contextlib.suppress(OSError), _locked(folder, may_wait=False):
            yield folder


@contextmanager
def _locked(folder: Path, *, may_wait: bool = True) -> Iterator[None]:
    """As long as this process lives. Raises OSError where it cannot be opened or, unless one ``may_wait``, somebody else has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if may_wait else fcntl.LOCK_NB))
        except OSError:
            if not may_wait:
                raise
            # A file system without locks: nothing is ever taken for left over there.
        yield
    finally:
        os.close(descriptor)
