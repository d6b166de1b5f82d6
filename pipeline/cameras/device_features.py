"""The features of a GenICam device: what the configuration asks for is written, read back, and what differs is told."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pipeline.camera_config import GenicamCamera
from pipeline.cameras.base import CameraUnavailable

FeatureValue: TypeAlias = bool | int | float | str
FeatureKind: TypeAlias = Literal["boolean", "integer", "float", "enumeration", "string", "command"]

# The standard's name, and that of cameras from before it.
_EXPOSURE = ("ExposureTime", "ExposureTimeAbs")
_GAIN = ("Gain", "GainAbs")
_FRAME_RATE = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")
_NEVER_SELECTED = {"PixelFormat", "Width", "Height", "OffsetX", "OffsetY", "TriggerMode", "TriggerSource", *_EXPOSURE}
"""Written twice they contradict each other; of others, another entry of their selector may be meant."""
_ROUNDED_SHARE = 0.01
"""A camera rounds to its own steps: so much of the value may differ."""


class FeatureError(RuntimeError):
    """The device refused to read or write a feature; the text is its own."""


class Features(Protocol):
    """The features of one open device, by name."""

    def names(self) -> Sequence[str]:
        """All that the device has."""

    def kind(self, name: str) -> FeatureKind | None:
        """None where the device has no such feature, or not now."""

    def get(self, name: str) -> FeatureValue:
        """Raises FeatureError."""

    def set(self, name: str, value: FeatureValue) -> None:
        """Raises FeatureError."""

    def execute(self, name: str) -> None:
        """Raises FeatureError."""

    def bounds(self, name: str) -> tuple[float, float]:
        """Of an integer or a float, both inclusive. Raises FeatureError."""

    def choices(self, name: str) -> Sequence[str]:
        """Of an enumeration, now. Raises FeatureError."""


@dataclass(frozen=True, slots=True)
class _Setting:
    """``names``: the first that the device has is meant. ``key``: where the configuration says so."""

    key: str
    names: tuple[str, ...]
    value: FeatureValue
    is_optional: bool = False
    """A device without it already does what is asked for."""


def apply_features(config: GenicamCamera, device: Features) -> None:
    """Write all that the configuration asks for, in an order in which one does not undo another.

    Raises CameraUnavailable, which names every feature that is missing, refused or read back otherwise.
    """
    settings = list(_settings(config, device))
    faults = [fault for setting in settings for fault in _apply(setting, device)]
    if not faults:
        # What one writes another may have undone, a user set that was loaded above all.
        faults = [fault for setting in settings for fault in _still_there(setting, device, settings)]
    if faults:
        raise CameraUnavailable(f"camera {config.camera_id}: {'; '.join(faults)}")


def switch_chunks_off(device: Features) -> None:
    """A camera may have kept those of another configuration. Where it cannot be asked, its frames tell by their size."""
    active = "ChunkModeActive"
    with contextlib.suppress(FeatureError):
        if device.kind(active) is not None and device.get(active):
            device.set(active, False)


def configured_by(config: GenicamCamera, device: Features) -> dict[str, str]:
    """By the device's own name of a feature, the key of the configuration that sets it."""
    found: dict[str, str] = {}
    for setting in _settings(config, device):
        name = next((name for name in setting.names if device.kind(name) is not None), None)
        if name is not None:
            found[name] = setting.key
    return found


