"""Commands over MQTT, in both versions of it: carried out once, answered always, refused when old, retained, wrong or too many."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from pipeline.record.lock import RecordInUse, lock_record
from tests.chaos.books import check_record, read_rows
from tests.operator_terminal import Operator
from tests.service import Service, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
VERSIONS = pytest.mark.parametrize(
    ("protocol", "version"), [("5", MQTTProtocolVersion.MQTTv5), ("3.1.1", MQTTProtocolVersion.MQTTv311)]
)


def fits(name: str, body: dict[str, Any]) -> bool:
    schema = json.loads((SCHEMAS / f"mqtt-{name}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema).is_valid(body)


def wait_for_beat(tap: Tap, state: str) -> None:
    """Heartbeats and verdicts come on one connection, in order: of what was decided before, all is heard then."""
    tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["state"] == state)


def verdicts_from(tap: Tap, part_id: int) -> list[tuple[str, str]]:
    """(verdict, reason) of this part and all later ones."""
    return [(body["verdict"], body["reason"]) for body in tap.bodies("verdict") if body["part_id"] >= part_id]


@VERSIONS
def test_halt_and_resume(protocol: str, version: MQTTProtocolVersion, tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, mqtt={"port": broker_port, "protocol": protocol})
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap, protocol=version) as operator,
    ):
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 1)
        halt = operator.command()
        assert fits("command", halt)
        reply = operator.answer("halt", halt)
        assert fits("command_reply", reply)
        assert (reply["ok"], reply["request_id"], reply["command"]) == (True, halt["request_id"], "halt")
        service.wait_for("HALTED cmd/halt by Anna")
        wait_for_beat(tap, "HALTED")
        last = tap.bodies("verdict")[-1]["part_id"]
        tap.wait_count("verdict", 10)
        assert set(verdicts_from(tap, last + 1)) == {("NO_DECISION", "NOT_RUNNING")}
        tap.wait_until(lambda: bool(tap.bodies("alarm/halted")))
        assert "Anna" in tap.bodies("alarm/halted")[0]["text"]
        assert tap.bodies("state")[-1]["state"] == "HALTED"

        assert operator.ask("halt")["text"].startswith("halted already")
        assert operator.ask("resume", who="Bert")["ok"]
        service.wait_for("RUNNING")
        wait_for_beat(tap, "RUNNING")
        last = tap.bodies("verdict")[-1]["part_id"]
        tap.wait_count("verdict", 10)
        assert set(verdicts_from(tap, last + 3)) <= {("PASS", "OK"), ("REJECT", "DEFECT")}
        tap.wait_until(lambda: tap.bodies("alarm/halted")[-1] is None)
        assert "not halted" in operator.ask("resume")["text"]
        assert "no line clearance" in operator.ask("confirm_line_clear")["text"]
        service.stop()
    assert "cmd/halt by Anna, request r1: done" in service.errors
    assert "cmd/resume by Bert, request r3: done" in service.errors
    check_record(read_rows(tmp_path / "records.db"))


@VERSIONS
def test_what_is_refused(protocol: str, version: MQTTProtocolVersion, tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, mqtt={"port": broker_port, "protocol": protocol})
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap, protocol=version) as operator,
    ):
        service.wait_for("RUNNING")
        refusals = [
            operator.answer("halt", operator.command(session_id="another")),
            operator.answer("halt", operator.command(heartbeat_count=10**9)),
            operator.answer("halt", {"schema": "lineside.command/2", **operator.command(schema="lineside.command/2")}),
            operator.answer("halt", {**operator.command(), "heartbeat_count": "7"}),
            operator.answer("halt", operator.command(heartbeat_count=2**64)),
            operator.answer("halt", {"request_id": "only"}),
            operator.answer("halt", operator.command(who="Anna\nRUNNING")),
            operator.answer("halt", b"\xff\xfe no JSON"),
            operator.answer("halt", b"[" * 3_000),
            operator.answer("halt", b"{" + b" " * 10_000 + b"}"),
            operator.answer("halt", b""),
            operator.answer("explode", operator.command()),
        ]
        for reply in refusals:
            assert fits("command_reply", reply)
            assert not reply["ok"]
        for reply, words in zip(
            refusals,
            [
                "meant for session 'another'",
                "has not been sent yet",
                "schema",
                "heartbeat_count",
                "heartbeat_count",
                "not a lineside.command/1",
                "printable",
                "not a lineside.command/1",
                "not a lineside.command/1",
                "10002 bytes",
                "not a lineside.command/1",
                "expected one of halt, resume, confirm_line_clear",
            ],
            strict=True,
        ):
            assert words in reply["text"], reply
        assert refusals[5]["request_id"] == "only"
        assert refusals[7]["request_id"] is None
        assert tap.bodies("state")[-1]["state"] == "RUNNING"
        service.stop()
    assert "Traceback" not in service.errors


@VERSIONS
def test_retained_commands_are_refused(
    protocol: str, version: MQTTProtocolVersion, tmp_path: Path, broker_port: int
) -> None:
    line = write_line(tmp_path, broker_port, mqtt={"port": broker_port, "protocol": protocol})
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap, protocol=version) as operator,
    ):
        service.wait_for("RUNNING")
        reply = operator.answer("resume", operator.command(), retain=True)
        # Only version 5 tells that a message that comes live was published as retained.
        assert "retained commands" in reply["text"] if protocol == "5" else "not halted" in reply["text"]
        before = len(tap.bodies("cmd/resume/reply"))
        workers_of(service.process.pid)["records"].send_signal(signal.SIGKILL)
        tap.wait_until(lambda: len(tap.bodies("cmd/resume/reply")) > before)
        assert "retained commands" in tap.bodies("cmd/resume/reply")[-1]["text"]
        operator.publish("resume", b"", retain=True)
        service.stop()


def test_response_topic_and_correlation(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    version = MQTTProtocolVersion.MQTTv5
    answers: queue.Queue[paho.MQTTMessage] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
    client.on_message = lambda _client, _userdata, message: answers.put(message)
    subscribed = threading.Event()
    client.on_subscribe = lambda *_: subscribed.set()
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Tap(broker_port, "desk") as desk,
        Operator(broker_port, ROOT, tap, protocol=version) as operator,
    ):
        client.connect("127.0.0.1", broker_port)
        client.subscribe("desk/#", 1)
        client.loop_start()
        assert subscribed.wait(60)
        service.wait_for("RUNNING")
        operator.publish("halt", operator.command(), response_topic="desk/7", correlation=b"\x00\x01")
        desk.wait_until(lambda: len(desk.bodies("7")) == 1)
        assert desk.bodies("7")[0]["ok"]
        service.wait_for("HALTED")
        answer = answers.get(timeout=60)
        client.disconnect()
        client.loop_stop()
        assert answers.empty()
        assert answer.properties is not None
        assert vars(answer.properties)["CorrelationData"] == b"\x00\x01"
        assert tap.bodies("cmd/halt/reply") == []
        # Nobody gets to speak in the service's name, nor to feed its answer back to it.
        for topic in (f"{ROOT}/verdict", f"{ROOT}/cmd/resume", "$SYS/x", "a/" * 100):
            before = len(tap.bodies("cmd/resume/reply"))
            operator.publish("resume", operator.command(), response_topic=topic, correlation=b"x")
            tap.wait_until(lambda before=before: len(tap.bodies("cmd/resume/reply")) > before)  # type: ignore[misc]
            assert "response topic" in tap.bodies("cmd/resume/reply")[-1]["text"]
        assert tap.bodies("state")[-1]["state"] == "HALTED"
        service.stop()


def test_told_twice_is_carried_out_once(tmp_path: Path, broker_port: int) -> None:
    with (
        Service(write_line(tmp_path, broker_port)) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        assert operator.ask("halt")["ok"]
        resume = operator.command()
        first = operator.answer("resume", resume)
        assert operator.ask("halt")["ok"]
        # As after a broken connection: the same again, to a records process that knows nothing of it.
        workers_of(service.process.pid)["records"].send_signal(signal.SIGKILL)
        service.wait_for("HALTED cmd/halt")
        tap.wait_count("stats", 2)
        assert operator.answer("resume", resume) == first
        beats = len(tap.bodies("heartbeat"))
        tap.wait_until(lambda: len(tap.bodies("heartbeat")) > beats)
        assert tap.bodies("heartbeat")[-1]["state"] == "HALTED"
        reused = operator.answer("resume", operator.command(request_id=resume["request_id"]))
        assert not reused["ok"]
        assert "each command needs one of its own" in reused["text"]
        assert operator.ask("resume")["ok"]
        service.wait_for("RUNNING")
        service.stop()


def test_a_stale_command_is_refused(tmp_path: Path, broker_port: int) -> None:
    """Old is what names a heartbeat of more than ten seconds ago."""
    with (
        Service(write_line(tmp_path, broker_port, heartbeat_ms=20)) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        tap.wait_until(lambda: bool(tap.bodies("heartbeat")))
        old = operator.command()
        tap.wait_until(lambda: tap.bodies("heartbeat")[-1]["count"] > old["heartbeat_count"] + 520)
        reply = operator.answer("halt", old)
        assert not reply["ok"]
        assert reply["text"].startswith("stale")
        assert tap.bodies("state")[-1]["state"] == "RUNNING"
        service.stop()


def test_a_halt_outlives_signalling(tmp_path: Path, broker_port: int) -> None:
    with (
        Service(write_line(tmp_path, broker_port)) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 1)
        assert operator.ask("halt", who="Carl")["ok"]
        service.wait_for("HALTED cmd/halt by Carl")
        wait_for_beat(tap, "HALTED")
        last_count = tap.bodies("heartbeat")[-1]["count"]
        first_halted = tap.bodies("verdict")[-1]["part_id"] + 1
        for _ in range(3):
            workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
            service.wait_for("HALTED cmd/halt by Carl")
        beats = len(tap.bodies("heartbeat"))
        tap.wait_until(lambda: len(tap.bodies("heartbeat")) > beats)
        assert tap.bodies("heartbeat")[-1]["count"] > last_count
        counts = [beat["count"] for beat in tap.bodies("heartbeat")]
        assert counts == sorted(set(counts))
        assert operator.ask("resume")["ok"]
        service.wait_for("RUNNING")
        # One from before the halt may be the last that was heard.
        tap.wait_until(lambda: ("PASS", "OK") in verdicts_from(tap, first_halted))
        service.stop()
    rows = read_rows(tmp_path / "records.db")
    check_record(rows)
    halted = [row for row in rows if row.part_id >= first_halted]
    resumed = next(index for index, row in enumerate(halted) if row.verdict != "NO_DECISION")
    assert {row.reason for row in halted[:resumed]} <= {"NOT_RUNNING", "FAULT"}
    assert resumed >= 3


def test_a_flood_of_commands_hurts_no_verdict(tmp_path: Path, broker_port: int) -> None:
    with (
        Service(write_line(tmp_path, broker_port)) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        first = tap.bodies("verdict")[-1]["part_id"] if tap.bodies("verdict") else 1
        flood = operator.command()
        for number in range(1_000):
            operator.publish("resume", {**flood, "request_id": f"f{number}"})
        # How many get an answer depends on how fast they come: those beyond 64 waiting ones go without.
        tap.wait_until(lambda: any("too many commands" in reply["text"] for reply in tap.bodies("cmd/resume/reply")))
        tap.wait_count("verdict", 10)
        assert "NOT_RUNNING" not in {reason for _, reason in verdicts_from(tap, first)}
        # Afterwards it listens again.
        tap.wait_count("heartbeat", 40)
        assert operator.ask("halt")["ok"]
        assert not any(reply["ok"] for reply in tap.bodies("cmd/resume/reply"))
        summary = service.stop()
    assert summary["late_verdicts"] == 0


def test_whatever_size_its_parts_have_a_command_ends_nothing(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap, protocol=MQTTProtocolVersion.MQTTv5) as operator,
    ):
        service.wait_for("RUNNING")
        before = {role: worker.pid for role, worker in workers_of(service.process.pid).items()}
        for correlation_bytes in (257, 12_000):
            count = len(tap.bodies("cmd/halt/reply"))
            topic = f"{ROOT}/cmd/halt/reply"
            operator.publish("halt", operator.command(), response_topic=topic, correlation=b"c" * correlation_bytes)
            tap.wait_until(lambda count=count: len(tap.bodies("cmd/halt/reply")) > count)  # type: ignore[misc]
            text = tap.bodies("cmd/halt/reply")[-1]["text"]
            assert text == f"correlation data: got {correlation_bytes} bytes, expected at most 256"
        # What is longer than any command the broker keeps to itself.
        for correlation_bytes in (65_200, 65_535):
            operator.publish("halt", operator.command(), response_topic="desk/7", correlation=b"c" * correlation_bytes)
        operator.publish("n" * 65_400, b"{}")
        assert operator.ask("halt")["ok"]
        service.wait_for("HALTED")
        assert {role: worker.pid for role, worker in workers_of(service.process.pid).items()} == before
        service.stop()
    assert "Traceback" not in service.errors


def test_an_endless_name_ends_nothing(tmp_path: Path, broker_port: int) -> None:
    """MQTT 3.1.1 has no limit to a packet."""
    line = write_line(tmp_path, broker_port, mqtt={"port": broker_port, "protocol": "3.1.1"})
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        before = {role: worker.pid for role, worker in workers_of(service.process.pid).items()}
        operator.publish("n" * 65_500, b"{}")
        tap.wait_until(lambda: bool(tap.bodies(f"cmd/{'n' * 64}/reply")))
        assert {role: worker.pid for role, worker in workers_of(service.process.pid).items()} == before
        service.stop()


def test_a_halt_outlives_the_service_until_it_is_resumed(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("RUNNING")
        assert operator.ask("halt", who="Carl")["ok"]
        # The answer has come, so it is kept: everything dies at once.
        for pid in [service.process.pid, *(worker.pid for worker in workers_of(service.process.pid).values())]:
            with contextlib.suppress(ProcessLookupError):  # some die with the supervisor
                os.kill(pid, signal.SIGKILL)
        service.process.wait()
    for _ in range(2):
        with Service(line) as service, Tap(broker_port, ROOT) as tap:
            service.wait_for("HALTED cmd/halt by Carl; send cmd/resume")
            tap.wait_count("verdict", 3)
            assert {body["reason"] for body in tap.bodies("verdict")} == {"NOT_RUNNING"}
            service.stop()
            assert "RUNNING" not in service.words
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("HALTED cmd/halt by Carl")
        assert operator.ask("resume")["ok"]
        service.wait_for("RUNNING")
        service.stop()
    with Service(line) as service:
        service.wait_for("RUNNING")
        service.stop()
        assert "HALTED" not in service.words


def test_a_halt_holds_when_its_disk_comes_late(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, records={"path": "disk/records.db"})
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("RUNNING")
        assert operator.ask("halt", who="Carl")["ok"]
        service.stop()
    disk.rename(elsewhere)
    disk.write_text("nothing is mounted here")
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("HALTED no record of verdicts")
        disk.unlink()
        elsewhere.rename(disk)
        service.wait_for("HALTED cmd/halt by Carl")
        assert "RUNNING" not in service.words
        with pytest.raises(RecordInUse):
            lock_record(disk / "records.db")
        workers_of(service.process.pid)["records"].kill()
        service.wait_for("ERROR restarting records")
        service.wait_for("HALTED cmd/halt by Carl")
        assert (disk / "records.db.halt").exists()
        told = len(tap.bodies("stats"))
        tap.wait_until(lambda: len(tap.bodies("stats")) > told)  # records is on the broker again, and takes commands
        assert operator.ask("resume")["ok"]
        service.wait_for("RUNNING")
        assert not (disk / "records.db.halt").exists()
        service.stop()


def test_a_halt_is_kept_again_where_its_file_was_deleted(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("RUNNING")
        assert operator.ask("halt", who="Carl")["ok"]
        for path in tmp_path.glob("records.db*"):
            path.unlink()
        tap.wait_until((tmp_path / "records.db.halt").exists)
        service.stop()


def test_no_lock_no_record(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    (tmp_path / "records.db.lock").mkdir()
    with Service(line) as service:
        service.wait_for("HALTED no record of verdicts")
        assert "its lock cannot be had" in service.words
        (tmp_path / "records.db.lock").rmdir()
        service.wait_for("RUNNING")
        service.stop()


def test_a_halt_that_cannot_be_kept_is_alarmed(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service, Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        service.wait_for("RUNNING")
        (tmp_path / "records.db.halt.new").mkdir()
        assert operator.ask("halt")["ok"]
        tap.wait_until(lambda: bool(tap.bodies("alarm/halt-not-kept")))
        assert "it would come up running" in tap.bodies("alarm/halt-not-kept")[0]["text"]
        (tmp_path / "records.db.halt.new").rmdir()
        tap.wait_until(lambda: tap.bodies("alarm/halt-not-kept")[-1] is None)
        assert (tmp_path / "records.db.halt").exists()
        service.stop()
