"""A long run's books and record, read without holding them whole."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from pipeline.bench.books import read_line_book, read_wire_log, stream_book
from pipeline.bench.recorded import count_rows, read_late_views, read_parts
from pipeline.messages import LateInspection, ViewInspected
from pipeline.record_store import RecordStore, latency_of, stages_us
from tests.unit.pipeline.test_payloads import RESULT

US = 1_000


def write(path: Path, *records: object, ending: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + ending)
    return path


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    book = write(tmp_path / "book", {"event": "gate", "gate_ns": 1}, {"event": "gate", "gate_ns": 2}, ending="")
    assert list(stream_book(book)) == [{"event": "gate", "gate_ns": 1}]


def test_only_dropped_frames_are_told(tmp_path: Path) -> None:
    frames = [{"event": "frame", "dropped": dropped, "frame_id": index} for index, dropped in enumerate([False, True])]
    book = write(tmp_path / "book", {"event": "line"}, *frames, {"event": "end"})
    assert [record["event"] for record in read_line_book(book)] == ["line", "frame", "end"]


def test_a_result_keeps_what_is_compared(tmp_path: Path) -> None:
    result = msgspec.to_builtins(RESULT)
    messages = [
        {"event": "message", "topic": "result", "arrival_ns": 5, "payload": result},
        {"event": "message", "topic": "stats", "arrival_ns": 6, "payload": {}},
        {"event": "connected", "at_ns": 7},
    ]
    (read,) = read_wire_log(write(tmp_path / "wire", *messages))
    assert read["arrival_ns"] == 5
    kept = ("session_id", "seq", "part_id", "verdict", "reason", "encoder_count", "trigger_ns", "views")
    assert {key: read["payload"][key] for key in kept} == {key: result[key] for key in kept}
    assert "stages_us" not in read["payload"]


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
        in_time, part_id=2, seq=2, trigger_ns=7, verdict="NO_DECISION", reason="NOT_RUNNING", stages_us={}
    )
    view = ViewInspected(
        "cam0", 1, 2, 1, None, "PASS", "OK", 0.1, (), 10 * US, 11 * US, 12 * US, 2_900 * US, 3_010 * US
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
    assert (second.latency_us, second.inspection_us) == (None, None)
    assert [(view.part_id, view.trigger_ns, view.inspection_us) for view in late] == [(2, 7, 3_000)]
