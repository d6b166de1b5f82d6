"""Cameras that can be found now, whatever asks for them: one function here and one line in FINDERS for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answered. ``keys``: how a line's YAML names it, beside ``kind``."""

    kind: str
    vendor: str
    model: str
    serial: str
    address: str
    keys: Mapping[str, str]


def _aravis() -> Sequence[FoundCamera]:
    from pipeline.cameras.aravis_device import find_cameras

    return [
        FoundCamera(
            "aravis",
            each.vendor,
            each.model,
            each.serial,
            each.address,
            # What USB calls an address changes with the port.
            {"address": each.address} if each.protocol == "GigEVision" else {"serial": each.serial},
        )
        for each in find_cameras()
    ]


def _pylon() -> Sequence[FoundCamera]:
    from pipeline.cameras.pylon import missing

    if (text := missing()) is not None:
        raise ImportError(text)
    from pipeline.cameras.pylon_device import find_cameras

    return [
        FoundCamera(
            "pylon",
            each.vendor,
            each.model,
            each.serial,
            each.address or "",
            {"serial": each.serial} if each.address is None else {"address": each.address},
        )
        for each in find_cameras()
    ]


def _v4l2() -> Sequence[FoundCamera]:
    from pipeline.cameras.v4l2_finding import find_video_devices

    return [
        # The kernel tells neither maker nor serial; the name by id, where there is one, has both.
        FoundCamera("v4l2", each.driver, each.card, "", each.bus, {"device": str(each.path)})
        for each in find_video_devices()
    ]


FINDERS: dict[str, Callable[[], Sequence[FoundCamera]]] = {
    "aravis": _aravis,
    "pylon": _pylon,
    "v4l2": _v4l2,
}
"""By kind; each may broadcast. Raises ImportError, whose text says how to install what is missing, and OSError."""


def find(kinds: Iterable[str]) -> tuple[list[FoundCamera], dict[str, str]]:
    """What answers of these kinds; by kind why it could not be looked for."""
    found: list[FoundCamera] = []
    not_looked: dict[str, str] = {}
    for kind in kinds:
        try:
            found += FINDERS[kind]()
        except (ImportError, OSError) as error:
            not_looked[kind] = str(error)
    return found, not_looked
