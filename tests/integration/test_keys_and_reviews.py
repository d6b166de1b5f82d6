"""Lot, order, serial, shift and people's reviews, by command to a running line: counted from a moment on, once, and kept."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import jsonschema

from pipeline.clock import now_ns
from pipeline.record.reader import read_rows
from pipeline.record.verify import verify
from tests.operator_terminal import Operator
from tests.service import Service, lineside, workers_of, write_line
from tests.tap import Tap

ROOT = "test/line"
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"


def fits(name: str, body: dict[str, Any]) -> bool:
    schema = json.loads((SCHEMAS / f"mqtt-{name}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema).is_valid(body)


def _wait_for_stats(tap: Tap) -> None:
    """Of the moment: the second from now on."""
    before = len(tap.bodies("stats"))
    tap.wait_until(lambda: len(tap.bodies("stats")) > before + 1)


def test_a_lot_from_its_command_on_and_after_a_restart(tmp_path: Path, broker_port: int) -> None:
    line, record = write_line(tmp_path, broker_port), tmp_path / "records.db"
    with Tap(broker_port, ROOT) as tap, Operator(broker_port, ROOT, tap) as operator:
        with Service(line) as service:
            service.wait_for("RUNNING")
            tap.wait_count("result", 3)
            command = operator.command(lot="L-1", shift="early")
            assert fits("command_set_traceability", command)
            sent_ns = now_ns()
            reply = operator.answer("set_traceability", command)
            answered_ns = now_ns()
            assert reply["ok"], reply
            assert reply["text"] == "parts triggered from now on: lot L-1, order -, serial -, shift early"
            assert not operator.ask("set_traceability")["ok"]
            assert not operator.ask("set_traceability", lot="")["ok"]
            assert not operator.ask("set_traceability", lot="L-2", session_id="other")["ok"]
            _wait_for_stats(tap)
            keys = {"lot": "L-1", "order": None, "serial": None, "shift": "early"}
            assert tap.bodies("stats")[-1]["traceability"] == keys
            service.stop()
        rows = list(read_rows(record))
        for each in rows:
            if each.result.trigger_ns < sent_ns:
                assert each.result.traceability.lot is None
            if each.result.trigger_ns > answered_ns:
                assert each.result.traceability.lot == "L-1"
        assert {each.result.traceability.lot for each in rows} == {None, "L-1"}
        assert all(each.result.context_sha256 is not None for each in rows)
        count = len(tap.bodies("result"))
        with Service(line) as service:
            service.wait_for("RUNNING")
            tap.wait_count("result", 2)
            tap.wait_until(lambda: len(tap.bodies("result")) > count)
            service.stop()
        assert tap.bodies("result")[-1]["traceability"] == keys
    assert verify(record).findings == []
    told = lineside("records", "stats", record, "--lot", "L-1", "--json", "-")
    assert told.returncode == 0, told.stderr
    parts = json.loads(told.stdout)["parts"]
    assert parts == sum(each.result.traceability.lot == "L-1" for each in read_rows(record))
    last = list(read_rows(record))[-1].result.part_id
    shown = lineside("records", "show", record, str(last))
    assert "belongs   lot L-1, order -, serial -, shift early" in shown.stdout
    assert "onnxruntime:" in shown.stdout


def test_records_killed_between_a_command_and_its_commit(tmp_path: Path, broker_port: int) -> None:
    """It is carried out by the successor, or refused; either way the answer, the keys told and the rows say the same."""
    line, record = write_line(tmp_path, broker_port), tmp_path / "records.db"
    with (
        Service(line) as service,
        Tap(broker_port, ROOT) as tap,
        Operator(broker_port, ROOT, tap) as operator,
    ):
        service.wait_for("RUNNING")
        for number in range(3):
            tap.wait_count("result", 1)
            records = workers_of(service.process.pid)["records"]
            with contextlib.closing(sqlite3.connect(record, isolation_level=None)) as other:
                # While another program has the record locked nothing is committed.
                other.execute("BEGIN IMMEDIATE")
                command = operator.command(lot=f"L-{number}", request_id=f"k{number}")
                operator.publish("set_traceability", command)
                records.kill()
                other.execute("ROLLBACK")
            _wait_for_stats(tap)
            # Told again as it is, as QoS 1 may do it, since the first may have died with records.
            reply = operator.answer("set_traceability", command)
            assert reply["request_id"] == f"k{number}"
            _wait_for_stats(tap)
            lot = tap.bodies("stats")[-1]["traceability"]["lot"]
            assert (lot == f"L-{number}") == reply["ok"], (reply, lot)
            service.wait_for("RUNNING")
        service.stop()
    lots = [each.result.traceability.lot for each in read_rows(record)]
    # Once it has changed it never changes back.
    changes = [lot for lot, following in zip(lots, [*lots[1:], "end"], strict=True) if lot != following]
    assert len(changes) == len(set(changes))
    assert verify(record).findings == []


def test_a_person_reviews_a_part(tmp_path: Path, broker_port: int) -> None:
    line, record = write_line(tmp_path, broker_port), tmp_path / "records.db"
    arguments = ["--as", "Anna", "--said", "good", "--note", "a reflex"]
    with Service(line) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_until(lambda: any(body["verdict"] == "REJECT" for body in tap.bodies("result")))
        part = next(body["part_id"] for body in tap.bodies("result") if body["verdict"] == "REJECT")
        done = lineside("records", "review", line, str(part), *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"review 1 is on record: part {part} of session ")
        assert done.stdout.endswith("was REJECT, Anna says good: overruled\n")
        refused = lineside("records", "review", line, "999999", *arguments)
        assert refused.returncode == 1
        assert "refused: part_id: got 999999, no part on record has that number" in refused.stderr
        tap.wait_until(lambda: tap.bodies("anchor")[-1]["review_count"] == 1)
        service.stop()
    shown = lineside("records", "show", record, str(part))
    assert "Anna said good on" in shown.stdout
    assert "(overruled): a reflex" in shown.stdout
    stats = lineside("records", "stats", record)
    assert "reviewed 1: confirmed 0, overruled 1 (1 rejected and good, 0 passed and defective)" in stats.stdout
    silent = lineside("records", "review", line, str(part), *arguments)
    assert silent.returncode == 1
    assert "no heartbeat at test/line/heartbeat on broker 127.0.0.1" in silent.stderr
    assert "is the line running?" in silent.stderr


def test_without_a_broker_the_words_say_so(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        line = write_line(tmp_path, port)
        done = lineside("records", "review", line, "1", "--as", "Anna", "--said", "unclear")
    assert done.returncode == 1
    assert f"broker 127.0.0.1:{port}: Connection refused" in done.stderr
