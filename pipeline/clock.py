"""The one clock of the service: CLOCK_MONOTONIC, shared by all processes of the box."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MS_PER_S = 1_000

now_ns = time.monotonic_ns


def boot_ns() -> int:
    """Since the box was started, in nanoseconds; goes on while it sleeps, and nobody sets it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """Another one after each start of the box."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


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
