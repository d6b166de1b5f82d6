"""What the kernel says of the service's processes, from /proc.

Memory is told in three ways. RSS counts every resident page in full, in each process that maps it: the frames' ring twice, the
interpreter and its libraries five times. PSS shares such a page out among those that map it, so that the processes' figures add up
to what the service really takes; but it moves when any other program on the box that maps the same files comes or goes. Anonymous
memory, heaps and stacks, is the process's alone: what leaks, leaks there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.messages import Role

_PROC = Path("/proc")
_ROLES: tuple[Role, ...] = ("acquisition", "inspection", "signalling", "records", "images")
_BYTES_PER_KIB = 1_024
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PPID, _USER_TICKS, _SYSTEM_TICKS, _THREADS = 1, 11, 12, 17
"""Places in /proc/PID/stat, counted behind the name."""
_STEAL_TICKS = 8
"""Place in the first line of /proc/stat."""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process at one moment; ``cpu_s`` is user and system time since it started."""

    pid: int
    rss_bytes: int
    pss_bytes: int
    anonymous_bytes: int
    descriptors: int
    threads: int
    cpu_s: float


def sample_service(supervisor_pid: int) -> dict[str, ProcessSample]:
    """A sample of each of ``service_pids``."""
    samples = {name: _sample(pid) for name, pid in service_pids(supervisor_pid).items()}
    return {name: sample for name, sample in samples.items() if sample is not None}


def service_pids(supervisor_pid: int) -> dict[str, int]:
    """The supervisor and its workers by role, those that live. With several cameras the acquisitions are numbered by age."""
    pids = {"supervisor": supervisor_pid}
    for pid in sorted(_children(supervisor_pid)):
        role = _role(pid)
        if role is not None:
            name, number = str(role), 2
            while name in pids:
                name, number = f"{role} {number}", number + 1
            pids[name] = pid
    return pids


def stolen_cpu_s() -> float:
    """What the host of a virtual machine has kept from its cores since it started, summed over them; 0 on bare metal."""
    with (_PROC / "stat").open() as lines:
        return int(lines.readline().split()[_STEAL_TICKS]) / _TICKS_PER_S


def _children(parent: int) -> list[int]:
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None and int(fields[_PPID]) == parent
    ]


def _role(pid: int) -> Role | None:
    """By the command line, ``python -m pipeline.ROLE ...``; None for another program, or one that has just ended."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((role for role in _ROLES if f"pipeline.{role}".encode() in words), None)


def _sample(pid: int) -> ProcessSample | None:
    """None where the process has ended meanwhile."""
    folder = _PROC / str(pid)
    fields = _stat(pid)
    if fields is None:
        return None
    try:
        memory = (folder / "smaps_rollup").read_text()
        descriptors = len(list((folder / "fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in memory.splitlines()[1:]}
    return ProcessSample(
        pid=pid,
        rss_bytes=kib["Rss"] * _BYTES_PER_KIB,
        pss_bytes=kib["Pss"] * _BYTES_PER_KIB,
        anonymous_bytes=kib["Anonymous"] * _BYTES_PER_KIB,
        descriptors=descriptors,
        threads=int(fields[_THREADS]),
        cpu_s=(int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_S,
    )


def _stat(pid: int) -> list[str] | None:
    """From the state on: what stands before is the name in brackets, which may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
