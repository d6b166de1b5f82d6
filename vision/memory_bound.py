"""A bound on the memory that opening a stranger's model may take, held by the kernel."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DATA_PAGES = 5
"""Of ``/proc/self/statm``: data and stack, what RLIMIT_DATA counts."""

LOAD_MAX_BYTES = 8 << 30

_FAILED_ALLOCATIONS = ("std::bad_alloc", "Failed to allocate memory", "std::length_error")


@contextmanager
def memory_bound(extra_bytes: int) -> Iterator[None]:
    """While this lasts, the process may hold ``extra_bytes`` of private memory more than now; an allocation beyond fails.

    A soft limit on the data of the whole process (RLIMIT_DATA), all its threads included; what it was before comes back at the
    end. protobuf and ONNX Runtime report a failed allocation as an error of theirs, Python as MemoryError. Memory shared with
    other processes, mapped files and a GPU's own memory do not count. A lower limit that is there already stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = _held_bytes() + extra_bytes
    for limit in (soft, hard):
        if limit != resource.RLIM_INFINITY:
            bound = min(bound, limit)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def load_max_bytes() -> int:
    """What opening a model and its first runs may take: half of the box's memory, at most ``LOAD_MAX_BYTES``."""
    return min(LOAD_MAX_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a failed allocation, ONNX Runtime's among them, which has no type of its own."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in _FAILED_ALLOCATIONS)


def _held_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(pages[_DATA_PAGES]) * os.sysconf("SC_PAGE_SIZE")
