"""Waiting for what another process will say when it is asked."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks until it is so; each question is a round trip to another process, or to its files."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        select.select([], [], [], 0.01)
