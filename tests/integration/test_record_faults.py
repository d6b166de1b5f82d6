"""Disk and database fail under the service: it halts, and runs again by itself with everything on record when they are mended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos.books import check_record, read_rows
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
SLOW_RESTART = {"back_off_first_s": 2.0}


@contextlib.contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[None]:
    """``mount ARGUMENTS PLACE``, a folder unless it is there; the test is skipped where that is not permitted."""
    if not place.exists():
        place.mkdir()
    _mount(*arguments, str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")


def fill(place: Path) -> Path:
    """A file that leaves no room beside it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    return filler


def run_part(tap: Tap) -> None:
    tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["state"] == "RUNNING")
    tap.wait_count("verdict", 10)


def check_all_recorded(tap: Tap, *records: Path) -> None:
    """Every verdict that was heard is on record, word for word: once in one of them, or, where records was killed between its
    commit and its acknowledgement and found that file damaged, the same again in the next.
    """
    heard = {(body["session_id"], body["part_id"]): (body["verdict"], body["seq"]) for body in tap.bodies("verdict")}
    of_each = [read_rows(record) for record in records]
    assert all(len(set(rows)) == len(rows) for rows in of_each)
    rows = list(dict.fromkeys(row for rows in of_each for row in rows))
    check_record(rows)
    assert heard.items() <= {(row.session_id, row.part_id): (row.verdict, row.seq) for row in rows}.items()
    assert len(heard) >= 20


def texts_of(tap: Tap, code: str) -> list[str]:
    return [body["text"] for body in tap.bodies(f"alarm/{code}") if body is not None]


def test_a_full_disk_that_is_freed(tmp_path: Path, broker_port: int) -> None:
    place = tmp_path / "small"
    with mounted(place, "-t", "tmpfs", "-o", "size=2m", "lineside-test"):
        line = write_line(tmp_path, broker_port, records={"path": "small/records.db"})
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("RUNNING")
            run_part(tap)
            filler = fill(place)
            service.wait_for("HALTED no record of verdicts")
            tap.wait_until(lambda: any("full" in text for text in texts_of(tap, "records")))
            tap.wait_count("verdict", 10)
            filler.unlink()
            service.wait_for("RUNNING")
            run_part(tap)
            service.stop()
        check_all_recorded(tap, place / "records.db")


def test_a_disk_full_to_the_end(tmp_path: Path, broker_port: int) -> None:
    """What is on record is summed up all the same; the rest waits for the next start."""
    place = tmp_path / "small"
    with mounted(place, "-t", "tmpfs", "-o", "size=2m", "lineside-test"):
        line = write_line(tmp_path, broker_port, records={"path": "small/records.db"})
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("RUNNING")
            run_part(tap)
            fill(place)
            service.wait_for("HALTED no record of verdicts")
            tap.wait_count("verdict", 10)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(timeout=60) == 1
            assert f"parts are not on record: {place / 'records.db'} could not be written in time" in service.errors
            summary = json.loads(service.summary_file.read_text())
        rows = read_rows(place / "records.db")
        assert 0 < summary["parts_triggered"] == len(rows) < len(tap.bodies("verdict"))


def test_a_disk_full_from_the_start(tmp_path: Path, broker_port: int) -> None:
    place = tmp_path / "small"
    with mounted(place, "-t", "tmpfs", "-o", "size=2m", "lineside-test"):
        filler = fill(place)
        line = write_line(tmp_path, broker_port, records={"path": "small/records.db"})
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("HALTED no record of verdicts")
            tap.wait_count("verdict", 10)
            filler.unlink()
            service.wait_for("RUNNING")
            run_part(tap)
            service.stop()
        check_all_recorded(tap, place / "records.db")


