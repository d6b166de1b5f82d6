"""A stand-in for a camera behind pypylon that gives frames as a test wants them: gaps, times, chunks, a slow end.

It holds buffers as pylon does: written in the order in which they were allocated or released, and one whose result is not
released is not written.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from pipeline.camera_config import PylonCamera
from pipeline.cameras.asked_clock import Asked, ask
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.pylon_device import PylonDevice

Pixels = npt.NDArray[np.uint8]
MONO8 = 0x01080001


class StandInResult:
    """A grab result; ``given`` replaces what its methods return."""

    def __init__(self, device: StandInPylon, memory: Pixels, **given: Any) -> None:
        self._device = device
        self._memory = memory
        self._given = given
        self.is_released = False

    def __getattr__(self, name: str) -> Callable[[], Any]:
        return lambda: self._given[name]

    def GetBufferContext(self) -> int:  # noqa: N802 - pypylon's names
        return self._memory.ctypes.data

    def GetPayloadSize(self) -> int:  # noqa: N802
        return int(self._given.get("payload_bytes", self._device.payload_bytes))

    def GetChunkNode(self, name: str) -> Any:  # noqa: N802
        return SimpleNamespace(GetValue=lambda: self._given[name]) if name in self._given else None

    def Release(self) -> None:  # noqa: N802
        assert not self.is_released
        self.is_released = True
        self._device.buffers.append(self._memory)


class StandInPylon:
    """See the module's text. ``numbers`` and ``ticks_per_s`` are what the device says of itself, ``clock_ns``
    its clock where it can be asked.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        number_count: int = 1 << 64,
        ticks_per_s: int = 10**9,
        clock_ns: Callable[[], int] | None = None,
        payload_bytes: int | None = None,
    ) -> None:
        self.width_px, self.height_px = size
        self.payload_bytes = payload_bytes or self.width_px * self.height_px
        self.number_count, self.ticks_per_s, self.clock_ns = number_count, ticks_per_s, clock_ns
        self.clock_asked = self.ask_clock()
        self.buffers: deque[Pixels] = deque()
        self.dropped = 0
        self.may_stop = threading.Event()
        self.may_stop.set()
        self.remove: Callable[[], None] = lambda: None
        self._results: deque[StandInResult] = deque()
        self._signal = -1
        self.wait_object = SimpleNamespace(GetFd=lambda: self._signal)

    def open(self, _config: PylonCamera, on_removed: Callable[[], None]) -> PylonDevice:
        """As ``PylonDevice`` is called."""
        self.remove = on_removed
        self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        return cast(PylonDevice, self)

    def show(self, pixels: Pixels | None = None, number: int = 0, timestamp: int = 0, **given: Any) -> None:
        """One frame arrives."""
        if not self.buffers:
            self.dropped += 1
            return
        memory = self.buffers.popleft()
        if pixels is not None:
            memory[: pixels.size] = pixels.reshape(-1)
        values = {
            "GetBlockID": number,
            "GetTimeStamp": timestamp,
            "GrabSucceeded": True,
            "GetWidth": self.width_px,
            "GetHeight": self.height_px,
            "GetPixelType": MONO8,
            "GetPaddingX": 0,
            "GetErrorDescription": "",
            "GetErrorCode": 0,
        }
        self._results.append(StandInResult(self, memory, **{**values, **given}))
        os.eventfd_write(self._signal, 1)

    def ask_clock(self) -> Asked | None:
        return None if self.clock_ns is None else ask(lambda: None, self.clock_ns)

    def start(self, memories: Sequence[Pixels]) -> None:
        self.buffers.extend(memories)

    def retrieve(self) -> StandInResult | None:
        if not self._results:
            return None
        os.eventfd_read(self._signal)
        return self._results.popleft()

    def lost(self) -> CameraUnavailable:
        return CameraUnavailable("camera cam0: no longer answers")

    def is_ready_for_trigger(self) -> bool:
        return False

    def trigger(self) -> None:
        raise AssertionError("never ready")

    def stop(self) -> None:
        self.may_stop.wait()
        self.buffers.clear()

    def close(self) -> None:
        os.close(self._signal)
