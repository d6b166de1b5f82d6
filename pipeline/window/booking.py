"""Whether a window may begin, and until when frames are handed on for the one that has. Pure.

One at a time, from the moment its command is passed on until who writes it has closed it.
"""

from __future__ import annotations

from pipeline.clock import NS_PER_S

_MARGIN_NS = NS_PER_S
"""It begins a moment after it was asked for, and its last frames come after its end."""


class WindowBooking:
    """``until_ns``: so long frames are handed on."""

    def __init__(self) -> None:
        self.until_ns = 0
        self._is_open = False
        self._asked: tuple[str, float] | None = None

    @property
    def is_open(self) -> bool:
        """Whether one is being written, or about to be."""
        return self._is_open

    @property
    def is_taken(self) -> bool:
        """Whether there is one, or a command for one that is not answered yet."""
        return self._is_open or self._asked is not None

    def ask(self, request_id: str, duration_s: float) -> None:
        """A command for one is passed on."""
        self._asked = (request_id, duration_s)

    def answered(self, request_id: str | None) -> float | None:
        """For how many seconds the command that is answered asked, which waits no more; None where it is not that one."""
        if self._asked is None or self._asked[0] != request_id:
            return None
        _, duration_s = self._asked
        self._asked = None
        return duration_s

    def open(self, duration_s: float, asked_ns: int) -> None:
        """It was told to begin; who writes it says more exactly when it ends."""
        self._is_open = True
        self.until_ns = asked_ns + int(duration_s * NS_PER_S) + _MARGIN_NS

    def span(self, until_ns: int) -> None:
        """As who writes it says."""
        if self._is_open:
            self.until_ns = until_ns

    def close(self) -> None:
        """It is closed, or who wrote it is dead."""
        self._is_open = False
        self.until_ns = 0
