"""A clock that stands still but for what a test moves it: what holds up the test's process says nothing of the parts in it."""

from __future__ import annotations

from pipeline.clock import now_ns

_BEHIND_NS = 3_600_000_000_000


class MovedClock:
    """In ns, an hour behind the real one: a moment of its own is told from one of the real clock, and nothing is in the future."""

    def __init__(self) -> None:
        self.ns = now_ns() - _BEHIND_NS

    def __call__(self) -> int:
        return self.ns

    def reach(self, due_ns: int | None) -> int | None:
        """Where that is a moment of this clock it comes at once: now, on the real one; else ``due_ns`` as it is."""
        if due_ns is None or due_ns > now_ns() - _BEHIND_NS // 2:
            return due_ns
        self.ns = max(self.ns, due_ns)
        return now_ns()
