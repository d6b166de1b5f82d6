"""Sessions that were killed whole: all that their ledgers hold gets on record, once, and nothing else does."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import closing
from pipeline.clock import now_ns
from pipeline.closing import Closing
from pipeline.journal import journal_bytes
from pipeline.ledger import _ENTRY, Ledger, LedgerHead, TriggerKey
from pipeline.ledger_file import LedgerFile, damaged_ledgers, ledger_files
from pipeline.messages import Trigger
from pipeline.payloads import ResultPayload
from pipeline.record.store import RecordStore
from pipeline.rules import Matching
from tests.chaos.books import check_record, read_rows
from vision.types import Reason, Verdict

MODEL = "0f" * 32
MS = 1_000_000


def head_of(session_id: str, part_count: int = 4_096) -> LedgerHead:
    return LedgerHead(session_id, part_count, 40 * MS, 16, 800, "cells", "3", True, 2, Matching(16, 5, 0))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "records.db"
    yield path
    for left in [*ledger_files(path), *damaged_ledgers(path)]:
        left.unlink()


def leave(
    record: Path,
    session_id: str,
    *,
    recorded: int = 0,
    decided: int = 0,
    open_: int = 0,
    untold: int = 0,
    part_count: int = 4_096,
    recorded_after: int = 0,
) -> Path:
    """A killed session's ledger: so many parts of each kind, in this order, and triggers that nobody took down; then the newest
    so many of the decided get on record.
    """
    file = LedgerFile.create(record, head_of(session_id, part_count))
    ledger = Ledger(file.descriptor)
    ledger.model_in_use(MODEL)
    for part_id in range(1, recorded + decided + open_ + untold + 1):
        assert ledger.journals[0].write(Trigger("", 1, part_id, 65_000 + part_id, part_id * 50 * MS, 7 * part_id))
        if part_id > recorded + decided + open_:
            continue
        ledger.open_part(part_id, 65_000 + part_id, part_id * 50 * MS, TriggerKey(0, 1, part_id), 7 * part_id)
        ledger.journals[0].mark_told(part_id)
        if part_id <= recorded + decided:
            ledger.decide(part_id, part_id, Verdict.REJECT, Reason.DEFECT, part_id * 50 * MS + 5 * MS)
            ledger.sent(part_id, part_id * 50 * MS + 6 * MS)
        if part_id <= recorded:
            ledger.recorded(part_id)
    for part_id in range(recorded + decided + 1 - recorded_after, recorded + decided + 1):
        ledger.recorded(part_id)
    assert file.path is not None
    file.close()
    return file.path


def close_all(closing_: Closing, store: RecordStore) -> list[ResultPayload]:
    written: list[ResultPayload] = []
    while batch := closing_.batch():
        results = store.commit(batch, [])
        closing_.written(results)
        written += results
    return written


def die(killed: Closing) -> None:
    """Close its descriptor, as the kernel does."""
    if killed._left is not None:
        killed._left.file.close()


def open_store(record: Path, session_id: str = "now") -> RecordStore:
    return RecordStore(record, session_id, budget_us=5_000, deadline_us=40_000)


def test_what_was_decided_is_recorded_as_decided_and_the_rest_as_a_fault(record: Path) -> None:
    path = leave(record, "old", recorded=2, decided=2, open_=2)
    store = open_store(record)
    closing_ = Closing(record, "now")
    third, fourth, fifth, sixth = close_all(closing_, store)
    assert (third.part_id, third.seq, third.verdict, third.reason) == (3, 3, "REJECT", "DEFECT")
    assert (third.decided_ns, third.sent_ns, third.age_us, third.valid_us) == (155 * MS, 156 * MS, 6_000, 34_000)
    assert (third.encoder_count, third.reject_at_encoder_count) == (65_003, 65_803 - 65_536)
    assert [part.part_key for part in (third, fourth, fifth, sixth)] == [21, 28, 35, 42]
    assert (third.recipe_id, third.recipe_version, third.model_sha256, third.is_simulated) == (
        "cells",
        "3",
        MODEL,
        True,
    )
    assert fourth.seq == 4
    assert [(part.part_id, part.seq, part.verdict, part.reason, part.sent_ns) for part in (fifth, sixth)] == [
        (5, 5, "NO_DECISION", "FAULT", None),
        (6, 6, "NO_DECISION", "FAULT", None),
    ]
    assert {part.session_id for part in (third, fourth, fifth, sixth)} == {"old"}
    assert list(closing_.done) == [
        "session old left parts open: 4 of its parts were put on record now, 2 of them undecided"
    ]
    assert not path.exists()
    assert store.tally.summary()["parts_triggered"] == 0  # they are no parts of the session that runs now
    store.close()


def test_a_row_whose_acknowledgement_was_lost_stays_as_it_is(record: Path) -> None:
    leave(record, "old", decided=3, open_=1)
    last = open_store(record, "old")
    killed = Closing(record, "now")
    _, _, third, _ = killed.batch()
    die(killed)
    (kept,) = last.commit([msgspec.structs.replace(third, reason="OK", verdict="PASS")], [])
    last.close()
    store = open_store(record)
    written = close_all(Closing(record, "now"), store)
    assert written[2] == kept
    rows = read_rows(record)
    check_record(rows)
    assert len(rows) == 4
    store.close()


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_killed_while_closing_it_is_done_again_with_the_same_result(
    record: Path, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "_BATCH_MAX", 3)
    path = leave(record, "old", recorded=5, decided=4, open_=5)
    store = open_store(record)
    killed = Closing(record, "now")
    for turn in range(batches):
        results = store.commit(killed.batch(), [])
        if turn < 2:
            killed.written(results)  # the last time it dies between commit and what follows
    die(killed)
    assert path.exists()
    close_all(Closing(record, "later"), store)
    rows = read_rows(record)
    assert sorted((row.part_id, row.seq) for row in rows) == [(number, number) for number in range(6, 15)]
    assert not path.exists()
    store.close()


@pytest.mark.parametrize("recorded", [0, 256])
def test_what_a_killed_session_had_lost_is_said(record: Path, recorded: int) -> None:
    path = leave(record, "old", part_count=256, decided=300, recorded_after=recorded)
    store = open_store(record)
    closing_ = Closing(record, "now")
    assert len(close_all(closing_, store)) == 256 - recorded
    (text,) = closing_.done
    assert text.endswith("; as many as 44 are lost to the record")
    assert not path.exists()
    store.close()


def test_several_sessions_are_closed_in_order_and_none_is_overwritten(record: Path) -> None:
    for session_id in ("s2", "s1", "s3"):
        leave(record, session_id, open_=2)
    own = LedgerFile.create(record, head_of("s4"))
    store = open_store(record)
    closing_ = Closing(record, "s4")
    written = close_all(closing_, store)
    assert [result.session_id for result in written] == ["s1", "s1", "s2", "s2", "s3", "s3"]
    assert ledger_files(record) == [own.path]
    own.close()
    store.close()


def test_what_cannot_be_written_is_kept_and_tried_again(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leave(record, "old", open_=2)
    closing_ = Closing(record, "now")
    assert len(closing_.batch()) == 2
    closing_.failed("the disk is full")
    assert closing_.trouble == f"2 parts in {path} are not on record yet: the disk is full"
    assert closing_.batch() == []  # not at once
    monkeypatch.setattr(closing, "now_ns", _in_a_second(now_ns()))
    store = open_store(record)
    assert len(close_all(closing_, store)) == 2
    assert closing_.trouble == ""
    assert not path.exists()
    store.close()


def test_a_ledger_with_nothing_missing_is_removed(record: Path) -> None:
    paths = [leave(record, "old", recorded=3), leave(record, "older")]
    closing_ = Closing(record, "now")
    assert closing_.batch() == []
    assert not any(path.exists() for path in paths)
    assert (list(closing_.done), closing_.trouble) == ([], "")


def test_a_session_that_still_closes_itself_is_waited_for(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(record, "s2", open_=1)
    busy = LedgerFile.create(record, head_of("s1"))
    Ledger(busy.descriptor).open_part(1, 5, 9, TriggerKey(0, 1, 1))
    store = open_store(record)
    closing_ = Closing(record, "now")
    assert [result.session_id for result in close_all(closing_, store)] == ["s2"]
    busy.close()
    monkeypatch.setattr(closing, "now_ns", _in_a_second(now_ns()))
    assert [result.session_id for result in close_all(closing_, store)] == ["s1"]
    store.close()


def test_what_cannot_be_read_is_left_and_said(record: Path) -> None:
    bad = leave(record, "s1", open_=1)
    with bad.open("r+b") as file:
        file.seek(16)
        file.write(b"0123456789abcdef")
    foreign = leave(record, "s2", open_=1)
    foreign.chmod(0o644)
    leave(record, "s3", open_=1)
    store = open_store(record)
    closing_ = Closing(record, "now")
    assert [result.session_id for result in close_all(closing_, store)] == ["s3"]
    assert f"ledger {bad} is left as it is: written by another version" in closing_.trouble
    assert f"ledger {foreign} cannot be read" in closing_.trouble
    assert ledger_files(record) == [bad, foreign]
    store.close()


DAMAGES = {
    "head not UTF-8": (None, 1_200, b"\xff\xfe"),
    "no verdict": ("verdict", 0, b"\xc8"),
    "no reason": ("reason", 0, b"\xc8"),
    "no state": ("state", 0, b"\x4d"),
    "no keys": ("key_count", 0, b"\x00"),
    "wild part_id": ("part_id", 0, b"\xff" * 8),
    "a part_id of the same place": ("part_id", 4, b"\x01"),
    "wild seq": ("seq", 5, b"\x01"),
    "wild trigger_ns": ("trigger_ns", 0, b"\xff" * 7 + b"\x7f"),
    "negative sent_ns": ("sent_ns", 7, b"\x80"),
}


def entry_at(path: Path, part_id: int, name: str = "part_id") -> int:
    """Where in the file this field of the part's entry lies."""
    fields = _ENTRY.fields
    assert fields is not None
    entries_end = path.stat().st_size - 2 * journal_bytes(4_096)
    return entries_end - (4_096 - part_id) * _ENTRY.itemsize + fields[name][1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_recorded_as_far_as_it_can_be_read_and_set_aside(record: Path, damage: str) -> None:
    path = leave(record, "old", decided=3, open_=1)
    name, offset, written = DAMAGES[damage]
    with path.open("r+b") as file:
        file.seek((entry_at(path, 2, name) if name else 0) + offset)
        file.write(written)
    damaged = path.read_bytes()
    store = open_store(record)
    closing_ = Closing(record, "now")
    parts = [result.part_id for result in close_all(closing_, store)]
    assert parts == ([1, 3, 4] if name else [])
    aside = path.with_suffix(".damaged")
    why = "1 of its entries cannot be read" if name else "its head is damaged"
    assert closing_.trouble == f"ledger {path} is damaged and is kept as {aside}: {why}"
    assert not path.exists()
    assert aside.read_bytes() == damaged
    # Whoever comes next says so, and does not try again.
    later = Closing(record, "later")
    assert later.batch() == []
    assert str(aside) in later.trouble
    store.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_is_wrong_closing_goes_on(record: Path, data: st.DataObject) -> None:
    for left in [*ledger_files(record), *damaged_ledgers(record), *record.parent.glob("records.db*")]:
        left.unlink()
    path = leave(record, "old", recorded=3, decided=9, open_=4, untold=5)
    entries_at, journal_at = entry_at(path, 1), entry_at(path, 4_096) + journal_bytes(0)
    entries = range(entries_at, entry_at(path, 17))
    triggers = range(journal_at + 48, journal_at + 48 * 21)  # the last one could be torn
    head, anywhere = range(300), range(path.stat().st_size)
    where = data.draw(st.sampled_from([head, entries, triggers, anywhere]))
    flips = data.draw(st.dictionaries(st.sampled_from(where), st.integers(1, 255), min_size=1, max_size=6))
    whole = bytearray(path.read_bytes())
    for at, flip in flips.items():
        whole[at] ^= flip
    path.write_bytes(whole)
    store = open_store(record)
    closing_ = Closing(record, "now")
    written = close_all(closing_, store)
    store.close()
    if where == entries:
        touched = {1 + (at - entries_at) // _ENTRY.itemsize for at in flips}
        assert set(range(4, 17)) - touched <= {result.part_id for result in written}
    elif where == triggers:
        assert [result.part_id for result in written] == list(range(4, 22)) or "cannot be read" in closing_.trouble
    assert path.exists() == ("is left as it is" in closing_.trouble)
    for left in [*ledger_files(record), *damaged_ledgers(record)]:
        assert str(left) in closing_.trouble


def test_torn_entries_are_closed_like_any(record: Path) -> None:
    """Killed within open_part: never taken down. Within decide, or before the ring closes: still open."""
    file = LedgerFile.create(record, head_of("old"))
    ledger = Ledger(file.descriptor)
    for part_id in (1, 2, 3):
        ledger.open_part(part_id, 5, part_id, TriggerKey(0, 1, part_id))
    ledger.decide(1, 1, Verdict.PASS, Reason.OK, 9)
    ledger._entries[2]["seq"] = 2
    ledger._entries[2]["verdict"] = 1
    ledger._entries[4]["part_id"] = 4
    file.close()
    del ledger
    store = open_store(record)
    written = close_all(Closing(record, "now"), store)
    assert [(part.part_id, part.seq, part.verdict) for part in written] == [
        (1, 1, "PASS"),
        (2, 2, "NO_DECISION"),
        (3, 3, "NO_DECISION"),
    ]
    store.close()


def test_triggers_that_were_read_and_never_told_become_parts(record: Path) -> None:
    """Two cameras saw parts 2 to 4; of part 2 the first trigger was taken down, and the writer killed before it marked it."""
    path = leave(record, "old", recorded=1, open_=1)
    file = LedgerFile.take(path)
    assert file is not None
    ledger = Ledger(file.descriptor)
    ledger.journals[0].mark_told(1)
    for part_id in (2, 3, 4):
        for camera in (0, 1):
            count, trigger_ns = 65_000 + part_id * 100 + camera, part_id * 50 * MS + camera
            if part_id == 2:
                count = 65_002 + camera
            assert ledger.journals[camera].write(Trigger("", 1, part_id - camera, count, trigger_ns))
    assert ledger.unrecorded_count() == 1 + 6
    file.close()
    del ledger
    store = open_store(record)
    killed = Closing(record, "now")
    store.commit(killed.batch()[:2], [])
    die(killed)
    closing_ = Closing(record, "later")
    closed = close_all(closing_, store)
    assert [(part.part_id, part.seq, part.encoder_count) for part in closed] == [
        (2, 2, 65_002),
        (3, 3, 65_300),
        (4, 4, 65_400),
    ]
    assert {(part.verdict, part.reason, part.sent_ns) for part in closed} == {("NO_DECISION", "FAULT", None)}
    assert list(closing_.done) == [
        "session old left parts open: 3 of its parts were put on record now, 3 of them undecided"
    ]
    assert [(row.part_id, row.seq) for row in read_rows(record)] == [(2, 2), (3, 3), (4, 4)]
    assert not path.exists()
    store.close()


def _in_a_second(moment_ns: int) -> Callable[[], int]:
    return lambda: moment_ns + 1_000_000_000


def test_no_room_for_a_file_is_an_error(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        LedgerFile.create(record, head_of("s1"))
    assert ledger_files(record) == []
