"""A device's frame numbers, which wrap: how far along the stream a frame is, and how many were lost before it."""

from __future__ import annotations

_LOST_MAX = 1_000
"""Of more frames lost at once than this, not one was; the device counts anew."""


class FrameNumbers:
    """After ``count`` numbers they come again (GigE Vision 1: 65,535 of them, as there is no 0)."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._newest: int | None = None
        self._along = 0

    def next(self, number: int) -> tuple[int, int] | None:
        """How far along the stream this frame is, counted from 0, and how many before it never came.

        None where it does not go on from the newest: the device counts anew, and nobody knows what was lost.
        """
        if self._newest is None:
            self._newest = number
            return 0, 0
        ahead = (number - self._newest) % self._count
        if not 0 < ahead <= _LOST_MAX + 1:
            return None
        self._newest = number
        self._along += ahead
        return self._along, ahead - 1
