"""The last challenge's outcome as records keeps it beside the record, for the next start."""

from __future__ import annotations

from pipeline.challenge_file import ChallengeFile
from pipeline.clock import NS_PER_MS, now_ns
from pipeline.messages import ChallengeOutcome
from pipeline.worker import Supervised

_RETRY_NS = 500 * NS_PER_MS


class KeptChallenge:
    """Raises the alarm ``challenge-not-kept``.

    Attributes:
        tried_boot_ns: ``ended_boot_ns`` of the outcome that was written last, None before the first.
        trouble: why that failed; empty where it is on disk.
    """

    def __init__(self, supervised: Supervised) -> None:
        self._supervised = supervised
        self._file = ChallengeFile(supervised.line.config.records.path)
        # A predecessor may have died before its disk took it.
        self._unkept: ChallengeOutcome | None = supervised.configure.challenge
        self._next_try_ns = 0
        self.tried_boot_ns: int | None = None
        self.trouble = ""

    def take(self, outcome: ChallengeOutcome) -> None:
        """As signalling has it now; to be kept at once."""
        self._unkept, self._next_try_ns = outcome, 0

    def keep(self) -> bool:
        """To be called at every turn of the loop; tried again where the disk fails. Whether something was tried."""
        if self._unkept is None or now_ns() < self._next_try_ns:
            return False
        self.tried_boot_ns = self._unkept.ended_boot_ns
        try:
            self._file.write(self._unkept)
        except OSError as error:
            self._next_try_ns = now_ns() + _RETRY_NS
            self.trouble = f"challenge file {self._file.path}: {error.strerror}"
            then = "were the service started now, it would not know of this"
            self._supervised.alarm("challenge-not-kept", "error", f"{self.trouble}; {then}")
        else:
            self._unkept, self.trouble = None, ""
            self._supervised.clear_alarm("challenge-not-kept")
        return True
