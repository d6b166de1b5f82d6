"""A halt outlives the service in a small file beside the record: whoever starts it next finds it halted, after a power cut too."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from pipeline.whole_file import sync_folder, write_whole
from vision.plain_file import NotAPlainFile, read_plain_file

_BYTES_MAX = 1 << 20


class _Kept(msgspec.Struct):
    reason: str


class HaltFile:
    """Of one record. Read by the supervisor at its start, written by records, which may wait for a disk."""

    def __init__(self, record: Path) -> None:
        self.path = record.with_name(f"{record.name}.halt")

    def read(self) -> str:
        """Why the line is halted, empty where it is not. What cannot be read is a reason too."""
        try:
            return msgspec.json.decode(read_plain_file(self.path, max_bytes=_BYTES_MAX), type=_Kept).reason
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, NotAPlainFile, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return f"halt file {self.path} cannot be read ({error}); send cmd/resume"

    def write(self, reason: str) -> None:
        """The file is whole and on disk, or gone where ``reason`` is empty. Raises OSError."""
        if reason:
            write_whole(self.path, msgspec.json.encode(_Kept(reason)))
            return
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        sync_folder(self.path.parent)
