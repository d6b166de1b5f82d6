"""Line rules: what a run of parts says about the line, rather than about one part. Pure: verdicts in, alarms out.

What counts: only parts of production that were given a verdict on their own merits.

* ``consecutive_rejects``: REJECT (DEFECT) in a row. A PASS ends the run. NO_DECISION neither adds to it nor ends it, since nothing
  was learned of that part.
* ``reject_rate``: the share of REJECT (DEFECT) among the last ``window_parts`` parts that were judged PASS or REJECT. ``max_share``
  is exceeded as soon as the rejects are too many for the whole window, even before it is full; ``min_share`` is looked at
  once it is full, since a line that suddenly rejects nothing may have lost its light or its model.
* ``consecutive_no_decisions``: NO_DECISION in a row, whatever the reason; a PASS or REJECT ends the run.

NOT_RUNNING parts were never to be judged, and CHALLENGE parts are rejected on purpose: neither counts anywhere.

Hysteresis: an alarm is raised once and stays. A run's alarm is taken back after as many parts in a row of the other sort as it
took to raise it; the rate's once the share is back by a fifth of its limit (by less where that would be past the middle
between two limits). ``reset``, after an operator's resume, takes everything back and counts from nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config_sections import LineRulesConfig, RateRule, RunRule
from vision.types import Reason, Verdict

CONSECUTIVE_REJECTS = "line-consecutive-rejects"
REJECT_RATE = "line-reject-rate"
CONSECUTIVE_NO_DECISIONS = "line-consecutive-no-decisions"
_WAY_BACK = 0.2


@dataclass(frozen=True, slots=True)
class RuleAlarm:
    """An alarm raised, or taken back where ``text`` is None. ``stop``: the line is to halt."""

    code: str
    text: str | None
    stop: bool = False


class _Run:
    """Parts of one sort in a row."""

    def __init__(self, rule: RunRule, code: str, words: str) -> None:
        self._rule = rule
        self._code = code
        self._words = words
        self._adding = 0
        self._ending = 0
        self.raised = False

    def add(self, part_id: int, adds: bool) -> RuleAlarm | None:
        if not adds:
            self._adding = 0
            self._ending += 1
            if self.raised and self._ending >= self._rule.count:
                self.raised = False
                return RuleAlarm(self._code, None)
            return None
        self._ending = 0
        self._adding += 1
        if self.raised or self._adding < self._rule.count:
            return None
        self.raised = True
        text = f"{self._rule.count} {self._words} in a row, up to part {part_id}"
        return RuleAlarm(self._code, text, self._rule.action == "stop")

    def reset(self) -> RuleAlarm | None:
        self._adding = self._ending = 0
        was_raised, self.raised = self.raised, False
        return RuleAlarm(self._code, None) if was_raised else None


class _Rate:
    """The share of rejects in a window."""

    def __init__(self, rule: RateRule) -> None:
        self._rule = rule
        self._window: deque[bool] = deque(maxlen=rule.window_parts)
        self._rejects = 0
        self._raised = ""
        self._max_share = 1.0 if rule.max_share is None else rule.max_share
        self._min_share = 0.0 if rule.min_share is None else rule.min_share
        # Back from one limit must not mean beyond the other.
        middle = (self._max_share + self._min_share) / 2
        self._back_from_high = max(self._max_share * (1 - _WAY_BACK), middle if self._min_share else 0.0)
        self._back_from_low = min(self._min_share * (1 + _WAY_BACK), middle)

    def add(self, part_id: int, is_reject: bool) -> RuleAlarm | None:
        if len(self._window) == self._rule.window_parts:
            self._rejects -= self._window[0]
        self._window.append(is_reject)
        self._rejects += is_reject
        share = self._rejects / self._rule.window_parts
        full = len(self._window) == self._rule.window_parts
        if share > self._max_share:
            return self._raise("high", f"more than {self._max_share:g}", part_id)
        if full and share < self._min_share:
            return self._raise("low", f"less than {self._min_share:g}", part_id)
        if (self._raised == "high" and share <= self._back_from_high) or (
            self._raised == "low" and full and share >= self._back_from_low
        ):
            self._raised = ""
            return RuleAlarm(REJECT_RATE, None)
        return None

    def _raise(self, side: str, limit: str, part_id: int) -> RuleAlarm | None:
        if self._raised == side:
            return None
        self._raised = side
        share = f"{self._rejects} of the last {len(self._window)} judged parts"
        if len(self._window) < self._rule.window_parts:
            share += f" (the window holds {self._rule.window_parts})"
        text = f"{share} rejected, {limit} of the window, up to part {part_id}"
        return RuleAlarm(REJECT_RATE, text, self._rule.action == "stop")

    def reset(self) -> RuleAlarm | None:
        self._window.clear()
        self._rejects = 0
        was_raised, self._raised = self._raised, ""
        return RuleAlarm(REJECT_RATE, None) if was_raised else None


class LineRules:
    """See the module's text. Constant time a part, whatever the windows."""

    def __init__(self, config: LineRulesConfig) -> None:
        self._rejects: _Run | None = None
        self._rate: _Rate | None = None
        self._no_decisions: _Run | None = None
        if config.consecutive_rejects is not None:
            self._rejects = _Run(config.consecutive_rejects, CONSECUTIVE_REJECTS, "parts rejected")
        if config.reject_rate is not None:
            self._rate = _Rate(config.reject_rate)
        if config.consecutive_no_decisions is not None:
            self._no_decisions = _Run(
                config.consecutive_no_decisions, CONSECUTIVE_NO_DECISIONS, "parts without a decision"
            )

    def decided(self, part_id: int, verdict: Verdict, reason: Reason) -> Sequence[RuleAlarm]:
        """Take in one part's verdict, in the order of ``seq``; returns the alarms that it raises or takes back."""
        if reason is Reason.NOT_RUNNING or reason is Reason.CHALLENGE:
            return ()
        no_decision = verdict is Verdict.NO_DECISION
        found = [self._no_decisions.add(part_id, no_decision)] if self._no_decisions is not None else []
        if not no_decision:
            is_reject = verdict is Verdict.REJECT
            if self._rejects is not None:
                found.append(self._rejects.add(part_id, is_reject))
            if self._rate is not None:
                found.append(self._rate.add(part_id, is_reject))
        return [alarm for alarm in found if alarm is not None]

    def reset(self) -> Sequence[RuleAlarm]:
        """Count from nothing; returns the alarms taken back."""
        rules = (self._rejects, self._rate, self._no_decisions)
        return [alarm for rule in rules if rule is not None and (alarm := rule.reset()) is not None]
