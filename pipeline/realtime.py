"""What the service asks of the kernel for steady times, where it is permitted to. It runs without, less steadily.

A worker is pinned to its cores before it opens anything, so that every thread it will ever have stays there. Real-time priority
and locked memory are taken when it is warm: compiling kernels or building an engine for minutes under SCHED_FIFO would starve
the box. They are taken for all threads that are there by then, and those that start later inherit the priority: a thread of
lower priority that holds Python's lock would hold up the loop.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.config_sections import RealtimeConfig
from pipeline.messages import Role

_CPU_LATENCY_FILE = Path("/dev/cpu_dma_latency")
_OWN_THREADS = Path("/proc/self/task")
_OWN_STATUS = Path("/proc/self/status")
_THROTTLING = Path("/proc/sys/kernel/sched_rt_runtime_us")
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_CAP_IPC_LOCK = 14

NICE: dict[Role, int] = {"signalling": -15, "acquisition": -10, "inspection": -5, "records": 5, "images": 19}
"""Who goes first when the cores are fewer than the processes: the shorter and the more urgent. Records can lag, images too."""


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


def take_cores(role: Role, config: RealtimeConfig) -> Iterator[str]:
    """To be called before anything is opened. Yields what was not granted, in words."""
    cores = config.cores.get(role)
    if cores:
        yield from _asked(
            f"realtime.cores.{role}: cores {', '.join(map(str, cores))}",
            lambda: _pin(cores),
            "the service's control group (AllowedCPUs) must hold one of them",
        )


def take_urgency(role: Role, config: RealtimeConfig) -> Iterator[str]:
    """To be called when warm. Yields what was not granted, in words."""
    priority = None if role == "images" else config.fifo_priority.get(role)
    if priority is not None:
        yield from _asked(
            f"realtime.fifo_priority.{role}: SCHED_FIFO {priority}",
            lambda: _go_first(priority),
            f"grant CAP_SYS_NICE or LimitRTPRIO={priority}",
        )
        if _is_unthrottled():
            yield (
                f"realtime.fifo_priority.{role}: {_THROTTLING} is -1: a worker that spins would hold its core for ever; "
                "set it back to 950000 unless each worker has a core to itself and others are left"
            )
    # These may lag, and work for a disk anyway.
    if config.lock_memory and role not in ("records", "images"):
        yield from _asked(
            f"realtime.lock_memory: mlockall of {role}", _lock_memory, "grant CAP_IPC_LOCK or LimitMEMLOCK=infinity"
        )


def _asked(what: str, take: Callable[[], None], remedy: str) -> Iterator[str]:
    try:
        take()
    except OSError as error:
        yield f"{what} not granted ({error.strerror}, errno {error.errno}): {remedy}"


def _threads() -> list[int]:
    return [int(entry.name) for entry in _OWN_THREADS.iterdir()]


def _pin(cores: Sequence[int]) -> None:
    for thread in _threads():
        os.sched_setaffinity(thread, cores)


def _go_first(priority: int) -> None:
    for thread in _threads():
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))


def _is_unthrottled() -> bool:
    try:
        return _THROTTLING.read_text().strip() == "-1"
    except OSError:
        return False


def _lock_memory() -> None:
    """Only without a limit: under one, what is mapped later (a thread's stack) would fail for want of it."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        raise PermissionError(1, f"RLIMIT_MEMLOCK is {limit} bytes")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _has_capability(number: int) -> bool:
    for line in _OWN_STATUS.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
