"""The belt's motion, and an agenda of what is due at a moment or at a place on it. Pure: the clock is an argument."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

Action = Callable[[int], None]
"""Called with the moment it was due, in nanoseconds."""


_PASSED_KEPT = 1_024
"""So many places behind can be passed again when the belt runs back."""


class Belt:
    """Where the belt is. It moves at one speed until told another, backwards where that is negative.

    Positions are in encoder pulses and never wrap.
    """

    def __init__(self, speed_mm_s: float, pulses_per_mm: float, now_ns: int) -> None:
        self._pulses_per_mm = pulses_per_mm
        self._since_ns = now_ns
        self._position_then_pulses = 0.0
        self._speed_mm_s = speed_mm_s

    @property
    def speed_mm_s(self) -> float:
        """The present speed, 0 where the belt stands."""
        return self._speed_mm_s

    def set_speed(self, speed_mm_s: float, at_ns: int) -> None:
        """From ``at_ns`` on the belt moves at this speed."""
        self._position_then_pulses = self.position_pulses(at_ns)
        self._since_ns = at_ns
        self._speed_mm_s = speed_mm_s

    def position_pulses(self, at_ns: int) -> float:
        """Where the belt is at ``at_ns``, which is not before the last change of speed."""
        return self._position_then_pulses + (at_ns - self._since_ns) * self._pulses_per_ns

    def reaches_at_ns(self, position_pulses: float) -> int | None:
        """When the belt gets there at the present speed; None where it stands, and in the past where it runs away from there."""
        if self._speed_mm_s == 0:
            return None
        return self._since_ns + math.ceil((position_pulses - self._position_then_pulses) / self._pulses_per_ns)

    @property
    def _pulses_per_ns(self) -> float:
        return self._speed_mm_s * self._pulses_per_mm * 1e-9


class Agenda:
    """What is due when. Places on the belt become moments only when asked, so a change of speed moves them all."""

    def __init__(self, belt: Belt) -> None:
        self._belt = belt
        self._moments: list[tuple[int, int, Action]] = []
        self._places: list[tuple[float, int, Action, Action | None]] = []
        self._passed: list[tuple[float, int, Action]] = []
        """By the place's negative: what is done when the belt comes back."""
        self._entered = 0

    def at_moment(self, due_ns: int, action: Action) -> None:
        """Has ``action`` done at a moment."""
        self._entered += 1
        heapq.heappush(self._moments, (due_ns, self._entered, action))

    def at_place(self, position_pulses: float, action: Action, again: Action | None = None) -> None:
        """Has ``action`` done when the belt is at a place, and ``again`` whenever it is there later, either way."""
        self._entered += 1
        heapq.heappush(self._places, (position_pulses, self._entered, action, again))

    def next_due_ns(self) -> int | None:
        """When the next action is due; None where nothing is, or only places that the belt never reaches."""
        place_pulses = self._next_place()
        place_ns = None if place_pulses is None else self._belt.reaches_at_ns(place_pulses)
        moment_ns = self._moments[0][0] if self._moments else None
        if place_ns is None or moment_ns is None:
            return moment_ns if place_ns is None else place_ns
        return min(place_ns, moment_ns)

    def take_due(self, now_ns: int) -> tuple[int, Action] | None:
        """Takes out the earliest action that is due by ``now_ns``, with its moment; None where there is none."""
        due_ns = self.next_due_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        if self._moments and self._moments[0][0] == due_ns:
            return due_ns, heapq.heappop(self._moments)[2]
        self._entered += 1
        if self._belt.speed_mm_s < 0:
            place, _, again = heapq.heappop(self._passed)
            heapq.heappush(self._places, (-place, self._entered, again, again))
            return due_ns, again
        position_pulses, _, action, passing = heapq.heappop(self._places)
        if passing is not None:
            heapq.heappush(self._passed, (-position_pulses, self._entered, passing))
            if len(self._passed) > 2 * _PASSED_KEPT:
                self._passed = heapq.nsmallest(_PASSED_KEPT, self._passed)
        return due_ns, action

    def _next_place(self) -> float | None:
        if self._belt.speed_mm_s < 0:
            return -self._passed[0][0] if self._passed else None
        return self._places[0][0] if self._places else None
