"""The halt as records keeps it beside the record, for the next start."""

from __future__ import annotations

from pipeline.clock import NS_PER_MS, now_ns
from pipeline.halt_file import HaltFile
from pipeline.messages import Halt
from pipeline.worker import Supervised

_RETRY_NS = 500 * NS_PER_MS


class KeptHalt:
    """``reason`` is why the line is halted, empty where it is not. Raises the alarm ``halt-not-kept``."""

    def __init__(self, supervised: Supervised) -> None:
        halt = supervised.configure.halt
        self._supervised = supervised
        self._file = HaltFile(supervised.line.config.records.path)
        self._resumed = halt.resumed
        self._kept = ""
        self._next_try_ns = 0
        self.reason = halt.reason

    def recall(self) -> None:
        """The record's place may have been away, or another one, when the halt was last looked for."""
        self._kept = self._file.read()
        if not self._resumed:
            self.reason = self.reason or self._kept

    def take(self, halt: Halt) -> None:
        """As signalling has it now; kept at once where the disk takes it."""
        self.reason, self._resumed, self._next_try_ns = halt.reason, halt.resumed, 0
        self.keep()

    def keep(self) -> None:
        """The halt, or that there is none; to be called at every turn of the loop, and tried again where the disk fails."""
        if self.reason == self._kept or now_ns() < self._next_try_ns:
            return
        try:
            self._file.write(self.reason)
        except OSError as error:
            self._next_try_ns = now_ns() + _RETRY_NS
            then = "come up running" if self.reason else "be halted"
            text = f"halt file {self._file.path}: {error.strerror}; were the service started now, it would {then}"
            self._supervised.alarm("halt-not-kept", "error", text)
        else:
            self._kept = self.reason
            self._supervised.clear_alarm("halt-not-kept")
