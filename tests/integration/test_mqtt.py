"""What goes over the wire, seen by mosquitto's own client: shapes, retained state, will, alarms, both protocol versions."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from pipeline.simulator.broker import start_broker
from tests.chaos.books import read_rows
from tests.service import Service, workers_of, write_images, write_line
from tests.tap import Tap
from tests.waiting import wait_until

ROOT = "test/line"
SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
AWAITED = ("stats", "result", "anchor")
VERDICTS = 30


def validator(topic: str) -> jsonschema.Draft202012Validator:
    name = topic.split("/")[0]
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"mqtt-{name}.schema.json").read_text()))


@pytest.mark.parametrize(("protocol", "flag"), [("5", "mqttv5"), ("3.1.1", "mqttv311"), ("auto", "mqttv311")])
def test_mosquitto_sub_sees_valid_messages(protocol: str, flag: str, tmp_path: Path, broker_port: int) -> None:
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed (apt-get install mosquitto-clients)")
    # One frame in four is no image, so that an alarm is among the messages.
    write_images(tmp_path / "images", [40, 40, 200])
    (tmp_path / "images" / "003.png").write_bytes(b"no image")
    line = write_line(tmp_path, broker_port, mqtt={"port": broker_port, "protocol": protocol})
    subscribe = [program, "-V", flag, "-p", str(broker_port), "-t", f"{ROOT}/#", "-q", "1", "-F", "%t %r %q %p"]
    with (
        Service(line) as service,
        subprocess.Popen(subscribe, stdout=subprocess.PIPE, text=True) as client,
    ):
        service.wait_for("RUNNING")
        heard: dict[str, list[tuple[bool, int, str]]] = defaultdict(list)
        assert client.stdout is not None
        while len(heard["verdict"]) < VERDICTS or not all(heard[topic] for topic in AWAITED):
            topic, retained, qos, payload = client.stdout.readline().rstrip("\n").split(" ", 3)
            heard[topic.removeprefix(f"{ROOT}/")].append((retained == "1", int(qos), payload))
        service.stop()
        client.terminate()
    for topic, messages in heard.items():
        for _, _, payload in messages:
            if payload:
                validator(topic).validate(json.loads(payload))
    assert {"verdict", "heartbeat", "state", "result", "stats", "anchor", "alarm/bad-frame-cam0"} <= heard.keys()
    assert all(len(payload) <= 256 for _, _, payload in heard["verdict"])
    assert {qos for _, qos, _ in heard["verdict"] + heard["heartbeat"]} == {0}
    assert {qos for _, qos, _ in heard["result"] + heard["stats"] + heard["state"] + heard["anchor"]} == {1}
    assert not any(retained for retained, _, _ in heard["verdict"] + heard["heartbeat"] + heard["result"])
    bodies = [json.loads(payload) for _, _, payload in heard["verdict"]]
    assert {body["verdict"] for body in bodies} == {"PASS", "REJECT", "NO_DECISION"}
    assert all(0 < body["valid_us"] < 200_000 for body in bodies if body["verdict"] == "PASS")


def test_state_is_retained_and_offline_at_a_graceful_end(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service:
        service.wait_for("RUNNING")
        with Tap(broker_port, ROOT) as late:
            late.wait_until(lambda: bool(late.bodies("state")))
            first = next(heard for heard in late.heard if heard.topic == f"{ROOT}/state")
            assert first.retain
            assert first.body["state"] == "RUNNING"
        service.stop()
    with Tap(broker_port, ROOT) as later:
        later.wait_until(lambda: bool(later.bodies("state")))
        assert later.bodies("state")[0]["state"] == "OFFLINE"
        assert later.bodies("state")[0]["reason"] == "stopped"


def test_will_speaks_when_signalling_is_killed(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        workers_of(service.process.pid)["signalling"].send_signal(signal.SIGKILL)
        service.wait_for("RUNNING")
        tap.wait_until(lambda: "connection lost" in [body["reason"] for body in tap.bodies("state")])
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] == "RUNNING")
        assert ("OFFLINE", "connection lost") in [(body["state"], body["reason"]) for body in tap.bodies("state")]
        service.stop()


def test_an_alarm_is_raised_retained_and_taken_back(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        workers_of(service.process.pid)["inspection"].send_signal(signal.SIGKILL)
        service.wait_for("RUNNING")
        tap.wait_until(lambda: tap.bodies("alarm/worker")[-1:] == [None])
        raised = tap.bodies("alarm/worker")[0]
        assert raised["severity"] == "error"
        assert "inspection" in raised["text"]
        service.stop()
    with Tap(broker_port, ROOT) as later:
        later.wait_until(lambda: bool(later.bodies("state")))
        assert later.bodies("alarm/worker") == []


def test_heartbeat_keeps_its_pace_and_counts(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port)) as service, Tap(broker_port, ROOT) as tap:
        service.wait_for("RUNNING")
        tap.wait_count("heartbeat", 40)
        beats: list[dict[str, Any]] = tap.bodies("heartbeat")
        service.stop()
    counts = [beat["count"] for beat in beats]
    assert counts == list(range(counts[0], counts[0] + len(counts)))
    assert len({beat["session_id"] for beat in beats}) == 1
    assert beats[-1]["triggers_seen"] >= beats[0]["triggers_seen"] + 15


def test_old_broker_without_version_5(tmp_path: Path) -> None:
    pytest.importorskip("amqtt")
    with start_broker("amqtt") as broker, Service(write_line(tmp_path, broker.port)) as service:
        service.wait_for("RUNNING")
        with Tap(broker.port, ROOT, protocol=MQTTProtocolVersion.MQTTv311) as tap:
            tap.wait_count("verdict", 20)
            assert {body["verdict"] for body in tap.bodies("verdict")} == {"PASS", "REJECT"}
        summary = service.stop()
    assert summary["passed"] > 0


def test_broker_restarted_and_service_runs_again(tmp_path: Path) -> None:
    with start_broker("auto") as broker, Service(write_line(tmp_path, broker.port)) as service:
        service.wait_for("RUNNING")
        broker.halt()
        service.wait_for("ERROR broker")
        wait_until(lambda: any(row.reason == "NOT_RUNNING" for row in read_rows(tmp_path / "records.db")))
        broker.restart()
        service.wait_for("RUNNING")
        with Tap(broker.port, ROOT) as tap:
            tap.wait_count("verdict", 10)
            assert tap.bodies("verdict")[-1]["verdict"] in ("PASS", "REJECT")
        summary = service.stop()
    assert summary["reasons"]["NOT_RUNNING"] > 0
