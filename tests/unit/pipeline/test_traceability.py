"""Lot, order, serial, shift: what was said last before a part's trigger, whatever comes first."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline.payloads import TraceabilityKeys
from pipeline.traceability import CHANGES_KEPT, KeyChange, KeySchedule, RecipeKeys

NO_RECIPE = RecipeKeys("r", TraceabilityKeys())
WORDS = st.none() | st.sampled_from(["a", "b", "c"])
KEYS = st.builds(TraceabilityKeys, lot=WORDS, order=WORDS, serial=WORDS, shift=WORDS)


def change(from_ns: int, lot: str | None, boot_id: str = "here", request: str = "") -> KeyChange:
    return KeyChange(from_ns, boot_id, "2026-01-01T00:00:00Z", "Anna", request, TraceabilityKeys(lot=lot), NO_RECIPE)


@given(
    moments=st.lists(st.integers(0, 50), max_size=12).map(sorted),
    triggers=st.lists(st.integers(0, 50), max_size=20),
    before=st.booleans(),
)
def test_a_part_gets_what_was_said_last_before_its_trigger(
    moments: list[int], triggers: list[int], before: bool
) -> None:
    changes = [change(moment, str(number)) for number, moment in enumerate(moments)]
    schedule = KeySchedule("here", [change(10**9, "old", boot_id="there")] * before)
    found: dict[int, str | None] = {}
    for each in changes:
        # A part told again is asked for again: a change that comes later has taken its moment later.
        for trigger_ns in [trigger_ns for trigger_ns in triggers if trigger_ns <= each.from_ns]:
            lot = schedule.at(trigger_ns).lot
            assert found.setdefault(trigger_ns, lot) == lot
        schedule.add(each)
    for trigger_ns in triggers:
        said = [number for number, moment in enumerate(moments) if moment < trigger_ns]
        lot = schedule.at(trigger_ns).lot
        assert lot == (str(said[-1]) if said else "old" if before else None)
        assert found.setdefault(trigger_ns, lot) == lot


def test_what_is_too_old_to_be_known_gets_no_keys_rather_than_later_ones() -> None:
    schedule = KeySchedule("here")
    for number in range(CHANGES_KEPT + 5):
        schedule.add(change(10 * number, str(number), request=f"s r{number}"))
    assert len(schedule.changes) == CHANGES_KEPT
    assert schedule.at(45).lot is None
    assert schedule.at(51).lot == "5"
    assert schedule.now.lot == str(CHANGES_KEPT + 4)
    assert schedule.has(f"s r{CHANGES_KEPT}")
    assert not schedule.has("s r1")


@given(now=KEYS, last=KEYS, next_=KEYS)
def test_another_recipe_brings_its_keys_and_takes_those_of_the_one_before(
    now: TraceabilityKeys, last: TraceabilityKeys, next_: TraceabilityKeys
) -> None:
    begun = KeyChange(1, "here", "", "Anna", "", now, RecipeKeys("one", last))
    schedule = KeySchedule("here", [begun])
    assert schedule.at_start(RecipeKeys("one", last)) is None
    keys = schedule.at_start(RecipeKeys("other", next_))
    assert keys is not None
    for key, value in msgspec.structs.asdict(keys).items():
        came, was, went = (getattr(each, key) for each in (next_, now, last))
        assert value == (came if came is not None else None if was == went else was)
