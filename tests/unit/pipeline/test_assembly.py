"""Cameras along the belt: no part ever gets another's view, whatever is lost, doubled, told late, slipped or reset."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.assembly import BeltAssembly, Placed
from pipeline.bench.assembly import FAULTS, PLANS, BeltPlan, Found, assembly, play
from pipeline.deadline import DeadlineMachine, Decision, Joined, Opened, Output
from pipeline.ledger import Ledger, LedgerEntry, LedgerHead, TriggerKey
from pipeline.messages import FrameStatus, Trigger, ViewInspected
from pipeline.rules import Matching, Timing
from vision.types import Reason, Verdict

MS = 1_000_000
WAY = 1_000
"""Pulses from the first camera to the second: 100 ms at 10 pulses a millisecond."""
TIMING = Timing(deadline_ns=40 * MS, guard_ns=3 * MS)
MATCHING = Matching(
    encoder_bits=16,
    pulses=10,
    window_ns=2 * MS,
    offsets_pulses=(0, WAY),
    assembly_ns=600 * MS,
    pulses_per_s_max=20_000.0,
)


# --- belts on which everything happens -----------------------------------------------------------------------------


def test_no_part_gets_another_ones_view() -> None:
    found = assembly(parts=9_000, seed=11, parts_a_belt=1_000)
    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert found["parts"] == 9_000
    for belt in found["belts"]:
        # That nothing is joined at all is no way out.
        assert belt["parts_passed"] > 0.5 * belt["good"], belt
    healthy = found["belts"][-1]
    assert healthy["parts_passed"] == healthy["good"]
    assert not any(name.startswith("NO_DECISION") for name in healthy["verdicts"])


@pytest.mark.parametrize(("parts", "played"), [(1, 9), (9, 9), (200, 200)])
def test_every_kind_of_belt_is_played_however_few_parts(parts: int, played: int) -> None:
    found = assembly(parts, seed=3)
    shares = [belt["parts"] for belt in found["belts"]]
    assert sum(shares) == found["parts"] == played
    assert max(shares) - min(shares) <= 1
    assert found["faults"] == 0


def test_the_same_seed_plays_the_same_belts() -> None:
    first, second = (assembly(400, seed=11, parts_a_belt=20) for _ in range(2))
    assert first["belts"] == second["belts"]
    assert first["parts"] == 400


def _joins_from_afar(assembly_: BeltAssembly[object]) -> None:
    assembly_._pulses *= 25


def _minds_no_overtaking(assembly_: BeltAssembly[object]) -> None:
    assembly_._overtakes = lambda camera, count: False  # type: ignore[method-assign]


def _gives_nothing_up(assembly_: BeltAssembly[object]) -> None:
    assembly_._come_apart = lambda trigger_ns, why: []  # type: ignore[method-assign]


@pytest.mark.parametrize("bug", [_joins_from_afar, _minds_no_overtaking, _gives_nothing_up])
def test_the_belts_find_a_seeded_bug(bug: Callable[[BeltAssembly[object]], None]) -> None:
    class Buggy(DeadlineMachine):
        def __init__(self, cameras: list[str], timing: Timing, matching: Matching) -> None:
            super().__init__(cameras, timing, matching)
            assert self._belt is not None
            bug(self._belt)  # type: ignore[arg-type]

    found = Found()
    for number in range(4):
        found.add(play(replace(PLANS[6], parts=500, seed=number), Buggy))
    assert found.wrong_views > 0


def test_a_belt_whose_counter_is_reset_again_and_again() -> None:
    plan = BeltPlan(2_000, 3, encoder_bits=16, offsets_pulses=(0, 700), jumps=0.02, lost=0.01, pitch_jitter=0.0)
    found = play(plan)
    assert found.faults == 0
    assert found.parts_passed > 0.3 * found.good


# --- rule by rule --------------------------------------------------------------------------------------------------


class Line:
    """A belt at 10 pulses a millisecond, told at once; ``trigger`` says in which part a trigger ends."""

    def __init__(self, matching: Matching = MATCHING) -> None:
        self.machine = DeadlineMachine(["up", "down"], TIMING, matching)
        self.machine.running = True
        self.outputs: list[Output] = []
        self._counters = {"up": 0, "down": 0}

    def trigger(
        self, camera_id: str, at_ms: float, count: int | None = None, *, told_ms: float | None = None
    ) -> Opened | Joined:
        at_ns = int(at_ms * MS)
        self._counters[camera_id] += 1
        if count is None:
            count = int(at_ms * 10)
        trigger = Trigger(camera_id, 1, self._counters[camera_id], count % (1 << 16), at_ns)
        outputs = self.machine.trigger(trigger, at_ns if told_ms is None else int(told_ms * MS))
        self.outputs += outputs
        return next(each for each in outputs if isinstance(each, Opened | Joined))

    def see(self, camera_id: str, at_ms: float, verdict: str = "PASS", counter: int | None = None) -> list[Decision]:
        reason = {"PASS": "OK", "REJECT": "DEFECT", "NO_DECISION": "BAD_FRAME"}[verdict]
        number = counter or self._counters[camera_id]
        now = int(at_ms * MS)
        view = ViewInspected(
            camera_id, 1, number, number, None, verdict, reason, 0.0, (), now, now, now, now, now, handed_on=False
        )
        outputs = self.machine.inspection(view, now)
        self.outputs += outputs
        return [each for each in outputs if isinstance(each, Decision)]

    def tick(self, at_ms: float) -> list[Decision]:
        outputs = self.machine.tick(int(at_ms * MS))
        self.outputs += outputs
        return [each for each in outputs if isinstance(each, Decision)]


def test_a_part_is_put_together_from_both_places_and_timed_from_the_last() -> None:
    line = Line()
    opened = line.trigger("up", 0, count=65_530)
    assert isinstance(opened, Opened)
    assert opened.encoder_count == 65_530
    assert line.see("up", 8) == []
    # The counter has wrapped on the way.
    assert line.trigger("down", 100, count=65_530 + WAY + 4) == Joined(1, TriggerKey(1, 1, 1), 100 * MS)
    (decision,) = line.see("down", 110)
    assert (decision.verdict, decision.encoder_count, decision.trigger_ns) == (Verdict.PASS, 65_530, 100 * MS)


def test_the_deadline_counts_from_the_last_camera() -> None:
    line = Line()
    line.trigger("up", 0)
    line.see("up", 8)
    line.trigger("down", 100)
    assert line.machine.next_choice_ns() == 137 * MS
    assert line.tick(136.9) == []
    (decision,) = line.tick(137)
    assert (decision.reason, decision.trigger_ns, decision.decided_ns) == (Reason.MISSED_FRAME, 100 * MS, 137 * MS)


def test_a_part_that_never_comes_to_the_last_camera_is_given_up_in_time() -> None:
    line = Line()
    line.trigger("up", 0)
    line.see("up", 8)
    assert line.tick(599.9) == []
    (decision,) = line.tick(601)
    assert (decision.verdict, decision.reason) == (Verdict.NO_DECISION, Reason.MISSED_FRAME)
    # By definition it is not late.
    assert decision.trigger_ns == 600 * MS


def test_what_the_first_camera_told_is_the_reason() -> None:
    line = Line()
    line.trigger("up", 0)
    line.machine.frame_status(FrameStatus("up", 1, 1, "BAD"), 5 * MS)
    line.trigger("down", 100)
    (decision,) = line.see("down", 108)
    assert (decision.verdict, decision.reason) == (Verdict.NO_DECISION, Reason.BAD_FRAME)


def test_a_defect_that_the_first_camera_saw_rejects_when_the_part_is_whole() -> None:
    line = Line()
    line.trigger("up", 0)
    assert line.see("up", 8, "REJECT") == []
    line.trigger("down", 100)
    (decision,) = line.see("down", 108)
    assert decision.verdict is Verdict.REJECT


def test_several_parts_between_the_cameras_keep_apart() -> None:
    line = Line()
    for number in range(3):
        line.trigger("up", 30 * number)
    joined = [line.trigger("down", 100 + 30 * number) for number in range(3)]
    assert [each.part_id for each in joined] == [1, 2, 3]
    assert all(isinstance(each, Joined) for each in joined)


@pytest.mark.parametrize(("slip", "joins"), [(10, True), (-10, True), (11, False), (-11, False)])
def test_a_part_may_slip_by_the_match_window_and_no_more(slip: int, joins: bool) -> None:
    line = Line()
    line.trigger("up", 0)
    assert isinstance(line.trigger("down", 100, count=WAY + slip), Joined if joins else Opened)


def test_the_last_cameras_trigger_alone_is_a_part_without_a_decision() -> None:
    line = Line()
    assert isinstance(line.trigger("down", 100), Opened)
    line.see("down", 108)
    (decision,) = line.tick(137)
    assert (decision.verdict, decision.reason) == (Verdict.NO_DECISION, Reason.MISSED_FRAME)


def test_a_first_trigger_that_is_told_late_still_finds_its_part() -> None:
    line = Line()
    assert isinstance(line.trigger("down", 100), Opened)
    assert isinstance(line.trigger("up", 0, told_ms=101), Joined)
    line.see("up", 108)
    (decision,) = line.see("down", 109)
    assert (decision.verdict, decision.trigger_ns) == (Verdict.PASS, 100 * MS)


def test_two_cameras_at_the_second_place_may_both_come_before_the_first_ones_word() -> None:
    belt = BeltAssembly[str](replace(MATCHING, offsets_pulses=(0, WAY, WAY)))
    assert belt.place(1, 100 * MS, WAY, "part").part is None
    assert belt.place(2, 100 * MS, WAY + 1, "other").part == "part"
    assert belt.place(0, 0, 0, "another").part == "part"


def test_a_trigger_that_fits_two_parts_is_given_to_neither() -> None:
    line = Line()
    line.trigger("up", 0)
    line.see("up", 8)
    line.trigger("up", 1, count=5)
    line.see("up", 9)
    assert isinstance(line.trigger("down", 100), Opened)
    line.see("down", 108)
    decided = [each for each in line.outputs if isinstance(each, Decision)]
    assert [each.part_id for each in decided] == [1, 2, 3]
    assert {each.reason for each in decided} == {Reason.MISSED_FRAME}


def test_a_last_trigger_that_bounces_spoils_nothing() -> None:
    line = Line()
    line.trigger("up", 0)
    line.trigger("up", 30)
    first = line.trigger("down", 100)
    again = line.trigger("down", 101)
    second = line.trigger("down", 130)
    assert (first.part_id, again.part_id, second.part_id) == (1, 3, 2)
    assert isinstance(again, Opened)


def test_a_part_that_is_overtaken_ends_all_that_are_on_their_way() -> None:
    """The camera may have missed a trigger. Or the encoder slipped by a pitch, and the next one is as wrong."""
    line = Line()
    for number in range(3):
        line.trigger("up", 30 * number)
        line.see("up", 30 * number + 8)
    assert isinstance(line.trigger("down", 130), Opened)
    assert [each.part_id for each in line.outputs if isinstance(each, Decision)] == [1, 2, 3]
    # What comes after it is not concerned.
    assert isinstance(line.trigger("up", 140), Opened)
    assert isinstance(line.trigger("down", 160), Opened)
    assert line.trigger("down", 240).part_id == 5
    assert line.machine.came_apart == (1, "a part never came to a camera")


def test_an_encoder_that_slipped_by_a_pitch_joins_nothing() -> None:
    for shift in (-300, 300):
        line = Line()
        for number in range(3):
            line.trigger("up", 30 * number)
        for number in range(3):
            at_ms = 100 + 30 * number
            assert isinstance(line.trigger("down", at_ms, count=int(at_ms * 10) + shift), Opened), shift


def test_a_counter_that_is_reset_joins_nothing_from_before() -> None:
    line = Line()
    line.trigger("up", 0, count=0)
    line.trigger("up", 30, count=40_000)
    assert line.machine.came_apart == (1, "the encoder count jumped, or a trigger was told more than 50 ms late")
    # It would be the first part's.
    assert isinstance(line.trigger("down", 100, count=WAY), Opened)


def test_a_trigger_too_soon_for_the_belt_joins_nothing() -> None:
    line = Line(replace(MATCHING, offsets_pulses=(0, 3_000)))
    line.trigger("up", 0)
    assert isinstance(line.trigger("down", 20, count=3_000), Opened)


def test_a_trigger_after_the_limit_joins_nothing_and_spoils_nothing() -> None:
    """The belt stood."""
    line = Line()
    line.trigger("up", 0, count=0)
    line.tick(601)
    line.trigger("up", 1_000, count=300)
    assert isinstance(line.trigger("down", 1_070, count=WAY), Opened)
    assert line.trigger("down", 1_100, count=300 + WAY).part_id == 2


def test_a_belt_that_runs_back_past_a_camera_joins_nothing_doubtful() -> None:
    line = Line()
    line.trigger("up", 0, count=0)
    for at_ms in (60, 80):  # back past the camera, and forward again
        line.trigger("up", at_ms, count=0)
    assert isinstance(line.trigger("down", 180, count=WAY), Opened)


def test_a_camera_without_a_count_joins_nothing() -> None:
    placed: Placed[str] = BeltAssembly[str](MATCHING).place(1, 0, None, "part")
    assert placed == Placed(None, True, [])


def test_a_lost_camera_settles_what_is_on_its_way() -> None:
    line = Line()
    line.trigger("up", 0)
    line.see("up", 8)
    (decision,) = line.machine.camera_lost("down", 50 * MS)
    assert isinstance(decision, Decision)
    assert (decision.reason, decision.trigger_ns) == (Reason.FAULT, 50 * MS)
    # Its trigger after all is known for whose it is, and needs no verdict of its own.
    assert line.trigger("down", 100) == Joined(1, TriggerKey(1, 1, 1))


def test_at_the_end_of_triggers_nothing_waits_any_more() -> None:
    line = Line()
    line.trigger("up", 0)
    line.trigger("up", 30)
    line.trigger("down", 100)
    (decision,) = line.machine.end_of_triggers(105 * MS)
    assert isinstance(decision, Decision)
    assert (decision.part_id, decision.reason) == (2, Reason.MISSED_FRAME)
    assert line.machine.open_count == 1


def test_a_successor_closes_what_was_on_its_way_and_joins_nothing_to_it() -> None:
    line = Line()
    entry = LedgerEntry(7, 0, 0, 0, 0, None, None, None, False, (TriggerKey(0, 1, 1),))
    (closed,) = line.machine.recover([entry], 50 * MS)
    assert isinstance(closed, Decision)
    assert (closed.reason, closed.trigger_ns) == (Reason.FAULT, 50 * MS)
    opened = line.trigger("down", 100)
    assert isinstance(opened, Opened)
    assert opened.part_id == 8


def test_a_successor_keeps_the_moment_of_the_last_camera() -> None:
    line = Line()
    entry = LedgerEntry(7, 0, 0, 20 * MS, 0, None, None, None, False, (TriggerKey(0, 1, 1), TriggerKey(1, 1, 1)))
    (closed,) = line.machine.recover([entry], 50 * MS)
    assert isinstance(closed, Decision)
    assert closed.trigger_ns == 20 * MS


def test_the_ledger_keeps_the_moment_of_the_last_camera() -> None:
    memory = Ledger.create(LedgerHead("s", 256, 1, 16, 0, "r", "1", False, 2, MATCHING))
    ledger = Ledger(memory)
    os.close(memory)
    assert ledger.head.matching == MATCHING
    ledger.open_part(1, 5, 10, TriggerKey(0, 1, 1))
    ledger.add_key(1, TriggerKey(1, 1, 1), 30)
    (entry,) = ledger.entries()
    assert (entry.trigger_ns, len(entry.keys)) == (30, 2)
    ledger.decide(1, 1, Verdict.NO_DECISION, Reason.MISSED_FRAME, 50, 40)
    (entry,) = ledger.entries()
    assert (entry.trigger_ns, entry.decided_ns) == (40, 50)


def test_parts_are_counted_from_the_lines_zero_also_with_one_camera() -> None:
    machine = DeadlineMachine(["only"], TIMING, replace(MATCHING, offsets_pulses=(300,)))
    (opened, *_) = machine.trigger(Trigger("only", 1, 1, 100, 0), 0)
    assert isinstance(opened, Opened)
    assert opened.encoder_count == (100 - 300) % (1 << 16)
