"""The record: chained, complete, counted right whenever it is opened, and never half written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.messages import LateInspection, ViewInspected
from pipeline.payloads import ResultPayload, encode
from pipeline.record.faults import RecordDamaged, RecordFault
from pipeline.record.files import set_aside, set_aside_by
from pipeline.record.segment import PAGE_BYTES
from pipeline.record.store import RecordStore
from pipeline.tally import STAGES, Tally, latency_of, stages_us
from tests.unit.pipeline.test_payloads import RESULT

Open = Callable[..., RecordStore]
LATE = LateInspection(1, 77, ViewInspected("cam0", 1, 1, 1, None, "PASS", "OK", 0.1, (), 1, 2, 3, 4, 5, False))


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    opened: list[RecordStore] = []

    def open_at(session_id: str = "a", path: Path = tmp_path / "records" / "line.db") -> RecordStore:
        opened.append(RecordStore(path, session_id, budget_us=50, deadline_us=1_000))
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()


def result(part_id: int, session_id: str = "a") -> ResultPayload:
    """Parts differ in verdict, latency and lateness, and some were never sent."""
    verdict, reason = [("PASS", "OK"), ("REJECT", "DEFECT"), ("NO_DECISION", "DEADLINE")][part_id % 3]
    was_sent = part_id % 7 != 0
    trigger_ns = part_id * 50_000_000
    moments = [trigger_ns + 1_000 * offset for offset in (5, 6, 10, 20 + part_id % 50, 21 + part_id % 50)]
    decided_ns = moments[-1] + 2_000
    sent_ns = decided_ns + (2_000_000 if part_id % 11 == 0 else 3_000) if was_sent else None
    return msgspec.structs.replace(
        RESULT,
        session_id=session_id,
        part_id=part_id,
        seq=part_id,
        verdict=verdict,
        reason=reason,
        trigger_ns=trigger_ns,
        decided_ns=decided_ns,
        sent_ns=sent_ns,
        deadline_ns=trigger_ns + 1_000_000,
        stages_us=stages_us(trigger_ns, moments, decided_ns, sent_ns) if part_id % 5 else {},
        row_hash="",
    )


def results(first: int, last: int, session_id: str = "a") -> list[ResultPayload]:
    return [result(part_id, session_id) for part_id in range(first, last + 1)]


def rows(path: Path, question: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    found = database.execute(question).fetchall()
    database.close()
    return found


def test_every_row_commits_to_the_one_before(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    written = store.commit(results(1, 20), [])
    written += store.commit(results(21, 25), [])
    written += open_store("b").commit(results(1, 3, "b"), [])
    head = "0" * 64
    kept = rows(tmp_path / "records" / "line.db", "SELECT body, row_hash, session_id, part_id FROM part ORDER BY id")
    for (body, row_hash, session_id, part_id), told in zip(kept, written, strict=True):
        head = hashlib.sha256(head.encode() + str(body).encode()).hexdigest()
        assert row_hash == head == told.row_hash
        assert json.loads(str(body)) == {**json.loads(encode(told)), "row_hash": ""}
        assert (session_id, part_id) == (told.session_id, told.part_id)


def test_what_is_told_twice_stays_as_it_was(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    first = store.commit(results(1, 3), [LATE])
    changed = msgspec.structs.replace(result(2), verdict="PASS", reason="OK", views=[])
    again = store.commit([result(4), changed, result(3)], [LATE])
    assert again[1:] == first[1:]
    assert store.tally.summary()["parts_triggered"] == 4
    assert store.tally.summary()["late_inspections"] == 1
    assert rows(tmp_path / "records" / "line.db", "SELECT count(*) FROM part") == [(4,)]
    assert rows(tmp_path / "records" / "line.db", "SELECT count(*) FROM late_inspection") == [(1,)]


def test_a_part_twice_in_one_batch_is_written_once(open_store: Open) -> None:
    store = open_store()
    first, second = store.commit([result(1), result(1)], [])
    assert first == second
    assert store.tally.verdicts.total() == 1


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1_000, 1_001, 2_500])
@pytest.mark.parametrize("batch", [1_000, 700])
@pytest.mark.parametrize("orderly", [True, False])
def test_totals_after_reopening_are_those_of_all_rows(open_store: Open, count: int, batch: int, orderly: bool) -> None:
    store = open_store()
    for first in range(1, count + 1, batch):
        store.commit(results(first, min(count, first + batch - 1)), [])
    store.commit([], [LATE])
    if orderly:
        store.save_tally()
    open_store("other").commit(results(1, 5, "other"), [])
    scratch = Tally(50, 1_000)
    for item in results(1, count):
        scratch.add(item)
    scratch.late_inspections = 1
    again = open_store()
    assert again.tally.summary() == scratch.summary() == store.tally.summary()
    again.commit(results(count + 1, count + 3), [])
    for item in results(count + 1, count + 3):
        scratch.add(item)
    assert open_store().tally.summary() == scratch.summary()


def test_the_summary_says_what_the_contract_asks(open_store: Open) -> None:
    store = open_store()
    store.commit(results(1, 90), [])
    summary = store.tally.summary()
    late = sum(item.sent_ns is not None and item.sent_ns > item.deadline_ns for item in results(1, 90))
    over = sum((latency_of(item) or 0) > 50 for item in results(1, 90))
    assert (summary["passed"], summary["rejected"], summary["no_decision"]) == (30, 30, 30)
    assert summary["reasons"] == {"DEADLINE": 30, "DEFECT": 30, "OK": 30}
    assert late > 0
    assert over > 0
    assert (summary["late_verdicts"], summary["over_budget"]) == (late, over)
    assert summary["rate_per_min"] == 1_200.0


# --- faults --------------------------------------------------------------------------------------------------------


def test_a_locked_database_is_a_fault_and_loses_nothing(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.commit(results(1, 2), [])
    other = sqlite3.connect(tmp_path / "records" / "line.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordFault, match=r"line\.db: database is locked"):
        store.commit(results(3, 4), [LATE])
    assert store.tally.summary()["parts_triggered"] == 2
    other.execute("ROLLBACK")
    other.close()
    assert len(store.commit(results(3, 4), [LATE])) == 2
    assert store.tally.summary() == open_store().tally.summary()
    assert store.tally.summary()["late_inspections"] == 1


@pytest.mark.parametrize("fails", ["part", "late_inspection"])
def test_a_batch_is_written_whole_or_not_at_all(open_store: Open, tmp_path: Path, fails: str) -> None:
    store = open_store()
    _break(tmp_path, fails, "NEW.part_id = 3")
    late = [msgspec.structs.replace(LATE, part_id=part_id) for part_id in (1, 3)]
    with pytest.raises(RecordFault, match="the disk is full"):
        store.commit(results(1, 3 if fails == "part" else 2), late)
    assert rows(
        tmp_path / "records" / "line.db", "SELECT (SELECT count(*) FROM part), count(*) FROM late_inspection"
    ) == [(0, 0)]
    assert store.tally.summary() == Tally(50, 1_000).summary()


def test_totals_that_cannot_be_kept_do_not_undo_a_batch_on_disk(open_store: Open, tmp_path: Path) -> None:
    """A caller who took the batch for lost would count its late inspections again."""
    store = open_store()
    _break(tmp_path, "tally", "1")
    assert len(store.commit(results(1, 1_000), [LATE])) == 1_000
    with pytest.raises(RecordFault, match="the disk is full"):
        store.save_tally()
    assert open_store().tally.summary() == store.tally.summary()


def _break(tmp_path: Path, table: str, when: str) -> None:
    database = sqlite3.connect(tmp_path / "records" / "line.db")
    database.execute(
        f"CREATE TRIGGER full BEFORE INSERT ON {table} WHEN {when} BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    )
    database.commit()
    database.close()


def test_a_file_of_another_version_is_left_alone(open_store: Open, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(RecordFault, match="is of version 7, this service writes version 4; move the file away"):
        open_store(path=path)
    assert rows(path, "SELECT count(*) FROM sqlite_master") == [(0,)]


@pytest.mark.parametrize("content", [b"xy", b"not a database, but long enough to be looked at" * 100, bytes(8192)])
def test_a_file_that_never_was_a_record_is_left_alone(open_store: Open, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(RecordFault, match=r"model\.onnx: the file is no record of Lineside; move it away") as caught:
        open_store(path=path)
    assert not isinstance(caught.value, RecordDamaged)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (content, [path])


@pytest.mark.parametrize("version", [0, 4])
@pytest.mark.parametrize("table", ["part", "bookmark"])
def test_anothers_database_is_left_alone(open_store: Open, tmp_path: Path, version: int, table: str) -> None:
    path = tmp_path / "stock.db"
    database = sqlite3.connect(path)
    database.executescript(f"PRAGMA user_version = {version}; CREATE TABLE {table} (number TEXT, price REAL)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(RecordFault, match=r"stock\.db: the file is no record of Lineside; move it away") as caught:
        open_store(path=path)
    assert not isinstance(caught.value, RecordDamaged)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_an_empty_file_becomes_a_record(open_store: Open, tmp_path: Path) -> None:
    path = tmp_path / "line.db"
    path.touch()
    assert len(open_store(path=path).commit(results(1, 3), [])) == 3


@pytest.mark.parametrize(("first", "last"), [(0, 16), (0, 4096), (0, 65_536), (100, 4096)])
def test_a_record_that_lost_its_beginning_is_damaged(open_store: Open, tmp_path: Path, first: int, last: int) -> None:
    """Closed in good order: neither log nor index lies beside it."""
    path = tmp_path / "records" / "line.db"
    store = open_store()
    store.commit(results(1, 200), [])
    store.close()
    assert os.listdir(path.parent) == ["line.db"]  # noqa: PTH208 - names, not paths
    assert path.stat().st_size > last
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"?" * (last - first))
    with pytest.raises(RecordDamaged):
        open_store()


def test_a_record_overwritten_whole_is_damaged_where_a_killed_process_had_it_open(
    open_store: Open, tmp_path: Path
) -> None:
    open_store().commit(results(1, 10), [])
    path = tmp_path / "left" / "line.db"
    shutil.copytree(tmp_path / "records", path.parent)
    path.write_bytes(b"noise" * 4_000)
    (path.parent / "line.db-wal").unlink()
    with pytest.raises(RecordDamaged, match="file is not a database"):
        open_store(path=path)


@pytest.mark.parametrize("kept_bytes", [0, 100, 4096, PAGE_BYTES])
def test_pages_of_noise_are_damage_and_lose_nothing_of_the_batch(
    open_store: Open, tmp_path: Path, kept_bytes: int
) -> None:
    path = tmp_path / "records" / "line.db"
    store = open_store()
    for first in range(1, 10_000, 500):
        store.commit(results(first, first + 499), [])
    _write_noise(path, kept_bytes)
    with pytest.raises(RecordDamaged, match="malformed"):
        store.commit(results(10_001, 10_010), [LATE])
    total = store.tally
    assert sum(total.verdicts.values()) == 10_000
    store.close()
    with pytest.raises(RecordDamaged):
        open_store()
    aside = set_aside(path, "a")
    assert (aside.name, path.exists()) == ("line.db.damaged-a-1", False)
    begun = open_store()
    begun.tally = total
    assert len(begun.commit(results(10_001, 10_010), [LATE])) == 10
    assert rows(path, "SELECT count(*) FROM part") == [(10,)]
    assert sum(begun.tally.verdicts.values()) == 10_010


def test_a_row_that_holds_no_result_is_damage(open_store: Open, tmp_path: Path) -> None:
    open_store().commit(results(1, 3), [])
    for body in ("'{'", "x'ff'", "NULL"):
        database = sqlite3.connect(tmp_path / "records" / "line.db")
        database.execute("PRAGMA writable_schema = 1")
        database.execute(
            "UPDATE sqlite_master SET sql = replace(sql, 'body TEXT NOT NULL', 'body') WHERE name = 'part'"
        )
        database.commit()
        database.close()
        database = sqlite3.connect(tmp_path / "records" / "line.db")
        database.execute(f"UPDATE part SET body = {body} WHERE part_id = 2")
        database.commit()
        database.close()
        with pytest.raises(RecordDamaged, match="a row holds no result"):
            open_store()
        with pytest.raises(RecordDamaged, match="a row holds no result"):
            open_store("b").commit(results(2, 2), [])


def test_a_row_with_stages_of_another_kind_is_damage(open_store: Open, tmp_path: Path) -> None:
    open_store().commit(results(1, 3), [])
    database = sqlite3.connect(tmp_path / "records" / "line.db")
    with database:
        database.execute("""UPDATE part SET body = replace(body, '"judge":', '"jugde":')""")
    database.close()
    with pytest.raises(RecordDamaged, match=r"a row holds no result: its stages are .*'jugde'"):
        open_store()
    with pytest.raises(RecordDamaged, match=r"a row holds no result: its stages are .*'jugde'"):
        open_store("b").commit(results(2, 2), [])


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("{", "["),
        ('"verdicts"', '"verdlcts"'),
        ('"PASS": 1', '"PASS": "1"'),
        ('"over_budget": 0', '"over_budget": null'),
        ('"judge"', '"jugde"'),
        ('"bins": [', '"bins": [99999999, '),
        ('"bins": [', '"bins": [1, 2, '),
        ('"counts": [', '"counts": [99999999999999999999, '),
        ('"max_us": ', '"max_us": [], "max_them": '),
        ('"max_us"', '"max_xs"'),
    ],
)
def test_totals_that_are_none_are_damage(open_store: Open, tmp_path: Path, found: str, put: str) -> None:
    store = open_store()
    store.commit(results(1, 3), [])
    store.save_tally()
    database = sqlite3.connect(tmp_path / "records" / "line.db")
    with database:
        assert database.execute("SELECT count(*) FROM tally WHERE instr(body, ?)", (found,)).fetchone() == (1,)
        database.execute("UPDATE tally SET body = replace(body, ?, ?)", (found, put))
    database.close()
    with pytest.raises(RecordDamaged, match=r"line\.db: the kept totals are none: "):
        open_store()


def test_what_is_set_aside_never_takes_anothers_name(open_store: Open, tmp_path: Path) -> None:
    path = tmp_path / "records" / "line.db"
    for number in (1, 2, 3):
        open_store().commit(results(1, 3), [])
        _write_noise(path, 0)
        assert set_aside(path, "a").name == f"line.db.damaged-a-{number}"
    assert set_aside(path, "b").name == "line.db.damaged-b-1"
    assert len(set_aside_by(path, "a")) == 3
    assert (path.parent / "line.db.damaged-a-1-wal").exists()  # its store is still open, as that of a killed process


def test_a_record_that_cannot_be_set_aside_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "line.db"
    path.write_bytes(b"noise")

    def refuse(_self: Path, _target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RecordFault, match=r"cannot be set aside as .*line\.db\.damaged-a-1: Read-only file system"):
        set_aside(path, "a")


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none" / "line.db"
    assert set_aside_by(path, "a") == []

    def refuse(_self: Path) -> Iterator[Path]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", refuse)
    for ask in (set_aside, set_aside_by):
        with pytest.raises(RecordFault, match=r"line\.db: its folder cannot be read: Input/output error"):
            ask(path, "a")


def test_one_that_was_removed_gives_its_number_to_no_other(tmp_path: Path) -> None:
    path = tmp_path / "line.db"
    for number in (1, 2):
        path.write_text(f"noise {number}")
        set_aside(path, "a")
    (tmp_path / "line.db.damaged-a-1").unlink()
    path.write_text("noise 3")
    assert set_aside(path, "a").name == "line.db.damaged-a-3"
    assert (tmp_path / "line.db.damaged-a-2").read_text() == "noise 2"


class Killed(BaseException):
    """Here a kill came."""


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4])
def test_a_kill_in_the_midst_of_setting_aside_loses_nothing(
    open_store: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The newest rows are in the log alone, as a killed process leaves them."""
    open_store().commit(results(1, 10), [])
    path = tmp_path / "left" / "line.db"
    shutil.copytree(tmp_path / "records", path.parent)
    assert (path.parent / "line.db-wal").stat().st_size > 0
    steps_left = iter(range(steps))

    def until_killed(move: Callable[..., object]) -> Callable[..., object]:
        def step(*arguments: object, **options: object) -> object:
            if next(steps_left, None) is None:
                raise Killed
            return move(*arguments, **options)

        return step

    with monkeypatch.context() as patched:
        for name in ("hardlink_to", "rename", "unlink"):
            patched.setattr(Path, name, until_killed(getattr(Path, name)))
        with pytest.raises(Killed) if steps < 4 else contextlib.nullcontext():
            set_aside(path, "a")
    for first in (11, 12):
        store = open_store(path=path)
        store.commit(results(first, first), [])
        store.close()
        set_aside(path, "a")
    files = set_aside_by(path, "a")
    found = [number for file in files for (number,) in rows(file, "SELECT part_id FROM part")]
    assert Counter(found) == Counter(range(1, 13))
    assert not path.exists()


