"""What the service asks of the kernel for steady times, where it is permitted to. It runs without, less steadily."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pipeline.messages import Role

_CPU_LATENCY_FILE = Path("/dev/cpu_dma_latency")

NICE: dict[Role, int] = {"signalling": -15, "acquisition": -10, "inspection": -5, "records": 5}
"""Who goes first when the cores are fewer than the processes: the shorter and the more urgent. Records can lag."""


def hold_cpu_latency(latency_us: int) -> int:
    """Ask that no core takes longer than this to wake (PM QoS); holds until the returned descriptor is closed.

    On a 2-core virtual machine at 1,200 parts a minute, 0 instead of the kernel's default took the median from frame to socket from
    4.1 ms to 3.4 ms. Raises OSError where it is not permitted or there is no such thing.
    """
    descriptor = os.open(_CPU_LATENCY_FILE, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, struct.pack("=i", latency_us))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def take_priority(role: Role) -> bool:
    """Give this process its role's nice value. False where going first is not permitted (it needs CAP_SYS_NICE)."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE[role])
    except PermissionError:
        return False
    return True
