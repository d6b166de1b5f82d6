"""The records worker with commands of its own: keys that count from a moment on, reviews, and the last anchor it told."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import paho.mqtt.publish
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.channel import Link, link_pair
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import load_line
from pipeline.line_watch import FRESH_NS
from pipeline.messages import (
    Admitted,
    Alarm,
    Command,
    CommandReply,
    Configure,
    Connect,
    EndOfParts,
    GiveReview,
    Halt,
    Message,
    ModelInUse,
    PartRecord,
    Recorded,
    SetTraceability,
)
from pipeline.record.faults import RecordDamaged
from pipeline.record.reader import read_context, read_reviews, read_rows
from pipeline.record.segment import PAGE_BYTES
from pipeline.record.verify import verify
from pipeline.records import Records
from pipeline.simulator.broker import start_broker
from pipeline.worker import Supervised
from tests.service import write_line
from tests.tap import Tap

MODEL = ModelInUse("c" * 64, "f" * 64, '{"onnxruntime": "1.0"}')


@dataclass
class Worker:
    """Records, driven turn by turn, and the far ends of its links."""

    records: Records
    supervisor: Link
    signalling: Link
    record: Path
    said: list[Message] = field(default_factory=list)

    def tell(self, *messages: Message) -> Sequence[Message]:
        """Control messages; returns what it said since."""
        for message in messages:
            self.supervisor.send(message)
        self.records._take_control()
        said = list(self.supervisor.drain())
        self.said += said
        return said

    def ask(
        self, parameters: SetTraceability | GiveReview, request: str, admitted_ns: int | None = None
    ) -> CommandReply:
        name = "review" if isinstance(parameters, GiveReview) else "set_traceability"
        command = Command(name, request, "s", 5, "Anna", "reply", None, parameters)  # type: ignore[arg-type]
        replies = self.tell(Admitted(command, now_ns() if admitted_ns is None else admitted_ns))
        (reply,) = (message for message in replies if isinstance(message, CommandReply))
        return reply

    def part(self, part_id: int, trigger_ns: int) -> None:
        now = now_ns()
        times = (trigger_ns, now, now, trigger_ns + NS_PER_S)
        self.signalling.send(PartRecord(part_id, part_id, "REJECT", "DEFECT", None, None, *times, 0, 0, (), ()))

    def commit(self) -> None:
        self.records._take_records()
        self.records._commit()


@contextlib.contextmanager
def worker_at(
    tmp_path: Path,
    broker_port: int = 1,
    *,
    recipe: dict[str, str] | None = None,
    session_id: str = "s",
    started_ns: int | None = None,
) -> Iterator[Worker]:
    theirs, ours = (Link(end) for end in link_pair())
    one, other = link_pair()
    records_config = {"path": "records.db", "history_per_s": 1_000.0}
    file = write_line(tmp_path, broker_port, degraded={"platform_interval_s": None}, records=records_config)
    if recipe is not None:
        recipe_file = load_line(file).recipe_file
        recipe_file.write_text(recipe_file.read_text() + f"\ntraceability: {json.dumps(recipe)}\n")
    line = load_line(file)
    began_ns = now_ns() if started_ns is None else started_ns
    records = Records(Supervised(theirs, Configure("records", 1, session_id, "", None, began_ns, Halt(), True), line))
    records.open()
    with one:
        ours.send(Connect("signalling", 1, None), (one.fileno(),))
    signalling = Link(other)
    worker = Worker(records, ours, signalling, line.config.records.path)
    try:
        worker.tell()
        yield worker
    finally:
        # As after a kill: nothing is closed in good order.
        if records._store is not None:
            records._store.close()
        records._mqtt.close()
        records._platform.close()
        if records._signalling is not None:
            records._signalling.close()
        for link in (theirs, ours, signalling):
            link.close()


def lots(record: Path) -> dict[int, str | None]:
    return {each.result.part_id: each.result.traceability.lot for each in read_rows(record)}


def test_a_key_counts_for_parts_triggered_after_it(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        before_ns = now_ns()
        worker.part(1, before_ns)
        reply = worker.ask(SetTraceability({"lot": "L-1", "shift": "early"}), "r1")
        assert (reply.ok, reply.text) == (True, "parts triggered from now on: lot L-1, order -, serial -, shift early")
        # One that came to records late, and one told again, were triggered before.
        worker.part(2, before_ns)
        worker.part(1, now_ns())
        worker.part(3, now_ns())
        worker.commit()
        assert worker.ask(SetTraceability({"lot": None}), "r2").text.endswith("lot -, order -, serial -, shift early")
        worker.part(4, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: None, 2: None, 3: "L-1", 4: None}
    assert verify(worker.record).findings == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_part_gets_a_key_set_after_its_trigger(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Parts wait, come in any order and again, records is killed between, and the record is sealed: each has one key, the last
    that was set before its trigger.
    """
    folder = tmp_path_factory.mktemp("line")
    triggered: dict[int, str | None] = {}
    waiting: list[tuple[int, int]] = []
    lot: str | None = None
    steps = data.draw(st.lists(st.sampled_from(["trigger", "set", "deliver", "again", "kill", "seal"]), max_size=14))
    began_ns = now_ns()
    queue = iter([*steps, "deliver", "end"])
    done = False
    while not done:
        with worker_at(folder, started_ns=began_ns) as worker:
            for step in queue:
                if step == "trigger":
                    part_id = len(triggered) + 1
                    triggered[part_id] = lot
                    waiting.append((part_id, now_ns()))
                elif step == "set":
                    lot = data.draw(st.sampled_from(["A", "B", None]))
                    assert worker.ask(SetTraceability({"lot": lot}), f"r{now_ns()}").ok
                elif step in ("deliver", "again"):
                    for part_id, trigger_ns in data.draw(st.permutations(waiting)):
                        worker.part(part_id, trigger_ns)
                    worker.commit()
                    if step == "deliver":
                        waiting.clear()
                elif step == "seal":
                    assert worker.records._store is not None
                    worker.records._store.seal()
                elif step == "kill":
                    break
                done = step == "end"
    assert lots(worker.record) == triggered if triggered else True


