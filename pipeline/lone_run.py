"""How many have come of one kind since the last of another that should come with it."""

from __future__ import annotations

from pipeline.clock import NS_PER_S

_COUNT_ODD = 10
_FOR_NS = NS_PER_S
"""So long the other kind may be held up on its way."""


class LoneRun:
    """Triggers without a frame, say, or frames without a trigger."""

    def __init__(self) -> None:
        self._count = 0
        self._first_ns = self._last_ns = 0

    def add(self, at_ns: int) -> None:
        """One more without the other kind."""
        if not self._count:
            self._first_ns = at_ns
        self._last_ns = at_ns
        self._count += 1

    def end(self) -> None:
        """One of the other kind has come."""
        self._count = 0

    @property
    def odd_count(self) -> int:
        """How many; 0 where they are not more, and not for longer, than may be."""
        is_odd = self._count >= _COUNT_ODD and self._last_ns - self._first_ns >= _FOR_NS
        return self._count if is_odd else 0
