"""What lies beside the record under a sealed segment's name: a copy, a damaged file, one that cannot be read now."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import pipeline.record.sealed
from pipeline.messages import GiveReview
from pipeline.outbox import Delivered
from pipeline.record.anchor import Anchor
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone
from pipeline.record.files import sealed_name
from pipeline.record.reader import NotReadable
from pipeline.record.roots import read_roots
from pipeline.record.sealed import open_sealed
from pipeline.record.store import RecordStore
from pipeline.record.verify import verify
from tests.unit.pipeline.test_record_segments import anchor_of
from tests.unit.pipeline.test_record_store import LATE, results

Open = Callable[..., RecordStore]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "line.db"


@pytest.fixture
def open_store(record: Path) -> Iterator[Open]:
    opened: list[RecordStore] = []

    def open_at(session_id: str = "a") -> RecordStore:
        opened.append(RecordStore(record, session_id, budget_us=50, deadline_us=1_000))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()


def sealed_twice(open_store: Open) -> RecordStore:
    """Parts 1 to 20 in two sealed segments, none in the third."""
    store = open_store()
    for first in (1, 11):
        store.commit(results(first, first + 9), [])
        assert store.seal()
    return store


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(statement)


@pytest.mark.parametrize("copied", ["line.db", "line-000001.db", "line-000002.db"])
def test_a_copy_under_a_date_is_told_and_counts_for_nothing(open_store: Open, record: Path, copied: str) -> None:
    store = sealed_twice(open_store)
    copy = sealed_name(record, 20261121)
    shutil.copyfile(record.with_name(copied), copy)
    store.commit(results(21, 30), [])
    assert store.seal()
    assert "line-20261121.db" in store.troubles[0]
    assert "it looks like a copy" in store.troubles[0]
    assert (store.head()[0], sealed_name(record, 3).exists()) == (30, True)
    store.commit(results(31, 32), [])
    with pytest.raises(
        NotReadable, match=r"got line-20261121\.db beside it, expected only segments before its own, which is 4"
    ):
        verify(record)
    copy.unlink()
    verified = verify(record)
    assert (verified.findings, verified.rows) == ([], 32)


def test_a_sealed_segment_that_cannot_be_read_now_is_waited_for(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sealed_twice(open_store)
    store.close()
    record.unlink()

    def refuse(file: Path) -> sqlite3.Connection:
        if file == sealed_name(record, 2):
            raise sqlite3.OperationalError("disk I/O error")
        return open_sealed(file)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.record.roots.open_sealed", refuse)
        with pytest.raises(RecordFault, match=r"line-000002\.db: disk I/O error: what comes after it cannot be begun"):
            open_store()
    assert not record.exists()
    assert open_store().head()[0] == 20


@pytest.mark.parametrize("numbers", [[2], [1, 2]])
def test_a_damaged_one_is_told_and_the_gap_stays_to_be_seen(open_store: Open, record: Path, numbers: list[int]) -> None:
    store = sealed_twice(open_store)
    store.close()
    record.unlink()
    for number in numbers:
        sealed_name(record, number).write_bytes(b"noise " * 1_000)
    store = open_store()
    assert len(store.troubles) == len(numbers)
    assert "line-000002.db is damaged" in store.troubles[0]
    last = 10 if numbers == [2] else 0
    assert store.head()[0] == last
    store.commit(results(21, 30), [])
    assert store.seal()
    assert sealed_name(record, 3).exists()
    for number in numbers:
        sealed_name(record, number).unlink()
    found = verify(record).findings
    assert {(each.kind, each.row) for each in found} == {("root", last + 1)}
    assert "when segment 3 was begun segment" in found[0].text


def test_a_file_put_in_the_records_place_is_never_sealed(open_store: Open, record: Path) -> None:
    store = sealed_twice(open_store)
    store.commit(results(21, 22), [])
    record.rename(record.with_name("away.db"))
    shutil.copyfile(record.with_name("away.db"), record)
    with pytest.raises(RecordGone, match="deleted or replaced"):
        store.seal()
    assert not sealed_name(record, 3).exists()


# --- which segment has a part ----------------------------------------------------------------------------------------


def test_only_the_segment_that_has_it_is_opened(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    for first in range(1, 101, 10):
        store.commit([*results(first, first + 9), *results(first, first + 1, "b")], [])
        assert store.seal()
    anchor = Anchor(*_row(sealed_name(record, 4), "SELECT id, row_hash FROM part WHERE part_id = 35"))
    again = open_store()
    opened: list[str] = []

    def open_counted(file: Path) -> sqlite3.Connection:
        opened.append(file.name)
        return open_sealed(file)

    monkeypatch.setattr(pipeline.record.sealed, "open_sealed", open_counted)

    def asked(ask: Callable[[], object]) -> list[str]:
        opened.clear()
        ask()
        return [name for name in opened if name != "line-000010.db"]  # asked for what was told twice

    assert asked(lambda: again.commit(results(101, 110), [])) == []
    assert asked(lambda: again.commit(results(35, 35), [])) == ["line-000004.db"]
    assert asked(lambda: again.hash_of(anchor.row_count)) == ["line-000004.db"]
    assert again.hash_of(anchor.row_count) == anchor.head
    assert asked(lambda: again.add_review(GiveReview(65, "a", "good", ""), "Anna", "s r1")) == ["line-000007.db"]
    assert asked(lambda: again.add_review(GiveReview(65, None, "good", ""), "Anna", "s r2")) == ["line-000007.db"]
    assert asked(lambda: again.add_review(GiveReview(7_000, None, "good", ""), "Anna", "s none")) == []
    assert asked(lambda: again.add_review(GiveReview(65, "gone", "good", ""), "Anna", "s gone")) == []
    assert verify(record).findings == []


def _row(file: Path, ask: str) -> tuple[int, str]:
    with closing(sqlite3.connect(file)) as database:
        number, row_hash = database.execute(ask).fetchone()
    return number, row_hash


def test_what_was_on_record_before_a_seal_and_is_told_again_stays_one(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [LATE])
    given = GiveReview(3, None, "good", "")
    first = store.add_review(given, "Anna", "s r1")
    assert store.seal()
    assert store.add_review(given, "Anna", "s r1") == first
    store.commit(results(10, 11), [LATE])
    assert store.tally.late_inspections == 1
    again = open_store()
    again.commit(results(12, 12), [LATE])
    assert again.review_head()[0] == 1
    assert _row(record, "SELECT count(*), '' FROM late_inspection") == (0, "")


# --- values of another kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM segment",
        "UPDATE segment SET last_row = 'x' WHERE number = 1",
        "UPDATE segment SET sealed_utc = NULL, last_row = NULL WHERE number = 1",
        "UPDATE segment SET sealed_utc = 'yesterday' WHERE number = 1",
        "UPDATE segment SET begun_utc = 'garbage' WHERE number = 3",
        "UPDATE segment SET first_row = 'x' WHERE number = 3",
        "UPDATE segment SET follows = x'00' WHERE number = 3",
    ],
)
def test_a_segment_of_another_kind_is_damage_and_a_finding(open_store: Open, record: Path, statement: str) -> None:
    sealed_twice(open_store).close()
    execute(record, statement)
    with pytest.raises(RecordDamaged, match="its table segment"):
        open_store()
    assert "root" in {each.kind for each in verify(record).findings}


@pytest.mark.parametrize(
    "value", ["live_row = 'x'", "live_row = -1", "held = 7", "held = '[[5, 3]]'", "held = '[[1, 2], [2, 3]]'"]
)
def test_a_delivery_of_another_kind_is_none(open_store: Open, record: Path, value: str) -> None:
    store = sealed_twice(open_store)
    store.save_delivered(Delivered(5, ((1, 1), (3, 4))))
    assert open_store().delivered == Delivered(5, ((1, 1), (3, 4)))
    store.close()
    execute(record, f"UPDATE delivery SET {value}")
    assert open_store().delivered == Delivered()


def test_roots_of_nothing(record: Path) -> None:
    assert (read_roots(record).segments, read_roots(record).next_number) == ([], 1)


# --- what is not there any more --------------------------------------------------------------------------------------


def test_a_beginning_that_was_removed_is_told_where_nothing_may_go(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 5), [])
    anchors = [anchor_of(store)]
    store.commit(results(6, 10), [])
    assert store.seal()
    store.commit(results(11, 20), [])
    anchors.append(anchor_of(store))
    sealed_name(record, 1).unlink()
    verified = verify(record, anchors)
    assert (verified.findings, verified.unchecked_anchors, verified.covered_rows) == ([], 1, 20)
    assert [(each.kind, each.row) for each in verify(record, anchors, keeps_all=True).findings] == [("missing", 1)]


def test_a_segment_sealed_before_the_box_knew_the_time_is_as_old_as_the_next(record: Path) -> None:
    day_ns = 86_400 * 1_000_000_000
    wall_ns = 0
    with closing(RecordStore(record, "a", budget_us=50, deadline_us=1_000, wall_ns=lambda: wall_ns)) as store:
        for first, sealed_ns in ((1, 20_000 * day_ns), (11, day_ns), (21, 20_001 * day_ns), (31, 2 * day_ns)):
            store.commit(results(first, first + 9), [])
            wall_ns = sealed_ns
            assert store.seal()
        wall_ns = 20_002 * day_ns
        assert [round(each.age_s / 86_400) for each in store.sealed_segments()] == [2, 1, 1, 0]
