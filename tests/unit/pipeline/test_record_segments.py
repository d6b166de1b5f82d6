"""The record in segments: sealed at any moment, killed at any moment, it stays one chain of rows, each part on it once."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bench.recorded import count_rows, read_parts
from pipeline.bench.tampering import TAMPERINGS
from pipeline.outbox import RowsRead
from pipeline.record.anchor import Anchor
from pipeline.record.faults import RecordFault, RecordGone
from pipeline.record.files import record_files, sealed_files, sealed_name
from pipeline.record.segment import LOG_BYTES, PAGE_BYTES, read_segments, seal_of
from pipeline.record.store import RecordStore
from pipeline.record.verify import verify
from pipeline.tally import Tally
from tests.unit.pipeline.test_record_store import LATE, result, results

Open = Callable[..., RecordStore]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "records" / "line.db"


@pytest.fixture
def open_store(record: Path) -> Iterator[Open]:
    opened: list[RecordStore] = []

    def open_at(session_id: str = "a") -> RecordStore:
        opened.append(RecordStore(record, session_id, budget_us=50, deadline_us=1_000))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()


def anchor_of(store: RecordStore) -> Anchor:
    row_count, head = store.head()
    return Anchor(row_count=row_count, head=head)


def test_one_chain_over_all_segments(open_store: Open, record: Path) -> None:
    store = open_store()
    assert not store.seal()  # nothing in it
    anchors = [anchor_of(store)]
    for first in (1, 11, 21):
        store.commit(results(first, first + 9), [])
        anchors.append(anchor_of(store))
        assert store.seal()
        assert anchor_of(store) == anchors[-1]
    store.commit(results(31, 33), [])
    anchors.append(anchor_of(store))
    assert [file.name for file in record_files(record)] == [
        "line-000001.db",
        "line-000002.db",
        "line-000003.db",
        "line.db",
    ]
    verified = verify(record, anchors)
    assert (verified.findings, verified.segments, verified.rows, verified.covered_rows) == ([], 4, 33, 33)
    assert [part.part_id for part in read_parts(record)] == list(range(1, 34))
    assert count_rows(record) == 33
    # A sealed file needs nothing beside it, and is a record of its own.
    assert sorted(path.name for path in record.parent.iterdir() if "-00" in path.name) == [
        "line-000001.db",
        "line-000002.db",
        "line-000003.db",
    ]
    assert verify(sealed_name(record, 1)).rows == 10
    assert verify(sealed_name(record, 2)).dropped_rows == 10


def test_a_segment_knows_the_roots_of_all_before_it(open_store: Open, record: Path) -> None:
    store = open_store()
    for first in (1, 11, 21):
        store.commit(results(first, first + 9), [])
        store.seal()
    with closing(sqlite3.connect(record)) as database:
        segments = read_segments(database)
    assert [(each.number, each.first_row, each.last_row) for each in segments] == [
        (1, 1, 10),
        (2, 11, 20),
        (3, 21, 30),
        (4, 31, None),
    ]
    for before, after in pairwise(segments):
        assert after.follows == seal_of(before)


def test_what_is_told_again_is_found_in_sealed_segments(open_store: Open, record: Path) -> None:
    store = open_store()
    first = store.commit([*results(1, 10), *results(1, 5, "dead")], [LATE])
    store.seal()
    store.commit(results(11, 20), [])
    store.seal()
    again = store.commit([*results(5, 25), *results(3, 6, "dead")], [])
    assert again[:6] == first[4:10]
    assert again[21:24] == first[12:15]
    assert count_rows(record) == 31
    assert store.tally.verdicts.total() == 25
    assert verify(record).findings == []


@pytest.mark.parametrize("orderly", [True, False])
def test_totals_over_segments_are_those_of_all_rows(open_store: Open, orderly: bool) -> None:
    store = open_store()
    scratch = Tally(50, 1_000)
    for first in (1, 101, 201):
        store.commit(results(first, first + 99), [LATE] if first == 1 else [])
        for item in results(first, first + 99):
            scratch.add(item)
        scratch.late_inspections = 1
        assert store.tally.summary() == scratch.summary()
        if first < 201:
            store.seal()
            assert store.tally.summary() == scratch.summary() == open_store().tally.summary()
    if orderly:
        store.save_tally()
    assert open_store().tally.summary() == scratch.summary()
    assert open_store("b").tally.summary() == Tally(50, 1_000).summary()


def test_a_reader_keeps_it_from_being_sealed(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [])
    with closing(sqlite3.connect(record)) as reader:
        assert reader.execute("SELECT count(*) FROM part").fetchone() == (10,)
        assert not store.seal()
        assert len(store.commit(results(11, 12), [])) == 2
    assert store.seal()
    assert verify(record).rows == 12


class Killed(BaseException):
    """Here a kill came."""


STEPS = (
    "pipeline.record.store.name_sealed",
    "pipeline.record.sealing.sync_folder",
    "pipeline.record.begin.sync_folder",
)


@pytest.mark.parametrize(
    "step", [*STEPS, "pipeline.record.begin.create_tables", "pipeline.record.begin.read_roots", "none"]
)
def test_a_kill_in_the_midst_of_sealing_loses_nothing(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = open_store()
    store.commit(results(1, 10), [LATE])

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        if step != "none":
            patched.setattr(step, die)
        with pytest.raises(Killed) if step != "none" else nullcontext():
            store.seal()
    assert verify(record).rows == 10
    again = open_store()
    assert again.tally.verdicts.total() == 10
    assert again.tally.late_inspections == 1
    again.commit(results(9, 13), [])
    assert again.tally.verdicts.total() == 13
    assert verify(record).findings == []
    assert [part.part_id for part in read_parts(record)] == list(range(1, 14))
    assert list(sealed_files(record)) == [1]


def test_a_name_that_is_taken_is_a_fault_and_overwrites_nothing(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [])
    sealed_name(record, 1).write_text("another's")
    with pytest.raises(RecordGone, match=r"cannot be sealed as .*line-000001\.db: there is such a file already"):
        store.seal()
    with pytest.raises(RecordFault, match="there is such a file already"):
        open_store()
    assert sealed_name(record, 1).read_text() == "another's"
    sealed_name(record, 1).unlink()
    assert open_store().commit([result(11)], [])
    assert verify(record).rows == 11


def test_the_active_file_was_set_aside_or_lost(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [])
    store.seal()
    store.commit(results(11, 15), [])
    anchor = anchor_of(store)
    store.close()
    record.unlink()
    begun = open_store()
    begun.commit(results(16, 18), [])
    assert verify(record).findings == []
    assert [(each.kind, each.row) for each in verify(record, [anchor]).findings] == [("truncated", 14)]


def test_segments_that_were_dropped_are_told_and_their_roots_hold(open_store: Open, record: Path) -> None:
    store = open_store()
    anchors = []
    for first in (1, 11, 21):
        store.commit(results(first, first + 9), [])
        anchors += [anchor_of(store)]
        store.seal()
    sealed_name(record, 1).unlink()
    verified = verify(record, anchors)
    assert (verified.findings, verified.dropped_rows, verified.rows, verified.covered_rows) == ([], 10, 20, 30)
    sealed_name(record, 3).unlink()
    assert [(each.kind, each.row) for each in verify(record).findings] == [("missing", 21)]


@pytest.mark.parametrize("change", ["last_row = 9", "head = row_hash", "follows = head", "first_row = 2", "number = 7"])
def test_roots_that_were_changed_are_found(open_store: Open, record: Path, change: str) -> None:
    store = open_store()
    for first in (1, 11, 21):
        store.commit(results(first, first + 9), [])
        store.seal()
    store.close()
    for file in (record, sealed_name(record, 3)):
        shutil.copyfile(file, file.with_suffix(".kept"))
        with closing(sqlite3.connect(file, isolation_level=None)) as database:
            database.execute(f"UPDATE segment SET {change.replace('row_hash', 'follows')} WHERE number = 2")
        assert verify(record).finding_count > 0
        shutil.copyfile(file.with_suffix(".kept"), file)
        assert verify(record).findings == []


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(TAMPERINGS)), seed=st.integers(0, 2**32), segment=st.sampled_from([1, 2]))
def test_every_tampering_within_a_sealed_segment_is_found_without_an_anchor(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, segment: int
) -> None:
    record = tmp_path_factory.mktemp("record") / "line.db"
    store = RecordStore(record, "a", budget_us=50, deadline_us=1_000)
    store.commit(results(1, 30), [])
    store.seal()
    for number in (2, 3):
        store.commit([result(part) for part in range(number * 100, number * 100 + 30)], [])
        store.seal()
    store.close()
    with closing(sqlite3.connect(sealed_name(record, segment), isolation_level=None)) as database:
        # Row numbers of the first segment begin with 1, as the tamperings take for granted.
        if segment == 2:
            database.execute("UPDATE part SET id = id - 30")
        TAMPERINGS[kind](database, random.Random(seed))
        if segment == 2:
            database.execute("UPDATE part SET id = id + 1000")
            database.execute("UPDATE part SET id = id - 970")
    assert verify(record).finding_count > 0


# --- pages -----------------------------------------------------------------------------------------------------------


def page_bytes_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as database:
        return int(database.execute("PRAGMA page_size").fetchone()[0])


def test_a_new_file_has_large_pages_written_to_and_sealed(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [])
    assert page_bytes_of(record) == PAGE_BYTES == 8192
    assert store.seal()
    assert [page_bytes_of(file) for file in record_files(record)] == [PAGE_BYTES] * 2


def test_a_record_with_small_pages_goes_on(open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were before pages were large."""
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.record.begin.PAGE_BYTES", 4096)
        old = open_store()
        for first in (1, 11):
            old.commit(results(first, first + 9), [LATE])
            assert first > 1 or old.seal()
        old.end_run()
        old.close()
    store = open_store()
    store.commit(results(21, 30), [])
    assert [page_bytes_of(file) for file in record_files(record)] == [4096, 4096]
    assert store.seal()
    store.commit(results(31, 40), [])
    assert [page_bytes_of(file) for file in record_files(record)] == [4096, 4096, PAGE_BYTES]
    assert store.tally.verdicts.total() == 40
    assert payload_rows(store, 1, 40) == [*range(1, 41)]
    verified = verify(record, [anchor_of(store)])
    assert (verified.rows, verified.findings) == (40, [])


