"""Temperatures and throttling from trees of files as the kernel makes them, and from modules that answer as pynvml and jtop do."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.channel import Link, link_pair
from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import Alarm, Configure, Halt
from pipeline.platform_health import Platform, Reading
from pipeline.platform_watch import PlatformWatch
from pipeline.worker import Supervised
from tests.unit.pipeline.small_line import LINE


class Tree:
    """A / of the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, value: object) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        # At once, as the kernel does: a reader never sees half of it.
        whole = file.with_name(f".{file.name}")
        whole.write_text(f"{value}\n")
        whole.replace(file)

    def zone(self, number: int, kind: str, millidegrees: object, **trips: int) -> None:
        self.write(f"sys/class/thermal/thermal_zone{number}/type", kind)
        self.write(f"sys/class/thermal/thermal_zone{number}/temp", millidegrees)
        for place, (trip, value) in enumerate(trips.items()):
            self.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{place}_type", trip)
            self.write(f"sys/class/thermal/thermal_zone{number}/trip_point_{place}_temp", value)

    def frequency(self, cpu: int, *, current: int, allowed: int, governor: str = "schedutil") -> None:
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        self.write(f"{folder}/scaling_cur_freq", current)
        self.write(f"{folder}/scaling_max_freq", allowed)
        self.write(f"{folder}/scaling_governor", governor)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def platform(tree: Tree, **modules: Any) -> Platform:
    return Platform(90.0, root=tree.root, find_module=modules.get)


def test_a_box_that_tells_nothing(tree: Tree) -> None:
    assert platform(tree).read() == Reading({}, [], None)


def test_thermal_zones(tree: Tree) -> None:
    tree.zone(0, "x86_pkg_temp", 51_000)
    tree.zone(1, "cpu-thermal", 84_999, active=40_000, passive=90_000, critical=100_000)
    tree.zone(2, "asleep", "not a number")
    tree.zone(3, "broken", -274_000)
    tree.zone(10, "x86_pkg_temp", 89_950, critical=-1)
    health = platform(tree)
    reading = health.read()
    assert reading.temperatures_c == {"x86_pkg_temp-0": 51.0, "cpu-thermal-1": 85.0, "x86_pkg_temp-10": 90.0}
    assert reading.too_hot == [
        "cpu-thermal-1 at 85 degrees Celsius, warned of from 85",
        "x86_pkg_temp-10 at 90 degrees Celsius, warned of from 90",
    ]
    assert reading.throttled is None
    # Hysteresis: three degrees down before it is well again.
    tree.zone(1, "cpu-thermal", 82_500)
    tree.zone(10, "x86_pkg_temp", 86_000)
    assert [text.split()[0] for text in health.read().too_hot] == ["cpu-thermal-1"]
    tree.zone(1, "cpu-thermal", 81_900)
    assert health.read().too_hot == []
    tree.zone(1, "cpu-thermal", 84_000)
    assert health.read().too_hot == []
    # A sensor that goes away, as on a board that powers it down, is not there; the others still are.
    (tree.root / "sys/class/thermal/thermal_zone0/temp").unlink()
    assert list(health.read().temperatures_c) == ["cpu-thermal-1", "x86_pkg_temp-10"]


def test_cooling_devices_but_not_fans(tree: Tree) -> None:
    for number, (kind, state) in enumerate([("pwm-fan", 3), ("Processor", 0), ("thermal-cpufreq-0", 0)]):
        tree.write(f"sys/class/thermal/cooling_device{number}/type", kind)
        tree.write(f"sys/class/thermal/cooling_device{number}/cur_state", state)
    health = platform(tree)
    assert health.read().throttled == []
    tree.write("sys/class/thermal/cooling_device2/cur_state", 2)
    assert health.read().throttled == ["thermal-cpufreq-0 (cooling_device2) at cooling state 2"]


def test_frequencies(tree: Tree) -> None:
    # Idle, not slowed down.
    tree.frequency(0, current=800_000, allowed=3_000_000)
    tree.frequency(1, current=1_500_000, allowed=3_000_000, governor="performance")
    health = platform(tree)
    assert health.read().throttled == []
    tree.frequency(0, current=800_000, allowed=2_000_000)
    assert health.read().throttled == ["cpu0 limited to 2000 of 3000 MHz"]


