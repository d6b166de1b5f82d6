"""How hot the box is and whether it is being slowed down for that, as far as the platform tells.

A process of its own (``python -m pipeline.platform_health INTERVAL_S TEMPERATURE_MAX_C ROOT``), started by records: a driver that
hangs under a reading, even where a process cannot be killed, then holds up neither verdicts nor records nor the end of the
service, which a thread of theirs would. It prints one JSON object a reading, and ends at once where there is nothing to read.

Sources, each optional:

* sysfs thermal zones: temperature, and the lowest of their passive, hot and critical trip points;
* sysfs cooling devices of processors (not fans): slowed down while ``cur_state`` is above 0;
* cpufreq: ``scaling_max_freq`` below the highest seen since the start (``scaling_cur_freq`` tells nothing: a healthy core that
  idles may report any);
* ``thermal_throttle`` counters of x86 cores that went on counting;
* NVML, where ``pynvml`` can be imported: temperature, slow-down threshold, clocks event reasons;
* jtop, where it can be imported: temperatures.

Run against trees of files made for the tests, and against modules that answer as pynvml and jtop do. Not run: real NVML,
jtop, a Jetson, a box with thermal zones.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

_MARGIN_C = 5.0
"""Below a sensor's own limit, at which its platform begins to slow down or worse."""
_WAY_BACK_C = 3.0
_PLAUSIBLE_C = (-50.0, 200.0)
_TRIP_KINDS = ("passive", "hot", "critical")
_NVML_SLOW_REASONS = {
    0x04: "power cap",
    0x08: "hardware slow-down",
    0x20: "thermal slow-down",
    0x40: "hardware thermal slow-down",
    0x80: "power brake",
}
_NICE = 10
_NVML_TEMPERATURE_GPU = 0
_NVML_THRESHOLD_SLOWDOWN = 1


@dataclass(frozen=True, slots=True)
class Sensor:
    """``limit_c`` is where this sensor's platform acts; None where it does not say."""

    name: str
    temperature_c: float
    limit_c: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """``throttled`` names what is slowed down; None where nothing could tell. ``too_hot`` says which sensors are."""

    temperatures_c: dict[str, float]
    too_hot: list[str]
    throttled: list[str] | None


class Source(Protocol):
    """Both methods may find nothing any more, which is an empty list; ``slowed`` is None where the source cannot tell."""

    def sensors(self) -> list[Sensor]: ...

    def slowed(self) -> list[str] | None: ...


class Platform:
    """All sources of the box. ``root`` stands for / in tests; ``find_module`` for the import of pynvml and jtop."""

    def __init__(
        self,
        temperature_max_c: float,
        *,
        root: Path = Path("/"),
        find_module: Callable[[str], Any | None] | None = None,
    ) -> None:
        self._temperature_max_c = temperature_max_c
        find = find_module if find_module is not None else import_if_there
        self._sources: list[Source] = [
            _ThermalZones(root),
            _CoolingDevices(root),
            _Frequencies(root),
            _ThrottleCounters(root),
        ]
        for source in (_Nvml.open(find("pynvml")), _Jtop.open(find("jtop"))):
            if source is not None:
                self._sources.append(source)
        self._hot: set[str] = set()

    def read(self) -> Reading:
        sensors = [sensor for source in self._sources for sensor in source.sensors()]
        told = [slowed for source in self._sources if (slowed := source.slowed()) is not None]
        return Reading(
            {sensor.name: sensor.temperature_c for sensor in sensors},
            self._too_hot(sensors),
            sorted({text for slowed in told for text in slowed}) if told else None,
        )

    def _too_hot(self, sensors: Iterable[Sensor]) -> list[str]:
        texts = []
        for sensor in sensors:
            limit_c = self._temperature_max_c if sensor.limit_c is None else sensor.limit_c - _MARGIN_C
            if sensor.temperature_c >= limit_c - (_WAY_BACK_C if sensor.name in self._hot else 0.0):
                self._hot.add(sensor.name)
                texts.append(f"{sensor.name} at {sensor.temperature_c:g} degrees Celsius, warned of from {limit_c:g}")
            else:
                self._hot.discard(sensor.name)
        return texts


