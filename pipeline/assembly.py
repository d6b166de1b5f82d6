"""Which part a trigger belongs to, where the cameras of a line are at several places on the belt. Pure.

Every camera's count, less its offset, is the same for one part. What holds, whatever is told in whatever order: no trigger is
given to a part that another part's could be mistaken for. So a trigger joins a part only where

* exactly one part has its count, lacks this camera, and the time between is one that the belt can have taken;
* nothing since that part's first trigger shows that counts and parts have come apart.

What shows that (``_come_apart``) is anything that a belt with all its triggers would not do: a count that goes back, or on faster
than the belt can; a trigger further down the belt of a part that no camera before has seen; a part that is overtaken by one behind
it. Any one of them may be a lost trigger alone, but it may be a counter that was reset or an encoder that slipped by a pitch, which
looks the same. So every part on its way is given up: it takes no trigger any more. Those that come to the first camera after that
are clean.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.encoder import advance_pulses, distance_pulses
from pipeline.rules import Matching

UNDER_WAY_MAX = 512
"""More parts than this are not between the first camera and the last; of more the oldest are forgotten."""
_Part = TypeVar("_Part")
LATE_NS = 50 * NS_PER_MS
"""A trigger's moment may be taken so late, on a box that is busy, though its count was latched in time."""
_KEPT = 8
"""So many assembly limits long, a part that waited in vain may still stand on the belt."""


@dataclass(frozen=True, slots=True)
class Placed(Generic[_Part]):
    """Where a trigger belongs. ``part``: the one that it joins, None for the new one.

    ``is_alone``: the new part takes no other camera's trigger. ``given_up``: parts that take none any more from now on.
    """

    part: _Part | None
    is_alone: bool
    given_up: list[_Part]


@dataclass(slots=True)
class _UnderWay(Generic[_Part]):
    """A part between the first camera and the last. ``times_ns``: of its triggers, by camera.

    Given up, it is kept to know its other triggers by. ``taken``: the cameras whose came, be they given to it or not.
    """

    part: _Part
    count: int
    opened_ns: int
    times_ns: dict[int, int]
    taken: set[int]
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class _Fit(Generic[_Part]):
    """The part that a trigger belongs to, if there is one; else whether it is known for what it is, and takes no others."""

    found: _UnderWay[_Part] | None
    is_alone: bool
    given_up: list[_Part]


