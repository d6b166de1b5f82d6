"""The records worker by itself."""

from __future__ import annotations

import contextlib
import json
import select
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from pipeline.channel import Link, PeerGone, link_pair
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import load_line
from pipeline.messages import (
    Alarm,
    Alive,
    AnyMessage,
    Configure,
    Connect,
    DefectFound,
    EndOfParts,
    FrameKey,
    Halt,
    PartMade,
    PartRecord,
    Summary,
    ViewInspected,
)
from pipeline.outbox import Outbox
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone
from pipeline.record.files import sealed_name
from pipeline.record.store import RecordStore
from pipeline.records import Records
from pipeline.simulator.broker import start_broker
from pipeline.transports.mqtt import MqttConnection
from pipeline.worker import Supervised
from tests.service import write_line
from tests.tap import Tap
from tests.unit.pipeline.test_closing import leave
from tests.unit.pipeline.test_record_store import results

RECORDS = {"path": "records.db", "history_per_s": 1_000.0}


@dataclass
class Worker:
    """Records with parts told to it, and the far ends of its links."""

    records: Records
    supervisor: Link
    signalling: Link
    record: Path

    def alarms(self) -> list[Alarm]:
        return [message for message in self.supervisor.drain() if isinstance(message, Alarm)]


@contextlib.contextmanager
def worker_at(tmp_path: Path, broker_port: int, part_count: int, first: int = 1, **changes: object) -> Iterator[Worker]:
    theirs, ours = (Link(end) for end in link_pair())
    one, other = link_pair()
    quiet = {"degraded": {"platform_interval_s": None}, "records": RECORDS}
    line = load_line(write_line(tmp_path, broker_port, **quiet, **changes))
    records = Records(Supervised(theirs, Configure("records", 1, "s", "", None, 0, Halt(), True), line))
    with one:
        ours.send(Connect("signalling", 1, None), (one.fileno(),))
    signalling = Link(other)
    now = now_ns()
    for number in range(first, first + part_count):
        signalling.send(PartRecord(number, number, "PASS", "OK", None, None, now, now, now, now, 0, 0, (), ()))
    yield Worker(records, ours, signalling, line.config.records.path)
    for link in (theirs, ours, signalling):
        link.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """One part, then the end, and no broker."""
    with worker_at(tmp_path, 1, 1) as made:
        made.signalling.send(EndOfParts())
        yield made


