"""Writes a window in a thread of its own, so that the loop that feeds it waits for no disk. What waits for the disk is bounded."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.calibration_store import CalibrationsInForce
from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import LateInspection, PartMade
from pipeline.window.format import FrameFacts, FrameKey, WindowFacts, WindowLimits
from pipeline.window.writer import CannotRecord, WindowWriter
from vision.faults import FaultsError

_IDLE_S = 0.2
_PARTS_BYTES = 8 << 20
"""So much of parts and late inspections may wait, beside the frames."""
_PART_BYTES = 1_024
"""About what a part takes while it waits, beside its result."""
_SLOT = "slot"
"""Frames that never came here: acquisition counts them itself."""


class _Waiting(NamedTuple):
    is_frame: bool
    size_bytes: int
    add: Callable[[WindowWriter], object]


class WindowRecorder:
    """One window: offered by one thread, written by another, begun by ``start``. ``fault`` says why there is none, or not all of
    it.
    """

    def __init__(
        self,
        folder: Path,
        facts: WindowFacts,
        limits: WindowLimits,
        model: Path,
        calibrations: CalibrationsInForce | None,
        *,
        settle_ns: int,
        parts_after_ns: int,
        memory_bytes: int,
    ) -> None:
        """``parts_after_ns``: so long after its last frames parts are told that were triggered before its end, and what comes
        late.
        """
        self.folder = folder
        self.fault = ""
        self.is_done = False
        """Whether all is written and closed, or nothing more will be."""
        self.said = ""
        """How it ended, for people."""
        self.until_ns: int | None = None
        """Frames that come until then are wanted; None while it has not begun."""
        self._open = (facts, limits, model, calibrations, settle_ns)
        self._settle_ns = settle_ns
        self._parts_after_ns = parts_after_ns
        self._memory_bytes = memory_bytes
        self._takes_until_ns = now_ns() + int(limits.max_s * NS_PER_S) + settle_ns + parts_after_ns
        self._gate = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._in_hand: _Waiting | None = None
        self._waiting_bytes = {True: 0, False: 0}
        """Of frames, and of the rest."""
        self._untold: Counter[tuple[bool, str]] = Counter()
        """Lost frames, or the rest, by reason; the writer does not know of them yet."""
        self._lost = {True: 0, False: 0}
        self._without_slot = 0
        self._is_finishing = False
        self._is_closing = False
        self.frame_count = 0
        self.part_count = 0
        # A daemon: one that hangs in the kernel must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="window-recorder", daemon=True)

    @property
    def has_died(self) -> bool:
        """Whether, once started, it ended before it was done."""
        return not self._thread.is_alive() and not self.is_done

    def start(self) -> None:
        self._thread.start()

    @property
    def lost_count(self) -> int:
        """Frames that came here and are not in the window."""
        return self._lost_of(True) - self._without_slot

    @property
    def parts_lost_count(self) -> int:
        """Late inspections among them."""
        return self._lost_of(False)

    def frame(self, facts: FrameFacts, pixels: npt.NDArray[np.uint8]) -> None:
        """``pixels`` is this process's own copy, C-contiguous, and stays as it is. Counted as lost where too much waits already."""
        flat = pixels.reshape(-1)
        self._offer(_Waiting(True, flat.nbytes, lambda writer: writer.add_frame(facts, flat)))

    def part(self, made: PartMade) -> None:
        """Counted as lost where too much waits already."""
        keys = tuple(FrameKey(key.camera_id, key.source, key.trigger_counter) for key in made.frames)
        size_bytes = _PART_BYTES + len(made.result_json)
        self._offer(_Waiting(False, size_bytes, lambda writer: writer.add_part(keys, made.result_json)))

    def late(self, late: LateInspection) -> None:
        """As a part."""
        self._offer(
            _Waiting(False, _PART_BYTES, lambda writer: writer.add_late(late.part_id, late.arrived_ns, late.view))
        )

    def lose_without_slot(self, frames: int) -> None:
        """So many frames found no way here; the window tells of them, ``lost_count`` does not."""
        with self._gate:
            if not self._is_closing:
                self._without_slot += frames
                self._untold[True, _SLOT] += frames

    def lose_parts(self, parts: int, why: str) -> None:
        """So many parts were not told."""
        with self._gate:
            if not self._is_closing:
                self._untold[False, why] += parts

    def finish(self) -> None:
        """Nothing more will be offered: what waits is written, and the window closed."""
        with self._gate:
            self._is_finishing = True
            self._gate.notify()

    def abandon(self) -> None:
        """There is no more time: what waits is lost, and counted."""
        with self._gate:
            waiting = [*self._waiting, *([self._in_hand] if self._in_hand is not None else [])]
            self._waiting.clear()
            for each in waiting:
                self._untold[each.is_frame, "stopped"] += 1
            self._is_closing = self._is_finishing = True
            self.fault = f"window {self.folder}: not all of it was written before its process ended: "
            frames = sum(each.is_frame for each in waiting)
            self.fault += f"{frames} frames and {len(waiting) - frames} parts were waiting"
            self._gate.notify()

    def _lost_of(self, is_frame: bool) -> int:
        with self._gate:
            return self._lost[is_frame] + sum(n for (kind, _), n in self._untold.items() if kind == is_frame)

    def _offer(self, offered: _Waiting) -> None:
        with self._gate:
            # By this thread's clock: the other one may hang on its disk.
            if self._is_closing or now_ns() >= self._takes_until_ns:
                return
            size_bytes = self._waiting_bytes[offered.is_frame] + offered.size_bytes
            if size_bytes > (self._memory_bytes if offered.is_frame else _PARTS_BYTES):
                self._untold[offered.is_frame, "memory"] += 1
                return
            self._waiting.append(offered)
            self._waiting_bytes[offered.is_frame] = size_bytes
            self._gate.notify()

    def _run(self) -> None:
        facts, limits, model, calibrations, settle_ns = self._open
        try:
            writer = WindowWriter(self.folder, facts, limits, model, calibrations, settle_ns=settle_ns)
        except (CannotRecord, FaultsError) as error:
            self.fault = str(error)
        else:
            self._write(writer)
        with self._gate:
            self.is_done = self._is_closing = True
            self._waiting.clear()

    def _write(self, writer: WindowWriter) -> None:
        self.until_ns = writer.end_ns + self._settle_ns
        self._takes_until_ns = self.until_ns + self._parts_after_ns
        closes_ns: int | None = None
        while closes_ns is None or now_ns() < closes_ns:
            with self._gate:
                if not self._waiting and not self._is_finishing:
                    self._gate.wait(_IDLE_S)
                if not self._waiting and self._is_finishing:
                    break
            self._add_next(writer)
            if closes_ns is None and (ended_by := writer.ended_by) is not None:
                closes_ns = self._takes_until_ns = now_ns() + self._settle_ns + self._parts_after_ns
                if ended_by != "max_s":
                    self.until_ns = writer.end_ns
        with self._gate:
            self._is_closing = True
        while self._add_next(writer):
            pass
        end = writer.close()
        counts = end.counts
        lost_words = f", {sum(counts.frames_lost.values())} frames lost" if counts.frames_lost else ""
        lost_words += f", {sum(counts.parts_lost.values())} parts lost" if counts.parts_lost else ""
        self.said = f"window {self.folder}: {counts.parts} parts, {counts.frames} frames{lost_words}: {end.text}"
        if end.by not in ("told", "max_s"):
            self.fault = self.said

    def _add_next(self, writer: WindowWriter) -> bool:
        """What came first, and what was lost meanwhile. False where nothing waits."""
        with self._gate:
            taken = self._in_hand = self._waiting.popleft() if self._waiting else None
            for (is_frame, why), count in self._untold.items():
                (writer.lose if is_frame else writer.lose_parts)(count, why)
            self._untold.clear()
            self._lost = {True: writer.lost_count, False: writer.parts_lost_count}
        if taken is None:
            return False
        taken.add(writer)
        with self._gate:
            self._in_hand = None
            self._waiting_bytes[taken.is_frame] -= taken.size_bytes
            self.frame_count, self.part_count = writer.frame_count, writer.part_count
            self._lost = {True: writer.lost_count, False: writer.parts_lost_count}
        return True