def _settings(config: GenicamCamera, device: Features) -> Iterator[_Setting]:
    yield _Setting("pixel_format", ("PixelFormat",), config.pixel_format.value)
    # A region that was set before may stand in the way of a larger one.
    for key, name, offset in (("width_px", "Width", "OffsetX"), ("height_px", "Height", "OffsetY")):
        if device.kind(offset) is not None and offset not in config.features:
            yield _Setting(key, (offset,), 0)
        yield _Setting(key, (name,), getattr(config, key))
    if device.kind("AcquisitionMode") is not None:
        yield _Setting("trigger", ("AcquisitionMode",), "Continuous")
    is_triggered = config.trigger != "free_running"
    if device.kind("TriggerSelector") is not None:
        yield _Setting("trigger", ("TriggerSelector",), "FrameStart")
    yield _Setting("trigger", ("TriggerMode",), "On" if is_triggered else "Off", is_optional=not is_triggered)
    if is_triggered:
        source = "Software" if config.trigger == "software" else config.trigger_source
        yield _Setting("trigger_source", ("TriggerSource",), source)
    if config.exposure_time_us is not None:
        yield _Setting("exposure_time_us", _EXPOSURE, config.exposure_time_us)
    if config.gain_db is not None:
        yield _Setting("gain_db", _GAIN, config.gain_db)
    if config.frame_rate_hz is not None:
        if device.kind("AcquisitionFrameRateEnable") is not None:
            yield _Setting("frame_rate_hz", ("AcquisitionFrameRateEnable",), True)
        yield _Setting("frame_rate_hz", _FRAME_RATE, config.frame_rate_hz)
    for name, value in config.features.items():
        yield _Setting(f"features.{name}", (name,), value)


def _apply(setting: _Setting, device: Features) -> Iterator[str]:
    """What is wrong with it, if anything."""
    found = ((name, kind) for name in setting.names if (kind := device.kind(name)) is not None)
    name, kind = next(found, ("", None))
    if kind is None:
        if not setting.is_optional:
            yield f"{setting.key}: the camera has no feature {' or '.join(setting.names)}{_alike(setting, device)}"
        return
    got, expected = _tell(setting.value), _expected(name, kind, setting.value, device)
    if expected is not None:
        yield f"{setting.key}: got {got}, expected {expected} ({name})"
        return
    try:
        if kind == "command":
            device.execute(name)
            return
        device.set(name, setting.value)
        read = device.get(name)
    except FeatureError as error:
        yield f"{setting.key}: the camera refused {got} for {name}: {error}"
        return
    if not _is_same(setting.value, read):
        yield f"{setting.key}: wrote {got} to {name}, read back {_tell(read)}; expected the same within 1 %"


def _still_there(setting: _Setting, device: Features, settings: Sequence[_Setting]) -> Iterator[str]:
    name = next((name for name in setting.names if device.kind(name) is not None), None)
    if name is None or device.kind(name) == "command" or name.endswith("Selector"):
        return
    if name not in _NEVER_SELECTED and sum(name in other.names for other in settings) > 1:
        return
    try:
        read = device.get(name)
    except FeatureError as error:
        yield f"{setting.key}: {name} can not be read at the end: {error}"
        return
    if not _is_same(setting.value, read):
        text = f"wrote {_tell(setting.value)} to {name}, but at the end it is {_tell(read)}"
        yield f"{setting.key}: {text}; what is written after it in the configuration, or a user set, undoes it"


def _alike(setting: _Setting, device: Features) -> str:
    names = difflib.get_close_matches(setting.names[0], device.names(), n=3)
    return f"; it has {', '.join(names)}" if names else ""


def _expected(name: str, kind: FeatureKind, value: FeatureValue, device: Features) -> str | None:
    """What the value should have been; None where it may be written."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        if kind == "boolean":
            return None if isinstance(value, bool) else "true or false"
        if kind == "enumeration":
            choices = device.choices(name)
            return None if value in choices else f"one of {', '.join(choices)}"
        if kind == "string":
            return None if isinstance(value, str) else "a text"
        if kind == "command":
            return None if value is True else "true: it is a command, and is executed"
        if not is_number or (kind == "integer" and isinstance(value, float) and not value.is_integer()):
            return "a whole number" if kind == "integer" else "a number"
        low, high = device.bounds(name)
        return None if low <= float(value) <= high else f"{_tell(low)} to {_tell(high)}"
    except FeatureError as error:
        return f"a value that the camera takes now ({error})"


def _is_same(wrote: FeatureValue, read: FeatureValue) -> bool:
    if isinstance(wrote, str | bool) or isinstance(read, str | bool):
        return wrote == read
    if isinstance(wrote, int) and isinstance(read, int):
        return wrote == read
    return abs(wrote - read) <= _ROUNDED_SHARE * abs(wrote)


def _tell(value: FeatureValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
