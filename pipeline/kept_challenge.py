"""The last challenge's outcome as records keeps it beside the record, for the next start, and tells it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from pipeline.challenge import BEGAN
from pipeline.challenge_file import ChallengeFile
from pipeline.clock import NS_PER_MS, now_ns, wall_text
from pipeline.messages import ChallengeOutcome
from pipeline.payloads import ChallengeKindResult, ChallengePayload, VerdictName, encode
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
        self._outcome: ChallengeOutcome | None = supervised.configure.challenge
        # A predecessor may have died before its disk took it.
        self._is_kept = False
        self._is_told = False
        self._next_try_ns = 0
        self.tried_boot_ns: int | None = None
        self.trouble = ""

    def take(self, outcome: ChallengeOutcome) -> None:
        """As signalling has it now; to be kept at once."""
        self._outcome, self._next_try_ns = outcome, 0
        self._is_kept = self._is_told = False

    def keep(self) -> bool:
        """To be called at every turn of the loop; tried again where the disk fails. Whether something was tried."""
        if self._outcome is None or self._is_kept or now_ns() < self._next_try_ns:
            return False
        self.tried_boot_ns = self._outcome.ended_boot_ns
        try:
            self._file.write(self._outcome)
        except OSError as error:
            self._next_try_ns = now_ns() + _RETRY_NS
            self.trouble = f"challenge file {self._file.path}: {error.strerror}"
            then = "were the service started now, it would not know of this"
            self._supervised.alarm("challenge-not-kept", "error", f"{self.trouble}; {then}")
        else:
            self.trouble = ""
            self._is_kept, self._is_told = True, False
            self._supervised.clear_alarm("challenge-not-kept")
        return True

    def tell(self, send: Callable[[bytes], bool]) -> None:
        """``send`` hands over the payload, or says that it could not: then later. Told once before it is kept, and once after."""
        if self._outcome is not None and not self._is_told:
            payload = _payload(self._outcome, self._supervised.configure.session_id, is_kept=self._is_kept)
            self._is_told = send(encode(payload))

    def tell_again(self) -> None:
        """The broker may have forgotten."""
        self._is_told = False


def _payload(outcome: ChallengeOutcome, session_id: str, *, is_kept: bool) -> ChallengePayload:
    return ChallengePayload(
        session_id=session_id,
        request_id=outcome.request_id,
        who=outcome.who,
        is_over=outcome.text != BEGAN,
        is_kept=is_kept,
        passed=outcome.passed,
        text=outcome.text,
        ended_utc=wall_text(outcome.ended_utc_ns),
        recipe_id=outcome.recipe_id,
        recipe_version=outcome.recipe_version,
        model_sha256=outcome.model_sha256,
        kinds=[
            ChallengeKindResult(
                kind=kind.kind,
                expected=kind.expected,
                count=kind.count,
                part_count=kind.part_count,
                wrong_max=kind.wrong_max,
                judged=[cast("VerdictName", verdict) for verdict in kind.judged],
            )
            for kind in outcome.kinds
        ],
    )
