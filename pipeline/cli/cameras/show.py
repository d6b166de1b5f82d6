"""``lineside cameras show``: what a camera says of itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipeline.camera_config import AnyCamera, GenicamCamera
from pipeline.cameras import make_camera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.device_features import FeatureError, Features, FeatureValue, configured_by
from pipeline.cameras.interfaces import interfaces, is_elsewhere
from pipeline.cameras.looking import VIEWS, Look, Views
from pipeline.cli.cameras.options import CameraIdOption, camera_config_of, service_away
from pipeline.cli.console import at_work, console_for
from pipeline.cli.console import show as show_lines
from pipeline.cli.line_camera import OPEN_WITHIN_S, open_within
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.config import load_line

_WIDTH = 160
_CHOICES_SHOWN = 16
_REGISTER_MAX = (1 << 32) - 1
_TYPE_MAX = 1 << 62
_IMPORTANT = (
    *("DeviceVendorName", "DeviceModelName", "DeviceSerialNumber", "DeviceID", "DeviceUserID"),
    *("DeviceFirmwareVersion", "DeviceVersion", "DeviceTemperature"),
    *("SensorWidth", "SensorHeight", "Width", "Height", "OffsetX", "OffsetY", "BinningHorizontal", "BinningVertical"),
    *("ReverseX", "ReverseY", "PixelFormat", "TestPattern"),
    *("ExposureAuto", "ExposureMode", "ExposureTime", "ExposureTimeAbs", "GainAuto", "Gain", "GainAbs", "BlackLevel"),
    *("AcquisitionMode", "TriggerSelector", "TriggerMode", "TriggerSource", "TriggerActivation", "TriggerDelay"),
    *("AcquisitionFrameRateEnable", "AcquisitionFrameRate", "AcquisitionFrameRateAbs", "ResultingFrameRate"),
    *("PayloadSize", "GevSCPSPacketSize", "GevSCPD", "DeviceLinkThroughputLimit", "DeviceLinkSpeed"),
    *("GevTimestampTickFrequency", "TimestampLatchValue", "PtpEnable", "PtpStatus", "ChunkModeActive"),
)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One feature. ``value`` is None for a command, and where ``unread`` says why it cannot be read now."""

    name: str
    kind: str
    value: FeatureValue | None
    unread: str
    bounds: tuple[float, float] | None
    choices: list[str]
    set_by: str | None


def show(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="The line's YAML file.")] = None,
    camera_id: CameraIdOption = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Without a CONFIG: the camera there, as it is.")
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(metavar="SERIAL", help="Without a CONFIG: the camera with it; looks for it by broadcast."),
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help=f"Of --address and --serial: {', '.join(sorted(VIEWS))}.")
    ] = "aravis",
    is_all: Annotated[bool, typer.Option("--all", help="Every feature, not the important ones alone.")] = False,
    json_file: JsonOption = None,
) -> None:
    """Show a camera's features and values, what each may be, and what the configuration sets.

    With CONFIG the camera is opened and set up as the service does it: settings are written and read back, and whatever differs is
    told. With --address or --serial nothing is written, and a camera that a service has is read beside it.
    """
    given = [name for name, value in (("CONFIG", config), ("--address", address), ("--serial", serial)) if value]
    if len(given) != 1:
        raise fail(f"got {' and '.join(given) or 'no camera'}, expected one of CONFIG, --address and --serial", 2)
    check_json_target(json_file)
    if config is not None:
        line = load_line(config)
        spare_inputs({"--json": json_file}, line.file)
        camera = camera_config_of(line, camera_id)
        with service_away(line):
            _show_configured(camera, is_all=is_all, json_file=json_file)
        return
    if camera_id is not None:
        raise fail(f"--camera-id: got {camera_id} with {given[0]}, expected a CONFIG that has such a camera", 2)
    if kind not in VIEWS:
        raise fail(f"--kind: got {kind}, expected one of {', '.join(sorted(VIEWS))}", 2)
    if address is not None:
        _expect_ipv4(address)
    opening = _views(kind).unchanged
    if opening is None:
        raise fail(f"--kind: got {kind}, which can only be shown as a CONFIG has it", 2)
    _show(opening(address, serial), {}, None, is_all=is_all, json_file=json_file, hint=_elsewhere(address))


