"""A device's time stamps in the box's clock, from when they arrived: offset and drift are estimated as frames come.

What arrives never arrives before it was sent, and now and then with hardly any delay. So of each stretch of frames the one
that took least is a point, and a straight line through the points' lower edge maps one clock to the other: its slope is the
median of the slopes between points (Theil 1950, Sen 1968), which a stretch of busy network does not move.
"""

from __future__ import annotations

from collections import deque
from itertools import combinations
from statistics import median

from pipeline.clock import NS_PER_S

_STRETCH_NS = NS_PER_S
_POINTS = 32
_POINTS_MIN = 8
"""The slope between fewer is mostly noise: 100 us of delay within a second are 100 ppm."""
_DRIFT_MAX = 500e-6
"""Quartz stays within some 100 ppm. More than this is a wrong tick frequency or a clock that was set."""


class DeviceClock:
    """``offset_ns``: what the device's clock and the box's were found to differ by when it was asked (box minus device).

    Without it, a time is late by the least delay that a frame had on its way.
    """

    def __init__(self, offset_ns: int | None = None) -> None:
        self._offset_ns = offset_ns
        self._origin_ns: int | None = None
        self._stretch: tuple[int, int] | None = None
        self._points: deque[tuple[int, int]] = deque(maxlen=_POINTS)
        self._latest_device_ns = 0
        self._slope = 0.0
        self._base: tuple[int, int] = (0, 0)
        self._least_delay_ns: int | None = None

    @property
    def drift_ppm(self) -> float | None:
        """How much faster the box's clock runs than the device's, in millionths. None before it is known."""
        return self._slope * 1e6 if len(self._points) >= _POINTS_MIN else None

    def jumped(self, device_ns: int) -> bool:
        """Whether the device's clock went back or far ahead of the time that passed: it was set, or the device restarted."""
        return self._origin_ns is not None and device_ns < self._latest_device_ns

    def box_ns(self, device_ns: int, arrived_ns: int) -> int:
        """When it was in the box's clock, never later than ``arrived_ns``. Both of one frame, in the order of arrival."""
        difference_ns = arrived_ns - device_ns
        if self._origin_ns is None or self.jumped(device_ns):
            self._begin(device_ns, difference_ns)
        self._latest_device_ns = max(self._latest_device_ns, device_ns)
        self._take(device_ns, difference_ns)
        base_device_ns, base_difference_ns = self._base
        mapped_ns = device_ns + base_difference_ns + round(self._slope * (device_ns - base_device_ns))
        if self._offset_ns is not None and self._least_delay_ns is not None:
            mapped_ns -= self._least_delay_ns
        return min(mapped_ns, arrived_ns)

    def _begin(self, device_ns: int, difference_ns: int) -> None:
        was_known = self._origin_ns is not None
        self._origin_ns = device_ns
        self._latest_device_ns = device_ns
        self._stretch = None
        self._points.clear()
        self._slope = 0.0
        self._base = (device_ns, difference_ns)
        if was_known:
            # What was asked for was asked of the clock as it was.
            self._offset_ns = None
        self._least_delay_ns = None

    def _take(self, device_ns: int, difference_ns: int) -> None:
        if self._stretch is None or difference_ns < self._expected_ns(device_ns, *self._stretch):
            self._stretch = (device_ns, difference_ns)
        if len(self._points) < _POINTS_MIN and difference_ns < self._base[1]:
            self._base = (device_ns, difference_ns)
        assert self._origin_ns is not None
        if not self._points and self._offset_ns is not None:
            delay_ns = max(0, self._base[1] - self._offset_ns)
            self._least_delay_ns = delay_ns if self._least_delay_ns is None else min(delay_ns, self._least_delay_ns)
        if device_ns - self._origin_ns >= _STRETCH_NS:
            self._points.append(self._stretch)
            self._origin_ns, self._stretch = device_ns, None
            self._fit()

    def _expected_ns(self, device_ns: int, from_device_ns: int, from_difference_ns: int) -> float:
        return from_difference_ns + self._slope * (device_ns - from_device_ns)

    def _fit(self) -> None:
        slopes = [
            (b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(self._points, 2) if b[0] - a[0] >= _STRETCH_NS // 2
        ]
        if len(self._points) >= _POINTS_MIN:
            self._slope = min(_DRIFT_MAX, max(-_DRIFT_MAX, median(slopes)))
        # The lowest of the points, each carried along the slope to the newest.
        newest = self._points[-1][0]
        self._base = (newest, round(min(self._expected_ns(newest, *point) for point in self._points)))
