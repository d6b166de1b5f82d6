"""After a restart each camera tells all it has kept, one camera after the other: the views still find their parts."""

from __future__ import annotations

from pipeline.deadline import DeadlineMachine, Decision, Joined, Opened
from pipeline.messages import Trigger
from pipeline.rules import Matching, Timing

PITCH_NS = 50_000_000
PARTS = 100


def test_backlogs_told_one_after_the_other_are_one_part_each() -> None:
    timing = Timing(deadline_ns=40_000_000, guard_ns=3_000_000)
    machine = DeadlineMachine(["left", "right"], timing, Matching(encoder_bits=16, pulses=5, window_ns=0))
    now_ns = PARTS * PITCH_NS * 2
    outputs = []
    for camera_id, lag_ns in (("left", 0), ("right", 1_000_000)):
        for number in range(PARTS):
            # The encoder wraps several times within the backlog: a count alone does not name a part.
            count = number * 5_000 % 2**16
            trigger = Trigger(camera_id, 1, number, count, number * PITCH_NS + lag_ns)
            outputs += machine.trigger(trigger, now_ns)
    assert sum(isinstance(output, Opened) for output in outputs) == PARTS
    assert sum(isinstance(output, Joined) for output in outputs) == PARTS
    assert sum(isinstance(output, Decision) for output in outputs) == PARTS


def test_the_same_count_a_wrap_later_is_another_part() -> None:
    timing = Timing(deadline_ns=40_000_000, guard_ns=3_000_000)
    machine = DeadlineMachine(["left", "right"], timing, Matching(encoder_bits=16, pulses=5, window_ns=0))
    machine.trigger(Trigger("left", 1, 1, 100, 0), 0)
    later = machine.trigger(Trigger("right", 1, 1, 100, 60_000_000_000), 60_000_000_000)
    assert any(isinstance(output, Opened) for output in later)
