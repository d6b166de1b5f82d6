"""Suite ``assembly``: the state machine that puts the views of parts together, on simulated belts where everything goes wrong.

Cameras stand at several places on a belt that speeds up, slows down, stops and runs back. Parts slip; triggers are lost, doubled,
told late and out of order; frames and inspections are lost; the counter wraps, is reset, jumps, and slips by exact pitches. The
simulation knows which part every trigger was fired by, and compares: no part may have another's view, every trigger belongs to
one part and every part gets one verdict, and no defective part may pass. Only the machine runs: no process, no clock.
"""

from __future__ import annotations

import bisect
import heapq
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.deadline import DeadlineMachine, Decision, Joined, Opened, Output
from pipeline.ledger import TriggerKey
from pipeline.messages import Trigger, ViewInspected
from pipeline.rules import Matching, Timing

TIMING = Timing(deadline_ns=40 * NS_PER_MS, guard_ns=3 * NS_PER_MS)
_START_NS = 1_000 * NS_PER_S
_NOMINAL_PULSES_PER_S = 10_000.0


@dataclass(frozen=True, slots=True)
class BeltPlan:
    """One belt. Shares are of triggers, or of parts for slips, jumps, stops and reversals.

    ``pitch_jitter``: of the pitch, either way; 0 is the hardest, as then counts that slipped by a pitch fit the next part.
    ``pitch_shifts``: a jump of the counter is by one to three pitches, exactly, rather than to anywhere. ``encoder_slips``: by less
    than a pitch.
    """

    parts: int
    seed: int
    offsets_pulses: tuple[int, ...] = (0, 1_500)
    encoder_bits: int = 32
    match_pulses: int = 20
    pitch_pulses: int = 400
    pitch_jitter: float = 0.2
    latch_jitter_pulses: int = 3
    lost: float = 0.0
    doubled: float = 0.0
    told_late: float = 0.0
    not_inspected: float = 0.0
    slipped: float = 0.0
    jumps: float = 0.0
    pitch_shifts: float = 0.0
    encoder_slips: float = 0.0
    stops: float = 0.0
    reversals: float = 0.0
    defective: float = 0.1
    group: int | None = None
    """So many parts follow each other at the pitch, then none for ten pitches."""

    @property
    def matching(self) -> Matching:
        """As such a line would be configured."""
        way_s = (max(self.offsets_pulses) - min(self.offsets_pulses)) / (_NOMINAL_PULSES_PER_S * 0.2)
        return Matching(
            encoder_bits=self.encoder_bits,
            pulses=self.match_pulses,
            window_ns=2 * NS_PER_MS,
            offsets_pulses=self.offsets_pulses,
            assembly_ns=int(1.2 * way_s * NS_PER_S),
            pulses_per_s_max=2.0 * _NOMINAL_PULSES_PER_S,
        )


FAULTS = ("wrong_views", "wrong_part_passed", "defects_passed", "triggers_astray", "verdicts_astray", "late")


@dataclass(slots=True)
class Found:
    """``wrong_views``: parts with triggers of different parts on the belt. ``defects_passed``: passed though defective.

    ``triggers_astray``: in no part, or in two; ``verdicts_astray``: parts without exactly one. ``late``: decided later than the
    deadline of the last camera's trigger, or than the assembly limit, and than what they were decided on was told.
    """

    parts: int = 0
    triggers: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    wrong_views: int = 0
    wrong_part_passed: int = 0
    defects_passed: int = 0
    triggers_astray: int = 0
    verdicts_astray: int = 0
    late: int = 0
    parts_passed: int = 0
    good: int = 0

    @property
    def faults(self) -> int:
        """What must be 0."""
        return sum(getattr(self, name) for name in FAULTS)

    def add(self, other: Found) -> None:
        for name in self.__slots__:
            if name == "verdicts":
                self.verdicts.update(other.verdicts)
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def told(self) -> dict[str, Any]:
        """For a summary."""
        figures = {name: getattr(self, name) for name in self.__slots__}
        return {**figures, "verdicts": dict(sorted(self.verdicts.items())), "faults": self.faults}


@dataclass(frozen=True, slots=True)
class _Fired:
    """A trigger as it happened."""

    fired_ns: int
    camera: int
    part: int
    position_pulses: float


