"""A device's frame numbers, which wrap and start again: how far along the stream a frame is, and how many were lost."""

from __future__ import annotations


class FrameNumbers:
    """After ``count`` numbers they come again (GigE Vision 1: 65,535 of them, as there is no 0)."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._newest: int | None = None
        self._along = 0

    def next(self, number: int) -> tuple[int, int] | None:
        """How far along the stream this frame is, counted from 0, and how many before it never came.

        None where it is no later than the newest: a double, or one out of order, whose place was counted as lost.
        """
        if self._newest is None:
            self._newest = number
            return 0, 0
        ahead = (number - self._newest) % self._count
        if ahead == 0 or ahead > self._count // 2:
            return None
        self._newest = number
        self._along += ahead
        return self._along, ahead - 1
