"""A device's time stamps in the box's clock, from when they arrived, where the device cannot be asked for its clock: offset and
drift are estimated as frames come, and a time is late by the least that frames take on their way.

What arrives never arrives before it was sent, and now and then with hardly any delay. So of each stretch of frames the one
that took least is a point, and a straight line through the points' lower edge maps one clock to the other: its slope is the
median of the slopes between points (Theil 1950, Sen 1968), which a stretch of busy network does not move.

Frames that come ever later than the line says are of a link that lags, or of a clock that was set back: nothing here tells which.
The line stays where it is, and whoever uses it has to open the device anew.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations
from statistics import median

from pipeline.clock import NS_PER_MS, NS_PER_S

_STRETCH_NS = NS_PER_S
_POINTS_MAX = 32
_POINTS_MIN = 8
"""The slope between fewer is mostly noise: 100 us of delay within a second are 100 ppm."""
_STEP_NS = 100_000_000
"""A clock that was set forward by less becomes the line's lower edge by itself."""
_PAUSE_NS = 60 * NS_PER_S
"""For so long a drift that is not known yet takes a time off by 6 ms at 100 ppm."""
_LATE_NS, _LATE_FOR_NS, _LATE_COUNT = 30 * NS_PER_MS, NS_PER_S, 5
_DRIFT_MAX = 500e-6
"""Quartz stays within some 100 ppm. More than this is a wrong tick frequency or a clock that was set."""


class ArrivalClock:
    """Offset and drift of one device."""

    def __init__(self) -> None:
        self._begin_ns: int | None = None
        """By the device: of the stretch that is being looked at."""
        self._least: tuple[int, int] | None = None
        """Of this stretch, (device_ns, how much later by the box it arrived)."""
        self._points: deque[tuple[int, int]] = deque(maxlen=_POINTS_MAX)
        self._newest_ns = 0
        self._slope = 0.0
        self._base: tuple[int, int] = (0, 0)
        self._late = _LateFrames()

    @property
    def trouble(self) -> str:
        """Why the device has to be opened anew; empty where it has not."""
        return self._late.text

    @property
    def drift_ppm(self) -> float | None:
        """How much faster the box's clock runs than the device's, in millionths. None before it is known."""
        return self._slope * 1e6 if len(self._points) >= _POINTS_MIN else None

    def box_ns(self, device_ns: int, arrived_ns: int) -> int:
        """When it was in the box's clock, never later than ``arrived_ns``. Both of one frame, in the order of arrival."""
        difference_ns = arrived_ns - device_ns
        if self._begin_ns is None or device_ns < self._newest_ns:
            self._begin(device_ns, difference_ns)
        elif device_ns - self._newest_ns > _PAUSE_NS:
            self._resume(device_ns, difference_ns)
        self._newest_ns = device_ns
        self._late.take(difference_ns - round(self._line_ns(device_ns)), arrived_ns)
        if not self._late.is_now:
            self._take(device_ns, difference_ns)
        return min(arrived_ns, device_ns + round(self._line_ns(device_ns)))

    def end(self) -> None:
        """Nothing is asked."""

    def _begin(self, device_ns: int, difference_ns: int) -> None:
        self._begin_ns = device_ns
        self._points.clear()
        self._slope = 0.0
        self._least = None
        self._base = (device_ns, difference_ns)

    def _resume(self, device_ns: int, difference_ns: int) -> None:
        """After a pause the clocks may be anywhere, at the pace that they had."""
        slope = self._slope
        self._begin(device_ns, difference_ns)
        self._slope = slope

    def _take(self, device_ns: int, difference_ns: int) -> None:
        least = self._least
        if least is None or difference_ns - self._slope * (device_ns - least[0]) < least[1]:
            least = self._least = (device_ns, difference_ns)
        if len(self._points) < _POINTS_MIN:
            # Nothing is known of the drift yet: as it was least lately.
            self._base = min([least, *list(self._points)[-1:]], key=lambda point: point[1])
        assert self._begin_ns is not None
        if device_ns - self._begin_ns >= _STRETCH_NS:
            if self._points and self._line_ns(least[0]) - least[1] > _STEP_NS:
                # The device's clock was set forward.
                self._begin(*least)
                return
            self._points.append(least)
            self._begin_ns, self._least = device_ns, None
            if len(self._points) >= _POINTS_MIN:
                self._fit()

    def _line_ns(self, device_ns: int) -> float:
        return self._base[1] + self._slope * (device_ns - self._base[0])

    def _fit(self) -> None:
        # Two frames may have one time stamp, where a camera stamps coarsely or a burst once.
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(self._points, 2) if b[0] > a[0]]
        self._slope = min(_DRIFT_MAX, max(-_DRIFT_MAX, median(slopes)))
        # The lowest of the points, each carried along the slope to the newest.
        newest_ns = self._points[-1][0]
        lowest = min(point[1] + self._slope * (newest_ns - point[0]) for point in self._points)
        self._base = (newest_ns, round(lowest))


class _LateFrames:
    """Whether frames come late for so long that no spell of a busy network explains it. ``is_now``: whether the last one did."""

    def __init__(self) -> None:
        self._since_ns = 0
        self._count = 0
        self.text = ""
        """What is told where they have come late for a second and more; empty where they have not."""

    @property
    def is_now(self) -> bool:
        return self._count > 0

    def take(self, later_ns: int, arrived_ns: int) -> None:
        """``later_ns``: than it should have come."""
        if later_ns <= _LATE_NS:
            self._count, self.text = 0, ""
            return
        if not self._count:
            self._since_ns = arrived_ns
        self._count += 1
        if self._count >= _LATE_COUNT and arrived_ns - self._since_ns >= _LATE_FOR_NS:
            self.text = (
                f"its frames come {later_ns // NS_PER_MS} ms later than their time stamps say, for a second and more: "
                "the link lags, or its clock was set or stands still"
            )
