"""Writes a window in a thread of its own, so that the loop that feeds it waits for no disk. What waits for the disk is bounded."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import LateInspection, PartMade
from pipeline.window_format import FrameFacts, FrameKey, WindowFacts, WindowLimits
from pipeline.window_writer import CannotRecord, WindowWriter
from vision.faults import FaultsError

_IDLE_S = 0.2
_LAST_PARTS_NS = 3 * NS_PER_S
"""So long after its end parts are told that were triggered before it, and what comes late."""
_PART_BYTES = 4_096
"""About what a part takes while it waits."""


class WindowRecorder:
    """One window: offered by one thread, written by another, begun by ``start``. ``fault`` says why there is none, or no more."""

    def __init__(
        self,
        folder: Path,
        facts: WindowFacts,
        limits: WindowLimits,
        model: Path,
        *,
        settle_ns: int,
        memory_bytes: int,
    ) -> None:
        self.folder = folder
        self.fault = ""
        self.is_done = False
        """Whether all is written and closed, or nothing more will be."""
        self.said = ""
        """How it ended, for people."""
        self._open = (facts, limits, model, settle_ns)
        self._settle_ns = settle_ns
        self._memory_bytes = memory_bytes
        self._gate = threading.Condition()
        self._waiting: deque[tuple[int, Callable[[WindowWriter], object]]] = deque()
        self._waiting_bytes = 0
        self._lost_waiting = 0
        self._is_finishing = False
        self.frame_count = 0
        self.part_count = 0
        self.lost_count = 0
        # A daemon: one that hangs in the kernel must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="window-recorder", daemon=True)

    @property
    def has_died(self) -> bool:
        """Whether, once started, it ended before it was done."""
        return not self._thread.is_alive() and not self.is_done

    def start(self) -> None:
        self._thread.start()

    def frame(self, facts: FrameFacts, pixels: npt.NDArray[np.uint8]) -> None:
        """``pixels`` is this process's own copy, C-contiguous, and stays as it is. Counted as lost where too much waits already."""
        flat = pixels.reshape(-1)
        with self._gate:
            if self._waiting_bytes + flat.nbytes > self._memory_bytes:
                self._lost_waiting += 1
                self.lost_count += 1
                return
        self._offer(flat.nbytes, lambda writer: writer.add_frame(facts, flat))

    def part(self, made: PartMade) -> None:
        keys = tuple(FrameKey(key.camera_id, key.source, key.trigger_counter) for key in made.frames)
        self._offer(_PART_BYTES, lambda writer: writer.add_part(keys, made.result_json))

    def late(self, late: LateInspection) -> None:
        self._offer(_PART_BYTES, lambda writer: writer.add_late(late.part_id, late.arrived_ns, late.view))

    def finish(self) -> None:
        """Nothing more will be offered: what waits is written, and the window closed."""
        with self._gate:
            self._is_finishing = True
            self._gate.notify()

    def _offer(self, size_bytes: int, add: Callable[[WindowWriter], object]) -> None:
        with self._gate:
            if not self.is_done:
                self._waiting.append((size_bytes, add))
                self._waiting_bytes += size_bytes
                self._gate.notify()

    def _run(self) -> None:
        facts, limits, model, settle_ns = self._open
        try:
            writer = WindowWriter(self.folder, facts, limits, model, settle_ns=settle_ns)
        except (CannotRecord, FaultsError) as error:
            self.fault = str(error)
        else:
            self._write(writer)
        with self._gate:
            self.is_done = True
            self._waiting.clear()

    def _write(self, writer: WindowWriter) -> None:
        closes_ns: int | None = None
        while closes_ns is None or now_ns() < closes_ns:
            with self._gate:
                if not self._waiting and not self._is_finishing:
                    self._gate.wait(_IDLE_S)
                if not self._waiting and self._is_finishing:
                    break
                size_bytes, add = self._waiting.popleft() if self._waiting else (0, _nothing)
                lost, self._lost_waiting = self._lost_waiting, 0
            if lost:
                writer.lose(lost, "memory")
            before = writer.lost_count
            add(writer)
            self.frame_count, self.part_count = writer.frame_count, writer.part_count
            with self._gate:
                self._waiting_bytes -= size_bytes
                self.lost_count += writer.lost_count - before
            if closes_ns is None and writer.ended_by is not None:
                closes_ns = now_ns() + self._settle_ns + _LAST_PARTS_NS
        end = writer.close()
        counts = end.counts
        lost_words = f", {sum(counts.frames_lost.values())} frames lost" if counts.frames_lost else ""
        self.said = f"window {self.folder}: {counts.parts} parts, {counts.frames} frames{lost_words}: {end.text}"
        if end.by == "fault":
            self.fault = self.said


def _nothing(_: WindowWriter) -> None:
    """Nothing came: only the time is looked at."""
