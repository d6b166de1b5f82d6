"""What this machine has: memory for the rings (beyond it, they would wake the kernel's out-of-memory killer), and cores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pipeline.ring import ring_bytes
from vision.types import PixelFormat

_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_ONLINE_CORES = Path("/sys/devices/system/cpu/online")
_MIB = 1 << 20


class HasRing(Protocol):
    """What of a camera's configuration says how large its ring is."""

    @property
    def width_px(self) -> int: ...
    @property
    def height_px(self) -> int: ...
    @property
    def pixel_format(self) -> PixelFormat: ...
    @property
    def ring_slots(self) -> int: ...
    @property
    def spare_bytes(self) -> int: ...


def slot_bytes(camera: HasRing) -> int:
    """One frame of this camera, and what comes behind it."""
    return camera.pixel_format.frame_bytes(camera.width_px, camera.height_px) + camera.spare_bytes


class NoRoom(RuntimeError):
    """The rings do not fit into what memory is free now."""


def expect_room(cameras: Sequence[HasRing], more_slots: int = 0) -> None:
    """Before anything is allocated, since what is not there would cost some process its life. ``more_slots``: see
    ``rings_bytes``. Raises NoRoom.
    """
    taken, free = rings_bytes(cameras, more_slots), free_bytes()
    if taken > free:
        raise NoRoom(
            f"the cameras' ring_slots take {in_mib(taken)} of memory, {in_mib(free)} are free; "
            "configure fewer slots or end what else uses memory"
        )


def rings_bytes(cameras: Sequence[HasRing], more_slots: int = 0) -> int:
    """All frame slots of these cameras, and ``more_slots`` in each ring."""
    return sum(ring_bytes(camera.ring_slots + more_slots, slot_bytes(camera)) for camera in cameras)


def memory_bytes() -> int:
    """What this machine has, or what its control group (version 2) allows this process, whichever is less."""
    return min([_meminfo_bytes("MemTotal"), *_cgroup_limits_bytes()])


def free_bytes() -> int:
    """What could be had now without swapping."""
    return min(_meminfo_bytes("MemAvailable"), memory_bytes())


def online_cores() -> set[int]:
    """The cores that are switched on."""
    cores: set[int] = set()
    for span in _ONLINE_CORES.read_text().strip().split(","):
        first, _, last = span.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores


def in_mib(size_bytes: int) -> str:
    """For people."""
    return f"{-(-size_bytes // _MIB)} MiB"


def _meminfo_bytes(name: str) -> int:
    for line in _MEMINFO.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise OSError(f"{_MEMINFO} has no {name}")


def _cgroup_limits_bytes() -> list[int]:
    limits = []
    for line in _OWN_CGROUP.read_text().splitlines():
        if line.startswith("0::"):
            group = Path(line.removeprefix("0::").strip("/"))
            for folder in (group, *group.parents):
                try:
                    text = (_CGROUPS / folder / "memory.max").read_text().strip()
                except OSError:
                    continue
                if text != "max":
                    limits.append(int(text))
    return limits
