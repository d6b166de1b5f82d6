"""Where pylon writes frames to: memory of ours, handed out one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pypylon import pylon

Pixels = npt.NDArray[np.uint8]


class Buffers(pylon.BufferFactory):  # type: ignore[misc]  # pypylon has no types
    """pylon allocates one buffer after the other when grabbing starts, and writes into them in that order. A grab result's
    buffer context is the buffer's address.
    """

    def __init__(self, memories: Iterable[Pixels]) -> None:
        super().__init__()
        self._free = deque(memories)
        # They have to live as long as pylon may write into them.
        self._taken: list[Pixels] = []

    def AllocateBuffer(self, buffer_size: int) -> tuple[int | None, int]:  # noqa: N802 - pypylon's names
        """None makes pylon say that it could not be had."""
        if not self._free or self._free[0].nbytes < buffer_size:
            return None, 0
        memory = self._free.popleft()
        self._taken.append(memory)
        return memory.ctypes.data, memory.ctypes.data

    def forget(self) -> None:
        """Lets go of the memories: pylon, which has stopped, keeps this object for a while."""
        self._free.clear()
        self._taken.clear()

    def FreeBuffer(self, _buffer: int, _context: int) -> None:  # noqa: N802 - pypylon's name
        """The memory is its owner's."""