def _write_noise(path: Path, kept_bytes: int) -> None:
    with path.open("r+b") as file:
        file.seek(kept_bytes)
        file.write(b"noise" * ((path.stat().st_size - kept_bytes) // 5))


@pytest.mark.parametrize("place", ["file/line.db", "folder"])
def test_a_place_that_cannot_be_written_is_a_fault(open_store: Open, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RecordFault, match=place):
        open_store(path=tmp_path / place)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]  # noqa: PTH208 - names, not paths


# --- stages --------------------------------------------------------------------------------------------------------


@given(steps=st.lists(st.integers(0, 10**9), min_size=8, max_size=8))
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
def test_stages_add_up_to_the_whole(steps: list[int]) -> None:
    moments = [sum(steps[: index + 1]) for index in range(8)]
    stages = stages_us(moments[0], moments[1:6], moments[6], moments[7])
    assert tuple(stages) == STAGES
    assert sum(stages.values()) == moments[7] // 1_000 - moments[0] // 1_000
    whole = msgspec.structs.replace(RESULT, stages_us=stages, sent_ns=moments[7])
    assert latency_of(whole) == moments[7] // 1_000 - moments[1] // 1_000


def test_what_was_not_sent_or_judged_has_no_latency() -> None:
    assert "send" not in stages_us(0, [1, 2, 3, 4, 5], 6, None)
    assert latency_of(msgspec.structs.replace(RESULT, sent_ns=None)) is None
    assert latency_of(msgspec.structs.replace(RESULT, stages_us={})) is None
