"""A device's time stamps in the box's clock, from moments by both clocks: the device is asked for its clock every second.

How long frames take to the box does not matter here, nor how long none comes. What was asked is right within half of the time
that the answer took. A clock that was set is told by the next answer, which a frame that took another time than the one before
it brings forward.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from pipeline.cameras.device_features import FeatureError, Features
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from vision.faults import one_line

_LATCHES = (("TimestampLatch", "TimestampLatchValue"), ("GevTimestampControlLatch", "GevTimestampValue"))
_READINGS_MAX = 4
_QUICK_NS = NS_PER_MS
"""An answer that took no longer needs no better one."""
_EVERY_S = 1.0
_NOT_BEFORE_S = 0.1
"""Between two answers, however much the frames' times on the way differ."""
_SILENT_NS = 60 * NS_PER_S
_POINTS_MAX = 32
_POINTS_MIN = 8
"""The slope between fewer is mostly noise."""
_DRIFT_MAX = 500e-6
"""Quartz stays within some 100 ppm, and the box's clock is slewed by 500 ppm where NTP corrects it (adjtime(3))."""
_SET_NS = 2 * NS_PER_MS
"""Clocks that are steered (PTP) move in smaller steps."""
_OTHER_WAY_NS = 2 * NS_PER_MS
_STANDING_NS, _STANDING_COUNT = NS_PER_S, 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A moment by the device's clock and by the box's, which may be off by ``doubt_ns`` either way."""

    device_ns: int
    box_ns: int
    doubt_ns: int


def ask(latch: Callable[[], None], latched_ns: Callable[[], int]) -> Asked | None:
    """The quickest of some readings. None where the device's clock does not go. Raises what the two raise.

    ``latch`` has the device note its time, ``latched_ns`` is what it noted.
    """
    best: Asked | None = None
    first_ns: int | None = None
    for _ in range(_READINGS_MAX):
        before_ns = now_ns()
        latch()
        doubt_ns = (now_ns() - before_ns) // 2
        device_ns = latched_ns()
        if best is None or doubt_ns < best.doubt_ns:
            best = Asked(device_ns, before_ns + doubt_ns, doubt_ns)
        if first_ns is None:
            first_ns = device_ns
        elif device_ns == first_ns:
            return None
        elif 2 * best.doubt_ns <= _QUICK_NS:
            break
    return best


def ask_features(device: Features, ticks_per_s: int) -> Asked | None:
    """By the features that SFNC, or GigE Vision, has for it. None where it has none, or no answer came."""
    try:
        names = next((each for each in _LATCHES if all(device.kind(name) is not None for name in each)), None)
        if names is None or not ticks_per_s:
            return None
        latch, value = names
        return ask(lambda: device.execute(latch), lambda: int(device.get(value)) * NS_PER_S // ticks_per_s)
    except FeatureError:
        return None


class AskedLine:
    """The straight line from one clock to the other, through what was asked last."""

    def __init__(self, first: Asked) -> None:
        self._points = deque([first], _POINTS_MAX)
        self._line = (first, 0.0)

    def box_ns(self, device_ns: int) -> int:
        """By the box's clock. May be asked in another thread than ``take``."""
        base, slope = self._line
        passed_ns = device_ns - base.device_ns
        return base.box_ns + passed_ns + round(slope * passed_ns)

    def doubt_ns(self, box_ns: int) -> float:
        """How far off it may be then, either way."""
        base, _ = self._line
        return base.doubt_ns + _DRIFT_MAX * max(0, box_ns - base.box_ns)

    def take(self, asked: Asked) -> int:
        """0 where it is as the clocks' paces let it be, and the line follows it. Else by how much the device's clock is behind
        where it was to be, negative where it is ahead; the line stays.
        """
        _, slope = self._line
        off_ns = asked.box_ns - self.box_ns(asked.device_ns)
        if abs(off_ns) > _SET_NS + asked.doubt_ns + self.doubt_ns(asked.box_ns):
            return off_ns
        self._points.append(asked)
        if len(self._points) >= _POINTS_MIN:
            # Theil 1950, Sen 1968: a slow answer now and then does not move it.
            slopes = [
                (b.box_ns - b.device_ns - a.box_ns + a.device_ns) / (b.device_ns - a.device_ns)
                for a, b in combinations(self._points, 2)
                if b.device_ns > a.device_ns
            ]
            slope = min(_DRIFT_MAX, max(-_DRIFT_MAX, median(slopes)))
        # The one that says most of now.
        base = min(self._points, key=lambda each: each.doubt_ns + (asked.box_ns - each.box_ns) * _DRIFT_MAX)
        self._line = (base, slope)
        return 0


