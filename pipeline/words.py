"""Words for whoever watches, on standard output or error. A reader who stands still, a full disk or a lost terminal holds
nobody up: what cannot be written at once is lost, and counted.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TextIO

_LINE_BYTES_MAX = select.PIPE_BUF - 128
"""A pipe takes so much whole or not at all, with the note before it."""


class Words:
    """One stream. It is written to past its buffer, and no longer waited for by anyone who inherits it."""

    def __init__(self, stream: TextIO) -> None:
        self._lost_count = 0
        try:
            self._descriptor = stream.fileno()
            stream.flush()
            _wait_no_more(self._descriptor)
        except OSError:
            self._descriptor = -1

    def tell(self, text: str) -> None:
        """Write one line, after a note of how many before it were lost; or lose it."""
        note = f"lineside: note: {self._lost_count} lines were lost here\n" if self._lost_count else ""
        line = text.encode(errors="backslashreplace")[:_LINE_BYTES_MAX]
        try:
            os.write(self._descriptor, note.encode() + line + b"\n")
        except OSError:
            self._lost_count += 1
        else:
            self._lost_count = 0


def _wait_no_more(descriptor: int) -> None:
    """A regular file stays as it is: the kernel knows no other way to write to one."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        os.set_blocking(descriptor, False)
    elif stat.S_ISFIFO(mode) or os.isatty(descriptor):
        # Opened anew, since whoever started us shares the old one and may not expect to see it changed.
        try:
            anew = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            # Another user's, or nobody is left to read.
            if stat.S_ISFIFO(mode):
                os.set_blocking(descriptor, False)
            return
        os.dup2(anew, descriptor)
        os.close(anew)
