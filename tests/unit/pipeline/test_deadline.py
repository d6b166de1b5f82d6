"""The deadline machine under anything that can happen: exhaustively in small scopes, at random in large ones.

The same checks find seeded bugs: a suite that passes them all proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from pipeline.deadline import DeadlineMachine, Decision, Joined, Opened, Output, _Part
from pipeline.ledger import Ledger, LedgerEntry, TriggerKey
from pipeline.messages import FrameStatus, Trigger
from pipeline.rules import Matching, Timing
from tests.unit.pipeline.deadline_exploration import LineRules, explore
from tests.unit.pipeline.deadline_world import MATCHING, TIMING, Violation
from vision.types import Reason, Verdict

RANDOM = settings(
    max_examples=600,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("camera_count", "part_count", "depth", "is_triggered", "states_min"),
    [(1, 2, 4, False, 3_400), (1, 2, 3, True, 1_400), (2, 1, 4, False, 3_000), (2, 2, 3, True, 6_200)],
)
def test_every_interleaving_of_a_small_scope(
    camera_count: int, part_count: int, depth: int, is_triggered: bool, states_min: int
) -> None:
    states, steps = explore(camera_count, part_count, depth, is_triggered=is_triggered)
    print(f"{camera_count} cameras, {part_count} parts, depth {depth}: {states} states, {steps} steps")
    assert states > states_min


WHAT_MUST_HAPPEN = (
    "PASS",
    "REJECT",
    "Late",
    "Unmatched",
    "Joined",
    "restart",
    "killed",
    "DEADLINE",
    "FAULT",
    "OVERRUN",
    "CHALLENGE",
    "untold",
    "torn",
)


def test_anything_at_random() -> None:
    LineRules.happened.clear()
    run_state_machine_as_test(LineRules, settings=RANDOM)
    print(dict(sorted(LineRules.happened.items())))
    missing = [name for name in WHAT_MUST_HAPPEN if not LineRules.happened[name]]
    assert not missing, f"never tried: {missing}"


# --- what the checks above leave open ------------------------------------------------------------------------------


def _trigger(camera_id: str, counter: int, encoder_count: int | None, trigger_ns: int) -> Trigger:
    return Trigger(camera_id, 1, counter, encoder_count, trigger_ns)


def _machine(matching: Matching = MATCHING) -> DeadlineMachine:
    machine = DeadlineMachine(["cam0", "cam1"], TIMING, matching)
    machine.running = True
    return machine


def _told(machine: DeadlineMachine, camera: str, counter: int, count: int | None, at_ns: int) -> Output:
    """What came of it."""
    return machine.trigger(_trigger(camera, counter, count, at_ns), at_ns)[-1]


@pytest.mark.parametrize(("count", "joins"), [(104, True), (105, False), (96, True), (95, False)])
def test_triggers_join_within_the_match_window(count: int, joins: bool) -> None:
    machine = _machine()
    machine.trigger(_trigger("cam0", 1, 100, 0), 0)
    (output,) = machine.trigger(_trigger("cam1", 1, count, 90), 10)
    assert isinstance(output, Joined if joins else Opened)


def test_a_part_has_the_key_of_the_trigger_that_opened_it() -> None:
    machine = _machine()
    (opened,) = machine.trigger(Trigger("cam0", 1, 1, 100, 0, part_key=7), 0)
    assert isinstance(opened, Opened)
    (joined,) = machine.trigger(Trigger("cam1", 1, 1, 100, 0, part_key=7), 0)
    assert isinstance(joined, Joined)
    (decision,) = machine.close_all(10)
    assert isinstance(decision, Decision)
    assert opened.part_key == decision.part_key == 7
    successor = _machine()
    entry = LedgerEntry(1, 0, 100, 0, 0, None, None, None, False, (opened.key,), opened.part_key)
    (closed,) = successor.recover([entry], 20)
    assert isinstance(closed, Decision)
    assert closed.part_key == 7


def test_a_part_takes_the_key_that_any_of_its_cameras_was_told() -> None:
    machine = _machine()
    machine.trigger(_trigger("cam0", 1, 100, 0), 0)
    machine.trigger(Trigger("cam1", 1, 1, 100, 0, part_key=8), 0)
    (decision,) = machine.close_all(10)
    assert isinstance(decision, Decision)
    assert decision.part_key == 8


def test_triggers_of_two_keys_are_two_parts() -> None:
    """Whatever their counts and moments say: an encoder that stands still, a wait as long as a pitch."""
    machine = _machine()
    machine.trigger(Trigger("cam0", 1, 1, 100, 0, part_key=7), 0)
    (opened,) = machine.trigger(Trigger("cam1", 1, 1, 100, 0, part_key=8), 0)
    assert isinstance(opened, Opened)
    decisions = machine.close_all(10)
    assert [each.part_key for each in decisions if isinstance(each, Decision)] == [7, 8]
    # One that is told without a key may be either's: nobody knows.
    (opened,) = machine.trigger(Trigger("cam0", 1, 2, 100, 1), 11)[-1:]
    assert isinstance(opened, Opened)


def test_counts_that_stand_still_join_nothing_that_did_not_come_at_once() -> None:
    """An encoder that is not connected. One camera's trigger of the second part is lost: the third's is not taken for it."""
    machine = _machine(Matching(16, 4, window_ns=2))

    def told(camera: str, counter: int, at_ns: int) -> Output:
        return _told(machine, camera, counter, 0, at_ns)

    assert isinstance(told("cam0", 1, 0), Opened)
    assert isinstance(told("cam1", 1, 1), Joined)
    assert isinstance(told("cam1", 2, 10), Opened)
    assert isinstance(told("cam0", 2, 20), Opened)
    joined = told("cam1", 3, 21)
    assert isinstance(joined, Joined)
    assert joined.part_id == 3


def test_a_count_that_was_the_cameras_last_one_joins_nothing() -> None:
    """Also after a gap, when all parts that had it are forgotten."""
    machine = _machine(Matching(16, 4, window_ns=2))

    def told(camera: str, counter: int, at_ns: int) -> Output:
        return _told(machine, camera, counter, 0, at_ns)

    assert isinstance(told("cam0", 1, 0), Opened)
    assert isinstance(told("cam1", 1, 1), Joined)
    later_ns = 10 * TIMING.deadline_ns
    assert isinstance(told("cam0", 2, later_ns), Opened)
    assert isinstance(told("cam1", 3, later_ns + TIMING.deadline_ns // 2), Opened)
    joined = told("cam0", 3, later_ns + TIMING.deadline_ns // 2 + 1)
    assert isinstance(joined, Joined)
    assert joined.part_id == 3


def test_frames_that_have_one_moment_are_rivals() -> None:
    """A driver dates those behind one that was held back no earlier than that."""
    machine = _machine(Matching(16, 4, window_ns=2, has_encoder=False))
    outputs = [machine.trigger(_trigger("cam0", number, None, 30), 30)[-1] for number in (1, 2, 3)]
    outputs += machine.trigger(_trigger("cam1", 4, None, 31), 31)
    assert all(isinstance(each, Opened) for each in outputs)


def test_the_first_part_of_a_count_that_stands_is_no_better_known_than_the_next() -> None:
    machine = _machine(Matching(16, 4, window_ns=2))
    _told(machine, "cam0", 1, 100, 0)
    _told(machine, "cam1", 1, 100, 0)
    _told(machine, "cam0", 2, 200, 20)
    third = _told(machine, "cam0", 3, 200, 30)
    joined = _told(machine, "cam1", 3, 200, 30)
    assert isinstance(third, Opened)
    assert isinstance(joined, Joined)
    assert joined.part_id == third.part_id


def test_a_part_whose_count_stands_is_joined_by_its_moment_alone() -> None:
    """The one from before, which had the count as well, is forgotten."""
    machine = _machine(Matching(16, 4, window_ns=2))
    later_ns = 10 * TIMING.deadline_ns
    _told(machine, "cam0", 1, 200, 0)
    _told(machine, "cam0", 2, 200, later_ns)
    assert isinstance(_told(machine, "cam1", 3, 200, later_ns + 20), Opened)


def test_a_trigger_that_was_missed_is_no_rival_of_the_frame_that_told_of_it() -> None:
    machine = _machine(Matching(16, 4, window_ns=2, has_encoder=False))
    machine.trigger(_trigger("cam0", 5, None, 10), 10)
    machine.frame_status(FrameStatus("cam0", 1, 5, "MISSED"), 10)
    (opened,) = machine.trigger(_trigger("cam0", 6, None, 10), 10)
    (joined,) = machine.trigger(_trigger("cam1", 6, None, 11), 11)
    assert isinstance(opened, Opened)
    assert isinstance(joined, Joined)
    assert joined.part_id == opened.part_id


def test_moments_join_nothing_where_two_parts_are_within_the_wait() -> None:
    machine = _machine(Matching(16, 4, window_ns=30, has_encoder=False))
    outputs = [
        machine.trigger(_trigger(camera, counter, None, at_ns), at_ns)[-1]
        for camera, counter, at_ns in (
            ("cam0", 1, 0),
            ("cam1", 1, 1),
            ("cam1", 2, 20),
            ("cam0", 2, 40),
            ("cam1", 3, 41),
        )
    ]
    assert [isinstance(each, Joined) for each in outputs] == [False, True, False, False, False]


@pytest.mark.parametrize("has_encoder", [True, False])
@pytest.mark.parametrize(
    ("key", "other_key", "joins"), [(7, 7, True), (7, 8, False), (7, None, False), (None, None, False)]
)
def test_told_triggers_without_counts_join_by_their_keys_alone(
    has_encoder: bool, key: int | None, other_key: int | None, joins: bool
) -> None:
    """Their times are those of messages, which may be late by a part."""
    matching = Matching(16, 4, window_ns=50, has_encoder=has_encoder, times_tell=False)
    machine = DeadlineMachine(["cam0", "cam1"], TIMING, matching)
    machine.running = True
    machine.trigger(Trigger("cam0", 1, 1, None, 0, part_key=key), 0)
    # A count of a line that has no encoder says nothing.
    count = None if has_encoder else 0
    (output,) = machine.trigger(Trigger("cam1", 1, 1, count, 0, part_key=other_key), 10)
    assert isinstance(output, Joined if joins else Opened)


def test_triggers_join_over_the_wrap_of_the_encoder() -> None:
    machine = _machine()
    machine.trigger(_trigger("cam0", 1, 65_534, 0), 0)
    (output,) = machine.trigger(_trigger("cam1", 1, 2, 5), 10)
    assert isinstance(output, Joined)


def test_the_same_count_a_deadline_later_is_another_part() -> None:
    machine = _machine()
    machine.trigger(_trigger("cam0", 1, 100, 0), 0)
    outputs = machine.trigger(_trigger("cam1", 1, 100, 101), 101)
    assert [output.part_id for output in outputs if isinstance(output, Opened)] == [2]


def test_a_trigger_after_the_restart_joins_its_part_from_before() -> None:
    machine = _machine()
    entry = LedgerEntry(7, 0, 100, 0, 0, None, None, None, False, (TriggerKey(0, 1, 1),))
    (closed,) = machine.recover([entry], 20)
    assert isinstance(closed, Decision)
    assert machine.trigger(_trigger("cam1", 1, 101, 1), 21) == [Joined(7, TriggerKey(1, 1, 1))]


def test_a_part_key_that_a_later_camera_tells_is_the_parts() -> None:
    """So that whoever takes over knows it, too."""
    machine = _machine()
    machine.trigger(_trigger("cam0", 1, 100, 0), 0)
    outputs = machine.trigger(Trigger("cam1", 1, 1, 100, 1, part_key=8), 1)
    assert outputs == [Joined(1, TriggerKey(1, 1, 1), part_key=8)]


def test_an_old_part_without_keys_still_counts() -> None:
    machine = _machine()
    machine.recover([LedgerEntry(7, 9, 100, 0, 0, None, Verdict.PASS, Reason.OK, True, ())], 20)
    (opened,) = machine.trigger(_trigger("cam1", 1, 101, 30), 30)
    (decision,) = machine.close_all(31)
    assert isinstance(opened, Opened)
    assert isinstance(decision, Decision)
    assert (opened.part_id, decision.seq) == (8, 10)


def test_an_unknown_camera_is_refused() -> None:
    with pytest.raises(KeyError):
        _machine().trigger(_trigger("cam9", 1, 100, 0), 0)


# --- seeded bugs ---------------------------------------------------------------------------------------------------


class SendsTwice(DeadlineMachine):
    """A rejected part stays open, and its deadline decides it again."""

    def _decide(self, part: _Part, verdict: Verdict, reason: Reason, now_ns: int) -> Decision:
        decision = super()._decide(part, verdict, reason, now_ns)
        if verdict is Verdict.REJECT:
            self._open[part.part_id] = part
        return decision


class PassesAfterTheChoice(DeadlineMachine):
    """Forgets the guard: chooses at the deadline itself."""

    def __init__(self, cameras: Sequence[str], timing: Timing, matching: Matching) -> None:
        super().__init__(cameras, replace(timing, guard_ns=0), matching)


class LosesPartsAtRestart(DeadlineMachine):
    """Knows what its predecessor decided, not what it left open."""

    def recover(self, entries: Iterable[LedgerEntry], now_ns: int) -> list[Output]:
        return [output for output in super().recover(entries, now_ns) if not isinstance(output, Decision)]


class ForgetsTriggersAtRestart(DeadlineMachine):
    """Takes a trigger that is told again for a new part."""

    def recover(self, entries: Iterable[LedgerEntry], now_ns: int) -> list[Output]:
        outputs = super().recover(entries, now_ns)
        self._part_of.clear()
        return outputs


class PassesWhatWasNotRunning(DeadlineMachine):
    """Leaves parts open that came while the line did not run."""

    def trigger(self, trigger: Trigger, now_ns: int) -> list[Output]:
        running, self.running = self.running, True
        outputs = super().trigger(trigger, now_ns)
        self.running = running
        return outputs


class PassesChallengeParts(DeadlineMachine):
    """Forgets that they are to be rejected."""

    def _decide(self, part: _Part, verdict: Verdict, reason: Reason, now_ns: int) -> Decision:
        part.is_challenge = False
        return super()._decide(part, verdict, reason, now_ns)


class PassesHalfSeenParts(DeadlineMachine):
    """Takes the first view's word for the whole part."""

    def _decide_if_settled(self, part: _Part, now_ns: int) -> list[Output]:
        if len(self._cameras) > 1 and any(view.verdict == "PASS" for view in part.views.values()):
            return [self._decide(part, Verdict.PASS, Reason.OK, now_ns)]
        return super()._decide_if_settled(part, now_ns)


class TornLedger(Ledger):
    """Reads the seq of a decision that its writer did not live to make."""

    def entries(self) -> list[LedgerEntry]:
        entries = super().entries()
        return [entry._replace(seq=entry.part_id) if entry.verdict is None else entry for entry in entries]


MUTANTS = (
    SendsTwice,
    PassesAfterTheChoice,
    LosesPartsAtRestart,
    ForgetsTriggersAtRestart,
    PassesWhatWasNotRunning,
    PassesChallengeParts,
    PassesHalfSeenParts,
)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_exploration_finds_the_seeded_bug(mutant: type[DeadlineMachine]) -> None:
    with pytest.raises(Violation):
        explore(2, 1, 4, machine_class=mutant)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_random_runs_find_the_seeded_bug(mutant: type[DeadlineMachine]) -> None:
    rules = type(mutant.__name__ + "Rules", (LineRules,), {"machine_class": mutant})
    with pytest.raises(Violation):
        run_state_machine_as_test(rules, settings=settings(RANDOM, phases=[Phase.generate], max_examples=1_000))


def test_a_torn_ledger_is_found() -> None:
    with pytest.raises(Violation, match="gapless"):
        explore(1, 2, 3, is_triggered=True, ledger_class=TornLedger)
