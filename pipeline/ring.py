"""Frame slots in shared memory: loan -> publish -> borrow -> release.

The owner (acquisition) keeps the free list and the books in its private memory and lends slots to incarnations of its
readers; what names a reader in the books never names another one. Shared memory holds nothing but slot headers and pixels,
and hand-over is a message, never a flag: the message is the memory barrier. One memfd a ring; the kernel frees it with its
last holder.

Layout: ``slot_count`` slots of ``slot_stride_bytes``, each one page of header and then page-aligned pixels.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import numpy.typing as npt

from vision.types import Frame, PixelFormat

PAGE_BYTES = mmap.PAGESIZE
_FORMATS = tuple(PixelFormat)

HEADER = np.dtype(
    [
        ("generation", "<u8"),
        ("frame_id", "<u8"),
        ("encoder_count", "<i8"),
        ("exposure_ns", "<i8"),
        ("grabbed_ns", "<i8"),
        ("width_px", "<u4"),
        ("height_px", "<u4"),
        ("stride_bytes", "<u4"),
        ("pixel_format", "<u4"),
    ]
)
"""The header at the start of each slot. ``generation`` counts the loans of the slot; exposure_ns and grabbed_ns are
CLOCK_MONOTONIC; encoder_count is 0 where the camera has none (the ticket says which)."""


class StaleGeneration(RuntimeError):
    """The slot was lent again since the ticket was written: its pixels are another frame's."""


class _SlotState(Enum):
    FREE = auto()
    LOANED = auto()
    LENT = auto()
    RETIRED = auto()


@dataclass(frozen=True, slots=True)
class SlotHeader:
    """What the driver knows of a frame when it is complete."""

    frame_id: int
    encoder_count: int | None
    exposure_ns: int
    grabbed_ns: int
    width_px: int
    height_px: int
    stride_bytes: int
    pixel_format: PixelFormat


@dataclass(frozen=True, slots=True)
class Slot:
    """A loan: ``pixels`` is uint8 (slot_bytes,), writable, page-aligned, the shared memory itself."""

    index: int
    generation: int
    pixels: npt.NDArray[np.uint8]


