"""A halt outlives the service in a small file beside the record: whoever starts it next finds it halted, after a power cut too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec


class _Kept(msgspec.Struct):
    reason: str


class HaltFile:
    """Of one record. Read by the supervisor at its start, written by records, which may wait for a disk."""

    def __init__(self, record: Path) -> None:
        self.path = record.with_name(f"{record.name}.halt")

    def read(self) -> str:
        """Why the line is halted, empty where it is not. What cannot be read is a reason too."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Kept).reason
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"halt file {self.path} cannot be read ({error}); send cmd/resume"

    def write(self, reason: str) -> None:
        """The file is whole and on disk, or gone where ``reason`` is empty. Raises OSError."""
        if reason:
            scratch = self.path.with_name(f"{self.path.name}.new")
            with scratch.open("wb") as file:
                file.write(msgspec.json.encode(_Kept(reason)))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path)
        else:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
