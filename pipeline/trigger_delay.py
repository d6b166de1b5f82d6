"""Which frame belongs to which trigger, found by measuring: how long after a trigger its exposure comes, how steadily, and by how
much the camera's number is ahead of the teller's counter.

Pure: times and numbers in. What is measured is no part of a decision about the parts that it is measured with, so it can wait
until all is there and look at it in the order in which it happened, whatever came first.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass

from pipeline.clock import NS_PER_MS

PAIRS = 20
"""Of so many pairs in a row delay and jitter are known."""
COUNTER_BITS = 32
_MASK = (1 << COUNTER_BITS) - 1
_SETTLED_NS = 500 * NS_PER_MS
"""By then a trigger's message and a frame's pixels have come."""
_REMEMBERED = 64
_ALONE_MAX = 5
"""So many triggers in a row without a frame of the expected number: the numbers have changed."""


def ahead(a: int, b: int) -> int:
    """How far counter ``a`` is ahead of ``b``, negative where it is behind, over the wrap at ``COUNTER_BITS``."""
    half = 1 << (COUNTER_BITS - 1)
    return ((a - b + half) & _MASK) - half


@dataclass(frozen=True, slots=True)
class Delay:
    """``step``: the camera's number less the teller's counter; ``delay_ns``: from trigger to exposure, the median;
    ``jitter_ns``: by how much the longest exceeded the shortest. ``trigger_counter``: of the newest pair.
    """

    step: int
    delay_ns: int
    jitter_ns: int
    trigger_counter: int


class DelayMeasurement:
    """``pitch_ns``: the shortest time between two parts; ``jitter_max_ns``: what the longest delay may exceed the shortest by;
    ``lag_max_ns``: by how much an exposure may come before its trigger, which then was told so much too late.

    It begins where a trigger and a frame are the first after a silence of 1.5 pitches, and less than half a pitch apart: where
    parts come one after the other a frame fits its own trigger and the next one's message that is late alike. From there on
    numbers say which belong together.
    """

    def __init__(self, pitch_ns: int, jitter_max_ns: int, lag_max_ns: int) -> None:
        self.jitter_max_ns = jitter_max_ns
        self.lag_max_ns = lag_max_ns
        self.far_ns = pitch_ns // 2
        self.silence_ns = 3 * pitch_ns // 2
        self._events: list[tuple[int, bool, int]] = []
        self._last_ns: int | None = None
        self._silence_ended_ns: int | None = None
        self._first: dict[bool, tuple[int, int]] = {}
        self._times: dict[bool, OrderedDict[int, int]] = {True: OrderedDict(), False: OrderedDict()}
        """By counter, of the latest frames (True) and triggers."""
        self._step: int | None = None
        self._delays: deque[int] = deque(maxlen=PAIRS)
        self._alone_count = 0
        self._newest_counter = 0
        self.odd_ns: int | None = None
        """What the last delay that was too far off was off by, or was, where there was none before. None once all are near."""

    def start(self, now_ns: int) -> None:
        """Triggers and frames can come from now on; what is known of their numbers is void."""
        self._events.clear()
        for times in self._times.values():
            times.clear()
        self._last_ns = now_ns
        self._begin_again()

    def trigger(self, counter: int, at_ns: int) -> None:
        heapq.heappush(self._events, (at_ns, False, counter & _MASK))

    def frame(self, number: int, exposure_ns: int) -> None:
        heapq.heappush(self._events, (exposure_ns, True, number & _MASK))

    def next_due_ns(self) -> int | None:
        """When ``advance`` may find more."""
        return self._events[0][0] + _SETTLED_NS if self._events else None

    def advance(self, now_ns: int) -> None:
        """Look at what happened up to half a second ago."""
        while self._events and self._events[0][0] <= now_ns - _SETTLED_NS:
            self._take(*heapq.heappop(self._events))

    @property
    def pair_count(self) -> int:
        """Pairs in a row so far, at most ``PAIRS``."""
        return len(self._delays)

    @property
    def jitter_ns(self) -> int:
        """Of these pairs."""
        return max(self._delays) - min(self._delays) if self._delays else 0

    @property
    def lag_ns(self) -> int:
        """How long after their exposures the triggers of these pairs are, as they are told, at the most; 0 where before."""
        return max(0, -min(self._delays)) if self._delays else 0

    @property
    def found(self) -> Delay | None:
        """None while there are not enough pairs, or their delays differ by more than they may, or they lag behind by more."""
        if self._step is None or len(self._delays) < PAIRS:
            return None
        if self.jitter_ns > self.jitter_max_ns or self.lag_ns > self.lag_max_ns:
            return None
        return Delay(self._step, self._median_ns(), self.jitter_ns, self._newest_counter)

    def _median_ns(self) -> int:
        return sorted(self._delays)[len(self._delays) // 2]

    def _begin_again(self) -> None:
        self._step = None
        self._alone_count = 0
        self._delays.clear()
        self._silence_ended_ns = None
        self._first.clear()

    def _take(self, at_ns: int, is_frame: bool, counter: int) -> None:
        if self._last_ns is None or at_ns < self._last_ns:
            # It came so late that what followed it was looked at without it.
            self._begin_again()
            self._last_ns = max(at_ns, self._last_ns or at_ns)
            return
        if at_ns - self._last_ns >= self.silence_ns:
            self._silence_ended_ns = at_ns
            self._first.clear()
            if self._step is None:
                # A side that counts anew may have had these numbers before.
                for known in self._times.values():
                    known.clear()
        self._last_ns = at_ns
        times = self._times[is_frame]
        times.pop(counter, None)
        times[counter] = at_ns
        if len(times) > _REMEMBERED:
            times.popitem(last=False)
        if self._step is None:
            self._find_step(at_ns, is_frame, counter)
        if self._step is not None:
            self._pair(is_frame, counter)

    def _find_step(self, at_ns: int, is_frame: bool, counter: int) -> None:
        if self._silence_ended_ns is not None:
            if at_ns - self._silence_ended_ns >= self.silence_ns:
                self._silence_ended_ns = None
            else:
                self._first.setdefault(is_frame, (at_ns, counter))
        if len(self._first) == 2:
            (exposure_ns, number), (trigger_ns, trigger_counter) = self._first[True], self._first[False]
            self._silence_ended_ns = None
            self._first.clear()
            if abs(exposure_ns - trigger_ns) <= self.far_ns:
                self._step = ahead(number, trigger_counter)
            else:
                self.odd_ns = exposure_ns - trigger_ns

    def _pair(self, is_frame: bool, counter: int) -> None:
        assert self._step is not None
        wanted = counter - self._step if is_frame else counter + self._step
        other_ns = self._times[not is_frame].get(wanted & _MASK)
        if other_ns is None:
            self._alone_count += not is_frame
            if self._alone_count > _ALONE_MAX:
                self._begin_again()
            return
        self._alone_count = 0
        self._newest_counter = (wanted if is_frame else counter) & _MASK
        own_ns = self._times[is_frame][counter]
        delay_ns = own_ns - other_ns if is_frame else other_ns - own_ns
        known_ns = self._median_ns() if self._delays else delay_ns
        if abs(delay_ns - known_ns) > self.far_ns:
            self.odd_ns = delay_ns - known_ns
            self._begin_again()
            return
        self._delays.append(delay_ns)
        if len(self._delays) == PAIRS:
            self.odd_ns = None
