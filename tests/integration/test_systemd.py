"""The real service under a service manager that only listens."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.service import Service, workers_of, write_line

WATCHDOG_S = 0.6
INTERVAL_S = WATCHDOG_S / 3
SUPERVISOR_AWAY_S = 5.0


class Manager:
    """What systemd would hear."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener

    def wait_for(self, line: str) -> list[str]:
        """All lines up to the first one that begins so."""
        heard: list[str] = []
        while not any(each.startswith(line) for each in heard):
            heard += self._listener.recv(4096).decode().splitlines()
        return heard

    def drain(self) -> list[str]:
        """What is there already."""
        heard: list[str] = []
        while select.select([self._listener], [], [], 0)[0]:
            heard += self._listener.recv(4096).decode().splitlines()
        return heard

    def hear_for(self, seconds: float) -> list[str]:
        time.sleep(seconds)  # what is measured is that nothing comes in this time, or that something does
        return self.drain()


@pytest.fixture
def manager(tmp_socket_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_socket_dir / "notify"))
        listener.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_socket_dir / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", str(round(WATCHDOG_S * 1e6)))
        yield Manager(listener)


def test_ready_when_warm_and_the_watchdog_is_the_deciding_loops(
    tmp_path: Path, broker_port: int, manager: Manager
) -> None:
    patient = {"silent_after_s": 30.0}
    with Service(write_line(tmp_path, broker_port, supervision=patient)) as service:
        before = manager.wait_for("READY=1")
        assert "STATUS=READY" in " ".join(manager.wait_for("STATUS=RUNNING") + before)
        manager.drain()
        begun_s = time.monotonic()
        fed_count = manager.hear_for(10 * INTERVAL_S).count("WATCHDOG=1")
        assert 5 <= fed_count <= (time.monotonic() - begun_s) / INTERVAL_S + 2
        signalling = workers_of(service.process.pid)["signalling"]
        signalling.suspend()
        manager.drain()
        # Everybody else lives: systemd would still start the unit again.
        assert "WATCHDOG=1" not in manager.hear_for(2 * WATCHDOG_S)
        signalling.resume()
        manager.wait_for("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert service.process.wait(timeout=30) == 0
    assert "STATUS=OFFLINE stopped" in manager.drain()


def test_not_fed_while_a_supervisor_that_stands_still_leaves_something_unmended(
    tmp_path: Path, broker_port: int, manager: Manager
) -> None:
    with Service(write_line(tmp_path, broker_port)) as service:
        service.wait_for("RUNNING")
        inspection = workers_of(service.process.pid)["inspection"]
        supervisor = psutil.Process(service.process.pid)
        supervisor.suspend()
        manager.hear_for(SUPERVISOR_AWAY_S + WATCHDOG_S)
        # It judges: a restart would only cost parts.
        assert "WATCHDOG=1" in manager.hear_for(2 * WATCHDOG_S)
        inspection.kill()
        manager.hear_for(WATCHDOG_S)
        assert "WATCHDOG=1" not in manager.hear_for(2 * WATCHDOG_S)
        supervisor.resume()
        manager.wait_for("WATCHDOG=1")
        service.wait_for("RUNNING")
        service.stop()


def test_a_replaced_signalling_feeds_it_again(tmp_path: Path, broker_port: int, manager: Manager) -> None:
    with Service(write_line(tmp_path, broker_port)) as service:
        service.wait_for("RUNNING")
        workers_of(service.process.pid)["signalling"].kill()
        service.wait_for("RUNNING")
        manager.drain()
        manager.wait_for("WATCHDOG=1")
        service.stop()
    assert manager.drain().count("READY=1") == 0