def test_throttle_counters_count_from_the_start(tree: Tree) -> None:
    folder = "sys/devices/system/cpu/cpu0/thermal_throttle"
    tree.write(f"{folder}/core_throttle_count", 7)
    tree.write(f"{folder}/package_throttle_count", 9)
    health = platform(tree)
    assert health.read().throttled == []
    tree.write(f"{folder}/package_throttle_count", 10)
    assert health.read().throttled == ["cpu0 throttled (package)"]
    assert health.read().throttled == []


class NVMLError(Exception):
    pass


def fake_nvml(**answers: Any) -> SimpleNamespace:
    def ask(name: str) -> Callable[..., Any]:
        def answer(*_: object) -> Any:
            if isinstance(answers[name], Exception):
                raise answers[name]
            return answers[name]

        return answer

    return SimpleNamespace(NVMLError=NVMLError, **{name: ask(name) for name in answers})


NVML: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlDeviceGetCount": 1,
    "nvmlDeviceGetHandleByIndex": "handle",
    "nvmlDeviceGetTemperatureThreshold": 92,
    "nvmlDeviceGetTemperature": 88,
    "nvmlDeviceGetCurrentClocksEventReasons": 0x01 | 0x20,
}


def test_nvml(tree: Tree) -> None:
    reading = platform(tree, pynvml=fake_nvml(**NVML)).read()
    assert reading.temperatures_c == {"gpu-0": 88.0}
    assert reading.too_hot == ["gpu-0 at 88 degrees Celsius, warned of from 87"]
    assert reading.throttled == ["gpu-0 thermal slow-down"]
    older = {key: value for key, value in NVML.items() if "Reasons" not in key}
    reading = platform(tree, pynvml=fake_nvml(**older, nvmlDeviceGetCurrentClocksThrottleReasons=0x01)).read()
    assert reading.throttled == []
    assert platform(tree, pynvml=fake_nvml(**older)).read().throttled is None


@pytest.mark.parametrize("name", NVML)
def test_nvml_that_fails_tells_less(tree: Tree, name: str) -> None:
    reading = platform(tree, pynvml=fake_nvml(**{**NVML, name: NVMLError("no")})).read()
    assert bool(reading.temperatures_c) is (name not in list(NVML)[:3] and name != "nvmlDeviceGetTemperature")


@pytest.mark.parametrize(
    "told",
    [
        {"cpu": {"temp": 90.25, "max": 84, "online": True}, "off": {"temp": -256, "max": 84}},
        {"cpu": 90.25, "off": -256},
    ],
)
def test_jtop(tree: Tree, told: dict[str, Any]) -> None:
    jetson = SimpleNamespace(start=lambda: None, temperature=told)
    module = SimpleNamespace(jtop=lambda: jetson, JtopException=RuntimeError)
    reading = platform(tree, jtop=module).read()
    assert reading.temperatures_c == {"jetson-cpu": 90.2}
    assert len(reading.too_hot) == 1


# --- the process that reads, seen from records -----------------------------------------------------------------


@pytest.fixture
def supervised() -> Iterator[tuple[Supervised, Link]]:
    one, other = link_pair()
    control, supervisor = Link(one), Link(other)
    line = LINE
    degraded = line.config.degraded.model_copy(update={"platform_interval_s": 0.1})
    config = line.config.model_copy(update={"degraded": degraded})
    configure = Configure("records", 1, "s", "", None, 0, Halt(), True)
    yield Supervised(control, configure, dataclasses.replace(line, config=config)), supervisor
    control.close()
    supervisor.close()


@pytest.fixture
def watch(tree: Tree, supervised: tuple[Supervised, Link]) -> Iterator[PlatformWatch]:
    with contextlib.closing(PlatformWatch(supervised[0], root=tree.root)) as made:
        yield made


