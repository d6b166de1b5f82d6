"""The open parts, as a pure state machine: notices, inspections and the clock in, decisions out.

What holds, whatever comes in whatever order:

* every trigger belongs to exactly one part, and every part gets exactly one decision;
* a decision is made no later than the first input or tick at or after ``trigger_ns + deadline - guard``;
* where the cameras are at several places on the belt, ``trigger_ns`` is that of the last camera, and a part is given up
  ``Matching.assembly_ns`` after its first trigger if the last camera's has not come: ``trigger_ns`` is then the moment of that;
* PASS only where every camera's view was inspected before that moment and passed, and never for a challenge part;
* ``seq`` counts the decisions from 1 without a gap.

It knows no sockets, files or clocks: the caller gives ``now_ns`` and carries out what comes back, in order.
"""

from __future__ import annotations

import bisect
import heapq
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from pipeline.assembly import BeltAssembly
from pipeline.ledger import LedgerEntry, TriggerKey
from pipeline.messages import FrameStatus, Trigger, ViewInspected
from pipeline.part_verdict import part_verdict
from pipeline.rules import Matching, Timing
from vision.types import Reason, Verdict

REMEMBERED_TRIGGERS = 16_384
"""The latest so many are known again when something comes for them."""
REMEMBERED_MIB = 18
"""What they take at most, at about 1 KiB each."""
_PARTS_AWAITING_CAMERAS = 2_048


@dataclass(frozen=True, slots=True)
class Opened:
    """A new part; into the ledger with it before anything else."""

    part_id: int
    encoder_count: int | None
    trigger_ns: int
    key: TriggerKey
    part_key: int | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """Another camera's trigger of a part that is known already. ``trigger_ns`` and ``part_key``: the part's from now on, None where
    they stay.
    """

    part_id: int
    key: TriggerKey
    trigger_ns: int | None = None
    part_key: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A part's one and final verdict."""

    part_id: int
    seq: int
    verdict: Verdict
    reason: Reason
    encoder_count: int | None
    trigger_ns: int
    decided_ns: int
    views: tuple[ViewInspected, ...]
    keys: tuple[TriggerKey, ...]
    """Its triggers, as far as they had come."""
    judged: Verdict | None = None
    """Of a challenge part, which is rejected whatever is found: what its verdict would have been in production."""
    part_key: int | None = None
    """Of the first of its triggers that has one."""


@dataclass(frozen=True, slots=True)
class Late:
    """An inspection that came after the choice."""

    part_id: int
    arrived_ns: int
    view: ViewInspected


@dataclass(frozen=True, slots=True)
class Unmatched:
    """An inspection of no known trigger, or the second one of a view. Counted; decides nothing."""

    view: ViewInspected


Output: TypeAlias = Opened | Joined | Decision | Late | Unmatched


@dataclass(slots=True)
class _Part:
    part_id: int
    encoder_count: int | None
    trigger_ns: int
    is_dated: bool = True
    """Whether ``trigger_ns`` stands; else it is that of the first trigger, and the last camera's has not come."""
    is_challenge: bool = False
    decided: bool = False
    grabbed: set[int] = field(default_factory=set)
    failed: dict[int, Reason] = field(default_factory=dict)
    views: dict[int, ViewInspected] = field(default_factory=dict)
    keys: list[TriggerKey] = field(default_factory=list)
    part_key: int | None = None
    count_stands: bool = False
    """Its count was that of its camera's part before: it says nothing."""


