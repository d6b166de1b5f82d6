"""The one clock of the service: CLOCK_MONOTONIC, shared by all processes of the box."""

from __future__ import annotations

import time
from datetime import datetime, timezone

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

now_ns = time.monotonic_ns


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
