"""The two explorers over ``World``: every interleaving of a small scope, and large scopes at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pipeline.deadline import DeadlineMachine
from pipeline.ledger import Ledger
from pipeline.messages import FrameOutcome
from tests.unit.pipeline.deadline_world import CHOICE_NS, World

# --- every interleaving of a small scope ---------------------------------------------------------------------------

MOMENTS_NS = (10, CHOICE_NS - 1, CHOICE_NS, CHOICE_NS + 10)
"""Where time stands still in the exploration: part k is triggered at 10 k, so that both choices lie between."""
Action = Callable[[World, "int | None"], int]


def _trigger(physical: int, camera: int) -> Action:
    return lambda world, kill: world.trigger(physical, camera, at_ns=10 * physical, kill=kill)


def _read(physical: int, camera: int) -> Action:
    return lambda world, _: world.acquire(physical, camera, at_ns=10 * physical)


def _torn(physical: int, camera: int) -> Action:
    return lambda world, _: world.torn(physical, camera, at_ns=10 * physical, bytes_left=7)


def _lost(camera: int) -> Action:
    return lambda world, kill: world.camera_lost(camera, kill)


def _status(physical: int, camera: int, outcome: FrameOutcome) -> Action:
    return lambda world, kill: world.frame_status(physical, camera, outcome, kill=kill)


def _inspection(physical: int, camera: int, verdict: str) -> Action:
    return lambda world, kill: world.inspection(physical, camera, verdict, kill=kill)


def _later(world: World, _: int | None) -> int:
    world.now_ns = next((moment for moment in MOMENTS_NS if moment > world.now_ns), world.now_ns)
    return 0


def _switch(world: World, _: int | None) -> int:
    """Production, then a challenge, then neither."""
    world.run_line(not world.challenging, challenging=world.running and not world.challenging)
    return 0


def small_scope(camera_count: int, part_count: int) -> list[Action]:
    """Triggers and inspections may come at any time, in any order, any number of times; any process may die."""
    actions: list[Action] = [_lost(camera) for camera in range(camera_count)]
    for physical in range(part_count):
        for camera in range(camera_count):
            actions += [
                _read(physical, camera),
                _torn(physical, camera),
                _trigger(physical, camera),
                _status(physical, camera, "GRABBED"),
                _status(physical, camera, "REFUSED"),
                _inspection(physical, camera, "PASS"),
                _inspection(physical, camera, "REJECT"),
            ]
    actions += [World.tick, World.inspection_lost, _later, _switch, World.restart]
    return actions


def explore(
    camera_count: int,
    part_count: int,
    depth: int,
    *,
    is_triggered: bool = False,
    machine_class: type[DeadlineMachine] = DeadlineMachine,
    ledger_class: type[Ledger] = Ledger,
) -> tuple[int, int]:
    """Breadth first over all actions and all points to be killed at, once a path; returns (states, steps) explored.

    ``is_triggered``: starts where all triggers are known already, which takes the same depth further.
    """
    world = World(camera_count, machine_class, ledger_class, part_count=4)
    try:
        world.now_ns = MOMENTS_NS[0]
        world.run_line(True)
        if is_triggered:
            for physical in range(part_count):
                for camera in range(camera_count):
                    _trigger(physical, camera)(world, None)
        actions = small_scope(camera_count, part_count)
        frontier = [world.save()]
        known = set(frontier)
        steps = 0
        for _ in range(depth):
            found = []
            for state in frontier:
                for action in actions:
                    world.load(state)
                    may_die = world.restarts == 0
                    if action is World.restart and not may_die:
                        continue
                    points = action(world, None)
                    for kill in [None, *range(points if may_die and action is not World.restart else 0)]:
                        if kill is not None:
                            world.load(state)
                            action(world, kill)
                        steps += 1
                        after = world.save()
                        if after not in known:
                            known.add(after)
                            found.append(after)
            frontier = found
        return len(known), steps
    finally:
        world.close()


# --- large scopes at random ----------------------------------------------------------------------------------------

CAMERAS = st.integers(0, 2)
BACK = st.integers(0, 5)
KILLS = st.integers(0, 99).map(lambda point: point if point < 8 else None)


class LineRules(RuleBasedStateMachine):
    """One to three cameras; parts come every few ns, and anything said of one of the last six comes in any order."""

    machine_class: type[DeadlineMachine] = DeadlineMachine
    ledger_class: type[Ledger] = Ledger
    happened: ClassVar[Counter[str]] = Counter()
    """Over all runs: what is not in here was never tried."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.triggered: list[tuple[int, int]] = []
        self.source = 1

    def teardown(self) -> None:
        if self.world is None:
            return
        self.world.close()
        self.happened.update(self.world.happened)

    @initialize(camera_count=st.integers(1, 3))
    def start(self, camera_count: int) -> None:
        self.world = World(camera_count, self.machine_class, self.ledger_class, part_count=128)
        self.world.run_line(True)

    @property
    def line(self) -> World:
        assert self.world is not None
        return self.world

    def _camera(self, camera: int) -> int:
        return camera % len(self.line.cameras)

    def _part(self, back: int) -> tuple[int, int, int]:
        """A late part's number, trigger_ns and source."""
        physical = max(0, len(self.triggered) - 1 - back)
        return (physical, *self.triggered[physical])

    @rule(
        delay_ns=st.one_of(st.integers(0, 30), st.integers(0, 100)),
        mask=st.sampled_from([7, 7, 7, 1, 2, 4, 0]),
        grabbed=st.booleans(),
    )
    def part_comes(self, delay_ns: int, mask: int, grabbed: bool) -> None:
        """Its triggers were ``delay_ns`` on the way; of cameras not in ``mask`` every other one is read and not told."""
        self.triggered.append((self.line.now_ns - delay_ns, self.source))
        for camera in range(len(self.line.cameras)):
            if mask >> camera & 1:
                self.trigger_is_told(0, camera, None)
                if grabbed:
                    self.frame_status(0, camera, "GRABBED", None)
            elif len(self.triggered) % 2:
                self.line.acquire(
                    len(self.triggered) - 1, camera, source=self.source, at_ns=self.line.now_ns - delay_ns
                )

    @precondition(lambda self: self.triggered)
    @rule(back=BACK, camera=CAMERAS, kill=KILLS)
    def trigger_is_told(self, back: int, camera: int, kill: int | None) -> None:
        physical, at_ns, source = self._part(back)
        self.line.trigger(physical, self._camera(camera), source=source, at_ns=at_ns, kill=kill)

    @precondition(lambda self: self.triggered)
    @rule(back=BACK, camera=CAMERAS, outcome=st.sampled_from(["GRABBED", "REFUSED", "BAD", "MISSED"]), kill=KILLS)
    def frame_status(self, back: int, camera: int, outcome: str, kill: int | None) -> None:
        physical, _, source = self._part(back)
        self.line.frame_status(physical, self._camera(camera), cast(FrameOutcome, outcome), source=source, kill=kill)

    @precondition(lambda self: self.triggered)
    @rule(back=BACK, camera=CAMERAS, verdict=st.sampled_from(["PASS", "PASS", "REJECT", "NO_DECISION"]), kill=KILLS)
    def inspection(self, back: int, camera: int, verdict: str, kill: int | None) -> None:
        physical, _, source = self._part(back)
        self.line.inspection(physical, self._camera(camera), verdict, source=source, kill=kill)

    @precondition(lambda self: self.triggered)
    @rule(back=BACK, verdicts=st.tuples(*[st.sampled_from(["PASS", "PASS", "PASS", "REJECT"])] * 3))
    def all_views_are_inspected(self, back: int, verdicts: tuple[str, str, str]) -> None:
        for camera in range(len(self.line.cameras)):
            self.inspection(back, camera, verdicts[camera], None)

    @rule(by_ns=st.one_of(st.integers(1, 10), st.integers(1, 60)), ticks=st.booleans(), kill=KILLS)
    def time_passes(self, by_ns: int, ticks: bool, kill: int | None) -> None:
        self.line.now_ns += by_ns
        if ticks:
            self.line.tick(kill)

    @rule(what=st.integers(0, 11), camera=CAMERAS, kill=KILLS, bytes_left=st.integers(0, 40))
    def something_breaks(self, what: int, camera: int, kill: int | None, bytes_left: int) -> None:
        """Rarely. The successor of a lost camera's process counts triggers from the start again."""
        if what == 0:
            self.line.restart(kill)
            self.source += 1
        elif what == 1:
            self.line.inspection_lost(kill)
        elif what == 2:
            self.line.camera_lost(self._camera(camera), kill)
            self.source += 1
        elif what == 3:
            self.line.close_all(kill)
        elif what == 4:
            self.line.run_line(False)
        elif what in (6, 7, 8):
            self.line.run_line(True, challenging=True)
        elif what == 5:
            self.triggered.append((self.line.now_ns, self.source))
            physical, at_ns, source = self._part(0)
            self.line.torn(physical, self._camera(camera), source=source, at_ns=at_ns, bytes_left=bytes_left)
            self.source += 1
        else:
            self.line.run_line(True)
