"""Signals to the service's processes."""

from __future__ import annotations

import os
import select
import signal


def send_signal(pid: int, number: signal.Signals) -> bool:
    """False where the process has gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def has_ended(pid: int, timeout_s: float = 0.0) -> bool:
    """Whether the process with all its threads is at its end, or comes there in the time given; reaped or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