@pytest.mark.parametrize("page_bytes", [4096, PAGE_BYTES])
def test_the_log_grows_no_larger_with_larger_pages(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch, page_bytes: int
) -> None:
    monkeypatch.setattr("pipeline.record.begin.PAGE_BYTES", page_bytes)
    store = open_store()
    for first in range(1, 8_000, 100):
        store.commit(results(first, first + 99), [])
    assert page_bytes_of(record) == page_bytes
    assert LOG_BYTES < record.with_name(f"{record.name}-wal").stat().st_size < 1.2 * LOG_BYTES


# --- power cuts ----------------------------------------------------------------------------------------------------


def boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, boot_id: str) -> None:
    (tmp_path / "boot_id").write_text(f"{boot_id}\n")
    monkeypatch.setattr("pipeline.record.runs._BOOT_ID", tmp_path / "boot_id")


def test_a_session_that_ended_with_the_box_is_told_once(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(monkeypatch, tmp_path, "first")
    assert open_store("killed").cut_off == deque()
    assert open_store("orderly").cut_off == deque()
    orderly = open_store("orderly")
    orderly.commit(results(1, 3, "orderly"), [])
    orderly.sync()
    orderly.end_run()
    cut = open_store("cut")
    cut.commit(results(1, 3, "cut"), [])
    cut.seal()
    assert open_store("cut").cut_off == deque()  # its own records process, started again
    boot(monkeypatch, tmp_path, "second")
    assert open_store("next").cut_off == deque(["cut"])
    assert open_store("next").cut_off == deque()
    assert open_store("last").cut_off == deque()


def test_opened_while_somebody_has_it_locked_it_is_told_with_the_first_commit(
    open_store: Open, record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot(monkeypatch, tmp_path, "first")
    open_store("cut").commit(results(1, 3, "cut"), [])
    boot(monkeypatch, tmp_path, "second")
    with closing(sqlite3.connect(record, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = open_store("next")
        assert store.head()[0] == 3
        with pytest.raises(RecordFault, match="locked"):
            store.commit(results(1, 1, "next"), [])
        assert not store.cut_off
    store.commit(results(1, 1, "next"), [])
    assert store.cut_off == deque(["cut"])


def test_sealed_files_of_another_version_are_left_alone(open_store: Open, record: Path) -> None:
    """A record begun beside them would meet their names at its first sealing."""
    store = open_store()
    store.commit(results(1, 3), [])
    assert store.seal()
    store.close()
    sealed = sealed_name(record, 1)
    with closing(sqlite3.connect(sealed, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 3")
    record.unlink()
    before = sealed.read_bytes()
    with pytest.raises(RecordFault, match=r"line-000001\.db: is of version 3, this service writes version 4; move"):
        open_store()
    assert (sealed.read_bytes(), list(record.parent.iterdir())) == (before, [sealed])


@pytest.mark.parametrize("number", [-1, 2**53, 2**63, 10**20])
def test_rows_of_any_number_may_be_asked_for(open_store: Open, number: int) -> None:
    store = open_store()
    store.commit(results(1, 2), [])
    assert store.seal()
    assert (store.hash_of(number), store.hash_of(number, "review")) == (None, None)


def payload_rows(store: RecordStore, first: int, last: int, count_max: int = 1_000) -> list[int]:
    """As far as one read gets."""
    found = store.read_payloads(first, last, count_max)
    assert found.fault == ""
    return [number for number, _ in found.rows]


def test_rows_are_read_for_telling_over_all_segments(open_store: Open, record: Path) -> None:
    store = open_store()
    for first in (1, 11, 21):
        store.commit(results(first, first + 9), [])
        assert store.seal()
    store.commit(results(31, 33), [])
    assert payload_rows(store, 1, 33) == [*range(1, 34)]
    assert payload_rows(store, 10, 12) == [10, 11, 12]
    found = store.read_payloads(5, 33, 10)
    assert ([number for number, _ in found.rows], found.through) == ([*range(5, 15)], 14)
    assert store.read_payloads(40, 50, 10) == RowsRead([], 50)
    sealed_name(record, 2).unlink()
    assert payload_rows(store, 1, 33) == [*range(1, 11), *range(21, 34)]
    assert store.read_payloads(11, 33, 4).through == 24


@pytest.mark.parametrize("trouble", ["unable to open database file", "disk I/O error", "database is locked"])
def test_a_sealed_segment_that_cannot_be_read_now_is_waited_for(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    store = open_store()
    for first in (1, 11):
        store.commit(results(first, first + 9), [])
        assert store.seal()

    def refuse(file: Path) -> sqlite3.Connection:
        if file == sealed_name(record, 2):
            raise sqlite3.OperationalError(trouble)
        return sqlite3.connect(file)

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.record.readback.open_sealed", refuse)
        found = store.read_payloads(1, 20, 100)
    assert ([number for number, _ in found.rows], found.through) == ([*range(1, 11)], 10)
    assert trouble in found.fault
    assert "line-000002.db" in found.fault
    assert payload_rows(store, 1, 20) == [*range(1, 21)]


def test_a_folder_that_is_away_takes_no_rows_with_it(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 10), [])
    assert store.seal()
    record.parent.rename(record.parent.with_name("away"))
    found = store.read_payloads(1, 10, 100)
    assert (found.rows, found.through) == ([], 0)
    assert "line-000001.db: No such file" in found.fault


def test_damage_in_a_sealed_segment_costs_the_rows_that_it_hit(open_store: Open, record: Path) -> None:
    store = open_store()
    store.commit(results(1, 60), [])
    assert store.seal()
    sealed = sealed_name(record, 1)
    with closing(sqlite3.connect(sealed, isolation_level=None)) as database:
        database.execute("UPDATE part SET body = '{' WHERE id = 7")
    assert payload_rows(store, 1, 60) == [number for number in range(1, 61) if number != 7]
    with closing(sqlite3.connect(sealed, isolation_level=None)) as database:
        (body,) = database.execute("SELECT body FROM part WHERE id = 30").fetchone()
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    page = sealed.read_bytes().index(str(body).encode()) // page_bytes
    with sealed.open("r+b") as file:
        file.seek(page * page_bytes)
        file.write(b"\xff" * page_bytes)
    seen: list[int] = []
    through = 0
    while through < 60:
        found = store.read_payloads(through + 1, 60, 20)
        assert (found.fault, found.through > through) == ("", True)
        through = found.through
        seen += [number for number, _ in found.rows]
    assert seen == sorted({*seen})
    assert 40 < len(seen) < 59
    sealed.write_bytes(b"no database at all" * 1_000)
    assert payload_rows(store, 1, 60) == []


def test_a_folder_that_cannot_be_put_on_the_disk_is_a_fault(
    open_store: Open, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    store.commit(results(1, 2), [])

    def refuse(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.record.store.sync_folder", refuse)
        with pytest.raises(RecordFault, match="its folder cannot be put on the disk: Input/output error"):
            store.sync()
    store.sync()