def import_if_there(name: str) -> Any | None:
    """The module, or None where it is not installed or cannot be loaded here."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


# --- sysfs -----------------------------------------------------------------------------------------------------


class _ThermalZones:
    def __init__(self, root: Path) -> None:
        self._zones = []
        for folder in _sorted(root / "sys/class/thermal", "thermal_zone*"):
            limits_c = [
                trip_c
                for kind_file in folder.glob("trip_point_*_type")
                if _text(kind_file) in _TRIP_KINDS
                and (trip_c := _millidegrees(kind_file.with_name(kind_file.name.replace("_type", "_temp")))) is not None
                and trip_c > 0
            ]
            kind = _text(folder / "type") or "zone"
            self._zones.append(
                (folder, f"{kind}-{folder.name.removeprefix('thermal_zone')}", min(limits_c, default=None))
            )

    def sensors(self) -> list[Sensor]:
        return [
            Sensor(name, temperature_c, limit_c)
            for folder, name, limit_c in self._zones
            if (temperature_c := _millidegrees(folder / "temp")) is not None
        ]

    def slowed(self) -> list[str] | None:
        return None


class _CoolingDevices:
    def __init__(self, root: Path) -> None:
        self._devices = []
        for folder in _sorted(root / "sys/class/thermal", "cooling_device*"):
            kind = _text(folder / "type") or ""
            if kind == "Processor" or kind.startswith(("thermal-", "cpufreq", "devfreq", "cpu-", "gpu-")):
                self._devices.append((folder / "cur_state", f"{kind} ({folder.name})"))

    def sensors(self) -> list[Sensor]:
        return []

    def slowed(self) -> list[str] | None:
        states = [(name, state) for file, name in self._devices if (state := _number(file)) is not None]
        return [f"{name} at cooling state {state}" for name, state in states if state > 0] if states else None


class _Frequencies:
    def __init__(self, root: Path) -> None:
        self._folders = _sorted(root / "sys/devices/system/cpu", "cpu[0-9]*/cpufreq")
        self._highest_khz: dict[Path, int] = {}

    def sensors(self) -> list[Sensor]:
        return []

    def slowed(self) -> list[str] | None:
        told, slow = False, []
        for folder in self._folders:
            allowed_khz = _number(folder / "scaling_max_freq")
            if allowed_khz is None:
                continue
            told = True
            highest_khz = max(allowed_khz, self._highest_khz.get(folder, 0))
            self._highest_khz[folder] = highest_khz
            if allowed_khz < highest_khz:
                slow.append(f"{folder.parent.name} limited to {allowed_khz // 1000} of {highest_khz // 1000} MHz")
        return slow if told else None


class _ThrottleCounters:
    def __init__(self, root: Path) -> None:
        self._files = _sorted(root / "sys/devices/system/cpu", "cpu[0-9]*/thermal_throttle/*_throttle_count")
        self._last = {file: _number(file) for file in self._files}

    def sensors(self) -> list[Sensor]:
        return []

    def slowed(self) -> list[str] | None:
        told, slow = False, []
        for file in self._files:
            count, last = _number(file), self._last[file]
            self._last[file] = count
            if count is None:
                continue
            told = True
            if last is not None and count > last:
                slow.append(f"{file.parent.parent.name} throttled ({file.name.removesuffix('_throttle_count')})")
        return slow if told else None


def _sorted(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: (len(str(path)), str(path)))


def _text(file: Path) -> str | None:
    """None where it cannot be read: sensors that sleep answer with an error."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(file: Path) -> int | None:
    text = _text(file)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _millidegrees(file: Path) -> float | None:
    number = _number(file)
    if number is None:
        return None
    temperature_c = number / 1000
    return round(temperature_c, 1) if _PLAUSIBLE_C[0] < temperature_c < _PLAUSIBLE_C[1] else None


# --- libraries -------------------------------------------------------------------------------------------------


class _Nvml:
    """NVIDIA's management library, by the binding that nvidia-ml-py installs as ``pynvml``."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._devices = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            limit_c: float | None = None
            with contextlib.suppress(nvml.NVMLError):
                limit_c = float(nvml.nvmlDeviceGetTemperatureThreshold(handle, _NVML_THRESHOLD_SLOWDOWN))
            self._devices.append((f"gpu-{index}", handle, limit_c))
        # Older bindings know the same call by its former name.
        self._reasons = getattr(
            nvml,
            "nvmlDeviceGetCurrentClocksEventReasons",
            getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None),
        )

    @classmethod
    def open(cls, nvml: Any | None) -> _Nvml | None:
        if nvml is None:
            return None
        try:
            nvml.nvmlInit()
            return cls(nvml)
        except nvml.NVMLError:
            return None

    def sensors(self) -> list[Sensor]:
        found = []
        for name, handle, limit_c in self._devices:
            with contextlib.suppress(self._nvml.NVMLError):
                temperature_c = float(self._nvml.nvmlDeviceGetTemperature(handle, _NVML_TEMPERATURE_GPU))
                found.append(Sensor(name, temperature_c, limit_c))
        return found

    def slowed(self) -> list[str] | None:
        told, slow = False, []
        for name, handle, _ in self._devices:
            if self._reasons is None:
                continue
            with contextlib.suppress(self._nvml.NVMLError):
                reasons = int(self._reasons(handle))
                told = True
                slow += [f"{name} {text}" for bit, text in _NVML_SLOW_REASONS.items() if reasons & bit]
        return slow if told else None


class _Jtop:
    """jetson-stats: temperatures by name, as numbers (before 4.2) or as {"temp": ..., "max": ...}."""

    def __init__(self, jetson: Any) -> None:
        self._jetson = jetson

    @classmethod
    def open(cls, module: Any | None) -> _Jtop | None:
        if module is None:
            return None
        try:
            jetson = module.jtop()
            jetson.start()
        except (OSError, module.JtopException):
            return None
        return cls(jetson)

    def sensors(self) -> list[Sensor]:
        found = []
        for name, told in self._jetson.temperature.items():
            values = told if isinstance(told, dict) else {"temp": told}
            temperature_c, limit_c = values.get("temp"), values.get("max")
            if isinstance(temperature_c, int | float) and _PLAUSIBLE_C[0] < temperature_c < _PLAUSIBLE_C[1]:
                limit_c = float(limit_c) if isinstance(limit_c, int | float) and limit_c > 0 else None
                found.append(Sensor(f"jetson-{name}", round(float(temperature_c), 1), limit_c))
        return found

    def slowed(self) -> list[str] | None:
        return None


def main() -> None:
    """Read and print until nobody listens any more."""
    # What a library prints goes to the log, not among the readings.
    told = os.dup(1)
    os.dup2(2, 1)
    interval_s, temperature_max_c, root = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    os.nice(_NICE)
    platform = Platform(temperature_max_c, root=root)
    reading = platform.read()
    if not reading.temperatures_c and reading.throttled is None:
        return
    listener = select.poll()
    # No events asked for: it wakes early only because nobody listens any more.
    listener.register(told, 0)
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(told, json.dumps(asdict(reading)).encode() + b"\n")
            if listener.poll(interval_s * 1_000):
                return
            reading = platform.read()


if __name__ == "__main__":
    main()
