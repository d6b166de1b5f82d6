"""A command in a terminal, and a test as the person at it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

_WAIT_S = 30.0


class PseudoTerminal:
    """The command's standard streams are a terminal of its own."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self._main, child = pty.openpty()
        self.process = subprocess.Popen(
            [*map(str, command)],
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200", "LINES": "60"},
        )
        os.close(child)
        self._said = ""
        self._seen = 0
        self._news = threading.Condition()
        self._is_over = False
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> PseudoTerminal:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._main)

    def wait_for(self, words: str) -> str:
        """All that was said since the last time up to these words."""
        with self._news:
            assert self._news.wait_for(lambda: words in self._said[self._seen :] or self._is_over, _WAIT_S), self._said
            at = self._said.find(words, self._seen)
            assert at >= 0, f"never said {words!r}: {self._said}"
            said, self._seen = self._said[self._seen : at + len(words)], at + len(words)
            return said

    def type(self, text: str) -> None:
        """And Enter."""
        os.write(self._main, f"{text}\n".encode())

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.write(self._main, b"\x03")

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(_WAIT_S)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._main, 65_536)
            except OSError:  # EIO: nobody has it open any more
                chunk = b""
            with self._news:
                self._said += chunk.decode(errors="replace")
                self._is_over = not chunk
                self._news.notify_all()
            if not chunk:
                return


def _take_terminal() -> None:
    """The terminal's Ctrl-C is the command's; pytest may have it ignored."""
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