def _slot_stride_bytes(slot_bytes: int) -> int:
    return PAGE_BYTES + -(-slot_bytes // PAGE_BYTES) * PAGE_BYTES


def ring_bytes(slot_count: int, slot_bytes: int) -> int:
    """The memory that a ring takes."""
    return slot_count * _slot_stride_bytes(slot_bytes)


class _Mapping:
    """The memory of a ring, seen from one process."""

    def __init__(self, descriptor: int, slot_count: int, slot_bytes: int, *, writable: bool) -> None:
        self.slot_count = slot_count
        self.slot_bytes = slot_bytes
        stride = _slot_stride_bytes(slot_bytes)
        length = slot_count * stride
        size = os.fstat(descriptor).st_size
        if size != length or not length:
            raise ValueError(f"ring of {slot_count} x {slot_bytes} bytes takes {length} bytes, the memory has {size}")
        access = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        memory = mmap.mmap(descriptor, length, mmap.MAP_SHARED | mmap.MAP_POPULATE, access)
        # The arrays below keep the map alive; it is unmapped when the last view of it is gone.
        self.headers: list[npt.NDArray[np.void]] = [
            np.frombuffer(memory, HEADER, count=1, offset=index * stride) for index in range(slot_count)
        ]
        self.pixels: list[npt.NDArray[np.uint8]] = [
            np.frombuffer(memory, np.uint8, count=slot_bytes, offset=index * stride + PAGE_BYTES)
            for index in range(slot_count)
        ]


class Ring:
    """The owner's side."""

    def __init__(self, name: str, slot_count: int, slot_bytes: int) -> None:
        """Raises ValueError for empty dimensions and OSError where the memory cannot be had."""
        if slot_count < 1 or slot_bytes < 1:
            raise ValueError(f"ring {name}: got {slot_count} slots of {slot_bytes} bytes, expected at least 1 of each")
        self.descriptor = os.memfd_create(f"lineside-{name}", os.MFD_CLOEXEC)
        try:
            # posix_fallocate takes the pages now: a full machine fails here and not with SIGBUS on a frame.
            os.posix_fallocate(self.descriptor, 0, ring_bytes(slot_count, slot_bytes))
            self._mapping = _Mapping(self.descriptor, slot_count, slot_bytes, writable=True)
        except OSError:
            os.close(self.descriptor)
            raise
        self._states = [_SlotState.FREE] * slot_count
        self._generations = [0] * slot_count
        self._readers: list[Hashable | None] = [None] * slot_count
        self._free = list(range(slot_count))

    @property
    def slot_count(self) -> int:
        return self._mapping.slot_count

    @property
    def slot_bytes(self) -> int:
        return self._mapping.slot_bytes

    @property
    def free_count(self) -> int:
        return len(self._free)

    def loan(self) -> Slot | None:
        """An empty slot for the driver to fill, or None where all are taken; what to do then, and counting it, is the
        caller's.
        """
        if not self._free:
            return None
        index = self._free.pop(0)
        self._states[index] = _SlotState.LOANED
        self._generations[index] += 1
        self._mapping.headers[index]["generation"] = self._generations[index]
        return Slot(index, self._generations[index], self._mapping.pixels[index])

    def publish(self, slot: Slot, header: SlotHeader, *, reader: Hashable) -> None:
        """Write the header and lend the slot to ``reader``; the caller then sends the ticket.

        Raises ValueError where the slot is not on loan or the frame does not fit it.
        """
        self._expect(slot, _SlotState.LOANED)
        needed = header.stride_bytes * header.height_px
        if needed > self.slot_bytes or header.stride_bytes < header.pixel_format.row_bytes(header.width_px):
            raise ValueError(
                f"frame {header.frame_id} of {header.width_px}x{header.height_px} {header.pixel_format.value}, "
                f"{header.stride_bytes} bytes a row, does not fit a slot of {self.slot_bytes} bytes"
            )
        record = self._mapping.headers[slot.index]
        record[0] = (
            slot.generation,
            header.frame_id,
            header.encoder_count if header.encoder_count is not None else 0,
            header.exposure_ns,
            header.grabbed_ns,
            header.width_px,
            header.height_px,
            header.stride_bytes,
            _FORMATS.index(header.pixel_format),
        )
        self._states[slot.index] = _SlotState.LENT
        self._readers[slot.index] = reader

    def take_back(self, slot: Slot) -> None:
        """Return a loan that was not published."""
        self._expect(slot, _SlotState.LOANED)
        self._set_free(slot.index)

    def retire(self, slot: Slot) -> None:
        """Never use this slot again: a device may still write to it."""
        self._expect(slot, _SlotState.LOANED)
        self._states[slot.index] = _SlotState.RETIRED

    def release(self, index: int, generation: int, *, reader: Hashable) -> None:
        """The reader is done with the slot. Raises StaleGeneration where it no longer held it."""
        self._expect_lent(index, generation, reader)
        self._set_free(index)

    def hand_on(self, index: int, generation: int, *, reader: Hashable, to: Hashable) -> None:
        """The reader is done with the slot, or dead and reaped, and the next one gets it as it is; the caller then sends the
        ticket. Raises StaleGeneration where ``reader`` no longer held it.
        """
        self._expect_lent(index, generation, reader)
        self._readers[index] = to

    def held(self, reader: Hashable) -> list[int]:
        """The slots that are lent to this reader."""
        return [
            index
            for index in range(self.slot_count)
            if self._states[index] is _SlotState.LENT and self._readers[index] == reader
        ]

    def reclaim(self, reader: Hashable) -> int:
        """Take back all that a dead **and reaped** incarnation held; returns how many slots that were."""
        held = self.held(reader)
        for index in held:
            self._set_free(index)
        return len(held)

    def close(self) -> None:
        os.close(self.descriptor)

    def _expect(self, slot: Slot, state: _SlotState) -> None:
        if self._states[slot.index] is not state or self._generations[slot.index] != slot.generation:
            raise ValueError(
                f"slot {slot.index}, generation {slot.generation}: is {self._states[slot.index].name} in generation "
                f"{self._generations[slot.index]}, expected {state.name}"
            )

    def _expect_lent(self, index: int, generation: int, reader: Hashable) -> None:
        if (
            not 0 <= index < self.slot_count
            or self._states[index] is not _SlotState.LENT
            or self._generations[index] != generation
            or self._readers[index] != reader
        ):
            raise StaleGeneration(f"slot {index}, generation {generation}: not lent to reader {reader}")

    def _set_free(self, index: int) -> None:
        self._states[index] = _SlotState.FREE
        self._readers[index] = None
        self._free.append(index)


class RingReader:
    """A reader's side: sees the pixels in place, read-only. Takes ownership of ``descriptor``."""

    def __init__(self, camera_id: str, descriptor: int, slot_count: int, slot_bytes: int) -> None:
        self.camera_id = camera_id
        try:
            self._mapping = _Mapping(descriptor, slot_count, slot_bytes, writable=False)
        finally:
            os.close(descriptor)

    def borrow(self, index: int, generation: int) -> Frame:
        """The frame of a ticket, in place. Raises StaleGeneration where the slot was lent again since."""
        self.check(index, generation)
        header = self._mapping.headers[index][0]
        pixel_format = _FORMATS[int(header["pixel_format"])]
        width, height, stride = int(header["width_px"]), int(header["height_px"]), int(header["stride_bytes"])
        rows = self._mapping.pixels[index][: stride * height].reshape(height, stride)
        pixels = rows[:, : pixel_format.row_bytes(width)].reshape(pixel_format.shape(width, height))
        return Frame(self.camera_id, int(header["frame_id"]), pixel_format, pixels)

    def check(self, index: int, generation: int) -> None:
        """Raises StaleGeneration where the slot no longer holds the ticket's frame; call again after reading."""
        found = int(self._mapping.headers[index]["generation"][0])
        if found != generation:
            raise StaleGeneration(
                f"camera {self.camera_id}, slot {index}: holds generation {found}, the ticket says {generation}"
            )
