"""Small disks of the suites' own for the record: they can be filled, made read-only, stall or lose their power, and nothing else
notices.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878
_EXT4_SHUTDOWN = 0x8004587D
_WITHOUT_THE_LOG = struct.pack("I", 2)
"""What ext4 has not put on the disk by itself stays off it."""
RECORD_BYTES_PER_PART = 6_000
_RECORD_BYTES_LEAST = 128 << 20


class DiskUnavailable(RuntimeError):
    """Mounting is not permitted here."""


class SmallDisk:
    """A tmpfs in a mount namespace of this process, which its children share and which ends with them."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises DiskUnavailable."""
        self.folder = folder
        _enter_namespace()
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


class BlockDisk:
    """An ext4 in a file, mounted as ``SmallDisk`` is: it can stall as a disk does, and lose its power."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises DiskUnavailable."""
        self.folder = folder
        self._image = folder.with_name(f"{folder.name}.img")
        _enter_namespace()
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        folder.mkdir()
        _mount("-o", "loop", str(self._image), str(folder))
        # Lets the disk go on when this process is killed while it stalls: nobody else could end what waits for it.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read -r _; exec fsfreeze --unfreeze "$0"', str(folder)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Unmount; folder and file stay."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()
        subprocess.run(["umount", str(self.folder)], capture_output=True, check=False)

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Whoever writes waits, in the kernel, until it is over. Raises OSError."""
        with self._opened() as descriptor:
            fcntl.ioctl(descriptor, _FIFREEZE, 0)
            try:
                yield
            finally:
                fcntl.ioctl(descriptor, _FITHAW, 0)

    def cut_power(self) -> None:
        """What is not on the disk by now never will be; whoever asks for anything gets an error. Raises OSError."""
        with self._opened() as descriptor:
            fcntl.ioctl(descriptor, _EXT4_SHUTDOWN, _WITHOUT_THE_LOG)

    def restore_power(self) -> None:
        """As a box that starts again finds its disk. Raises DiskUnavailable while somebody has a file open."""
        _run("umount", str(self.folder))
        _mount("-o", "loop", str(self._image), str(self.folder))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def record_disk(folder: Path, parts: float) -> BlockDisk:
    """With room for the record of so many parts. Raises DiskUnavailable."""
    return BlockDisk(folder, _RECORD_BYTES_LEAST + int(parts * RECORD_BYTES_PER_PART))


def cover(file: Path, with_file: Path) -> None:
    """Within the mount namespace of a disk ``file`` reads as ``with_file`` from now on. Raises DiskUnavailable."""
    _mount("--bind", str(with_file), str(file))


def _enter_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise DiskUnavailable(f"a mount namespace: {os.strerror(ctypes.get_errno())}; it needs root")
    _mount("--make-rprivate", "/")


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DiskUnavailable(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise DiskUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