class Belt:
    """Everything that happens on one belt, worked out beforehand: what is told, and when."""

    def __init__(self, plan: BeltPlan) -> None:
        self.plan = plan
        self._chance = random.Random(plan.seed)
        self.part_of: dict[TriggerKey, int] = {}
        self.defect_at: dict[int, int] = {}
        """By part, the camera that alone can see it."""
        self.told: list[tuple[int, int, Trigger | ViewInspected]] = []
        """(when, in which order, what)."""
        segments = self._motion()
        jumps = self._jumps(segments)
        self._tell(self._fire(segments), jumps)

    def _motion(self) -> list[tuple[int, int, float, float]]:
        """(from_ns, until_ns, from_pulses, until_pulses), until all parts are past the last camera."""
        plan, chance = self.plan, self._chance
        end_pulses = self._spot(plan.parts + 2) + max(plan.offsets_pulses)
        now_ns, position = _START_NS, 0.0
        segments = []
        while position < end_pulses:
            parts = chance.randint(1, 20)
            speed = _NOMINAL_PULSES_PER_S * chance.choice((0.2, 0.5, 1.0, 1.0, 1.5, 2.0)) * chance.uniform(0.98, 1.0)
            way = parts * plan.pitch_pulses * chance.uniform(0.8, 1.2)
            pieces = [(way / speed, way)]
            if chance.random() < parts * plan.stops:
                pieces.append((chance.choice((0.05, 0.5, 5.0)), 0.0))
            if chance.random() < parts * plan.reversals:
                back = chance.uniform(0.1, 3.0) * plan.pitch_pulses
                pieces.append((back / speed, -back))
            for lasts_s, moved in pieces:
                until_ns = now_ns + int(lasts_s * NS_PER_S)
                segments.append((now_ns, until_ns, position, position + moved))
                now_ns, position = until_ns, position + moved
        return segments

    def _spot(self, number: int) -> float:
        """Where on the belt the part with this number lies, from 1 on."""
        plan = self.plan
        gaps = 0 if plan.group is None else (number - 1) // plan.group
        return float((number + 10 * gaps) * plan.pitch_pulses)

    def _jumps(self, segments: list[tuple[int, int, float, float]]) -> list[tuple[int, int]]:
        """(from when on, what is added to the counter), in order; the first from the start on."""
        plan, chance = self.plan, self._chance
        shift = (1 << plan.encoder_bits) - chance.randint(0, plan.parts * plan.pitch_pulses)
        jumps = [(0, shift)]
        for from_ns, until_ns, from_pulses, until_pulses in segments:
            parts = abs(until_pulses - from_pulses) / plan.pitch_pulses
            at_ns = chance.randint(from_ns, until_ns)
            if chance.random() < parts * plan.jumps:
                position = from_pulses + (until_pulses - from_pulses) * (at_ns - from_ns) / max(1, until_ns - from_ns)
                # To 0 or anywhere.
                shift = chance.choice((-int(position), chance.getrandbits(plan.encoder_bits)))
            elif chance.random() < parts * plan.pitch_shifts:
                shift += chance.choice((-3, -2, -1, 1, 2, 3)) * plan.pitch_pulses
            elif chance.random() < parts * plan.encoder_slips:
                shift -= int(chance.uniform(0.0, 0.6) * plan.pitch_pulses)
            else:
                continue
            jumps.append((at_ns, shift))
        return jumps

    def _fire(self, segments: list[tuple[int, int, float, float]]) -> list[_Fired]:
        """Whatever passes a camera, forwards or backwards, fires it."""
        plan, chance = self.plan, self._chance
        jitter_pulses = 0.5 * plan.pitch_jitter * plan.pitch_pulses
        spots = [self._spot(part + 1) + chance.uniform(-jitter_pulses, jitter_pulses) for part in range(plan.parts)]
        for part in range(plan.parts):
            if chance.random() < plan.defective:
                self.defect_at[part] = chance.randrange(len(plan.offsets_pulses))
        fired: list[_Fired] = []
        places = sorted(set(plan.offsets_pulses))
        for place in places:
            if place != places[0]:
                for part in range(plan.parts):
                    slip = chance.uniform(-0.2, 0.2) * plan.match_pulses
                    if chance.random() < plan.slipped:
                        # A part does not get past its neighbour.
                        slip = chance.uniform(-0.35, 0.35) * plan.pitch_pulses
                    spots[part] += slip
            order = sorted(range(plan.parts), key=spots.__getitem__)
            ways = [spots[part] + place for part in order]
            cameras = [camera for camera, offset in enumerate(plan.offsets_pulses) if offset == place]
            for from_ns, until_ns, from_pulses, until_pulses in segments:
                low, high = sorted((from_pulses, until_pulses))
                for index in range(bisect.bisect_left(ways, low), bisect.bisect_left(ways, high)):
                    share = (ways[index] - from_pulses) / (until_pulses - from_pulses)
                    at_ns = from_ns + int(share * (until_ns - from_ns))
                    fired += [_Fired(at_ns, camera, order[index], ways[index]) for camera in cameras]
        return sorted(fired, key=lambda each: each.fired_ns)

    def _tell(self, fired: list[_Fired], jumps: list[tuple[int, int]]) -> None:
        plan, chance = self.plan, self._chance
        jump_moments = [at_ns for at_ns, _ in jumps]
        counters = [0] * len(plan.offsets_pulses)
        told_ns = [0] * len(plan.offsets_pulses)
        for each in fired:
            for again in range(1 + (chance.random() < plan.doubled)):
                if chance.random() < plan.lost:
                    continue
                camera, at_ns = each.camera, each.fired_ns + again * NS_PER_MS
                counters[camera] += 1
                key = TriggerKey(camera, 1, counters[camera])
                shift = jumps[bisect.bisect_right(jump_moments, each.fired_ns) - 1][1]
                jitter = chance.randint(-plan.latch_jitter_pulses, plan.latch_jitter_pulses)
                count = (int(each.position_pulses) + shift + jitter) % (1 << plan.encoder_bits)
                moment_ns = at_ns + chance.randint(0, 200_000)
                # A camera tells its triggers in their order; now and then it is held up, and the others are not.
                late_ns = chance.randint(0, 300 * NS_PER_MS) if chance.random() < plan.told_late else 0
                told_ns[camera] = max(told_ns[camera], moment_ns + chance.randint(50_000, 1_500_000) + late_ns)
                trigger = Trigger(f"cam{camera}", 1, counters[camera], count, moment_ns)
                self.part_of[key] = each.part
                self._add(told_ns[camera], trigger)
                if chance.random() >= plan.not_inspected:
                    self._add(
                        told_ns[camera] + chance.randint(4, 20) * NS_PER_MS, self._inspected(key, each.part, moment_ns)
                    )

    def _inspected(self, key: TriggerKey, part: int, grabbed_ns: int) -> ViewInspected:
        verdict, reason = ("REJECT", "DEFECT") if self.defect_at.get(part) == key.camera else ("PASS", "OK")
        camera_id = f"cam{key.camera}"
        return ViewInspected(
            camera_id=camera_id,
            source=1,
            trigger_counter=key.trigger_counter,
            frame_id=key.trigger_counter,
            part_mark=part,
            verdict=verdict,
            reason=reason,
            score=0.0,
            defects=(),
            grabbed_ns=grabbed_ns,
            received_ns=grabbed_ns,
            preprocessed_ns=grabbed_ns,
            inferred_ns=grabbed_ns,
            judged_ns=grabbed_ns,
            handed_on=False,
        )

    def _add(self, when_ns: int, what: Trigger | ViewInspected) -> None:
        self.told.append((when_ns, len(self.told), what))