def _show_configured(camera: AnyCamera, *, is_all: bool, json_file: Path | None) -> None:
    told = {
        "camera": f"{camera.camera_id}: {camera.kind}, {camera.width_px}x{camera.height_px} {camera.pixel_format.value}"
    }
    if camera.kind in VIEWS:
        _show(_views(camera.kind).configured(camera), told, camera, is_all=is_all, json_file=json_file)
        return
    driver = make_camera(camera)
    try:
        with at_work(f"opening camera {camera.camera_id} ..."):
            open_within(driver, OPEN_WITHIN_S)
    except CameraUnavailable as error:
        raise fail(str(error)) from None
    finally:
        driver.close()
    told["features"] = f"a camera of kind {camera.kind} has none; it could be opened"
    show_lines(console_for(json_file, width=_WIDTH, highlight=False), _facts(told))
    write_json(json_file, {"facts": told, "features": {}})


def _show(
    opening: AbstractContextManager[Look],
    told: Mapping[str, str],
    camera: AnyCamera | None,
    *,
    is_all: bool,
    json_file: Path | None,
    hint: str = "",
) -> None:
    """``hint``: what else to say where it cannot be opened."""
    try:
        with at_work("opening the camera ..."), opening as look:
            set_by = configured_by(camera, look.features) if isinstance(camera, GenicamCamera) else {}
            names = look.features.names() if is_all else (*_IMPORTANT, *set_by)
            shown = [each for name in dict.fromkeys(names) if (each := _shown(look.features, name, set_by))]
            facts = {**told, **look.facts}
    except CameraUnavailable as error:
        raise fail(f"{error}{hint}") from None
    console = console_for(json_file, width=_WIDTH, highlight=False)
    show_lines(console, _facts(facts))
    show_lines(console, [_table(shown, has_keys=camera is not None)])
    features = {each.name: {key: value for key, value in asdict(each).items() if key != "name"} for each in shown}
    write_json(json_file, {"facts": facts, "features": features})


def _views(kind: str) -> Views:
    try:
        return VIEWS[kind]()
    except ImportError as error:
        raise fail(str(error)) from None


def _expect_ipv4(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise fail(f"--address: got {address}, expected an IPv4 address such as 192.168.10.11", 2) from None


def _elsewhere(address: str | None) -> str:
    if address is None or not is_elsewhere(address):
        return ""
    here = ", ".join(map(str, interfaces())) or "none but loopback"
    return f"; {address} is in no subnet of this box ({here}): lineside cameras list may find the camera all the same"


def _shown(features: Features, name: str, set_by: Mapping[str, str]) -> _Shown | None:
    """None where the camera has no such feature now."""
    kind = features.kind(name)
    if kind is None:
        return None
    value: FeatureValue | None = None
    bounds: tuple[float, float] | None = None
    choices: list[str] = []
    unread = ""
    try:
        if kind != "command":
            value = features.get(name)
        if kind == "enumeration":
            choices = list(features.choices(name))
        if kind in ("integer", "float"):
            bounds = features.bounds(name)
    except FeatureError as error:
        unread = str(error) if value is None else ""
    if bounds is not None and _is_of_the_type(bounds):
        bounds = None
    return _Shown(name, kind, value, unread, bounds, choices, set_by.get(name))


def _is_of_the_type(bounds: tuple[float, float]) -> bool:
    """Bounds of a register or a type say nothing of the camera."""
    low, high = bounds
    return (low == 0 and high == _REGISTER_MAX) or max(-low, high) >= _TYPE_MAX


def _facts(facts: Mapping[str, str]) -> Iterator[str]:
    for name, text in facts.items():
        yield f"{name:9} {text}"


def _table(shown: list[_Shown], *, has_keys: bool) -> Table:
    table = Table("feature", "value", "may be", *(["set by"] if has_keys else []), box=None, pad_edge=False)
    for each in shown:
        cells = [each.name, _value(each), _may_be(each)]
        table.add_row(*cells, *([each.set_by or ""] if has_keys else []))
    return table


def _value(each: _Shown) -> str:
    if each.kind == "command":
        return "a command"
    if each.value is None:
        return f"not now: {each.unread}"
    return _text(each.value)


def _may_be(each: _Shown) -> str:
    if each.bounds is not None:
        low, high = each.bounds
        return f"{_text(low)} to {_text(high)}"
    more = f" and {len(each.choices) - _CHOICES_SHOWN} more" if len(each.choices) > _CHOICES_SHOWN else ""
    return f"{', '.join(each.choices[:_CHOICES_SHOWN])}{more}"


def _text(value: FeatureValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
