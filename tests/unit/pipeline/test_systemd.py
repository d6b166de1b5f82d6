"""What a service manager hears, and that nothing is sent, and nothing waits, where there is none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import systemd
from pipeline.configs import configs_folder
from pipeline.systemd import Notifier, ServiceNotifier, Watchdog

UNIT = configs_folder() / "systemd" / "lineside@.service"
EXPOSURE_MAX = 2.0
"""What ``systemd-analyze security`` said of the unit as shipped, version 252. 0 is best, 10 worst."""


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_socket_dir: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket and what NOTIFY_SOCKET says of it."""
    name = str(tmp_socket_dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name if request.param == "file" else f"\0{name}")
        listener.setblocking(False)
        yield listener, name if request.param == "file" else f"@{name}"


def heard(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_states_are_told_and_readiness_once(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = ServiceNotifier({"NOTIFY_SOCKET": name})
    notifier.state("PREOPERATIONAL", "warming up")
    notifier.state("READY", "CPU, 1 rows")
    notifier.state("ERROR", "camera cam0:\nunplugged")
    notifier.state("READY", "")
    notifier.stopping()
    notifier.state("OFFLINE", "stopped")
    notifier.state("ERROR", "x" * 1_000)
    *messages, longest = heard(listener)
    assert messages == [
        "STATUS=PREOPERATIONAL warming up",
        "READY=1\nSTATUS=READY CPU, 1 rows",
        "STATUS=ERROR camera cam0: unplugged",
        "STATUS=READY",
        "STOPPING=1",
        "STOPPING=1\nSTATUS=OFFLINE stopped",
    ]
    assert len(longest) < 256
    notifier.close()


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_nothing_is_opened(environment: dict[str, str]) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths
    notifier = Notifier(environment)
    notifier.send("READY=1")
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
    notifier.close()


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(manager: tuple[socket.socket, str]) -> None:
    listener, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(10_000):
        notifier.send("STATUS=" + "x" * 100)
    assert 0 < len(heard(listener)) < 10_000
    listener.close()
    notifier.send("READY=1")
    notifier.close()


def test_the_watchdog_is_fed_at_a_third_of_its_time(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, name = manager
    clock = 10**12
    monkeypatch.setattr(systemd, "now_ns", lambda: clock)
    watchdog = Watchdog({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000", "WATCHDOG_PID": "77"}, service_pid=77)
    times = []
    for turn in range(100):
        clock = 10**12 + turn * 100_000
        watchdog.turned()
        if heard(listener) == ["WATCHDOG=1"]:
            times.append(turn)
    assert times == list(range(0, 100, 10))
    watchdog.close()


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "3000", "WATCHDOG_PID": "78"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}],
)
def test_a_watchdog_that_is_not_meant_is_not_fed(
    manager: tuple[socket.socket, str], environment: dict[str, str]
) -> None:
    listener, name = manager
    watchdog = Watchdog({"NOTIFY_SOCKET": name, **environment}, service_pid=77)
    watchdog.turned()
    assert heard(listener) == []
    watchdog.close()


# --- the unit as shipped -------------------------------------------------------------------------------------------


@pytest.fixture
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return program


def test_the_unit_is_well_formed(analyze: str, tmp_path: Path) -> None:
    """Given a program that is there: systemd looks for it."""
    unit = tmp_path / "lineside@line4.service"
    unit.write_text(UNIT.read_text().replace("/opt/lineside/bin/lineside", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and "unit" not in done.stderr.lower():
        pytest.skip(f"systemd-analyze verify does not work here: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_exposes_no_more_than_written_down(analyze: str) -> None:
    done = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than version 250")
    assert done.returncode == 0, f"{done.stdout[-500:]}{done.stderr}"


def test_the_unit_grants_what_the_service_asks_for() -> None:
    settings = dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#")
    for setting, value in {
        "Type": "notify",
        "NotifyAccess": "all",
        "KillMode": "mixed",
        "Restart": "always",
        "LimitNICE": "-15",
        "LimitRTPRIO": "49",
        "LimitMEMLOCK": "infinity",
        "CapabilityBoundingSet": "",
        "RemoveIPC": "no",
        "OOMPolicy": "continue",
        "DeviceAllow": "/dev/cpu_dma_latency rw",
    }.items():
        assert settings[setting] == value
    # These would take away what the service needs: SCHED_FIFO, compiled kernels, the devices.
    assert settings.keys().isdisjoint({"RestrictRealtime", "MemoryDenyWriteExecute", "PrivateDevices", "ProcSubset"})
