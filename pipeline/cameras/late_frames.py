"""Whether frames come late for so long that no spell of a busy network explains it."""

from __future__ import annotations

from pipeline.clock import NS_PER_MS, NS_PER_S

_FOR_NS = NS_PER_S
_COUNT = 5


class LateFrames:
    """``late_ns``: a frame that came later than this is late. ``is_now``: whether the last one was."""

    def __init__(self, late_ns: int) -> None:
        self._late_ns = late_ns
        self._since_ns = 0
        self._count = 0
        self.text = ""
        """What is told where they have come late for a second and more; empty where they have not."""

    @property
    def is_now(self) -> bool:
        return self._count > 0

    def take(self, later_ns: int, arrived_ns: int) -> None:
        """``later_ns``: than it should have come."""
        if later_ns <= self._late_ns:
            self._count, self.text = 0, ""
            return
        if not self._count:
            self._since_ns = arrived_ns
        self._count += 1
        if self._count >= _COUNT and arrived_ns - self._since_ns >= _FOR_NS:
            self.text = (
                f"its frames come {later_ns // NS_PER_MS} ms later than their time stamps say, for a second and more: "
                "the link lags, or its clock was set or stands still"
            )
