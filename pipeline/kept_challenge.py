"""The last challenge's outcome as records keeps it beside the record, for the next start."""

from __future__ import annotations

from pipeline.challenge_file import ChallengeFile
from pipeline.clock import NS_PER_MS, now_ns
from pipeline.messages import ChallengeOutcome
from pipeline.worker import Supervised

_RETRY_NS = 500 * NS_PER_MS


class KeptChallenge:
    """Raises the alarm ``challenge-not-kept``."""

    def __init__(self, supervised: Supervised) -> None:
        self._supervised = supervised
        self._file = ChallengeFile(supervised.line.config.records.path)
        # A predecessor may have died before its disk took it.
        self._unkept: ChallengeOutcome | None = supervised.configure.challenge
        self._next_try_ns = 0

    def take(self, outcome: ChallengeOutcome) -> None:
        """As signalling has it now; kept at once where the disk takes it."""
        self._unkept, self._next_try_ns = outcome, 0
        self.keep()

    def keep(self) -> None:
        """To be called at every turn of the loop; tried again where the disk fails."""
        if self._unkept is None or now_ns() < self._next_try_ns:
            return
        try:
            self._file.write(self._unkept)
        except OSError as error:
            self._next_try_ns = now_ns() + _RETRY_NS
            then = "were the service started now, the challenge before this one would count"
            text = f"challenge file {self._file.path}: {error.strerror}; {then}"
            self._supervised.alarm("challenge-not-kept", "error", text)
        else:
            self._unkept = None
            self._supervised.clear_alarm("challenge-not-kept")
