"""Which faults strike which part."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pipeline.simulator.line_faults import FaultOptions, FaultPlan
from pipeline.simulator.picture_code import PictureCode


def plan(*faults: FaultOptions, seed: int = 0) -> FaultPlan:
    return FaultPlan(faults, random.Random(seed))


def struck(tested: FaultPlan, parts: range) -> dict[int, list[str]]:
    """The kinds at each part that has any."""
    found = {part: [str(fault.kind) for fault in tested.striking(part)] for part in parts}
    return {part: kinds for part, kinds in found.items() if kinds}


def test_parts_that_are_named() -> None:
    tested = plan(
        FaultOptions(kind="lost_frame", part_numbers=[2, 5]), FaultOptions(kind="missed_frame", part_numbers=[5, 5])
    )
    assert struck(tested, range(1, 10)) == {2: ["lost_frame"], 5: ["lost_frame", "missed_frame"]}


def test_the_next_parts_of_a_fault_on_demand() -> None:
    tested = plan()
    assert struck(tested, range(1, 4)) == {}
    tested.add(FaultOptions(kind="lost_frame", next_parts=2), next_part=4)
    tested.add(FaultOptions(kind="late_frame", next_parts=3, part_numbers=[1, 8]), next_part=4)
    both = ["lost_frame", "late_frame"]
    # Part 1 is long past.
    assert struck(tested, range(4, 10)) == {4: both, 5: both, 6: ["late_frame"], 8: ["late_frame"]}


def test_chance_is_seeded_and_keeps_to_its_rate() -> None:
    fault = FaultOptions(kind="lost_frame", rate=0.1)
    found = [struck(plan(fault, seed=seed), range(2_000)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert 150 < len(found[0]) < 250


def test_what_is_spent_is_forgotten() -> None:
    """A plan after hours of faults on demand is as it was at the beginning."""
    tested = plan()
    for part in range(1, 5_001):
        tested.add(FaultOptions(kind="lost_frame", next_parts=2, part_numbers=[part + 1]), next_part=part)
        assert tested.striking(part)
    assert len(tested.striking(5_001)) == 2
    assert tested.striking(5_002) == []
    held = [each for each in vars(tested).values() if isinstance(each, list | dict)]
    assert held == [{}, [], []]


@pytest.mark.parametrize(
    "options", [{"kind": "odd_picture"}, {"kind": "lost_frame", "code": PictureCode.NAN}], ids=["none", "needless"]
)
def test_a_code_goes_with_an_odd_picture_alone(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected one with odd_picture and with nothing else"):
        FaultOptions.model_validate(options)


def test_a_fault_survives_the_way_into_the_lines_process() -> None:
    fault = FaultOptions(kind="odd_picture", code=PictureCode.HANG, next_parts=3)
    assert FaultOptions.model_validate(json.loads(json.dumps(fault.model_dump()))) == fault
