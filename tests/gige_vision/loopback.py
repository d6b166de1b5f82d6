"""Addresses for cameras on this machine that no other test session uses."""

from __future__ import annotations

import os
from itertools import count

_last = count(1)


def loopback_address() -> str:
    """The next address of this process: every 127.x.y.z is this machine."""
    high, low = divmod(os.getpid() % 64_000, 250)
    return f"127.{high % 254 + 1}.{low + 1}.{next(_last) % 253 + 1}"
