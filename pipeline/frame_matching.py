"""Whose frame it is, where triggers are told by somebody else than the camera: a pure state machine.

Triggers, frames and the clock in, in whatever order they come; for every trigger exactly one outcome out. What holds:

* a frame is used once, and only for a trigger that it fits in time and in number;
* a trigger that no frame fits, or more than one, is ``Missed``, and so is one whose frame fits another trigger as well;
* triggers that are told closer together than parts can be are ``Missed``: a message among them was held up, and nobody knows by
  how much. So a trigger's message has to be there for a while before a frame is given to it;
* where a frame came in time for a trigger and with a wrong number, the next pair that fits is not used either;
* numbers that do not fit any more are found anew, by measuring (``trigger_delay``), and until then nothing is matched. Nor is it,
  by ``window``, where they have not fitted for a while: a camera that then skips a trigger makes them fit by a part too few.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from pipeline.trigger_delay import PAIRS, DelayMeasurement, ahead

FRAME_WAIT_NS = NS_PER_S
"""A trigger whose frame has not come by then has none."""
_SETTLING_MAX_NS = 20 * NS_PER_MS
"""What a broker has held up it sends at once."""
_RECENT_TRIGGERS = 16
"""Among so many the same one is known again."""
_TOLD_AGAIN_NS = 10 * NS_PER_S
"""A broker delivers again at once, or when the connection is back; later it is a controller that counts anew."""
_MISSES_ODD = 3
"""After so many in a row, with frames that nobody claimed, other numbers are believed if they have been measured."""
_LOST_AFTER_NS = 3 * NS_PER_S
"""Where as many are missed so long afterwards, it is no spell of late messages any more, and no process that was held up."""
_MEASURED_WITHIN_NS = NS_PER_S
"""By then the measurement has seen them, too."""


@dataclass(frozen=True, slots=True)
class ToldTrigger:
    """``at_ns``: what the exposure follows, ``trigger_ns`` or when the camera was told to take its picture. ``age_us``: as told,
    from the latch to the sending.
    """

    trigger_counter: int
    encoder_count: int | None
    part_key: int | None
    age_us: int
    trigger_ns: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class TakenFrame:
    """``number``: of the trigger in the camera's own count, or of the frame where it counts no triggers."""

    number: int
    exposure_ns: int


@dataclass(frozen=True, slots=True)
class Matched:
    """The trigger's frame."""

    trigger: ToldTrigger
    frame: TakenFrame