def test_a_slow_commit_is_said(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.records._SLOW_NS", 0)
    worker.records.open()
    worker.records.run()
    # One for the commit, and one more where a sync came due beside it.
    said = [alarm.text for alarm in worker.alarms() if alarm.code == "record-slow"]
    assert said
    assert all("records.db: a commit took 0.0 s; the disk is slow" in text for text in said)


def test_a_folder_that_cannot_be_read_is_waited_for(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path) -> Iterator[Path]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", refuse)
        worker.records.open()
    (fault,) = worker.alarms()
    assert fault.code == "records"
    assert "records.db: its folder cannot be read: Input/output error" in fault.text
    worker.records.run()
    assert [alarm.raised for alarm in worker.alarms() if alarm.code == "records"] == [False]
    with contextlib.closing(sqlite3.connect(worker.record)) as database:
        assert database.execute("SELECT part_id FROM part").fetchall() == [(1,)]


def test_what_a_killed_session_left_is_made_safe_from_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though no part of its own is committed after it."""
    synced, sync = threading.Event(), RecordStore.sync

    def listened(store: RecordStore) -> None:
        sync(store)
        if store.head()[0] == 3:
            synced.set()

    monkeypatch.setattr(RecordStore, "sync", listened)
    leave(tmp_path / "records.db", "killed", decided=3)
    with worker_at(tmp_path, 1, 0) as worker:
        worker.records.open()
        running = threading.Thread(target=worker.records.run)
        running.start()
        is_safe = synced.wait(30)
        worker.signalling.send(EndOfParts())
        running.join()
    assert is_safe


def test_images_is_told_whose_frames_it_has_however_much_was_found(tmp_path: Path) -> None:
    frames = (FrameKey("cam0", 1, 1), FrameKey("cam1", 1, 1))
    found = tuple(DefectFound('"' * 170, 0.5 + number / 1_000, (0.1, 0.1, 0.2, 0.2)) for number in range(30))
    views = tuple(
        ViewInspected(f"cam{camera}", 1, 1, 1, None, "REJECT", "DEFECT", 0.9, found, 1, 2, 3, 4, 5, True)
        for camera in range(8)
    )
    small = (msgspec.structs.replace(views[0], defects=found[:1]),)
    with worker_at(tmp_path, 1, 0) as worker:
        one, other = link_pair()
        with one:
            worker.supervisor.send(Connect("images", 1, None), (one.fileno(),))
        images = Link(other)
        now = now_ns()
        for part_id, each in ((1, small), (2, views)):
            part = PartRecord(part_id, part_id, "REJECT", "DEFECT", None, None, now, now, now, now, 0, 0, each, frames)
            worker.signalling.send(part)
        worker.signalling.send(EndOfParts())
        worker.records.open()
        worker.records.run()
        told = [message for message in told_to(images) if isinstance(message, PartMade)]
        images.close()
    results = [json.loads(message.result_json) for message in told]
    assert [message.frames for message in told] == [frames, frames]
    assert [len(result["defects"]) for result in results] == [1, 0]
    # This line has no images: what it says of them is nothing.
    assert [result["image_ref"] for result in results] == [None, None]


@contextlib.contextmanager
def images_of(worker: Worker) -> Iterator[list[PartMade]]:
    """What images, which listens slowly, is told to the end of records."""
    one, other = link_pair()
    with one:
        worker.supervisor.send(Connect("images", 1, None), (one.fileno(),))
    images, heard = Link(other), list[PartMade]()

    def listen() -> None:
        with contextlib.suppress(PeerGone):
            while select.select([images], [], [], 30)[0]:
                heard.extend(message for message in images.drain() if isinstance(message, PartMade))

    listening = threading.Thread(target=listen)
    listening.start()
    try:
        yield heard
    finally:
        listening.join()
        images.close()


def part_of(number: int, verdict: str = "REJECT", reason: str = "DEFECT") -> PartRecord:
    now = now_ns()
    frames = (FrameKey("cam0", 1, number),)
    return PartRecord(number, number, verdict, reason, None, None, now, now, now, now, 0, 0, (), frames)


def test_names_that_the_link_does_not_take_at_once_are_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker_at(tmp_path, 1, 0) as worker:
        for number in range(1, 151):
            assert worker.signalling.send(part_of(number))
        worker.signalling.send(EndOfParts())
        # What a link holds then is a few names.
        monkeypatch.setattr("pipeline.channel._BUFFER_BYTES", 4_608)
        worker.records.open()
        with images_of(worker) as heard:
            worker.records.run()
        counters = [message.counters for message in worker.supervisor.drain() if isinstance(message, Alive)]
    assert [message.frames[0].trigger_counter for message in heard] == list(range(1, 151))
    assert counters[-1]["images_unnamed"] == 0


def test_names_that_nobody_takes_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.records._LAST_NAMES_NS", 0)
    with worker_at(tmp_path, 1, 0) as worker:
        for number in range(1, 151):
            assert worker.signalling.send(part_of(number))
        worker.signalling.send(EndOfParts())
        monkeypatch.setattr("pipeline.channel._BUFFER_BYTES", 4_608)
        monkeypatch.setattr("pipeline.naming.WAITING_BYTES_MAX", 20_000)
        one, other = link_pair()
        with one:
            worker.supervisor.send(Connect("images", 1, None), (one.fileno(),))
        worker.records.open()
        worker.records.run()
        told = list(worker.supervisor.drain())
        images = Link(other)
        heard = list(told_to(images))
        images.close()
    counters = [message.counters for message in told if isinstance(message, Alive)]
    assert 0 < len(heard) == 150 - counters[-1]["images_unnamed"]
    assert any(isinstance(message, Alarm) and message.code == "images-unnamed" for message in told)


def test_a_part_that_is_told_again_is_named_as_it_stands_in_the_record(tmp_path: Path) -> None:
    """Its pictures are called like its row, not like what a successor made of it."""
    with worker_at(tmp_path, 1, 0) as worker:
        worker.signalling.send(part_of(1, "NO_DECISION", "DEADLINE"))
        worker.signalling.send(part_of(1, "NO_DECISION", "FAULT"))
        worker.signalling.send(EndOfParts())
        worker.records.open()
        with images_of(worker) as heard:
            worker.records.run()
    results = [json.loads(message.result_json) for message in heard]
    assert [(result["reason"], result["row_hash"]) for result in results] == [("DEADLINE", "")] * 2


def told_to(link: Link) -> Iterator[AnyMessage]:
    with contextlib.suppress(PeerGone):
        yield from link.drain()


def test_what_nobody_heard_before_a_restart_goes_out_on_history_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was heard is not told again."""
    # The broker may tell us what it has before it acknowledges it.
    monkeypatch.setattr("pipeline.records._LAST_ACKNOWLEDGEMENTS_NS", 60 * NS_PER_S)
    with worker_at(tmp_path, 1, 100) as worker:
        worker.signalling.send(EndOfParts())
        worker.records.open()
        worker.records.run()
    with start_broker() as broker, Tap(broker.port, "test/line") as tap:
        for _ in range(2):
            with worker_at(tmp_path, broker.port, 0, first=101) as worker:

                def end_when_heard(worker: Worker = worker) -> None:
                    tap.wait_until(lambda: len(tap.bodies("history")) >= 100)
                    worker.signalling.send(EndOfParts())

                ending = threading.Thread(target=end_when_heard)
                ending.start()
                worker.records.open()
                worker.records.run()
                ending.join()
        assert [body["part_id"] for body in tap.bodies("history")] == list(range(1, 101))
        assert tap.bodies("result") == []


def test_a_copy_that_is_called_as_a_sealed_segment_is_an_alarm(worker: Worker) -> None:
    with contextlib.closing(RecordStore(worker.record, "before", budget_us=50, deadline_us=1_000)) as store:
        store.commit(results(1, 3, "before"), [])
        copy = worker.record.with_name("records-20261121.db")
        copy.write_bytes(worker.record.read_bytes())
        worker.record.unlink()
    for suffix in ("-wal", "-shm"):
        worker.record.with_name(worker.record.name + suffix).unlink(missing_ok=True)
    worker.records.open()
    worker.records.run()
    (told,) = (alarm for alarm in worker.alarms() if alarm.code == "record-segments")
    assert "records-20261121.db" in told.text


@pytest.mark.parametrize("kind", [RecordGone, RecordDamaged])
@pytest.mark.parametrize("turns", [0, 1])
def test_a_record_that_goes_with_the_last_delivery_leaves_its_totals(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, kind: type[RecordFault], turns: int
) -> None:
    """In the loop's last turn, or after it."""
    worker.records.open()
    monkeypatch.setattr("pipeline.transports.mqtt.MqttConnection.connected", property(lambda _self: True))
    monkeypatch.setattr("pipeline.outbox.Outbox.in_flight_count", property(lambda _self: 1))
    went_well: list[int] = []

    def go(_self: Outbox, _connection: int | None, now_ns: int) -> None:
        if worker.records._ended:
            if len(went_well) == turns:
                raise kind("record records.db: it went")
            went_well.append(now_ns)

    monkeypatch.setattr("pipeline.outbox.Outbox.turn", go)
    worker.records.run()
    said = [*worker.supervisor.drain()]
    (summary,) = (message for message in said if isinstance(message, Summary))
    assert json.loads(summary.json_text)["parts_triggered"] == 1
    assert any(isinstance(message, Alarm) and "it went" in message.text for message in said)


class Taken:
    """A message that the broker acknowledges at once."""

    def is_published(self) -> bool:
        return True


def test_held_back_rows_that_the_record_has_lost_are_counted_and_said(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RecordStore(worker.record, "before", budget_us=5_000, deadline_us=40_000)
    store.commit(results(1, 10, "before"), [])
    assert store.seal()
    store.commit(results(11, 12, "before"), [])
    store.close()
    sealed_name(worker.record, 1).unlink()
    sent: list[tuple[str, int]] = []

    def publish(_self: MqttConnection, topic: str, payload: bytes) -> Taken:
        sent.append((topic, json.loads(payload)["part_id"]))
        return Taken()

    monkeypatch.setattr(MqttConnection, "connected", property(lambda _self: True))
    monkeypatch.setattr(MqttConnection, "publish_acknowledged", publish)
    worker.records.open()
    worker.records.run()
    (gap,) = (alarm for alarm in worker.alarms() if alarm.code == "history-gap")
    assert "10 rows were never told" in gap.text
    assert "among rows 1 to 10" in gap.text
    assert sent == [("test/line/result", 1), ("test/line/history", 11), ("test/line/history", 12)]


def test_held_back_rows_that_cannot_be_read_now_are_said(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RecordStore(worker.record, "before", budget_us=5_000, deadline_us=40_000)
    store.commit(results(1, 10, "before"), [])
    assert store.seal()
    store.close()
    sealed = sealed_name(worker.record, 1)
    sealed.rename(sealed.with_name("away"))
    sealed.mkdir()
    monkeypatch.setattr(MqttConnection, "connected", property(lambda _self: True))
    monkeypatch.setattr(MqttConnection, "publish_acknowledged", lambda *_: Taken())
    worker.records.open()
    worker.records.run()
    alarms = worker.alarms()
    assert {alarm.code for alarm in alarms} == {"history-waits"}
    assert f"record {sealed}: " in alarms[0].text
    with contextlib.closing(sqlite3.connect(worker.record)) as database:
        assert database.execute("SELECT live_row, held FROM delivery").fetchone() == (11, "[[1,10]]")