def test_a_disk_that_was_read_only_when_records_was_restarted(tmp_path: Path, broker_port: int) -> None:
    place, store = tmp_path / "bound", tmp_path / "store"
    store.mkdir()
    with mounted(place, "--bind", str(store)):
        line = write_line(tmp_path, broker_port, records={"path": "bound/records.db"}, supervision=SLOW_RESTART)
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("RUNNING")
            run_part(tap)
            records = workers_of(service.process.pid)["records"]
            records.send_signal(signal.SIGKILL)
            with contextlib.suppress(psutil.NoSuchProcess):
                records.wait(timeout=10)
            # Nothing else of the service keeps the disk from becoming read-only.
            done = subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            service.wait_for("HALTED no record of verdicts")
            tap.wait_until(lambda: bool(texts_of(tap, "records")))
            tap.wait_count("verdict", 10)
            _mount("-o", "remount,bind,rw", str(place))
            service.wait_for("RUNNING")
            run_part(tap)
            service.stop()
        check_all_recorded(tap, store / "records.db")


def test_a_database_locked_by_another_process(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        run_part(tap)
        other = sqlite3.connect(tmp_path / "records.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        service.wait_for("HALTED no record of verdicts")
        tap.wait_count("verdict", 60)  # three seconds of parts
        other.execute("ROLLBACK")
        other.close()
        service.wait_for("RUNNING")
        run_part(tap)
        service.stop()
    assert all("database is locked" in text for text in texts_of(tap, "records"))
    check_all_recorded(tap, tmp_path / "records.db")


@pytest.mark.parametrize("found_at", ["commit", "restart"])
def test_a_database_overwritten_under_the_service(tmp_path: Path, broker_port: int, found_at: str) -> None:
    record = tmp_path / "records.db"
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        run_part(tap)
        records = workers_of(service.process.pid)["records"]
        records.suspend()
        while not _copy_and_damage(record, tmp_path / "copy.db"):
            records.resume()
            tap.wait_count("verdict", 1)
            records.suspend()
        if found_at == "restart":
            records.kill()
        else:
            records.resume()
        tap.wait_until(lambda: bool(texts_of(tap, "record-damaged")))
        service.wait_for("RUNNING")
        run_part(tap)
        workers_of(service.process.pid)["records"].kill()  # the alarm is the session's, not the process's
        raised = len(texts_of(tap, "record-damaged"))
        tap.wait_until(lambda: len(texts_of(tap, "record-damaged")) > raised)
        service.wait_for("RUNNING")
        service.stop()
    (aside,) = [file for file in tmp_path.glob("records.db.damaged-*") if file.name.endswith("-1")]
    assert all(str(record) in text and str(aside) in text for text in texts_of(tap, "record-damaged"))
    check_all_recorded(tap, tmp_path / "copy.db", record)


def test_a_database_that_is_damaged_from_the_start(tmp_path: Path, broker_port: int) -> None:
    record, line = tmp_path / "records.db", write_line(tmp_path, broker_port)
    with Service(line, "--parts", "20") as service:
        assert service.process.wait(timeout=60) == 0
    with record.open("r+b") as file:
        file.write(os.urandom(4096))
    before = record.read_bytes()
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        run_part(tap)
        tap.wait_count("verdict", 10)
        session_id = service.stop()["session_id"]
    assert (tmp_path / f"records.db.damaged-{session_id}-1").read_bytes() == before
    check_all_recorded(tap, record)


def test_a_file_that_is_no_record_is_left_where_it_is(tmp_path: Path, broker_port: int) -> None:
    record = tmp_path / "records.db"
    before = os.urandom(65_536)
    record.write_bytes(before)
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("HALTED no record of verdicts")
        tap.wait_until(lambda: bool(texts_of(tap, "records")))
        tap.wait_count("verdict", 10)
        assert record.read_bytes() == before
        record.rename(tmp_path / "mine")
        service.wait_for("RUNNING")
        run_part(tap)
        service.stop()
    assert all(f"record {record}: the file is no record of Lineside" in text for text in texts_of(tap, "records"))
    assert (tmp_path / "mine").read_bytes() == before
    check_all_recorded(tap, record)


def _copy_and_damage(record: Path, copy: Path) -> bool:
    """All that is on record is brought into the file itself, kept as a copy, and overwritten. False, and nothing is done, where
    records was stopped within a commit.
    """
    with contextlib.closing(sqlite3.connect(record, timeout=0.1)) as database:
        is_busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        return False
    shutil.copyfile(record, copy)
    with record.open("r+b") as file:
        file.write(os.urandom(record.stat().st_size))
    return True
