"""The ledger's file: it outlives its processes, is locked while one of them lives, and is found by the next session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.ledger import Ledger, LedgerHead, TriggerKey
from pipeline.ledger_file import LedgerFile, halt_left, ledger_files, session_of
from pipeline.rules import Matching
from vision.types import Reason, Verdict

PARTS = 256


def head_of(session_id: str) -> LedgerHead:
    return LedgerHead(session_id, PARTS, 1, None, 0, "r", "1", False, 1, Matching(16, 5, 0))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "records.db"
    yield path
    for left in ledger_files(path):
        left.unlink()


def test_it_is_this_users_alone_and_complete(record: Path) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    assert file.path is not None
    found = file.path.stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, os.geteuid())
    assert Ledger(file.descriptor).head.session_id == "s1"
    assert (ledger_files(record), session_of(file.path)) == ([file.path], "s1")
    assert ledger_files(record.with_name("other.db")) == []
    file.remove()
    file.remove()  # an orphan may have been quicker
    file.close()
    assert ledger_files(record) == []


@pytest.mark.parametrize("target", ["elsewhere.db", "records.db"])
def test_a_link_in_the_records_place_hides_no_ledger(record: Path, target: str) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    record.symlink_to(target)
    assert ledger_files(record) == [file.path]
    file.close()


def test_it_is_locked_while_anybody_has_it(record: Path) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    assert file.path is not None
    ledger = Ledger(file.descriptor)
    file.close()
    with pytest.raises(BlockingIOError):
        LedgerFile.take(file.path)
    assert ledger.head.session_id == "s1"


def test_a_killed_writers_ledger_is_taken(record: Path) -> None:
    writer = f"""
import os, signal
from pathlib import Path
from pipeline.ledger import Ledger, LedgerHead, TriggerKey
from pipeline.ledger_file import LedgerFile, halt_left
from pipeline.rules import Matching
file = LedgerFile.create(Path({str(record)!r}), LedgerHead("s1", {PARTS}, 1, None, 0, "r", "1", False, 1, Matching(16, 5, 0)))
Ledger(file.descriptor).open_part(7, 5, 9, TriggerKey(0, 1, 1))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", writer], timeout=60, check=False).returncode == -9
    (path,) = ledger_files(record)
    taken = LedgerFile.take(path)
    assert taken is not None
    assert [entry.part_id for entry in Ledger(taken.descriptor).entries()] == [7]
    taken.close()


def test_what_is_gone_is_none(record: Path) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    assert file.path is not None
    file.remove()
    file.close()
    assert LedgerFile.take(file.path) is None


def test_a_name_that_is_taken_is_an_error(record: Path) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    with pytest.raises(FileExistsError):
        LedgerFile.create(record, head_of("s1"))
    file.close()


def test_oldest_first(record: Path) -> None:
    for session_id in ("t3", "t1", "t2"):
        LedgerFile.create(record, head_of(session_id)).close()
    assert [session_of(path) for path in ledger_files(record)] == ["t1", "t2", "t3"]


def test_the_halt_of_the_newest_session_is_left(record: Path) -> None:
    assert halt_left(record) == ""
    for session_id, reasons in (("t1", ["older"]), ("t2", ["€" * 1_000, "", "cmd/halt by Anna"])):
        file = LedgerFile.create(record, head_of(session_id))
        ledger = Ledger(file.descriptor)
        assert halt_left(record) == ""
        for reason in reasons:
            ledger.keep_halt(reason)
            assert halt_left(record).startswith(reason[:300])
            assert bool(halt_left(record)) == bool(reason)
        file.close()
    assert halt_left(record) == "cmd/halt by Anna"
    newest = ledger_files(record)[-1]
    newest.write_bytes(b"damaged")
    assert halt_left(record) == ""


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "open to all"])
def test_what_another_may_have_put_there_is_not_opened(record: Path, tmp_path: Path, kind: str) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    assert file.path is not None
    file.close()
    path = tmp_path / "planted"
    if kind == "link":
        path.symlink_to(file.path)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(mode=0o700)
    else:
        path.write_bytes(file.path.read_bytes())
        path.chmod(0o644)
    with pytest.raises(OSError, match="planted"):
        LedgerFile.take(path)


@pytest.mark.parametrize("part_count", [1, PARTS + 2])
def test_the_end_says_what_is_not_on_record(record: Path, part_count: int) -> None:
    file = LedgerFile.create(record, head_of("s1"))
    ledger = Ledger(file.descriptor)
    for part_id in range(1, part_count + 1):
        ledger.open_part(part_id, 5, 9, TriggerKey(0, 1, part_id))
        ledger.decide(part_id, part_id, Verdict.PASS, Reason.OK, 9)
    kept = range(max(1, part_count - PARTS + 1), part_count + 1)
    for part_id in kept[:-1]:
        ledger.recorded(part_id)
    lost_count = part_count - len(kept)
    if lost_count:
        ledger.recorded(kept[-1])
    assert file.end() == (int(not lost_count), lost_count)
    assert (ledger_files(record) == []) == bool(lost_count)


def test_a_ledger_in_memory_has_no_name(record: Path) -> None:
    file = LedgerFile.in_memory(head_of("s1"))
    Ledger(file.descriptor).open_part(1, 5, 9, TriggerKey(0, 1, 1))
    assert Ledger(file.descriptor).unrecorded_count() == 1
    assert ledger_files(record) == []
    file.remove()
    file.close()
