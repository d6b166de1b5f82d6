"""Brokers of our own: what a client of either may rely on."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.simulator import broker as broker_module
from pipeline.simulator.broker import BrokerKind, BrokerProcess, find_mosquitto, start_broker
from pipeline.simulator.observer import ObserverOptions, ObserverProcess
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.truth import read_book
from tests.waiting import wait_until

PATIENCE_S = 30.0


@pytest.fixture(params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    kind: BrokerKind = request.param
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    if kind == "amqtt" and importlib.util.find_spec("amqtt") is None:
        pytest.skip("amqtt is not installed (extra demo)")
    with start_broker(kind) as started:
        yield started


def publisher(broker: BrokerProcess, will: str | None = None) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if will is not None:
        client.will_set("r/state", will, qos=1, retain=True)
    client.connect(broker.host, broker.port, keepalive=5)
    client.loop_start()
    return client


def close(client: paho.Client) -> None:
    client.disconnect()
    client.loop_stop()


def tap_on(broker: BrokerProcess, log: Path) -> ObserverProcess:
    return ObserverProcess(ObserverOptions(broker=broker.address(), root="r", log_path=log))


def test_messages_retained_and_wills(broker: BrokerProcess, tmp_path: Path) -> None:
    client = publisher(broker, will=json.dumps({"state": "OFFLINE"}))
    client.publish("r/state", json.dumps({"state": "RUNNING"}), qos=1, retain=True).wait_for_publish(PATIENCE_S)
    with tap_on(broker, tmp_path / "log") as tap:
        wait_until(lambda: tap.latest()["state"] == {"state": "RUNNING"})
        client.publish("r/verdict", json.dumps({"verdict": "PASS", "reason": "OK"}))
        client.publish("other/verdict", json.dumps({"verdict": "PASS", "reason": "OK"}))
        client.publish("r/stats", "no JSON")
        wait_until(lambda: tap.latest()["stats"] == "no JSON")
        latest = tap.latest()
        assert latest["topics"] == {"state": 1, "verdict": 1, "stats": 1}
        assert latest["verdicts"] == {"PASS": 1}
        # A connection that breaks off leaves the will behind.
        connection = client.socket()
        assert isinstance(connection, socket.socket)
        client.loop_stop()
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
        wait_until(lambda: tap.latest()["state"] == {"state": "OFFLINE"})
    log = [record for record in read_book(tmp_path / "log") if record["event"] == "message"]
    assert [record["topic"] for record in log] == ["state", "verdict", "stats", "state"]
    assert log[0]["retained"]
    assert not log[1]["retained"]
    assert log[1]["arrival_ns"] <= log[2]["arrival_ns"] <= time.monotonic_ns()


def test_clients_come_back_after_a_restart_on_the_same_port(broker: BrokerProcess, tmp_path: Path) -> None:
    port = broker.port
    with tap_on(broker, tmp_path / "log") as tap:
        broker.halt()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((broker.host, port), timeout=1.0)
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind((broker.host, port))
        broker.restart()
        assert broker.port == port
        client = publisher(broker)

        def is_heard() -> bool:
            client.publish("r/verdict", json.dumps({"verdict": "PASS", "reason": "OK"}))
            return bool(tap.latest()["topics"])

        wait_until(is_heard)
        close(client)
    connected = [record for record in read_book(tmp_path / "log") if record["event"] == "connected"]
    assert len(connected) == 2


def test_a_paused_broker_answers_when_it_goes_on(broker: BrokerProcess, tmp_path: Path) -> None:
    with tap_on(broker, tmp_path / "log") as tap:
        client = publisher(broker)
        broker.pause()
        client.publish("r/verdict", json.dumps({"verdict": "PASS", "reason": "OK"}))
        select.select([], [], [], 0.3)  # nothing comes of it, however long one waits
        assert tap.latest()["topics"] == {}
        broker.resume()
        wait_until(lambda: tap.latest()["topics"] == {"verdict": 1})
        close(client)
    broker.pause()  # and a paused one can be stopped


def test_a_tap_that_stood_still_says_since_when_it_had_heard_nothing(tmp_path: Path) -> None:
    with start_broker("amqtt") as broker, tap_on(broker, tmp_path / "log") as tap:
        client = publisher(broker)
        heard_by_others: list[str] = []
        client.on_message = lambda _client, _data, message: heard_by_others.append(message.topic)
        client.subscribe("r/#")

        def is_heard(topic: str) -> bool:
            client.publish(topic, "{}")
            return topic.removeprefix("r/") in tap.latest()["topics"]

        wait_until(lambda: is_heard("r/first"))
        os.kill(tap.pid, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(tap.pid).status() == psutil.STATUS_STOPPED)
        client.publish("r/second", "{}")
        wait_until(lambda: "r/second" in heard_by_others)
        there_ns = time.monotonic_ns()
        os.kill(tap.pid, signal.SIGCONT)
        wait_until(lambda: "second" in tap.latest()["topics"])
        wait_until(lambda: is_heard("r/third"))
        close(client)
    log = [record for record in read_book(tmp_path / "log") if record["event"] == "message"]
    first, second, third = (
        next(record for record in log if record["topic"] == name) for name in ("first", "second", "third")
    )
    assert first["arrival_ns"] <= second["not_before_ns"] <= there_ns < second["arrival_ns"]
    assert second["arrival_ns"] <= third["not_before_ns"] <= third["arrival_ns"]


def test_version_5_where_the_broker_speaks_it(tmp_path: Path) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with start_broker("mosquitto") as broker, tap_on(broker, tmp_path / "log") as tap:
        assert broker.address().protocol == broker.newest_protocol == "5"
        client = publisher(broker)
        client.publish("r/state", json.dumps({"state": "READY"}), qos=1, retain=True)
        wait_until(lambda: tap.latest()["state"] == {"state": "READY"})
        close(client)
    log = read_book(tmp_path / "log")
    assert [record["retained"] for record in log if record["event"] == "message"] == [True]  # as it was published


def test_a_port_that_is_taken_is_said(broker: BrokerProcess) -> None:
    with pytest.raises(SimulatorError, match=f"{broker.kind} on port {broker.port}"):
        start_broker(broker.kind, port=broker.port)


def test_no_broker_at_all_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "find_mosquitto", lambda: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SimulatorError, match=r"apt-get install mosquitto or pip install 'lineside\[demo\]'"):
        start_broker()
    with pytest.raises(SimulatorError, match="looked for amqtt; try pip install"):
        start_broker("amqtt")
