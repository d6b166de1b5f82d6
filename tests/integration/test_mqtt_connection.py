"""The service's MQTT connection behind a faulty cable, driven by a loop as the workers drive it."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.clock import now_ns, seconds_until
from pipeline.config_sections import MqttConfig
from pipeline.simulator.broker import find_mosquitto, start_broker
from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace, inside
from pipeline.simulator.proxy import ProxyOptions, ProxyProcess
from pipeline.transports.mqtt import MqttConnection
from tests.tap import Tap

ROOT = "t"
PATIENCE_S = 60.0
KEEP_ALIVE_S = 1


def drive(connection: MqttConnection, until: Callable[[], bool]) -> None:
    """Turn the connection's loop until the condition holds."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < give_up_s, f"not within {PATIENCE_S} s; last error: {connection.last_error}"
        reading, writing = connection.read_descriptors(), connection.write_descriptors()
        select.select(reading, writing, [], min(0.05, seconds_until(connection.next_turn_ns())))
        connection.turn()


@dataclass
class Wired:
    """A connection through a proxy to a broker, and a tap on the broker itself."""

    connection: MqttConnection
    proxy: ProxyProcess
    tap: Tap

    def drive(self, until: Callable[[], bool]) -> None:
        drive(self.connection, until)

    def publish_one(self, payload: str) -> bool:
        return self.connection.publish(f"{ROOT}/result", payload.encode(), qos=1)

    def heard(self) -> list[str]:
        return [message.payload.decode() for message in list(self.tap.heard)]


def connection_to(port: int) -> MqttConnection:
    return MqttConnection(MqttConfig(port=port, keep_alive_s=KEEP_ALIVE_S), client_id="tested")


@pytest.fixture
def wired(broker_port: int) -> Iterator[Wired]:
    with ProxyProcess(ProxyOptions(target_port=broker_port)) as proxy, Tap(broker_port, ROOT) as tap:
        connection = connection_to(proxy.port)
        yield Wired(connection, proxy, tap)
        connection.close()


def test_half_open_cable_is_given_up_after_two_keep_alives(wired: Wired) -> None:
    wired.drive(lambda: wired.connection.connected)
    wired.proxy.stall()
    begin_s = time.monotonic()
    wired.drive(lambda: not wired.connection.connected)
    # No sooner than a ping's answer may take, whatever was said before.
    assert time.monotonic() - begin_s >= KEEP_ALIVE_S
    assert wired.connection.last_error == f"no answer to a ping within {KEEP_ALIVE_S} s"
    wired.proxy.pass_through()
    wired.drive(lambda: wired.connection.connected)
    assert wired.connection.connects == 2


def test_the_version_spoken_is_not_lost_in_an_outage(wired: Wired) -> None:
    wired.drive(lambda: wired.connection.connected)
    assert wired.connection.protocol == "5"
    wired.proxy.stall()
    # Version 5 got no answer, so the older one is asked for, and the cable is mended just then.
    wired.drive(lambda: wired.connection.protocol == "3.1.1")
    wired.drive(lambda: bool(wired.connection.read_descriptors()))
    wired.proxy.pass_through()
    wired.drive(lambda: wired.connection.connected)
    assert wired.connection.protocol == "5"


def test_nobody_there_says_nothing_against_a_version(wired: Wired) -> None:
    wired.proxy.refuse()
    for _ in range(4):
        wired.drive(lambda: bool(wired.connection.read_descriptors()))
        wired.drive(lambda: not wired.connection.read_descriptors())
        assert wired.connection.protocol == "5"
    wired.proxy.pass_through()
    wired.drive(lambda: wired.connection.connected)
    assert wired.connection.protocol == "5"


