"""Whether production may run by the last challenge, and the challenge under way: what signalling minds of both."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from pipeline.challenge import BEGAN, ChallengeRun, Moment, Product, judged_with
from pipeline.clock import NS_PER_S, boot_id, boot_ns, wall_text
from pipeline.deadline import Decision
from pipeline.messages import ChallengeOutcome
from pipeline.worker import Supervised

_NS_PER_HOUR = 3_600 * NS_PER_S
_DUE_SHARE = 0.05
"""Of the hours that a challenge is valid: so long before it expires an alarm says so."""
_CLOCK_SLACK_NS = 60 * NS_PER_S
"""By which a wall clock may go back without anything being wrong."""
_ASK = "put the known parts ready and send cmd/start_challenge (lineside calibrate challenge leads through it)"


def moment_now() -> Moment:
    """By all clocks."""
    return Moment(time.time_ns(), boot_id(), boot_ns())


class ChallengeWatch:
    """Of one session. Raises the alarms ``challenge`` (production waits for one) and ``challenge-due`` (it soon will).

    How old a challenge is, is told by the clock of the box's start, which nobody sets. Of one from before that, the wall clock
    tells, and is asked again each time: it may be wrong at the start and right later. One from the future counts as expired.
    """

    def __init__(self, supervised: Supervised, clock: Callable[[], Moment] = moment_now) -> None:
        config = supervised.line.config
        self._supervised = supervised
        self._clock = clock
        self._kinds = config.challenge
        self._judged_with = judged_with(supervised.line)
        self._valid_ns = (
            None if config.challenge_valid_hours is None else int(config.challenge_valid_hours * _NS_PER_HOUR)
        )
        self._run: ChallengeRun | None = None
        self._asked_boot_ns = 0
        """Of the outcome that says that the one under way is asked for."""
        self._begins_ns: int | None = None
        """From when on parts are its own: since then that outcome is on disk."""
        self._last: ChallengeOutcome | None = None
        self._counts = False
        """Whether the last one passed, for this very line."""
        self._valid_for = ""
        self._due_text = ""
        self._model_sha256: str | None = None
        if supervised.configure.challenge is not None:
            self._take(supervised.configure.challenge)

    @property
    def is_under_way(self) -> bool:
        """Asked for, and neither over nor abandoned."""
        return self._run is not None

    @property
    def has_begun(self) -> bool:
        """Known parts may come: whatever happens from here on, no restart forgets that it was asked for."""
        return self._run is not None and self._begins_ns is not None

    def model_in_use(self, model_sha256: str) -> None:
        """What a challenge that counts was made with."""
        self._model_sha256 = model_sha256

    def progress(self) -> str:
        """For the operator, while one is under way."""
        assert self._run is not None
        if self._begins_ns is None:
            return f"challenge by {self._run.who}: about to begin; put nothing on the line yet"
        return self._run.progress()

    def asked(self) -> str:
        """Why production must not run; empty where it may."""
        if self._valid_ns is None:
            return ""
        left_ns = self._left_ns() if self._counts and self._model_sha256 == self._valid_for else 0
        reason = self._why_not() if left_ns <= 0 else ""
        if reason:
            self._supervised.alarm("challenge", "error", reason)
            self._supervised.clear_alarm("challenge-due")
            return reason
        self._supervised.clear_alarm("challenge")
        if left_ns <= self._valid_ns * _DUE_SHARE:
            self._supervised.alarm("challenge-due", "warning", self._due_text)
        else:
            self._supervised.clear_alarm("challenge-due")
        return ""

    def start(self, who: str, request_id: str) -> tuple[bool, str]:
        """What passed before counts no more. Parts are the challenge's from when that is on disk: see ``written``."""
        if not self._kinds:
            return False, "no challenge is configured (challenge)"
        if self._run is not None:
            return False, f"a challenge is under way: {self.progress()}; cmd/abandon_challenge ends it"
        self._run, self._begins_ns = ChallengeRun(self._kinds, who, request_id), None
        self._supervised.clear_alarm("challenge-due")
        outcome = self._outcome()
        self._asked_boot_ns = outcome.ended_boot_ns
        self._end_with(outcome, BEGAN)
        return True, self.progress()

    def written(self, ended_boot_ns: int, trouble: str, now_ns: int) -> None:
        """Records has tried to keep the outcome of this moment. A challenge that a broken disk would forget does not begin."""
        if self._run is None or self._begins_ns is not None or ended_boot_ns != self._asked_boot_ns:
            return
        if trouble:
            self.abandon(f"before it began, as that cannot be kept: {trouble}")
        else:
            self._begins_ns = now_ns

    def abandon(self, why: str) -> tuple[bool, str]:
        """The challenge under way has failed."""
        if self._run is None:
            return False, "no challenge is under way"
        outcome = self._outcome()
        self._run = None
        self._end_with(outcome, f"abandoned ({why})")
        return True, f"the challenge by {outcome.who} is abandoned, which counts as failed"

    def opened(self, part_id: int, trigger_ns: int) -> None:
        """A part is taken that is to be rejected for the challenge. One that was triggered before that began, and is only heard of
        now, counts for nothing: it is none of the known parts.
        """
        if self._run is not None and self._begins_ns is not None and trigger_ns >= self._begins_ns:
            self._run.opened(part_id)

    def decided(self, decision: Decision) -> None:
        """One part's verdict is out."""
        if self._run is None or decision.judged is None:
            return
        self._run.decided(decision.part_id, decision.judged)
        if self._run.is_complete:
            outcome = self._outcome()
            self._run = None
            self._take(outcome)
            self._supervised.post(outcome)

    def _outcome(self) -> ChallengeOutcome:
        assert self._run is not None
        recipe = self._supervised.line.recipe
        product = Product(recipe.recipe_id, recipe.recipe_version, self._model_sha256 or "", self._judged_with)
        return self._run.outcome(product, self._clock())

    def _end_with(self, outcome: ChallengeOutcome, text: str) -> None:
        failed = msgspec.structs.replace(outcome, passed=False, text=text)
        self._take(failed)
        self._supervised.post(failed)

    def _take(self, outcome: ChallengeOutcome) -> None:
        self._last = outcome
        self._counts = outcome.passed and outcome.judged_with == self._judged_with
        self._valid_for = outcome.model_sha256
        expires = _when(outcome.ended_utc_ns + (self._valid_ns or 0))
        self._due_text = f"the challenge expires at {expires}; from then on nothing is judged: {_ASK}"

    def _left_ns(self) -> int:
        """For so long the last one is still valid; not above 0 where it is not, or where nobody knows."""
        assert self._valid_ns is not None
        age_ns = self._age_ns()
        return self._valid_ns - age_ns if age_ns > -_CLOCK_SLACK_NS else 0

    def _age_ns(self) -> int:
        """Of the last one; negative where it is from the future."""
        assert self._last is not None
        now = self._clock()
        if now.boot_id == self._last.boot_id:
            return now.boot_ns - self._last.ended_boot_ns
        return now.utc_ns - self._last.ended_utc_ns

    def _why_not(self) -> str:
        last = self._last
        if last is None:
            return f"no challenge yet; {_ASK}"
        when = _when(last.ended_utc_ns)
        if not last.passed:
            return f"the challenge of {when} by {last.who} failed: {last.text}; find out why, then {_ASK}"
        if not self._counts or last.model_sha256 != self._model_sha256:
            of = f"{last.recipe_id} {last.recipe_version}, model {last.model_sha256[:8]}"
            return f"the challenge of {when} was of another product, recipe, model, camera, calibration or plan ({of}); {_ASK}"
        assert self._valid_ns is not None
        if self._age_ns() < 0:
            return f"the challenge of {when} by {last.who} is from the future: the clock is wrong, or was; set it, or {_ASK}"
        return f"the challenge of {when} by {last.who} has expired after {self._valid_ns / _NS_PER_HOUR:g} h; {_ASK}"


def _when(wall_ns: int) -> str:
    return f"{wall_text(wall_ns)[:16].replace('T', ' ')} UTC"