def play(plan: BeltPlan, machine_class: type[DeadlineMachine] = DeadlineMachine) -> Found:
    """One belt through one machine, and what came of it."""
    belt, found = Belt(plan), Found(parts=plan.parts)
    machine = machine_class([f"cam{camera}" for camera in range(len(plan.offsets_pulses))], TIMING, plan.matching)
    machine.running = True
    keys: dict[int, list[TriggerKey]] = {}
    decisions: dict[int, list[Decision]] = {}
    told_ns: dict[int, int] = {}

    def take(outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Opened | Joined):
                keys.setdefault(output.part_id, []).append(output.key)
            elif isinstance(output, Decision):
                decisions.setdefault(output.part_id, []).append(output)
                told_ns[output.part_id] = now_ns

    heapq.heapify(belt.told)
    now_ns = 0
    while belt.told or machine.open_count:
        choice_ns = machine.next_choice_ns()
        if not belt.told or (choice_ns is not None and choice_ns < belt.told[0][0]):
            assert choice_ns is not None
            now_ns = choice_ns
            take(machine.tick(now_ns))
            continue
        now_ns, _, what = heapq.heappop(belt.told)
        take(machine.trigger(what, now_ns) if isinstance(what, Trigger) else machine.inspection(what, now_ns))
    _compare(found, belt, keys, decisions)
    return found


