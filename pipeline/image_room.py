"""The waiting room: frames that wait for their part's name, and then for the disk. Bounded; the oldest goes first, and is counted.

It knows no clocks, files or threads.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.messages import FrameKey, PartMade
from pipeline.payloads import DefectResult
from vision.types import PixelFormat, Reason, Verdict

PARTS_REMEMBERED = 4_096
"""The newest so many frames' parts are known when the frame comes after the name."""
UNNAMED_NS = 60 * NS_PER_S
"""So long a frame waits for its part's name."""


class PartImages(msgspec.Struct, frozen=True):
    """Of a part's result, what its pictures need. ``image_ref`` is None where none is to be kept."""

    part_id: int
    verdict: str
    reason: str
    image_ref: str | None
    defects: list[DefectResult]


_decode = msgspec.json.Decoder(PartImages).decode


@dataclass(frozen=True, slots=True, eq=False)
class HeldFrame:
    """A frame of our own: ``pixels`` as in ``vision.types.Frame``, but no other's memory."""

    key: FrameKey
    pixels: npt.NDArray[np.uint8]
    pixel_format: PixelFormat
    unless_passed: bool
    taken_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class NamedFrame:
    """A frame to be written."""

    frame: HeldFrame
    part: PartImages
    image_ref: str


class Room:
    """Frames come by ``enter``, their names, before or after, by ``name``; ``take`` gives what is to be written next."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._unnamed: OrderedDict[FrameKey, HeldFrame] = OrderedDict()
        self._named: deque[NamedFrame] = deque()
        self._parts: OrderedDict[FrameKey, PartImages] = OrderedDict()
        self.held_bytes = 0
        """With what is being written."""
        self.dropped_count = 0

    @property
    def named_count(self) -> int:
        return len(self._named)

    @property
    def frame_count(self) -> int:
        return len(self._named) + len(self._unnamed)

    def enter(self, frame: HeldFrame) -> None:
        """Take a frame in; an older one may have to go for it, or it itself."""
        doubled = self._unnamed.pop(frame.key, None)
        if doubled is not None:
            self._drop(doubled)
        self.held_bytes += frame.pixels.nbytes
        self._unnamed[frame.key] = frame
        part = self._parts.get(frame.key)
        if part is not None:
            self._name(frame.key, part)
        while self.held_bytes > self._max_bytes and self.frame_count:
            self._drop_oldest()

    def name(self, made: PartMade) -> None:
        """Whose frames these are. Told again it counts as well: the frame may come only now."""
        part = _decode(made.result_json)
        for key in made.frames:
            self._parts.pop(key, None)
            self._parts[key] = part
            if key in self._unnamed:
                self._name(key, part)
        while len(self._parts) > PARTS_REMEMBERED:
            self._parts.popitem(last=False)

    def take(self) -> NamedFrame | None:
        """The next to write; then say ``written`` or ``put_back``."""
        return self._named.popleft() if self._named else None

    def written(self, named: NamedFrame) -> None:
        """It is in a file, or will never be: its memory is free."""
        self.held_bytes -= named.frame.pixels.nbytes

    def put_back(self, named: NamedFrame) -> None:
        """It is the next one again, while there is room for it."""
        self._named.appendleft(named)

    def expire(self, now_ns: int) -> None:
        """Drop what nobody has named in time."""
        while self._unnamed and next(iter(self._unnamed.values())).taken_ns < now_ns - UNNAMED_NS:
            self._drop(self._unnamed.popitem(last=False)[1])

    def drop_all(self) -> None:
        """The end: nothing more will be written."""
        while self.frame_count:
            self._drop_oldest()

    def _name(self, key: FrameKey, part: PartImages) -> None:
        frame = self._unnamed.pop(key)
        is_passed = frame.unless_passed and part.verdict == Verdict.PASS.value
        if is_passed or part.reason == Reason.NOT_RUNNING.value:
            self.held_bytes -= frame.pixels.nbytes
        elif part.image_ref is None:
            # Handed on, and too late for the row to say so.
            self._drop(frame)
        else:
            self._named.append(NamedFrame(frame, part, part.image_ref))

    def _drop_oldest(self) -> None:
        unnamed = next(iter(self._unnamed.values()), None)
        if unnamed is None or (self._named and self._named[0].frame.taken_ns <= unnamed.taken_ns):
            self._drop(self._named.popleft().frame)
        else:
            self._drop(self._unnamed.pop(unnamed.key))

    def _drop(self, frame: HeldFrame) -> None:
        self.held_bytes -= frame.pixels.nbytes
        self.dropped_count += 1
