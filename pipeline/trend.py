"""The trend of the times: says that the service is getting slow before parts run out of time. Pure: times in, alarms out.

Two gauges over the last ``window_parts`` parts that were judged, or that ran out of time while being judged:

* ``over-budget``: the share of parts that took longer than ``budget_us`` from frame in memory to socket. Raised above
  ``over_budget_share``, taken back at half of it.
* ``low-headroom``: how much of the time from trigger to choice (``deadline_us - guard_us``) the slow ones of the parts use, those
  beyond the 95th percentile. Raised above ``headroom_used``, taken back at 85 % of it.

A window that is not full yet counts as if the parts it lacks were quick.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config_sections import DegradedConfig, TimingConfig

OVER_BUDGET = "over-budget"
LOW_HEADROOM = "low-headroom"
_SLOW_SHARE = 0.05
_WAY_BACK_SHARE = 0.5
_WAY_BACK_HEADROOM = 0.85


@dataclass(frozen=True, slots=True)
class TrendAlarm:
    """A warning raised, or taken back where ``text`` is None."""

    code: str
    text: str | None


class _Gauge:
    """Counts, over a window, the values above two levels: the count above one raises, that above the other takes back."""

    __slots__ = (
        "_back_above",
        "_back_max",
        "_back_us",
        "_place",
        "_raise_above",
        "_raise_max",
        "_raise_us",
        "_us",
        "raised",
    )

    def __init__(
        self, window_parts: int, *, raise_us: float, raise_share: float, back_us: float, back_share: float
    ) -> None:
        self._us = [0] * window_parts
        self._place = 0
        self._raise_us = raise_us
        self._raise_max = raise_share * window_parts
        self._raise_above = 0
        self._back_us = back_us
        self._back_max = back_share * window_parts
        self._back_above = 0
        self.raised = False

    def add(self, value_us: int) -> bool:
        """Whether ``raised`` has changed. ``value_us``: more than 0, which is no part yet."""
        gone_us = self._us[self._place]
        self._us[self._place] = value_us
        self._place += 1
        if self._place == len(self._us):
            self._place = 0
        self._raise_above += (value_us > self._raise_us) - (gone_us > self._raise_us)
        self._back_above += (value_us > self._back_us) - (gone_us > self._back_us)
        if self.raised:
            self.raised = self._back_above > self._back_max
            return not self.raised
        self.raised = self._raise_above > self._raise_max
        return self.raised

    @property
    def above_count(self) -> int:
        return self._raise_above

    @property
    def parts_count(self) -> int:
        """In the window so far."""
        return sum(value_us > 0 for value_us in self._us)

    def percentile_us(self, share: float) -> int:
        """By nearest rank, over the parts that are there."""
        known_us = sorted(value_us for value_us in self._us if value_us > 0)
        return known_us[math.ceil(share * len(known_us)) - 1]


class Trend:
    """See the module's text. Constant time a part; only raising sorts the window, for the figures in the text."""

    def __init__(self, config: DegradedConfig, timing: TimingConfig) -> None:
        self._budget_us = timing.budget_us
        self._limit_share = config.headroom_used
        self._choice_us = timing.deadline_us - timing.guard_us
        share = config.over_budget_share
        self._budget = _Gauge(
            config.window_parts,
            raise_us=timing.budget_us,
            raise_share=share,
            back_us=timing.budget_us,
            back_share=share * _WAY_BACK_SHARE,
        )
        limit_us = config.headroom_used * self._choice_us
        self._headroom = _Gauge(
            config.window_parts,
            raise_us=limit_us,
            raise_share=_SLOW_SHARE,
            back_us=limit_us * _WAY_BACK_HEADROOM,
            back_share=_SLOW_SHARE,
        )

    def judged(self, latency_us: int, used_us: int) -> Sequence[TrendAlarm]:
        """One part: ``latency_us`` from frame in memory to socket, ``used_us`` from trigger to decision."""
        budget_changed, headroom_changed = self._budget.add(latency_us), self._headroom.add(used_us)
        if not (budget_changed or headroom_changed):
            return ()
        alarms = []
        if budget_changed:
            alarms.append(TrendAlarm(OVER_BUDGET, self._over_budget_text() if self._budget.raised else None))
        if headroom_changed:
            alarms.append(TrendAlarm(LOW_HEADROOM, self._headroom_text() if self._headroom.raised else None))
        return alarms

    def _over_budget_text(self) -> str:
        return (
            f"{self._budget.above_count} of the last {self._budget.parts_count} parts took longer than budget_us "
            f"{self._budget_us} (median {self._budget.percentile_us(0.5)} us, 95th percentile "
            f"{self._budget.percentile_us(0.95)} us): the service is getting slow"
        )

    def _headroom_text(self) -> str:
        slow_us = self._headroom.percentile_us(1 - _SLOW_SHARE)
        used = f"{slow_us} us, {slow_us / self._choice_us:.0%} of the {self._choice_us} us there are"
        return (
            f"from trigger to decision the 95th percentile of the last {self._headroom.parts_count} parts is {used} "
            f"(limit {self._limit_share:.0%}): parts will soon run out of time"
        )