def test_a_broker_replaced_by_an_older_one_is_spoken_to_all_the_same() -> None:
    pytest.importorskip("amqtt")
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with start_broker("mosquitto") as broker:
        port = broker.port
        connection = connection_to(port)
        with ProxyProcess(ProxyOptions(target_port=port)) as proxy, Tap(port, ROOT) as tap:
            wired = Wired(connection, proxy, tap)
            wired.drive(lambda: connection.connected)
            assert connection.protocol == "5"
        broker.halt()
        with start_broker("amqtt", port=port):
            wired.drive(lambda: not connection.connected)
            wired.drive(lambda: connection.connected)
            assert connection.protocol == "3.1.1"
            connection.close()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The folder of a certificate for 127.0.0.1 that is its own authority."""
    if (program := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=broker"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([program, *arguments.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_an_authority_that_cannot_be_read_is_said_and_read_again(authority: Path) -> None:
    if (program := find_mosquitto()) is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (authority / "broker.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        f"certfile {authority}/certificate.pem\nkeyfile {authority}/key.pem\n"
    )
    renewed = authority / "renewed.pem"
    config = MqttConfig(port=port, tls_ca_file=renewed)
    with subprocess.Popen([program, "-c", str(authority / "broker.conf")], stderr=subprocess.DEVNULL) as broker:
        try:
            connection = MqttConnection(config, client_id="tested")
            drive(connection, lambda: "No such file" in connection.last_error)
            assert connection.last_error == f"mqtt.tls_ca_file {renewed}: No such file or directory"
            renewed.write_text("not a certificate")
            drive(connection, lambda: "No such file" not in connection.last_error)
            assert connection.last_error.startswith(f"mqtt.tls_ca_file {renewed}: ")
            renewed.write_bytes((authority / "certificate.pem").read_bytes())
            drive(connection, lambda: connection.connected)
            assert connection.protocol == "5"
            connection.close()
        finally:
            broker.kill()


def test_two_of_one_client_id_do_not_thrash(broker_port: int) -> None:
    """Each throws the other off; both say what it may be, and wait longer each time."""
    first, second = connection_to(broker_port), connection_to(broker_port)
    try:
        for _ in range(4):
            drive(first, lambda: first.connected)
            drive(second, lambda: not second.connected)
            drive(second, lambda: second.connected)
            drive(first, lambda: not first.connected)
        assert first.last_error == (
            "the connection broke; it did not last: does another station use the client id tested?"
        )
        before_s = time.monotonic()
        drive(first, lambda: first.connected)
        assert time.monotonic() - before_s > 0.3
    finally:
        first.close()
        second.close()


def test_an_orphan_leaves_the_broker_to_its_successor(wired: Wired, broker_port: int) -> None:
    wired.drive(lambda: wired.connection.connected)
    successor = Wired(connection_to(broker_port), wired.proxy, wired.tap)
    wired.connection.connect_no_more()
    successor.drive(lambda: successor.connection.connected)
    wired.drive(lambda: not wired.connection.connected)
    until_ns = now_ns() + 1_000_000_000
    wired.drive(lambda: now_ns() > until_ns)  # as long as its first attempts would take
    successor.drive(lambda: successor.publish_one("alone"))
    successor.drive(lambda: successor.heard() == ["alone"])
    assert (wired.connection.connects, successor.connection.connects) == (1, 1)
    successor.connection.close()


def test_what_the_broker_has_is_known_and_nothing_is_sent_again(wired: Wired) -> None:
    connection, topic = wired.connection, f"{ROOT}/result"
    wired.drive(lambda: connection.connected)
    before = connection.publish_acknowledged(topic, b"before")
    assert before is not None
    wired.drive(before.is_published)
    wired.proxy.stall()
    during = [connection.publish_acknowledged(topic, f"during {number}".encode()) for number in range(50)]
    wired.proxy.reset()  # what lay in the cable is lost
    wired.drive(lambda: connection.connects == 2)
    after = connection.publish_acknowledged(topic, b"after")
    assert after is not None
    wired.drive(after.is_published)
    # The broker acknowledges before the tap has it.
    wired.tap.wait_until(lambda: "after" in wired.heard())
    assert wired.heard() == ["before", "after"]
    assert not any(each is not None and each.is_published() for each in during)


def test_what_a_given_up_connection_held_does_not_come_late(broker_port: int) -> None:
    try:
        namespace = NetworkNamespace().start()
    except NamespaceUnavailable as error:
        pytest.skip(str(error))
    options = ProxyOptions(target_port=broker_port, netns_path=namespace.path)
    with namespace, ProxyProcess(options) as proxy, Tap(broker_port, ROOT) as tap, inside(namespace.path):
        # Threads made in here live in the namespace: the one that connects is among them.
        connection = connection_to(proxy.port)
        wired = Wired(connection, proxy, tap)
        wired.drive(lambda: connection.connected)
        namespace.cut()
        give_up_ns = now_ns() + int(PATIENCE_S * 1e9)
        while connection.publish(f"{ROOT}/verdict", b"during".ljust(1_000)):  # until the socket takes no more
            assert now_ns() < give_up_ns
        wired.drive(lambda: not connection.connected)
        namespace.mend()
        wired.drive(lambda: connection.connected)
        # By now the kernel would have tried again: it does so less than a second after the cut, then after twice that.
        settle_ns = now_ns() + 2_000_000_000
        wired.drive(lambda: now_ns() > settle_ns)
        assert connection.publish(f"{ROOT}/verdict", b"after")
        wired.drive(lambda: "after" in wired.heard())
        assert wired.heard() == ["after"]
        connection.close()
