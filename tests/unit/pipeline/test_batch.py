"""What waits for the disk: what it was judged with, and who is to hear that it is written."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.batch import Batch, JudgedWith
from pipeline.config import load_line
from pipeline.messages import LateInspection
from pipeline.payloads import TraceabilityKeys
from pipeline.record.context import Context
from pipeline.traceability import KeyChange, KeySchedule, RecipeKeys
from tests.service import write_line
from tests.unit.pipeline.test_part_result import PART, VIEW


def test_results_name_what_was_in_use_when_the_first_came_and_the_keys_of_their_trigger(tmp_path: Path) -> None:
    line, batch = load_line(write_line(tmp_path, 1)), Batch()
    keys = TraceabilityKeys(lot="L")
    schedule = KeySchedule("boot", [KeyChange(100, "boot", "", "", "", keys, RecipeKeys("", keys))])
    batch.begin(7, JudgedWith("m" * 64, Context("c" * 64, "{}")))
    for part_id, trigger_ns in ((1, 50), (2, 150)):
        batch.add(msgspec.structs.replace(PART, part_id=part_id, trigger_ns=trigger_ns))
    before, after = batch.results(line, "s", schedule)
    assert batch.due_ns == 7
    assert (before.part_id, before.traceability.lot, before.context_sha256) == (1, None, "c" * 64)
    assert (after.part_id, after.traceability.lot, after.model_sha256) == (2, "L", "m" * 64)
    batch.judged_with = None
    assert batch.results(line, "s", schedule)[0].model_sha256 is None


def test_only_those_of_the_signalling_that_is_there_are_acknowledged() -> None:
    batch = Batch()
    batch.add(PART)
    batch.add(LateInspection(3, 1, VIEW))
    batch.sender_gone()
    batch.add(PART)
    assert (len(batch), len(batch.parts), len(batch.late)) == (3, 2, 1)
    assert batch.written() == 1
    assert len(batch) == 0
    batch.add(PART)
    assert batch.written() == 1
    batch.sender_gone()
    assert batch.written() == 0