class DeadlineMachine:
    """See the module's text. ``cameras`` are the cameras whose views every part needs, in the line's order."""

    def __init__(self, cameras: Sequence[str], timing: Timing, matching: Matching) -> None:
        self._cameras = {camera_id: index for index, camera_id in enumerate(cameras)}
        self._timing = timing
        self._matching = matching
        self._last_cameras = matching.last_cameras
        self._last_counts: dict[int, int] = {}
        """By camera."""
        self._belt: BeltAssembly[_Part] | None = None
        if matching.is_along_the_belt:
            self._belt = BeltAssembly(matching, lambda part, other: _keys_agree(part.part_key, other.part_key))
        self._next_part_id = 1
        self._next_seq = 1
        self._open: dict[int, _Part] = {}
        self._recent: list[_Part] = []
        self._choices: list[tuple[int, int]] = []
        self._part_of: OrderedDict[TriggerKey, _Part] = OrderedDict()
        self.running = False
        """Whether new triggers are judged; those seen while not are decided at once as NOT_RUNNING."""
        self.challenging = False
        """Whether the parts of new triggers are judged and then rejected, whatever was found."""

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def last_part_id(self) -> int:
        return self._next_part_id - 1

    @property
    def came_apart(self) -> tuple[int, str]:
        """How often every part between cameras along the belt was given up, and what made it so the last time."""
        return (0, "") if self._belt is None else (self._belt.apart_count, self._belt.apart_text)

    def next_choice_ns(self) -> int | None:
        """When ``tick`` has to be called next; None while nothing is open."""
        while self._choices and self._choices[0][1] not in self._open:
            heapq.heappop(self._choices)
        return self._choices[0][0] if self._choices else None

    def recover(self, entries: Iterable[LedgerEntry], now_ns: int) -> list[Output]:
        """Take up where a predecessor was killed: what it left open is closed as NO_DECISION/FAULT."""
        outputs: list[Output] = []
        left_open: list[_Part] = []
        for entry in entries:
            self._next_part_id = max(self._next_part_id, entry.part_id + 1)
            self._next_seq = max(self._next_seq, entry.seq + 1)
            if entry.verdict is not None and not entry.keys:
                continue
            part = _Part(entry.part_id, entry.encoder_count, entry.trigger_ns, decided=entry.verdict is not None)
            part.part_key = entry.part_key
            if self._last_cameras.isdisjoint(key.camera for key in entry.keys):
                part.is_dated = part.decided or not self._last_cameras
            for key in entry.keys:
                part.keys.append(key)
                self._remember(key, part)
            self._await_other_cameras(part)
            if entry.verdict is None:
                left_open.append(part)
        for part in left_open:
            self._open[part.part_id] = part
            outputs.append(self._decide(part, Verdict.NO_DECISION, Reason.FAULT, now_ns))
        return outputs

    def trigger(self, trigger: Trigger, now_ns: int) -> list[Output]:
        """A trigger was observed; told twice it counts once."""
        outputs = self.tick(now_ns)
        camera = self._cameras[trigger.camera_id]
        key = TriggerKey(camera, trigger.source, trigger.trigger_counter)
        if key in self._part_of:
            return outputs
        if self._belt is not None:
            return outputs + self._along_the_belt(self._belt, camera, key, trigger, now_ns)
        count_stands = self._count_stands(camera, trigger)
        part = self._part_waiting_for(camera, trigger, count_stands=count_stands)
        if part is not None:
            outputs.append(Joined(part.part_id, key, part_key=self._join(part, key, trigger)))
            return outputs
        part = self._new_part(camera, key, trigger)
        part.count_stands = count_stands
        # One that was missed, and that nobody would know of but for this frame, has this one's moment and was earlier.
        self._recent = [
            each
            for each in self._recent
            if each.trigger_ns != trigger.trigger_ns or each.failed.get(camera) is not Reason.MISSED_FRAME
        ]
        self._await_other_cameras(part)
        return outputs + self._open_part(part, now_ns)

    def _along_the_belt(
        self, belt: BeltAssembly[_Part], camera: int, key: TriggerKey, trigger: Trigger, now_ns: int
    ) -> list[Output]:
        outputs: list[Output] = []
        new = self._new_part(camera, key, trigger)
        placed = belt.place(camera, trigger.trigger_ns, trigger.encoder_count, new)
        part = placed.part
        if part is None:
            outputs += self._open_part(new, now_ns)
            if placed.is_alone:
                self._expect_no_more(new)
        else:
            part_key = self._join(part, key, trigger)
            is_dating = camera in self._last_cameras and not (part.is_dated or part.decided)
            if is_dating:
                part.trigger_ns, part.is_dated = trigger.trigger_ns, True
                heapq.heappush(self._choices, (self._timing.choice_ns(part.trigger_ns), part.part_id))
            outputs.append(Joined(part.part_id, key, part.trigger_ns if is_dating else None, part_key))
        for given_up in placed.given_up:
            if not given_up.decided:
                self._expect_no_more(given_up)
                outputs += self._decide_if_settled(given_up, now_ns)
        return outputs + self.tick(now_ns)

    def _join(self, part: _Part, key: TriggerKey, trigger: Trigger) -> int | None:
        """Returns the part_key that the part has by it."""
        part.keys.append(key)
        self._remember(key, part)
        if part.part_key is not None:
            return None
        part.part_key = trigger.part_key
        return part.part_key

    def _new_part(self, camera: int, key: TriggerKey, trigger: Trigger) -> _Part:
        count = self._matching.part_count(camera, trigger.encoder_count)
        is_dated = not self._last_cameras or camera in self._last_cameras
        part = _Part(self._next_part_id, count, trigger.trigger_ns, is_dated, keys=[key])
        part.part_key = trigger.part_key
        return part

    def _open_part(self, part: _Part, now_ns: int) -> list[Output]:
        (key,) = part.keys
        self._next_part_id += 1
        self._remember(key, part)
        self._open[part.part_id] = part
        outputs: list[Output] = [Opened(part.part_id, part.encoder_count, part.trigger_ns, key, part.part_key)]
        if not self.running:
            return [*outputs, self._decide(part, Verdict.NO_DECISION, Reason.NOT_RUNNING, now_ns)]
        part.is_challenge = self.challenging
        due_ns = part.trigger_ns + self._matching.assembly_ns
        if part.is_dated:
            due_ns = self._timing.choice_ns(part.trigger_ns)
        heapq.heappush(self._choices, (due_ns, part.part_id))
        return outputs + self.tick(now_ns)

    def _expect_no_more(self, part: _Part) -> None:
        """No other camera's trigger can be known to be its."""
        seen = {key.camera for key in part.keys}
        for camera in self._cameras.values():
            if camera not in seen:
                part.failed.setdefault(camera, Reason.MISSED_FRAME)

    def frame_status(self, status: FrameStatus, now_ns: int) -> list[Output]:
        """What became of a trigger's frame. A view that cannot be inspected any more is settled by it."""
        outputs = self.tick(now_ns)
        camera = self._cameras[status.camera_id]
        part = self._part_of.get(TriggerKey(camera, status.source, status.trigger_counter))
        if part is None or part.decided or camera in part.views:
            return outputs
        if status.outcome == "GRABBED":
            part.grabbed.add(camera)
            return outputs
        part.failed[camera] = _REASON_OF_OUTCOME[status.outcome]
        outputs += self._decide_if_settled(part, now_ns)
        return outputs

    def inspection(self, view: ViewInspected, now_ns: int) -> list[Output]:
        """What inspection says of one view. At or after the choice it changes nothing."""
        outputs = self.tick(now_ns)
        camera = self._cameras[view.camera_id]
        part = self._part_of.get(TriggerKey(camera, view.source, view.trigger_counter))
        if part is None or (not part.decided and camera in part.views):
            outputs.append(Unmatched(view))
        elif part.decided:
            outputs.append(Late(part.part_id, now_ns, view))
        else:
            part.views[camera] = view
            outputs += self._decide_if_settled(part, now_ns)
        return outputs

    def inspection_lost(self, now_ns: int) -> list[Output]:
        """The inspecting process died: views not yet inspected never will be."""
        return self._fail_views(self._cameras.values(), now_ns)

    def camera_lost(self, camera_id: str, now_ns: int) -> list[Output]:
        """The acquiring process of this camera died, or the camera went away."""
        return self._fail_views([self._cameras[camera_id]], now_ns)

    def tick(self, now_ns: int) -> list[Output]:
        """Make every choice that is due."""
        outputs: list[Output] = []
        while self._choices and self._choices[0][0] <= now_ns:
            due_ns, part_id = heapq.heappop(self._choices)
            part = self._open.get(part_id)
            if part is None:
                continue
            if not part.is_dated:
                part.trigger_ns, part.is_dated = due_ns, True
                outputs.append(self._choose(part, now_ns))
            elif self._timing.choice_ns(part.trigger_ns) <= now_ns:
                # Else what ran out is the time for the last camera, which has come.
                outputs.append(self._choose(part, now_ns))
        return outputs

    def close_all(self, now_ns: int, reason: Reason = Reason.FAULT) -> list[Output]:
        """Decide all that is open as NO_DECISION: nobody will be there to do it later, or (NOT_RUNNING) the line is halted."""
        outputs = self.tick(now_ns)
        outputs += [self._decide(part, Verdict.NO_DECISION, reason, now_ns) for part in list(self._open.values())]
        return outputs

    def end_of_triggers(self, now_ns: int) -> list[Output]:
        """The cameras have stopped: whatever waits for the trigger of one further down the belt waits in vain."""
        outputs = self.tick(now_ns)
        outputs += [self._choose(part, now_ns) for part in list(self._open.values()) if not part.is_dated]
        return outputs

    def _fail_views(self, cameras: Iterable[int], now_ns: int) -> list[Output]:
        outputs = self.tick(now_ns)
        for part in list(self._open.values()):
            for camera in cameras:
                if camera not in part.views:
                    part.failed.setdefault(camera, Reason.FAULT)
            outputs += self._decide_if_settled(part, now_ns)
        return outputs

    def _count_stands(self, camera: int, trigger: Trigger) -> bool:
        """Whether it is the camera's last one again: the encoder stands still, or is not connected."""
        count = self._matching.part_count(camera, trigger.encoder_count)
        last = self._last_counts.get(camera)
        if count is not None:
            self._last_counts[camera] = count
        return self._matching.counts_tell(last, count) and self._matching.counts_agree(last, count)

    def _part_waiting_for(self, camera: int, trigger: Trigger, *, count_stands: bool) -> _Part | None:
        """The part whose other cameras' triggers this one belongs to."""
        if len(self._cameras) == 1:
            return None
        window_ns = self._timing.deadline_ns
        count = self._matching.part_count(camera, trigger.encoder_count)
        counted, uncounted, is_ambiguous = [], [], count_stands
        for part in reversed(self._recent):
            if part.trigger_ns < trigger.trigger_ns - window_ns:
                break
            if part.trigger_ns > trigger.trigger_ns + window_ns or not _keys_agree(part.part_key, trigger.part_key):
                continue
            if not self._matching.counts_tell(part.encoder_count, count):
                uncounted.append(part)
            elif self._matching.counts_agree(part.encoder_count, count):
                counted.append(part)
                is_ambiguous |= part.count_stands
        # Counts that agree with several parts, or with the camera's part before, tell nothing.
        fitting = counted
        if is_ambiguous or len(counted) > 1:
            fitting = self._at_once([*counted, *uncounted], trigger)
        elif not counted:
            fitting = self._at_once(uncounted, trigger)
        if len(fitting) != 1 or any(key.camera == camera for key in fitting[0].keys):
            return None
        return fitting[0]

    def _at_once(self, parts: list[_Part], trigger: Trigger) -> list[_Part]:
        """Those that are the trigger's by what else than counts is known of them."""
        if not self._matching.times_tell:
            return [part for part in parts if part.part_key is not None and part.part_key == trigger.part_key]
        window_ns = self._matching.window_ns
        near = [part for part in parts if abs(part.trigger_ns - trigger.trigger_ns) <= 2 * window_ns]
        # Where two parts are that near, moments tell nothing.
        return (
            [part for part in near if abs(part.trigger_ns - trigger.trigger_ns) <= window_ns] if len(near) == 1 else []
        )

    def _await_other_cameras(self, part: _Part) -> None:
        """By trigger_ns, since after a restart each camera tells what it has kept, one camera after the other."""
        if len(self._cameras) > 1 and self._belt is None:
            bisect.insort(self._recent, part, key=lambda recent: recent.trigger_ns)
            del self._recent[:-_PARTS_AWAITING_CAMERAS]

    def _decide_if_settled(self, part: _Part, now_ns: int) -> list[Output]:
        if len(part.views.keys() | part.failed.keys()) < len(self._cameras):
            return []
        return [self._choose(part, now_ns)]

    def _choose(self, part: _Part, now_ns: int) -> Decision:
        """A verdict that comes at the choice or after it is no PASS any more."""

        def missing(camera: int) -> Reason:
            return part.failed.get(camera) or (Reason.DEADLINE if camera in part.grabbed else Reason.MISSED_FRAME)

        verdict, reason = part_verdict(list(self._cameras.values()), part.views, missing)
        if verdict is Verdict.PASS and now_ns >= self._timing.choice_ns(part.trigger_ns):
            return self._decide(part, Verdict.NO_DECISION, Reason.DEADLINE, now_ns)
        return self._decide(part, verdict, reason, now_ns)

    def _decide(self, part: _Part, verdict: Verdict, reason: Reason, now_ns: int) -> Decision:
        del self._open[part.part_id]
        part.decided = True
        if not part.is_dated:
            part.trigger_ns, part.is_dated = now_ns, True
        judged = None
        if part.is_challenge:
            judged, verdict, reason = verdict, Verdict.REJECT, Reason.CHALLENGE
        decision = Decision(
            part_id=part.part_id,
            seq=self._next_seq,
            verdict=verdict,
            reason=reason,
            encoder_count=part.encoder_count,
            trigger_ns=part.trigger_ns,
            decided_ns=now_ns,
            views=tuple(part.views[camera] for camera in sorted(part.views)),
            keys=tuple(part.keys),
            judged=judged,
            part_key=part.part_key,
        )
        self._next_seq += 1
        # A decided part is kept only to recognise what still comes for it; its views went out with the decision.
        part.views = {}
        return decision

    def _remember(self, key: TriggerKey, part: _Part) -> None:
        self._part_of[key] = part
        while len(self._part_of) > REMEMBERED_TRIGGERS:
            oldest = next(iter(self._part_of.values()))
            if not oldest.decided:
                break
            self._part_of.popitem(last=False)


def _keys_agree(one: int | None, other: int | None) -> bool:
    """Whether the controller may have meant one part with both."""
    return one is None or other is None or one == other


_REASON_OF_OUTCOME = {"REFUSED": Reason.OVERRUN, "BAD": Reason.BAD_FRAME, "MISSED": Reason.MISSED_FRAME}