class BeltAssembly(Generic[_Part]):
    """See the module's text. Triggers of one camera are told in their order; of several in any.

    Attributes:
        apart_count: how often counts and parts had come apart.
        apart_text: what showed it the last time.
    """

    def __init__(
        self, matching: Matching, may_be_one: Callable[[_Part, _Part], bool] = lambda part, other: True
    ) -> None:
        """``may_be_one``: whether what else is known of two triggers' parts lets them be one."""
        self._may_be_one = may_be_one
        self.apart_count = 0
        self.apart_text = ""
        self._matching = matching
        self._offsets = matching.offsets_pulses
        self._first_pulses, self._last_pulses = min(self._offsets), max(self._offsets)
        self._bits, self._pulses = matching.encoder_bits, matching.pulses
        self._pulses_per_ns = matching.pulses_per_s_max / NS_PER_S
        self._bounce_pulses = 2 * matching.pulses + self._pulses_per_ns * matching.window_ns
        self._slack_pulses = 2 * matching.pulses + self._pulses_per_ns * LATE_NS
        self._under_way: list[_UnderWay[_Part]] = []
        """By ``opened_ns``."""
        self._latest: tuple[int, int] | None = None
        """Moment and count of the latest trigger of all."""
        self._last_of: dict[int, tuple[int, int]] = {}
        """The same of each camera's last trigger, with the part's count."""
        self._unexplained: _UnderWay[_Part] | None = None
        """First seen further down the belt; the first camera's trigger may still be told, but nothing is joined before."""
        self._apart_until_ns: int | None = None
        """What was triggered until then is given up."""

    def place(self, camera: int, trigger_ns: int, encoder_count: int | None, new_part: _Part) -> Placed[_Part]:
        """A trigger was told, for the first time. ``new_part``: what it becomes if it joins no other."""
        if encoder_count is None:
            # Nothing tells where on the belt it was.
            return Placed(None, True, self._come_apart(trigger_ns, "a trigger came without an encoder count"))
        count = self._matching.part_count(camera, encoder_count)
        assert count is not None
        is_first = self._offsets[camera] == self._first_pulses
        has_waited = not is_first and self._is_unexplained(camera, count)
        is_bounce, goes_on = self._is_bounce(camera, trigger_ns, count), self._goes_on(trigger_ns, encoder_count)
        self._last_of[camera] = trigger_ns, count
        if self._latest is None or trigger_ns >= self._latest[0]:
            self._latest = trigger_ns, encoder_count
        has_overtaken = not (is_first or is_bounce) and self._overtakes(camera, count)
        is_odd = has_waited or not goes_on or has_overtaken
        given_up: list[_Part] = []
        if is_odd:
            why = "a part came to a camera and to none before it"
            if not goes_on:
                why = "the encoder count jumped, or a trigger was told more than 50 ms late"
            elif has_overtaken:
                why = "a part never came to a camera"
            given_up = self._come_apart(trigger_ns, why)
        if not is_first:
            self._forget(trigger_ns)
        fit: _Fit[_Part] = _Fit(None, not is_first, [])
        if not is_bounce:
            fit = self._fit(camera, trigger_ns, count, new_part)
        given_up += fit.given_up
        if fit.found is not None:
            fit.found.times_ns[camera] = trigger_ns
            fit.found.taken.add(camera)
            if fit.found is self._unexplained and is_first:
                self._unexplained = None
            return Placed(fit.found.part, False, given_up)
        if fit.is_alone or self._explains(camera, count) or (is_odd and not is_first):
            return Placed(None, True, given_up)
        new = _UnderWay(new_part, count, trigger_ns, {camera: trigger_ns}, {camera})
        bisect.insort(self._under_way, new, key=lambda each: each.opened_ns)
        del self._under_way[:-UNDER_WAY_MAX]
        if self._is_apart(trigger_ns):
            self._give_up(new)
        elif not is_first:
            self._unexplained = new
        return Placed(None, new.is_given_up, given_up)

    # --- where it fits -------------------------------------------------------------------------------------------

    def _fit(self, camera: int, trigger_ns: int, count: int, new_part: _Part) -> _Fit[_Part]:
        if self._is_apart(trigger_ns):
            return _Fit(None, False, [])
        waiting = [part for part in self._near(count) if not part.is_given_up and camera not in part.times_ns]
        fitting = [part for part in waiting if self._is_in_time(part, camera, trigger_ns)]
        if len(fitting) == 1 and self._may_be_one(fitting[0].part, new_part):
            return _Fit(fitting[0], False, [])
        # It may be any one's of several, or comes too late: whoever waits for it waits in vain.
        late = [part for part in waiting if self._is_too_late(part, trigger_ns)]
        return _Fit(None, bool(fitting or late), self._give_up(*fitting, *late, camera=camera))

    def _near(self, count: int) -> Iterator[_UnderWay[_Part]]:
        for part in self._under_way:
            if distance_pulses(part.count, count, self._bits) <= self._pulses:
                yield part

    def _is_too_late(self, part: _UnderWay[_Part], trigger_ns: int) -> bool:
        return any(trigger_ns - other_ns > self._matching.assembly_ns for other_ns in part.times_ns.values())

    def _is_in_time(self, part: _UnderWay[_Part], camera: int, trigger_ns: int) -> bool:
        """Whether the belt can have brought it from each of its cameras to this one, or on from here, and soon enough."""
        for other, other_ns in part.times_ns.items():
            passed_ns, way_pulses = trigger_ns - other_ns, self._offsets[camera] - self._offsets[other]
            if abs(passed_ns) > self._matching.assembly_ns:
                return False
            if way_pulses < 0:
                passed_ns, way_pulses = -passed_ns, -way_pulses
            elif way_pulses == 0:
                passed_ns = abs(passed_ns)
            if passed_ns * self._pulses_per_ns < way_pulses - self._slack_pulses:
                return False
        return True

    def _explains(self, camera: int, count: int) -> bool:
        """Whether it is the trigger of a part that was given up; each explains one trigger of each camera."""
        known = [part for part in self._near(count) if part.is_given_up and camera not in part.taken]
        for part in known:
            part.taken.add(camera)
        return bool(known)

    # --- when counts and parts have come apart -------------------------------------------------------------------

    def _is_bounce(self, camera: int, trigger_ns: int, count: int) -> bool:
        """Whether it is the camera's last trigger again, before the belt can have brought another part."""
        last_ns, last_count = self._last_of.get(camera, (None, 0))
        if last_ns is None or (trigger_ns - last_ns) * self._pulses_per_ns > self._bounce_pulses:
            return False
        return distance_pulses(last_count, count, self._bits) <= 2 * self._pulses

    def _is_unexplained(self, camera: int, count: int) -> bool:
        """Whether a part is left that the first camera never told of, and this is not another camera's trigger of it."""
        part = self._unexplained
        return part is not None and (
            camera in part.times_ns or distance_pulses(part.count, count, self._bits) > self._pulses
        )

    def _goes_on(self, trigger_ns: int, encoder_count: int) -> bool:
        """Whether the belt can have come from the latest count to this one, or from this one to it."""
        if self._latest is None:
            return True
        latest_ns, latest_count = self._latest
        passed_ns = trigger_ns - latest_ns
        advance = advance_pulses(latest_count, encoder_count, self._bits)
        if passed_ns < 0:
            passed_ns, advance = -passed_ns, -advance
        if passed_ns > self._matching.assembly_ns:
            # Whatever waits has waited too long; and the counter may have gone around.
            return True
        return -self._slack_pulses <= advance <= passed_ns * self._pulses_per_ns + self._slack_pulses

    def _is_apart(self, trigger_ns: int) -> bool:
        return self._apart_until_ns is not None and trigger_ns < self._apart_until_ns

    def _come_apart(self, trigger_ns: int, why: str) -> list[_Part]:
        """Give up every part that was triggered so far."""
        self.apart_count, self.apart_text = self.apart_count + 1, why
        latest_ns = trigger_ns if self._latest is None else max(trigger_ns, self._latest[0])
        self._apart_until_ns = max(latest_ns, self._apart_until_ns or latest_ns)
        return self._give_up(*self._under_way)

    def _give_up(self, *parts: _UnderWay[_Part], camera: int | None = None) -> list[_Part]:
        """Those that were not before; ``camera``: whose trigger it is that came."""
        given_up = []
        for part in parts:
            if part is self._unexplained:
                self._unexplained = None
            if camera is not None:
                part.taken.add(camera)
            if not part.is_given_up:
                part.is_given_up = True
                given_up.append(part.part)
        return given_up

    def _overtakes(self, camera: int, count: int) -> bool:
        """Whether a part in front, which a camera before this one saw, never came to this one. It will not any more."""
        overtaken = [
            part
            for part in self._under_way
            if camera not in part.taken
            and any(self._offsets[each] < self._offsets[camera] for each in part.taken)
            and advance_pulses(part.count, count, self._bits) > self._pulses
        ]
        for part in overtaken:
            part.taken.add(camera)
        return bool(overtaken)

    def _forget(self, trigger_ns: int) -> None:
        """Parts that no camera waits for any more, or that nobody will see."""
        oldest_ns = trigger_ns - _KEPT * self._matching.assembly_ns
        self._under_way = [part for part in self._under_way if part.opened_ns > oldest_ns and self._is_awaited(part)]

    def _is_awaited(self, part: _UnderWay[_Part]) -> bool:
        first_pulses = min(self._offsets[camera] for camera in part.taken)
        return part is self._unexplained or any(
            offset >= first_pulses and camera not in part.taken for camera, offset in enumerate(self._offsets)
        )
