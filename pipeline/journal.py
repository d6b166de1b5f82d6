"""A camera's journal: each trigger that its acquisition has read, in memory that outlives the processes.

Acquisition writes a trigger down before it tells signalling; signalling marks how far it has taken them down as parts. What lies
between is told by nobody when both die: whoever comes next finds it here.

It is a circle over trigger_counter, which goes on over acquisition's incarnations, so that one number says how far signalling has
come. An entry is whole where its check fits: one that is torn by a kill, or that another core sees half, is not there yet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from pipeline.messages import Trigger

_CHECK = struct.Struct("<I")
_ENTRY = struct.Struct("<IQqq?7xq")
_ENTRY_BYTES = _CHECK.size + _ENTRY.size
_COUNTER_AT = slice(8, 16)
_MARK_BYTES = 64
_NO_KEY = -1
LAYOUT = f"{_MARK_BYTES} {_CHECK.format} {_ENTRY.format}"
"""Names what a journal's bytes mean."""


def journal_bytes(room: int) -> int:
    """What a journal with room for so many triggers takes."""
    return _MARK_BYTES + room * _ENTRY_BYTES


class Journal:
    """``write`` is for the camera's acquisition alone, ``mark_told`` for signalling; ``memory`` is zero at first."""

    def __init__(self, memory: memoryview) -> None:
        self._mark = memory[:8].cast("Q")
        self._entries = memory[_MARK_BYTES:]
        self._room = len(self._entries) // _ENTRY_BYTES
        self._full_at = self.told + self._room

    @property
    def told(self) -> int:
        """The trigger_counter up to which signalling has marked them as taken down."""
        return self._mark[0]

    def mark_told(self, trigger_counter: int) -> None:
        self._mark[0] = trigger_counter

    def write(self, trigger: Trigger) -> bool:
        """Write the next trigger down. False where there is no room: that many have not been told."""
        counter = trigger.trigger_counter
        if counter > self._full_at:
            self._full_at = self.told + self._room
            if counter > self._full_at:
                return False
        count, key = trigger.encoder_count, trigger.part_key
        entry = _ENTRY.pack(
            trigger.source,
            counter,
            count or 0,
            trigger.trigger_ns,
            count is not None,
            _NO_KEY if key is None else key,
        )
        at = counter % self._room * _ENTRY_BYTES
        self._entries[at : at + _ENTRY_BYTES] = _CHECK.pack(zlib.crc32(entry)) + entry
        return True

    def after(self, trigger_counter: int, camera_id: str) -> Iterator[Trigger]:
        """The triggers that follow this one, as far as they are whole; ``camera_id`` names the camera in them."""
        while True:
            trigger_counter += 1
            at = trigger_counter % self._room * _ENTRY_BYTES
            packet = bytes(self._entries[at : at + _ENTRY_BYTES])
            (check,) = _CHECK.unpack_from(packet)
            source, counter, count, trigger_ns, has_count, key = _ENTRY.unpack_from(packet, _CHECK.size)
            if counter != trigger_counter or check != zlib.crc32(packet[_CHECK.size :]):
                return
            encoder_count, part_key = count if has_count else None, key if key != _NO_KEY else None
            yield Trigger(camera_id, source, counter, encoder_count, trigger_ns, part_key)

    def damaged_count(self) -> int:
        """What says that triggers may be missing: the entry that was told last gone, and whole entries behind one that is not."""
        counters = np.frombuffer(self._entries, np.uint8).reshape(-1, _ENTRY_BYTES)[:, _COUNTER_AT].copy().view("<u8")
        # Read after them, as acquisition may be writing.
        told, last = self.told, self.last()
        behind = counters[(counters > last + 1) & (counters <= last + self._room)].tolist()
        is_mark_alone = told > 0 and int(counters[told % self._room, 0]) not in (told, told + self._room)
        return is_mark_alone + sum(next(self.after(counter - 1, ""), None) is not None for counter in behind)

    def last(self) -> int:
        """The newest trigger_counter in it, 0 where there is none."""
        told = self.told
        return told + sum(1 for _ in self.after(told, ""))
