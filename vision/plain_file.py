"""Reading a file that somebody else brought: a plain file of a bounded size where it is said to be, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAPlainFile(Exception):
    """``got`` and ``expected`` say what stands in its place."""

    def __init__(self, got: str, expected: str) -> None:
        self.got = got
        self.expected = expected
        super().__init__(f"got {got}, expected {expected}")


def read_plain_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of ``path``. Neither follows a link in its last part nor waits for the other end of a pipe.

    Raises NotAPlainFile for a link, folder, pipe, socket, device or file of more than ``max_bytes``; FileNotFoundError; OSError
    where the disk fails.
    """
    kind = stat.S_IFMT(path.lstat().st_mode)
    if kind in _KINDS:
        raise _wrong_kind(kind)
    # What was looked at may be replaced before it is opened: asked again of what is open, and O_NOFOLLOW and O_NONBLOCK hold.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
        status = os.fstat(descriptor)
        kind = stat.S_IFMT(status.st_mode)
        if kind in _KINDS:
            raise _wrong_kind(kind)
        if status.st_size > max_bytes:
            raise NotAPlainFile(f"{status.st_size} bytes", f"at most {max_bytes} bytes")
        # One that says it is empty is asked for a byte all the same: a failing disk may say so too.
        return file.read(status.st_size or 1)


def _wrong_kind(kind: int) -> NotAPlainFile:
    return NotAPlainFile(_KINDS[kind], "a plain file in this place (copy it here)")
