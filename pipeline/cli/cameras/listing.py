"""``lineside cameras list``: which cameras are there?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from pipeline.cameras.finding import FINDERS, FoundCamera, find
from pipeline.cameras.interfaces import interfaces, is_elsewhere
from pipeline.cli.console import at_work, console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json

_WIDTH = 120


def list_cameras(
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help=f"Only this kind: {', '.join(sorted(FINDERS))}.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """List the cameras that can be found now, and how a line's YAML names each.

    Asks by broadcast on every network interface of this box (GigE Vision discovery), and looks at USB and at the
    kernel's video devices. No camera is opened or changed.

    Status 0 where a camera was found, 1 where none was.
    """
    if kind is not None and kind not in FINDERS:
        raise fail(f"--kind: got {kind}, expected one of {', '.join(sorted(FINDERS))}", 2)
    check_json_target(json_file)
    with at_work("looking for cameras ..."):
        found, not_looked = find(sorted(FINDERS) if kind is None else [kind])
    console = console_for(json_file, width=_WIDTH, highlight=False)
    if found:
        show(console, _told(found))
    show(console, (f"not looked for: {each}: {text}" for each, text in not_looked.items()))
    write_json(json_file, {"cameras": [asdict(each) for each in found], "not_looked_for": not_looked})
    if not found:
        if len(not_looked) < len(FINDERS if kind is None else [kind]):
            show(console, _what_to_look_at())
        raise fail("no camera was found")


def _told(found: Sequence[FoundCamera]) -> Iterator[Table | str]:
    table = Table("kind", "vendor", "model", "serial", "address", box=None, pad_edge=False)
    for camera in found:
        table.add_row(camera.kind, camera.vendor, camera.model, camera.serial, camera.address)
    yield table
    for camera in found:
        if is_elsewhere(camera.address):
            yield (
                f"{camera.address} is in no subnet of this box: give the camera an address in the subnet of the interface that "
                f"it hangs on, or the interface one in the camera's ({_interfaces()})"
            )
    yield ""
    yield "In a line's YAML, under cameras, with the frame's own size and format (lineside cameras show tells them):"
    for number, camera in enumerate(found):
        frame = {"width_px": "WIDTH", "height_px": "HEIGHT", "pixel_format": "Mono8"}
        yield f"  - {_flow({'camera_id': f'cam{number}', 'kind': camera.kind, **_quoted(camera.keys), **frame})}"


def _what_to_look_at() -> Iterator[str]:
    yield "Looked at, and nothing answered. What to look at:"
    yield "  power: does the camera's light say that it is on? PoE needs a switch or an injector that gives it"
    yield f"  cable and interface: {_interfaces()}"
    yield "  address: the camera and the interface it hangs on have to be in one subnet; a switch may keep broadcasts from it"
    yield "  firewall: answers come from UDP port 3956 to any port"
    yield "  USB: a USB 3 port, and permission for the device (udev rule of the maker's)"
    yield "A camera whose address is known needs no broadcast: lineside cameras show --address ADDRESS"


def _interfaces() -> str:
    return ", ".join(map(str, interfaces())) or "this box has no network interface but loopback"


def _quoted(keys: Mapping[str, str]) -> dict[str, str]:
    # A serial of digits alone would be read as a number.
    return {key: value if key == "address" else json.dumps(value) for key, value in keys.items()}


def _flow(keys: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}"