def test_keys_outlive_records_and_the_service_and_a_command_told_twice_counts_once(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        assert worker.ask(SetTraceability({"lot": "L-1", "order": "7"}), "r1").ok
        assert worker.ask(SetTraceability({"lot": "L-2"}), "r2").ok
    with worker_at(tmp_path) as worker:
        # To the successor of one that was killed after its commit and before its answer.
        assert "lot L-2, order 7" in worker.ask(SetTraceability({"lot": "L-1", "order": "7"}), "r1").text
    with worker_at(tmp_path, session_id="t") as worker:
        worker.part(1, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: "L-2"}
        assert worker.records._store is not None
        assert worker.records._store.seal()
        worker.part(2, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: "L-2", 2: "L-2"}


def test_a_recipe_says_what_nobody_else_says(tmp_path: Path) -> None:
    with worker_at(tmp_path, recipe={"lot": "R", "order": "O"}) as worker:
        worker.part(1, now_ns())
        assert "lot L, order O" in worker.ask(SetTraceability({"lot": "L"}), "r1").text
        worker.part(2, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: "R", 2: "L"}
    with worker_at(tmp_path, recipe={"lot": "R", "order": "O"}, session_id="t") as worker:
        worker.part(3, now_ns())
        worker.commit()
        assert lots(worker.record)[3] == "L"


def test_what_a_recipe_says_begins_while_somebody_has_the_record_locked(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        worker.part(1, now_ns())
        worker.commit()
    with contextlib.closing(sqlite3.connect(worker.record, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with worker_at(tmp_path, recipe={"lot": "R"}, session_id="t") as worker:
            worker.part(1, now_ns())
            worker.commit()
            other.execute("ROLLBACK")
            worker.records._commit()
            assert [each.result.traceability.lot for each in read_rows(worker.record)] == [None, "R"]
    with worker_at(tmp_path, recipe={"lot": "R"}, session_id="t") as worker:
        assert worker.records._store is not None
        assert worker.records._store.schedule.now.lot == "R"
        assert len(worker.records._store.schedule.changes) == 2
    with worker_at(tmp_path, recipe={"lot": "U"}, session_id="u") as worker:
        # Sealed before anything of this session is on record.
        assert worker.records._store is not None
        assert worker.records._store.seal()
        assert worker.records._store.schedule.now.lot == "U"


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        with contextlib.closing(sqlite3.connect(worker.record, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            reply = worker.ask(SetTraceability({"lot": "L-1"}), "r1")
            other.execute("ROLLBACK")
        assert not reply.ok
        assert "database is locked; nothing was changed" in reply.text
        stale = worker.ask(SetTraceability({"lot": "L-1"}), "r2", admitted_ns=now_ns() - FRESH_NS - 1)
        assert not stale.ok
        assert "stale" in stale.text
        worker.part(1, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: None}


def test_a_damaged_record_takes_the_keys_of_this_process_along_and_none_of_before(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        assert worker.ask(SetTraceability({"lot": "L-1"}), "r1").ok
        worker.part(1, now_ns())
        worker.commit()
        assert worker.records._store is not None
        assert worker.records._store.seal()
        assert worker.ask(SetTraceability({"lot": "L-2"}), "r2").ok
        worker.record.write_bytes(worker.record.read_bytes()[:PAGE_BYTES] + b"x" * 40_960)
        worker.records._set_record_fault(RecordDamaged("malformed"))
        worker.records.open()
        worker.commit()  # shows that writing goes again
        worker.part(2, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: "L-1", 2: "L-2"}
    worker.record.write_bytes(worker.record.read_bytes()[:PAGE_BYTES] + b"x" * 40_960)
    with worker_at(tmp_path, session_id="t") as worker:
        worker.part(1, now_ns())
        worker.commit()
        assert lots(worker.record) == {1: None}


def test_parts_of_this_moment_can_be_reviewed_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        worker.part(1, now_ns())
        reply = worker.ask(GiveReview(1, None, "good", "a reflex"), "r1")
        assert (reply.ok, reply.name) == (True, "review")
        assert reply.text == "review 1 is on record: part 1 of session s was REJECT, Anna says good: overruled"
        assert worker.ask(GiveReview(1, None, "good", "a reflex"), "r1").text == reply.text
        for given, words in (
            (GiveReview(2, None, "good", ""), "part_id: got 2, no part on record has that number"),
            (GiveReview(1, "t", "good", ""), "part_id: got 1, no part of session 't' on record has that number"),
        ):
            refused = worker.ask(given, f"r{words}")
            assert (refused.ok, refused.text) == (False, words)
        (review,) = read_reviews(worker.record)
        assert (review.who, review.said, review.note, review.verdict) == ("Anna", "good", "a reflex", "REJECT")
    assert verify(worker.record).findings == []


def test_a_part_names_what_it_was_judged_with(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        worker.part(1, now_ns())
        worker.commit()
        worker.tell(MODEL)
        worker.part(2, now_ns())
        # Another runtime from here on; what came before was judged with the one before.
        worker.tell(ModelInUse("c" * 64, "e" * 64, '{"onnxruntime": "2.0"}'))
        worker.part(3, now_ns())
        worker.commit()
        first, second, third = read_rows(worker.record)
    assert read_context(first) is None
    contexts = [read_context(each) for each in (second, third)]
    assert [each["fingerprint"]["onnxruntime"] for each in contexts if each is not None] == ["1.0", "2.0"]
    assert verify(worker.record).contexts == 2


def test_a_part_that_waits_for_the_disk_names_what_was_in_use_when_it_came(tmp_path: Path) -> None:
    with worker_at(tmp_path) as worker:
        worker.tell(MODEL)
        worker.part(1, now_ns())
        worker.commit()
        with contextlib.closing(sqlite3.connect(worker.record, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            worker.part(2, now_ns())
            worker.part(3, now_ns())
            worker.commit()
            worker.tell(ModelInUse("c" * 64, "e" * 64, '{"onnxruntime": "2.0"}'))
            other.execute("ROLLBACK")
        worker.commit()
        worker.part(4, now_ns())
        worker.commit()
        acknowledged = [message.count for message in worker.signalling.drain() if isinstance(message, Recorded)]
        rows = [*read_rows(worker.record)]
    assert [row.result.part_id for row in rows] == [1, 2, 3, 4]
    contexts = [read_context(row) for row in rows]
    assert [each["fingerprint"]["onnxruntime"] for each in contexts if each is not None] == ["1.0", "1.0", "1.0", "2.0"]
    assert [row.result.model_sha256 for row in rows] == [MODEL.model_sha256] * 3 + ["c" * 64]
    assert sum(acknowledged) == 4
    assert verify(worker.record).findings == []


# --- against the last anchor -----------------------------------------------------------------------------------


def run_once(tmp_path: Path, broker_port: int, parts: range, session_id: str) -> list[Alarm]:
    """A session's records from its begin to its end, until the broker has had its last anchor."""
    with worker_at(tmp_path, broker_port, session_id=session_id) as worker, Tap(broker_port, "test/line") as tap:
        for part_id in parts:
            worker.part(part_id, now_ns())

        def end_when_anchored() -> None:
            tap.wait_until(lambda: any(body["session_id"] == session_id for body in tap.bodies("anchor")))
            worker.signalling.send(EndOfParts())

        ending = threading.Thread(target=end_when_anchored)
        ending.start()
        worker.records.run()
        ending.join()
        worker.records._mqtt.close()
        said = [*worker.said, *worker.supervisor.drain()]
        return [message for message in said if isinstance(message, Alarm) and message.code == "record-anchor"]


def test_a_record_that_is_not_what_the_broker_was_told_raises_an_alarm(tmp_path: Path) -> None:
    record = tmp_path / "records.db"
    with start_broker() as broker:
        assert run_once(tmp_path, broker.port, range(1, 11), "a") == []
        old = record.read_bytes()
        assert run_once(tmp_path, broker.port, range(1, 11), "b") == []
        record.write_bytes(old)
        (alarm,) = run_once(tmp_path, broker.port, range(0), "c")
        assert alarm.severity == "error"
        assert "row 10: the record ends here; 10 more rows were anchored: it was cut off" in alarm.text
        # The broker has been told anew.
        assert run_once(tmp_path, broker.port, range(0), "d") == []
        with contextlib.closing(sqlite3.connect(record, isolation_level=None)) as database:
            database.execute("UPDATE part SET row_hash = ? WHERE id = 10", ("0" * 64,))
        (alarm,) = run_once(tmp_path, broker.port, range(0), "e")
        assert "row 10: was anchored as" in alarm.text
        publish_retained(broker.port, b'{"session_id": "x"}')
        (alarm,) = run_once(tmp_path, broker.port, range(0), "f")
        assert (alarm.severity, "is no anchor of this record" in alarm.text) == ("warning", True)
        publish_retained(broker.port, json.dumps({"session_id": "x", "row_count": 10**20, "head": "0" * 64}).encode())
        (alarm,) = run_once(tmp_path, broker.port, range(0), "g")
        assert (alarm.severity, "is no anchor of this record" in alarm.text) == ("warning", True)


def publish_retained(port: int, payload: bytes) -> None:
    paho.mqtt.publish.single("test/line/anchor", payload, qos=1, retain=True, hostname="127.0.0.1", port=port)
