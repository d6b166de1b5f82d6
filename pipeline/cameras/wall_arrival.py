"""When something came, by the box's clock, where a library noted it by the wall clock: which may be set at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns

_NOISE_NS = NS_PER_MS
"""Linux slews both clocks alike (clock_gettime(2)): all else is a step."""


class WallArrival:
    """``on_way_ns``: the longest between the note and the asking. ``clocks``: the box's clock, then the wall's.

    A moment that is taken too early would pass for a part before it, one that is late is just late. So for ``on_way_ns`` after
    the wall clock was set against the box's, all has come only now.
    """

    def __init__(
        self, on_way_ns: int, clocks: tuple[Callable[[], int], Callable[[], int]] = (now_ns, time.time_ns)
    ) -> None:
        self._on_way_ns = max(on_way_ns, NS_PER_S)
        self._clocks = clocks
        _, self._ahead_ns, _ = self._ask()
        self._unsure_until_ns = 0

    def box_ns(self, noted_wall_ns: int) -> int:
        """Never later than now. To be asked of everything that comes, in that order."""
        now, ahead_ns, doubt_ns = self._ask()
        if abs(ahead_ns - self._ahead_ns) > _NOISE_NS + doubt_ns:
            self._unsure_until_ns = now + self._on_way_ns
        self._ahead_ns = ahead_ns
        return now if now < self._unsure_until_ns else min(now, noted_wall_ns - ahead_ns)

    def _ask(self) -> tuple[int, int, int]:
        """Now, by how much the wall clock is ahead, and how far that may be off, as others may run between the clocks."""
        box, wall = self._clocks
        before_ns = box()
        wall_ns = wall()
        now = box()
        return now, wall_ns - now, now - before_ns
