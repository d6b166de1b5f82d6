"""A device's time stamps in the box's clock: asked for where the device answers, else from when frames arrive."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.cameras.arrival_clock import ArrivalClock
from pipeline.cameras.asked_clock import Asked, AskedClock


def device_clock(
    first: Asked | None, ask_device: Callable[[], Asked | None], tell: Callable[[], None]
) -> AskedClock | ArrivalClock:
    """``first``: the device's first answer, None where it has no clock to ask for. See ``AskedClock`` for the others."""
    return ArrivalClock() if first is None else AskedClock(first, ask_device, tell)
