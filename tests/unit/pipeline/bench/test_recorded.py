"""A run's record, read while the service still writes, and after."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.bench.recorded import count_rows, read_late_views, read_parts
from pipeline.messages import LateInspection, ViewInspected
from pipeline.record.store import RecordStore
from pipeline.tally import latency_of, stages_us
from tests.unit.pipeline.test_payloads import RESULT

US = 1_000


def test_times_of_parts_judged_in_time_and_late(tmp_path: Path) -> None:
    record = tmp_path / "records.db"
    trigger_ns = 1_000_000 * US
    moments = [trigger_ns + offset * US for offset in (2_000, 2_100, 2_300, 4_300, 4_400)]
    decided_ns, sent_ns = moments[-1] + 50 * US, moments[-1] + 150 * US
    in_time = msgspec.structs.replace(
        RESULT,
        session_id="a",
        part_id=1,
        seq=1,
        trigger_ns=trigger_ns,
        decided_ns=decided_ns,
        sent_ns=sent_ns,
        stages_us=stages_us(trigger_ns, moments, decided_ns, sent_ns),
    )
    unjudged = msgspec.structs.replace(
        in_time, part_id=2, seq=2, trigger_ns=7, sent_ns=None, verdict="NO_DECISION", reason="NOT_RUNNING", stages_us={}
    )
    view = ViewInspected(
        "cam0", 1, 2, 1, None, "PASS", "OK", 0.1, (), 10 * US, 11 * US, 12 * US, 2_900 * US, 3_010 * US, False
    )
    store = RecordStore(record, "a", budget_us=5_000, deadline_us=40_000)
    store.commit([in_time, unjudged], [LateInspection(2, 5_000 * US, view)])
    # Read while the service still writes.
    assert count_rows(record) == 2
    first, second = read_parts(record)
    late = list(read_late_views(record))
    store.close()
    assert (first.latency_us, first.inspection_us) == (latency_of(in_time), 2_400)
    assert (second.verdict, second.reason) == ("NO_DECISION", "NOT_RUNNING")
    assert (first.is_sent, second.is_sent) == (True, False)
    assert (second.latency_us, second.inspection_us) == (None, None)
    assert [(view.part_id, view.trigger_ns, view.inspection_us) for view in late] == [(2, 7, 3_000)]