def turn_until(watch: PlatformWatch, condition: Callable[[], bool]) -> None:
    give_up_ns = now_ns() + 60 * NS_PER_S
    while not condition():
        assert now_ns() < give_up_ns
        watch.turn()
        select.select(watch.read_descriptors(), [], [], 0.1)


def test_readings_come_from_a_process_of_its_own(
    tree: Tree, supervised: tuple[Supervised, Link], watch: PlatformWatch
) -> None:
    tree.zone(0, "cpu-thermal", 70_000, passive=85_000)
    tree.frequency(0, current=1_000_000, allowed=2_000_000)
    _, supervisor = supervised
    said: list[tuple[str, bool]] = []

    def heard(code: str, raised: bool) -> bool:
        said.extend((alarm.code, alarm.raised) for alarm in supervisor.drain() if isinstance(alarm, Alarm))
        return (code, raised) in said

    turn_until(watch, lambda: watch.temperatures_c == {"cpu-thermal-0": 70.0})
    assert [watch.throttled] == [False]
    tree.zone(0, "cpu-thermal", 81_000)
    tree.frequency(0, current=1_000_000, allowed=1_000_000)
    turn_until(watch, lambda: heard("temperature", True) and heard("throttled", True))
    assert [watch.throttled] == [True]
    tree.zone(0, "cpu-thermal", 84_000)
    turn_until(watch, lambda: watch.temperatures_c == {"cpu-thermal-0": 84.0})
    tree.zone(0, "cpu-thermal", 60_000)
    tree.frequency(0, current=1_000_000, allowed=2_000_000)
    turn_until(watch, lambda: heard("temperature", False) and heard("throttled", False))
    # Raised once each, however often it was read.
    assert said == [("temperature", True), ("throttled", True), ("temperature", False), ("throttled", False)]


def test_where_nothing_is_told_no_process_stays(watch: PlatformWatch) -> None:
    watch.turn()
    assert len(watch.read_descriptors()) == 1
    turn_until(watch, lambda: watch.read_descriptors() == [])
    assert (watch.temperatures_c, watch.throttled) == ({}, None)


def test_a_reading_that_hangs_holds_up_nobody(tree: Tree, watch: PlatformWatch) -> None:
    """A sensor that never answers, here a pipe that nobody writes to."""
    tree.zone(0, "cpu-thermal", 0)
    (tree.root / "sys/class/thermal/thermal_zone0/temp").unlink()
    os.mkfifo(tree.root / "sys/class/thermal/thermal_zone0/temp")
    for _ in range(100):
        watch.turn()
    assert watch.temperatures_c == {}
    assert len(watch.read_descriptors()) == 1


def test_what_a_library_prints_is_no_reading(tree: Tree, watch: PlatformWatch, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write("library/pynvml.py", "import os\nNVMLError = OSError\nprint('loaded')\nos.write(1, b'loaded')\n")
    with (tree.root / "library/pynvml.py").open("a") as file:
        file.write("def nvmlInit():\n    os.write(1, b'init')\n\ndef nvmlDeviceGetCount():\n    return 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tree.root / "library"))
    tree.zone(0, "cpu-thermal", 70_000)
    turn_until(watch, lambda: watch.temperatures_c == {"cpu-thermal-0": 70.0})


@pytest.mark.parametrize(
    "line", ["loaded", "5", "{}", '{"temperatures_c": 1, "too_hot": [], "throttled": null}', "\\0377"]
)
def test_what_is_no_reading_is_said_and_ends_the_listening(
    tmp_path: Path,
    watch: PlatformWatch,
    supervised: tuple[Supervised, Link],
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nprintf '%b\\n' '{line}'\nexec tail -f /dev/null\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    watch.turn()
    assert len(watch.read_descriptors()) == 1
    turn_until(watch, lambda: watch.read_descriptors() == [])
    (alarm,) = (message for message in supervised[1].drain() if isinstance(message, Alarm))
    assert (alarm.code, alarm.raised) == ("platform", True)
    assert "said what is no reading" in alarm.text
    assert (watch.temperatures_c, watch.throttled) == ({}, None)
