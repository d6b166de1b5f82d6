"""A wall clock that can be stepped for the service alone; stepping the box's own would hit everybody on it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

_OFFSET = struct.Struct("<q")
# Python imports `sitecustomize` first of all; whatever asks for the time of day afterwards asks the stepped clock.
_SITECUSTOMIZE = """
import mmap, os, struct, time
_descriptor = os.open({file!r}, os.O_RDONLY)
_offset = mmap.mmap(_descriptor, 8, mmap.MAP_SHARED, mmap.PROT_READ)
os.close(_descriptor)
_true_time_ns = time.time_ns
def _time_ns():
    return _true_time_ns() + struct.unpack_from("<q", _offset)[0]
time.time_ns = _time_ns
time.time = lambda: _time_ns() / 1e9
"""


class SteppedClock:
    """Makes ``folder`` and in it what the service's interpreters load at their start."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._file = folder / "offset_ns"
        self._file.write_bytes(_OFFSET.pack(0))
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(file=str(self._file)), encoding="utf-8")

    @property
    def environment(self) -> Mapping[str, str]:
        """To be added to the service's environment."""
        inherited = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join([str(self._folder), *([inherited] if inherited else [])])}

    def step(self, offset_ns: int) -> None:
        """From now on the wall clock is off by so much."""
        with self._file.open("r+b") as file:
            file.write(_OFFSET.pack(offset_ns))
