"""A small disk of the suite's own for the record: it can be filled and made read-only, and nothing else notices."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNS = 0x00020000


class DiskUnavailable(RuntimeError):
    """Mounting is not permitted here."""


class SmallDisk:
    """A tmpfs in a mount namespace of this process, which its children share and which ends with them."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises DiskUnavailable."""
        self.folder = folder
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise DiskUnavailable(f"a mount namespace: {os.strerror(ctypes.get_errno())}; it needs root")
        _mount("--make-rprivate", "/")
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "lineside-chaos", str(folder))

    def close(self) -> None:
        """Unmount; the folder stays, empty."""
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte is free."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            status = os.statvfs(self.folder)
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize)
            file.seek(0, os.SEEK_END)
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        try:
            yield
        finally:
            filler.unlink()

    def set_read_only(self) -> None:
        """Raises DiskUnavailable while somebody has a file open for writing."""
        _mount("-o", "remount,ro", str(self.folder))

    def set_writable(self) -> None:
        _mount("-o", "remount,rw", str(self.folder))


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise DiskUnavailable(f"mount: {error.strerror}") from error
    if done.returncode != 0:
        raise DiskUnavailable(f"mount {' '.join(arguments)}: {done.stderr.strip()}")