class AskedClock:
    """Asks in a thread of its own until ``end``, as an answer may be lost and waited for.

    ``ask_device``: None where no answer came. ``tell`` is called from that thread when there is ``trouble``.
    """

    def __init__(
        self,
        first: Asked,
        ask_device: Callable[[], Asked | None],
        tell: Callable[[], None],
        every_s: float = _EVERY_S,
    ) -> None:
        self.line = AskedLine(first)
        self._ask_device = ask_device
        self._tell = tell
        self._every_s = every_s
        self._answered_ns = now_ns()
        self._way_ns: int | None = None
        self._stamp = (-1, 0, 0)
        """The last frame's, when the first frame that had it came, and how many have."""
        self._error = ""
        self._text = ""
        self._is_ending = threading.Event()
        self._is_wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="device-clock", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why the device has to be opened anew; empty where it has not."""
        return self._text

    def box_ns(self, device_ns: int, arrived_ns: int) -> int:
        """When it was in the box's clock, never later than ``arrived_ns``. Both of one frame."""
        box_ns = self.line.box_ns(device_ns)
        way_ns, before_ns = arrived_ns - box_ns, self._way_ns
        self._way_ns = way_ns
        if before_ns is not None and abs(way_ns - before_ns) > _OTHER_WAY_NS:
            self._is_wanted.set()
        if -way_ns > 2 * _SET_NS + self.line.doubt_ns(arrived_ns):
            self._text = self._text or f"its time stamps are {-way_ns / NS_PER_MS:.1f} ms ahead: its clock was set"
        self._expect_to_go_on(device_ns, arrived_ns)
        return min(arrived_ns, box_ns)

    def _expect_to_go_on(self, device_ns: int, arrived_ns: int) -> None:
        """Two frames may have one time stamp, where a camera stamps coarsely or a burst once."""
        stamp_ns, first_ns, count = self._stamp
        if device_ns != stamp_ns:
            self._stamp = device_ns, arrived_ns, 1
            return
        self._stamp = device_ns, first_ns, count + 1
        if count >= _STANDING_COUNT and arrived_ns - first_ns >= _STANDING_NS:
            self._text = self._text or "its time stamps stand still"

    def end(self) -> None:
        """Waits for an answer that is on its way."""
        self._is_ending.set()
        self._is_wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_ending.wait(_NOT_BEFORE_S):
            self._is_wanted.wait(self._every_s)
            self._is_wanted.clear()
            if self._is_ending.is_set():
                return
            if text := self._asked_text():
                self._text = text
                self._tell()
                return

    def _asked_text(self) -> str:
        """Why the device has to be opened anew, as it answers."""
        before_ns = self._answered_ns
        asked = self._asked()
        if asked is None:
            is_silent = now_ns() - before_ns > _SILENT_NS
            return f"its clock has not answered for {_SILENT_NS // NS_PER_S} s{self._error}" if is_silent else ""
        self._answered_ns, self._error = asked.box_ns, ""
        if off_ns := self.line.take(asked):
            apart = f"{abs(off_ns) / NS_PER_MS:.1f} ms {'behind' if off_ns > 0 else 'ahead of'}"
            return (
                f"its clock is {apart} where it was to be after {(asked.box_ns - before_ns) / NS_PER_S:.1f} s: it was set, or "
                "does not tick as it says"
            )
        return ""

    def _asked(self) -> Asked | None:
        try:
            return self._ask_device()
        except Exception as error:  # noqa: BLE001 - of whatever driver: without this thread a clock that is set is not noticed
            self._error = f" ({one_line(str(error))})"
            return None
