"""Waiting for what another process will say when it is asked."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.window.format import DESCRIPTION_NAME

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks until it is so; each question is a round trip to another process, or to its files."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        select.select([], [], [], 0.01)


def wait_until_recorded(windows: Path) -> None:
    """Until a window has begun in this folder: it takes parts that come from now on. The service is RUNNING a little earlier."""
    wait_until(lambda: any(windows.glob(f"*/{DESCRIPTION_NAME}")))