def _compare(found: Found, belt: Belt, keys: dict[int, list[TriggerKey]], decisions: dict[int, list[Decision]]) -> None:
    placed = Counter(key for part_keys in keys.values() for key in part_keys)
    found.triggers = len(belt.part_of)
    found.triggers_astray = sum(placed[key] != 1 for key in belt.part_of) + len(placed.keys() - belt.part_of.keys())
    found.verdicts_astray = sum(len(decisions.get(part_id, ())) != 1 for part_id in keys) + len(
        decisions.keys() - keys.keys()
    )
    seqs = sorted(decision.seq for each in decisions.values() for decision in each)
    found.verdicts_astray += sum(after != before + 1 for before, after in pairwise([0, *seqs]))
    passed: set[int] = set()
    for part_id, part_keys in keys.items():
        parts = {belt.part_of[key] for key in part_keys}
        found.wrong_views += len(parts) > 1
        for decision in decisions.get(part_id, ()):
            found.verdicts[f"{decision.verdict.value} {decision.reason.value}"] += 1
            # What decided it, or what it waited for, came at most so long before.
            limit_ns = decision.trigger_ns + TIMING.deadline_ns
            is_told_late = belt.plan.told_late > 0 and decision.verdict.value != "PASS"
            found.late += decision.decided_ns > limit_ns and not is_told_late
            if decision.verdict.value == "PASS":
                marks = {view.part_mark for view in decision.views}
                found.wrong_part_passed += len(marks | parts) > 1
                found.defects_passed += any(part in belt.defect_at for part in parts)
                passed |= parts
    found.parts_passed = len(passed)
    found.good = belt.plan.parts - len(belt.defect_at)


_EVERYTHING = BeltPlan(
    parts=0,
    seed=0,
    lost=0.005,
    doubled=0.005,
    told_late=0.01,
    not_inspected=0.005,
    slipped=0.005,
    jumps=0.001,
    encoder_slips=0.001,
    stops=0.003,
    reversals=0.003,
)
PLANS = (
    replace(_EVERYTHING),
    replace(_EVERYTHING, pitch_jitter=0.0, encoder_bits=16, offsets_pulses=(0, 700)),
    replace(_EVERYTHING, offsets_pulses=(100, 100, 1_300, 2_000)),
    replace(_EVERYTHING, pitch_jitter=0.0, offsets_pulses=(900, 0, 420), encoder_bits=24),
    BeltPlan(0, 0, pitch_jitter=0.0, pitch_shifts=0.01, told_late=0.0),
    BeltPlan(0, 0, pitch_jitter=0.0, pitch_shifts=0.01, offsets_pulses=(0, 900, 2_300), stops=0.003),
    BeltPlan(0, 0, pitch_jitter=0.0, pitch_shifts=0.02, offsets_pulses=(0, 1_300, 4_500), group=3),
    BeltPlan(0, 0, pitch_jitter=0.0, offsets_pulses=(0, 60), lost=0.01, doubled=0.01),
    BeltPlan(0, 0),
)
"""In turn: everything at once, on different lines; counters that slip by exact pitches; cameras close together; nothing odd."""


def _shares(parts: int, parts_a_belt: int) -> list[int]:
    """How many parts each belt has: all kinds are played, however few there are."""
    kinds = len(PLANS)
    if parts <= kinds * parts_a_belt:
        return [max(1, (parts + kinds - 1 - number) // kinds) for number in range(kinds)]
    return [min(parts_a_belt, parts - begun) for begun in range(0, parts, parts_a_belt)]


def assembly(parts: int, seed: int = 0, parts_a_belt: int = 2_000) -> dict[str, Any]:
    """So many parts, on one belt after the other; at least one part for each kind of belt."""
    began_s = time.perf_counter()
    every = [Found() for _ in PLANS]
    for number, share in enumerate(_shares(parts, parts_a_belt)):
        plan = replace(PLANS[number % len(PLANS)], parts=share, seed=seed + number)
        every[number % len(PLANS)].add(play(plan))
    whole = Found()
    for each in every:
        whole.add(each)
    return {
        "suite": "assembly",
        **whole.told(),
        "broken_promises": {name: getattr(whole, name) for name in FAULTS},
        "us_a_trigger": round((time.perf_counter() - began_s) / max(1, whole.triggers) * 1e6, 1),
        "belts": [
            {"plan": {**asdict(plan), "parts": each.parts, "seed": seed}, **each.told()}
            for plan, each in zip(PLANS, every, strict=True)
        ],
    }
