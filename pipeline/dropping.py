"""Deleting the segments of the record that retention lets go."""

from __future__ import annotations

import time

from pipeline.clock import NS_PER_S, now_ns
from pipeline.record.store import RecordStore
from pipeline.retention import Retention
from pipeline.worker import Supervised

_LOOKED_AT_NS = 10 * NS_PER_S


class Dropping:
    """One segment at a time. Raises the alarms ``record-not-pruned`` and ``wall-clock-set``.

    Attributes:
        dropped_count: segments that were deleted.
    """

    def __init__(self, supervised: Supervised) -> None:
        self._supervised = supervised
        self._limits = supervised.line.config.records
        self._retention = Retention(self._limits)
        self._next_look_ns = 0
        self.dropped_count = 0

    def is_due(self, now_ns: int) -> bool:
        """Whether to call ``drop``; never where everything is kept."""
        is_asked = self._limits.keep_days is not None or self._limits.keep_max_gib is not None
        return is_asked and now_ns >= self._next_look_ns

    def drop(self, store: RecordStore, first_wanted_row: int) -> None:
        """Nothing from ``first_wanted_row`` on goes: somebody still waits for it. Raises RecordFault."""
        self._next_look_ns = now_ns() + _LOOKED_AT_NS
        try:
            sealed, size_bytes = store.sealed_segments(), store.size_bytes
            wall_ns, boot_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            delivered_row = first_wanted_row - 1
            segment = self._retention.next(sealed, size_bytes, delivered_row, wall_ns=wall_ns, boot_ns=boot_ns)
            if segment is not None:
                segment.file.unlink(missing_ok=True)
                self.dropped_count += 1
        except OSError as error:
            text = f"record {self._limits.path}: an old segment cannot be deleted: {error.filename}: {error.strerror}"
            self._supervised.alarm("record-not-pruned", "warning", text)
        else:
            self._supervised.clear_alarm("record-not-pruned")
        if self._retention.trouble:
            self._supervised.alarm("wall-clock-set", "warning", self._retention.trouble)
        else:
            self._supervised.clear_alarm("wall-clock-set")
