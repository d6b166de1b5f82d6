"""A camera's journal: what acquisition has read is there for whoever comes after it, whole, in order and once."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from pipeline.journal import Journal, journal_bytes
from pipeline.messages import Trigger
from tests.unit.pipeline.deadline_exploration import KILLS
from tests.unit.pipeline.deadline_world import World

ROOM = 8


@pytest.fixture
def memory() -> bytearray:
    return bytearray(journal_bytes(ROOM))


def trigger(counter: int) -> Trigger:
    return Trigger("cam0", 1, counter, 100 * counter, counter)


def counters(journal: Journal, after: int = 0) -> list[int]:
    return [found.trigger_counter for found in journal.after(after, "cam0")]


def test_a_new_journal_is_empty(memory: bytearray) -> None:
    journal = Journal(memoryview(memory))
    assert (counters(journal), journal.told, journal.last()) == ([], 0, 0)


def test_whole_triggers_that_damage_has_cut_off_are_counted(memory: bytearray) -> None:
    journal = Journal(memoryview(memory))
    assert journal.damaged_count() == 0
    for counter in range(1, 6):
        assert journal.write(trigger(counter))
    journal.mark_told(2)
    assert Journal(memoryview(memory)).damaged_count() == 0
    memory[journal_bytes(5) - 1] ^= 1
    assert (counters(journal, after=2), journal.damaged_count()) == ([3], 1)
    memory[journal_bytes(4) - 1] ^= 1
    assert (counters(journal, after=2), journal.damaged_count()) == ([], 1)


def test_a_mark_without_its_trigger_is_damage(memory: bytearray) -> None:
    journal = Journal(memoryview(memory))
    assert journal.write(trigger(1))
    for told, damaged_count in [(1, 0), (2, 1), (2**64 - 1, 1)]:
        journal.mark_told(told)
        assert (counters(journal, after=told), journal.damaged_count()) == ([], damaged_count)


@pytest.mark.parametrize("encoder_count", [None, 0, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("part_key", [None, 0, 2**63 - 1])
def test_what_is_written_is_read_by_another(memory: bytearray, encoder_count: int | None, part_key: int | None) -> None:
    written = Trigger("cam0", 2**32 - 1, 1, encoder_count, 2**63 - 1, part_key)
    assert Journal(memoryview(memory)).write(written)
    assert list(Journal(memoryview(memory)).after(0, "cam0")) == [written]


def test_what_is_told_is_told_no_more(memory: bytearray) -> None:
    journal = Journal(memoryview(memory))
    for counter in range(1, 6):
        assert journal.write(trigger(counter))
    journal.mark_told(3)
    successor = Journal(memoryview(memory))
    assert (successor.told, counters(successor, successor.told), successor.last()) == (3, [4, 5], 5)


def test_the_circle_goes_on_as_far_as_it_is_told(memory: bytearray) -> None:
    writer, reader = Journal(memoryview(memory)), Journal(memoryview(memory))
    for counter in range(1, ROOM + 1):
        assert writer.write(trigger(counter))
    assert not writer.write(trigger(ROOM + 1))
    assert counters(reader) == list(range(1, ROOM + 1))
    reader.mark_told(2)
    assert writer.write(trigger(ROOM + 1))
    assert writer.write(trigger(ROOM + 2))
    assert not writer.write(trigger(ROOM + 3))
    assert counters(reader, 2) == list(range(3, ROOM + 3))
    assert Journal(memoryview(memory)).last() == ROOM + 2


@pytest.mark.parametrize("laps", [0, 1])
def test_an_entry_that_is_torn_anywhere_is_not_there(memory: bytearray, laps: int) -> None:
    journal = Journal(memoryview(memory))
    first = laps * ROOM + 1
    for counter in range(1, first + 1):
        assert journal.write(trigger(counter))
        journal.mark_told(counter - 1)
    before = bytes(memory)
    assert journal.write(trigger(first + 1))
    after = bytes(memory)
    places = [at for at in range(len(memory)) if before[at] != after[at]]
    for left in range(len(places)):
        for order in (places, places[::-1]):
            memory[:] = before
            for at in order[:left]:
                memory[at] = after[at]
            assert counters(journal, first - 1) == [first]
    memory[:] = after
    assert counters(journal, first - 1) == [first, first + 1]


class _Forgetful(RuleBasedStateMachine):
    """The ledger and the machine remember a few parts only, and many more come: none is opened again, none is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(2, part_count=ROOM)
        self.count = [0, 0]
        self.source = 1

    def teardown(self) -> None:
        self.world.restart()
        self.world.close()

    @rule(camera=st.integers(0, 1), count=st.integers(1, ROOM), told=st.booleans(), kill=KILLS)
    def triggers_come(self, camera: int, count: int, told: bool, kill: int | None) -> None:
        """At the one camera or the other: what the other saw last is soon in no entry any more."""
        for _ in range(count):
            journal = self.world.journal(camera)
            if journal.last() - journal.told == ROOM:
                return
            physical = 2 * self.count[camera] + camera
            self.count[camera] += 1
            self.world.now_ns += 1_000
            self.world.acquire(physical, camera, source=self.source, at_ns=self.world.now_ns)
            if told:
                self.world.trigger(physical, camera, source=self.source, at_ns=0, kill=kill)

    @rule(camera=st.integers(0, 1), kill=KILLS)
    def acquisition_dies(self, camera: int, kill: int | None) -> None:
        self.world.camera_lost(camera, kill)
        self.source += 1

    @rule(kill=KILLS)
    def signalling_dies(self, kill: int | None) -> None:
        self.world.restart(kill)

    @rule(camera=st.integers(0, 1), back=st.integers(0, 3 * ROOM))
    def a_notice_comes_again(self, camera: int, back: int) -> None:
        """By a link that lived on while the journal was read."""
        number = self.count[camera] - 1 - back
        if number >= 0:
            self.world.trigger(2 * number + camera, camera, at_ns=0)


def test_what_the_circle_forgot_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.deadline.REMEMBERED_TRIGGERS", 4)
    run_state_machine_as_test(
        _Forgetful,
        settings=settings(max_examples=200, stateful_step_count=30, derandomize=True, database=None, deadline=None),
    )
