"""Signals to the service's processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def send_signal(pid: int, number: signal.Signals) -> bool:
    """False where the process has gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
