"""The one clock of the service: CLOCK_MONOTONIC, shared by all processes of the box."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

now_ns = time.monotonic_ns

_ASKED = re.compile(r"(\d{4}-\d\d-\d\d(?:T\d\d(?::\d\d(?::\d\d)?)?)?)(?:(?<=:\d\d:\d\d)\.(\d+))?Z?", re.ASCII)


def seconds_until(moment_ns: int) -> float:
    """How long from now, never negative: for select's timeout."""
    return max(0, moment_ns - now_ns()) / NS_PER_S


def utc_text(moment_ns: int) -> str:
    """A moment of this clock by the wall clock of now, RFC 3339 with microseconds."""
    return wall_text(time.time_ns() - (now_ns() - moment_ns))


def wall_text(wall_ns: int) -> str:
    """A moment of the wall clock, RFC 3339 with microseconds."""
    moment = datetime.fromtimestamp(wall_ns // NS_PER_S, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ns % NS_PER_S // NS_PER_US:06d}Z"


def asked_text(asked: str) -> str:
    """A moment as people write it, in UTC (2026-01-31, 2026-01-31T06:00, 2026-01-31T06:00:00.5Z), as ``wall_text`` does.

    Raises ValueError where there is no such moment.
    """
    found = _ASKED.fullmatch(asked)
    if found is None:
        raise ValueError(f"got {asked!r}, expected a moment as 2026-01-31 or 2026-01-31T06:00:00, in UTC")
    try:
        moment = datetime.fromisoformat(found[1])
    except ValueError as error:
        raise ValueError(f"got {asked!r}, expected a moment that there is: {error}") from None
    return f"{moment.isoformat(timespec='seconds')}.{(found[2] or '')[:6]:0<6}Z"