@dataclass(frozen=True, slots=True)
class Missed:
    """A trigger that has no frame, or none that is surely its own."""

    trigger: ToldTrigger


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A frame of no trigger, or not surely of one."""

    frame: TakenFrame


Outcome: TypeAlias = Matched | Missed | Unclaimed


class FrameMatcher:
    """See the module's text. ``pitch_ns``: the shortest time between two parts. ``age_max_ns``: the oldest notice that is taken.
    ``frames_max``: so many frames wait for their triggers at most.

    A frame must have been exposed in a window of half a pitch around the known delay. By ``counter`` the camera counts triggers
    as the teller does: both numbers rise together, whatever is lost. By ``window`` it counts frames: it may have taken none of
    some triggers, but never more than there were. ``lag_max_ns``: so much later than their exposures triggers may be told.
    ``is_fired``: each message makes the camera take its frame.
    """

    def __init__(
        self,
        pitch_ns: int,
        match: Literal["counter", "window"],
        age_max_ns: int,
        frames_max: int,
        *,
        lag_max_ns: int,
        is_fired: bool = False,
    ) -> None:
        self._counts_triggers = match == "counter"
        self._is_fired = is_fired
        self._tolerance_ns = pitch_ns // 4
        self._crowded_ns = pitch_ns // 2
        self._settling_ns = settling_ns(pitch_ns, is_fired=is_fired)
        jitter_max_ns = pitch_ns // (4 if self._counts_triggers else 8)
        self._measurement = DelayMeasurement(pitch_ns, jitter_max_ns, lag_max_ns)
        self._age_max_ns = age_max_ns
        self._frames_max = frames_max
        self._triggers: list[ToldTrigger] = []
        """Without an outcome, in the order in which they came; as are the frames."""
        self._came_ns: dict[ToldTrigger, int] = {}
        """When the messages of those came."""
        self._frames: list[TakenFrame] = []
        self._recent: deque[ToldTrigger] = deque(maxlen=_RECENT_TRIGGERS)
        self._step: int | None = None
        self._delay_ns = 0
        self._jitter_ns = 0
        """As measured: by how much the longest delay exceeded the shortest."""
        self._ages_ns: deque[int] = deque(maxlen=_RECENT_TRIGGERS)
        """How old the latest triggers were when they were told."""
        self._latencies_ns: deque[int] = deque(maxlen=_RECENT_TRIGGERS)
        """From exposure to arrival, of the latest frames."""
        self._newest_match = (0, 0)
        """trigger_counter and the frame's number."""
        self._newest_frame: TakenFrame | None = None
        self._misses = 0
        self._unclaimed = 0
        """In a row."""
        self._missed_ns = 0
        """When the last trigger was that had no frame."""
        self._odd_ns: int | None = None
        """Since then triggers and frames have not fitted."""
        self._misses_long = 0
        """So many were missed long after that."""
        self._lost_ns: int | None = None
        """Since then they have not for too long: by ``window`` all is to be measured anew."""
        self._is_doubted = False
        """A trigger and a frame came that fit in time and not in number; the next pair that fits in both is not used."""

    @property
    def is_measured(self) -> bool:
        """Whether it is known which frame belongs to which trigger."""
        return self._step is not None

    @property
    def delay_ns(self) -> int:
        """From a trigger to its exposure, as measured."""
        return self._delay_ns

    @property
    def frames_alone(self) -> int:
        """So many frames in a row were nobody's, while it is known how they are told."""
        return self._unclaimed if self._step is not None else 0

    @property
    def steps_lost(self) -> bool:
        """Whether triggers and frames come that do not fit each other any more."""
        return self._lost_ns is not None or (
            self._step is not None and min(self._misses, self._unclaimed) >= _MISSES_ODD
        )

    def words(self) -> str:
        """How far the measurement is, and what is to be done for it."""
        progress = f"measuring: {self._measurement.pair_count} of {PAIRS} triggers"
        if self._measurement.pair_count:
            return progress
        alone_us = self._measurement.silence_ns // NS_PER_US
        return f"{progress}; it begins with the first part after {alone_us} us without any"

    def trouble(self) -> str:
        """What keeps the measurement from its end; empty where nothing does."""
        measured = self._measurement
        permitted = f"permitted are {measured.jitter_max_ns // NS_PER_US} us at this pitch_us"
        if measured.jitter_ns > measured.jitter_max_ns:
            return f"the delay from trigger to exposure varies by {measured.jitter_ns // NS_PER_US} us, {permitted}"
        if measured.lag_ns > measured.lag_max_ns:
            return (
                f"triggers are told {measured.lag_ns // NS_PER_US} us after their exposures, permitted are "
                f"{measured.lag_max_ns // NS_PER_US} us; age_us has to say how old they are"
            )
        if measured.odd_ns is not None:
            return f"an exposure was {measured.odd_ns // NS_PER_US} us from where it was expected, {permitted}"
        return ""

    def start(self, now_ns: int) -> None:
        """The camera was opened: its numbers are new. Nothing may wait for an outcome."""
        assert not self._triggers
        assert not self._frames
        self._measurement.start(now_ns)
        self._ages_ns.clear()
        self._latencies_ns.clear()
        self._step = None
        self._newest_frame = None
        self._misses = self._unclaimed = 0
        self._is_doubted = False
        self._odd_ns = self._lost_ns = None
        self._misses_long = 0

    def is_told_again(self, trigger: ToldTrigger) -> bool:
        """Whether it is a notice that came before, delivered twice."""
        return any(
            (trigger.trigger_counter, trigger.encoder_count, trigger.part_key, trigger.age_us)
            == (other.trigger_counter, other.encoder_count, other.part_key, other.age_us)
            and trigger.at_ns - other.at_ns < _TOLD_AGAIN_NS
            for other in self._recent
        )

    def trigger(self, trigger: ToldTrigger, now_ns: int) -> list[Outcome]:
        """One that is not told again."""
        outcomes = self.tick(now_ns)
        self._measurement.trigger(trigger.trigger_counter, trigger.at_ns)
        self._ages_ns.append(now_ns - trigger.at_ns)
        if self._step is None:
            self._recent.append(trigger)
            return [*outcomes, Missed(trigger)]
        if crowd := [other for other in self._recent if abs(other.at_ns - trigger.at_ns) < self._crowded_ns]:
            outcomes += [self._drop(other) for other in crowd if other in self._triggers]
            outcomes.append(self._miss(trigger))
        else:
            self._triggers.append(trigger)
            self._came_ns[trigger] = now_ns
            for frame in self._frames:
                self._doubt(trigger, frame)
        self._recent.append(trigger)
        return [*outcomes, *self._pair_up(now_ns), *self._give_up(now_ns)]

    def no_picture(self, trigger: ToldTrigger, now_ns: int) -> list[Outcome]:
        """A trigger on which the camera could take none."""
        outcomes = self.tick(now_ns)
        self._recent.append(trigger)
        return [*outcomes, Missed(trigger)]

    def frame(self, frame: TakenFrame, now_ns: int) -> list[Outcome]:
        """They come in the camera's order."""
        outcomes = self.tick(now_ns)
        self._measurement.frame(frame.number, frame.exposure_ns)
        self._latencies_ns.append(now_ns - frame.exposure_ns)
        if self._step is None:
            return [*outcomes, Unclaimed(frame)]
        self._newest_frame = frame
        for trigger in self._triggers:
            self._doubt(trigger, frame)
        self._frames.append(frame)
        return [*outcomes, *self._pair_up(now_ns), *self._give_up(now_ns)]

    def tick(self, now_ns: int) -> list[Outcome]:
        """What is over by now."""
        self._measurement.advance(now_ns)
        outcomes: list[Outcome] = []
        if self._step is not None and not self._counts_triggers:
            if not self.steps_lost:
                self._odd_ns, self._misses_long = None, 0
            elif self._odd_ns is None:
                self._odd_ns = self._missed_ns
            if self._misses_long >= _MISSES_ODD:
                outcomes += self.drop_all()
                self._step, self._lost_ns = None, now_ns
        found = self._measurement.found
        if self._lost_ns is not None and now_ns - self._lost_ns < _MEASURED_WITHIN_NS:
            found = None
        if found is not None and (self._step is None or (found.step != self._step and self.steps_lost)):
            outcomes += self.drop_all()
            self._step, self._delay_ns, self._jitter_ns = found.step, found.delay_ns, found.jitter_ns
            self._newest_match = found.trigger_counter, found.trigger_counter + found.step
            self._misses = self._unclaimed = 0
            self._is_doubted = False
            self._odd_ns = self._lost_ns = None
            self._misses_long = 0
        elif found is not None and found.step == self._step:
            self._delay_ns, self._jitter_ns = found.delay_ns, found.jitter_ns
        return [*outcomes, *self._pair_up(now_ns), *self._give_up(now_ns)]

    def next_due_ns(self) -> int | None:
        """When ``tick`` has to be called next."""
        dues = [trigger.at_ns + FRAME_WAIT_NS for trigger in self._triggers if not self._frames_of(trigger)]
        dues += [self._claimed_by_ns(frame) for frame in self._frames if not self._triggers_of(frame)]
        dues += [self._settled_ns(trigger, frame) for trigger in self._triggers for frame in self._frames_of(trigger)]
        if self._step is None and (measurable_ns := self._measurement.next_due_ns()) is not None:
            dues.append(measurable_ns)
        return min(dues, default=None)

    def drop_all(self) -> list[Outcome]:
        """Nothing more will come for those that wait."""
        outcomes: list[Outcome] = [self._drop(trigger) for trigger in list(self._triggers)]
        outcomes += [self._leave(frame) for frame in self._frames]
        self._frames.clear()
        return outcomes

    def _pair_up(self, now_ns: int) -> list[Outcome]:
        """Frames and triggers that fit each other and nothing else, once no message can be on its way that says otherwise."""
        outcomes: list[Outcome] = []
        for frame in list(self._frames):
            fitting = self._triggers_of(frame)
            if len(fitting) > 1:
                outcomes += [self._drop(trigger) for trigger in fitting]
                self._frames.remove(frame)
                outcomes.append(self._leave(frame))
            elif fitting:
                (trigger,) = fitting
                if len(self._frames_of(trigger)) > 1:
                    outcomes.append(self._drop(trigger))
                elif now_ns >= self._settled_ns(trigger, frame):
                    self._triggers.remove(trigger)
                    del self._came_ns[trigger]
                    self._frames.remove(frame)
                    outcomes += self._match(trigger, frame)
        return outcomes

    def _frames_of(self, trigger: ToldTrigger) -> list[TakenFrame]:
        return [frame for frame in self._frames if self._fits(trigger, frame)]

    def _triggers_of(self, frame: TakenFrame) -> list[ToldTrigger]:
        return [trigger for trigger in self._triggers if self._fits(trigger, frame)]

    def _settled_ns(self, trigger: ToldTrigger, frame: TakenFrame) -> int:
        """By then what was held up with its message has come, too, and the message of the frame's own trigger: it may be a later
        one, where this one's was held up and the camera has taken nothing of it. And so has the trigger's own frame, where this
        one's exposure is odd: the camera may have seen an edge just before the part's.
        """
        own_ns = frame.exposure_ns - self._delay_ns + self._jitter_ns + _usual_most(self._ages_ns)
        settled_ns = max(self._came_ns[trigger], own_ns) + self._settling_ns
        expected_ns = trigger.at_ns + self._delay_ns
        if not self._is_fired and abs(frame.exposure_ns - expected_ns) > self._jitter_ns:
            frame_ns = expected_ns + self._jitter_ns + _usual_most(self._latencies_ns)
            settled_ns = max(settled_ns, frame_ns + self._settling_ns)
        return settled_ns

    def _is_near(self, trigger: ToldTrigger, frame: TakenFrame) -> bool:
        return abs(frame.exposure_ns - trigger.at_ns - self._delay_ns) <= self._tolerance_ns

    def _has_number(self, trigger: ToldTrigger, frame: TakenFrame) -> bool:
        assert self._step is not None
        off = ahead(frame.number - trigger.trigger_counter, self._step)
        if off == 0:
            return True
        counter, number = self._newest_match
        is_newer = ahead(trigger.trigger_counter, counter) > 0 and ahead(frame.number, number) > 0
        # Of triggers that were skipped there is no frame; more frames than triggers would be somebody else's.
        return not self._counts_triggers and off < 0 and is_newer

    def _fits(self, trigger: ToldTrigger, frame: TakenFrame) -> bool:
        return self._is_near(trigger, frame) and self._has_number(trigger, frame)

    def _doubt(self, trigger: ToldTrigger, frame: TakenFrame) -> None:
        """Where the two fit in time and not in number."""
        if self._is_near(trigger, frame) and not self._has_number(trigger, frame):
            self._is_doubted = True

    def _match(self, trigger: ToldTrigger, frame: TakenFrame) -> list[Outcome]:
        if self._is_doubted:
            # Either of the two was late by a whole part, or the numbers are wrong: then this pair may be.
            self._is_doubted = False
            return [self._miss(trigger), self._leave(frame)]
        if ahead(trigger.trigger_counter, self._newest_match[0]) > 0:
            self._newest_match = trigger.trigger_counter, frame.number
            self._step = ahead(frame.number, trigger.trigger_counter)
        self._misses = self._unclaimed = 0
        return [Matched(trigger, frame)]

    def _drop(self, trigger: ToldTrigger) -> Missed:
        """One of those that wait."""
        self._triggers.remove(trigger)
        del self._came_ns[trigger]
        return self._miss(trigger)

    def _miss(self, trigger: ToldTrigger) -> Missed:
        self._misses += 1
        before_ns, self._missed_ns = self._missed_ns, trigger.at_ns
        is_long_after = self._odd_ns is not None and trigger.at_ns - self._odd_ns >= _LOST_AFTER_NS
        # Those of one hold-up come at once, and say no more than one does.
        if is_long_after and trigger.at_ns - before_ns >= self._crowded_ns:
            self._misses_long += 1
        return Missed(trigger)

    def _leave(self, frame: TakenFrame) -> Unclaimed:
        self._unclaimed += 1
        return Unclaimed(frame)

    def _claimed_by_ns(self, frame: TakenFrame) -> int:
        """No trigger that fits it can come any more, as one that old would not be taken."""
        return frame.exposure_ns - self._delay_ns + self._tolerance_ns + self._age_max_ns

    def _give_up(self, now_ns: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for trigger in list(self._triggers):
            is_over = trigger.at_ns + FRAME_WAIT_NS <= now_ns or self._is_past(trigger)
            if is_over and not self._frames_of(trigger):
                outcomes.append(self._drop(trigger))
        for frame in list(self._frames):
            is_over = self._claimed_by_ns(frame) <= now_ns and not self._triggers_of(frame)
            if is_over or len(self._frames) > self._frames_max:
                self._frames.remove(frame)
                outcomes.append(self._leave(frame))
        return outcomes

    def _is_past(self, trigger: ToldTrigger) -> bool:
        """A later frame has come, so that its own, which has not, never will."""
        frame = self._newest_frame
        if frame is None:
            return False
        return frame.exposure_ns > trigger.at_ns + self._delay_ns + self._tolerance_ns


def settling_ns(pitch_ns: int, *, is_fired: bool) -> int:
    """How long a message has to be there before a frame is given to it.

    Of one that fires the camera the frame does not say how late it was; the next part's message does, if it was late by more
    than half a pitch.
    """
    return pitch_ns // 2 if is_fired else min(pitch_ns // 8, _SETTLING_MAX_NS)


def _usual_most(values: Iterable[int]) -> int:
    """The most of them, but for one that is alone with it."""
    ordered = sorted(values)
    return ordered[-2] if len(ordered) > 1 else ordered[0]
