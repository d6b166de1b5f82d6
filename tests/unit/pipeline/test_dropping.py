"""Segments that retention lets go are deleted, one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.clock import NS_PER_S, now_ns
from pipeline.dropping import Dropping
from pipeline.record.files import sealed_files, sealed_name
from pipeline.record.store import RecordStore
from tests.supervised import supervised_at
from tests.unit.pipeline.test_record_store import results


@contextlib.contextmanager
def record_of(path: Path, segments: int) -> Iterator[RecordStore]:
    """So many sealed segments of ten rows each."""
    store = RecordStore(path, "a", budget_us=50, deadline_us=1_000)
    for number in range(segments):
        store.commit(results(1 + 10 * number, 10 + 10 * number), [])
        assert store.seal()
    yield store
    store.close()


def test_what_nobody_waits_for_goes_one_segment_a_time(tmp_path: Path) -> None:
    limits = {"path": "records.db", "keep_max_gib": 1e-9}
    record = tmp_path / "records.db"
    with supervised_at(tmp_path, records=limits) as (supervised, heard), record_of(record, 3) as store:
        dropping = Dropping(supervised)
        for first_wanted_row, left in ((1, [1, 2, 3]), (31, [2, 3]), (20, [2, 3]), (21, [3])):
            dropping.drop(store, first_wanted_row)
            assert [*sealed_files(record)] == left
        assert dropping.dropped_count == 2
        assert heard.alarms() == {}


def test_it_is_looked_at_now_and_then_and_never_where_all_is_kept(tmp_path: Path) -> None:
    with supervised_at(tmp_path, records={"path": "records.db", "keep_days": 1.0}) as (supervised, _):
        dropping = Dropping(supervised)
        assert dropping.is_due(now_ns())
        with record_of(tmp_path / "records.db", 0) as store:
            dropping.drop(store, 1)
        assert not dropping.is_due(now_ns())
        assert dropping.is_due(now_ns() + 10 * NS_PER_S)
    with supervised_at(tmp_path) as (supervised, _):
        assert not Dropping(supervised).is_due(now_ns())


def test_one_that_cannot_be_deleted_is_said_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"path": "records.db", "keep_max_gib": 1e-9}
    record = tmp_path / "records.db"
    with supervised_at(tmp_path, records=limits) as (supervised, heard), record_of(record, 1) as store:
        dropping = Dropping(supervised)
        sealed = sealed_name(record, 1)

        def refuse(self: Path, *, missing_ok: bool = False) -> None:
            raise PermissionError(1, "Operation not permitted", str(self))

        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", refuse)
            dropping.drop(store, 11)
        text = f"record {record}: an old segment cannot be deleted: {sealed}: Operation not permitted"
        assert heard.alarms() == {"record-not-pruned": text}
        dropping.drop(store, 11)
        assert heard.alarms() == {"record-not-pruned": None}
        assert dropping.dropped_count == 1
