"""The ledger of parts: what signalling must not forget when it is killed.

Memory held by the supervisor, written by signalling alone. A part is in it before its verdict can go out, so a
successor closes what a crash left open and hands on to records what was decided but not yet on disk. It is a
circle over part_id: the newest ``part_count`` parts, which also serve to recognise triggers told twice.

A killed process leaves every store it made, in program order, so the state byte is written last.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vision.types import Reason, Verdict

CAMERAS_MAX = 8
_VERDICTS = tuple(Verdict)
_REASONS = tuple(Reason)
_EMPTY, _OPEN, _DECIDED, _RECORDED = range(4)

_ENTRY = np.dtype(
    [
        ("part_id", "<u8"),
        ("seq", "<u8"),
        ("encoder_count", "<i8"),
        ("trigger_ns", "<i8"),
        ("decided_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("state", "u1"),
        ("has_encoder", "u1"),
        ("verdict", "u1"),
        ("reason", "u1"),
        ("key_count", "u1"),
        ("keys", [("camera", "<u2"), ("source", "<u4"), ("trigger_counter", "<u8")], (CAMERAS_MAX,)),
    ],
    align=True,
)


@dataclass(frozen=True, slots=True)
class TriggerKey:
    """Names one trigger for ever: the camera's position in the line, acquisition's incarnation, its counter."""

    camera: int
    source: int
    trigger_counter: int


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One part as a predecessor left it. While it is open ``verdict`` is None, ``seq`` and ``decided_ns`` are 0."""

    part_id: int
    seq: int
    encoder_count: int | None
    trigger_ns: int
    decided_ns: int
    sent_ns: int | None
    verdict: Verdict | None
    reason: Reason | None
    recorded: bool
    keys: tuple[TriggerKey, ...]


class Ledger:
    """Maps the ledger's memory; ``descriptor`` stays the caller's."""

    def __init__(self, descriptor: int, part_count: int) -> None:
        memory = mmap.mmap(descriptor, part_count * _ENTRY.itemsize, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._entries = np.frombuffer(memory, _ENTRY)
        self._part_count = part_count
        self.unrecorded_overwritten = 0

    @staticmethod
    def create(part_count: int) -> int:
        """New, empty memory for ``part_count`` parts; returns its descriptor."""
        descriptor = os.memfd_create("lineside-ledger", os.MFD_CLOEXEC)
        os.posix_fallocate(descriptor, 0, part_count * _ENTRY.itemsize)
        return descriptor

    def open_part(self, part_id: int, encoder_count: int | None, trigger_ns: int, key: TriggerKey) -> None:
        entry = self._entries[part_id % self._part_count]
        if entry["state"] in (_OPEN, _DECIDED):
            self.unrecorded_overwritten += 1
        entry["state"] = _EMPTY
        entry["part_id"] = part_id
        entry["seq"] = 0
        entry["encoder_count"] = encoder_count if encoder_count is not None else 0
        entry["has_encoder"] = encoder_count is not None
        entry["trigger_ns"] = trigger_ns
        entry["decided_ns"] = 0
        entry["sent_ns"] = 0
        entry["keys"][0] = (key.camera, key.source, key.trigger_counter)
        entry["key_count"] = 1
        entry["state"] = _OPEN

    def add_key(self, part_id: int, key: TriggerKey) -> None:
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] == part_id and entry["key_count"] < CAMERAS_MAX:
            entry["keys"][int(entry["key_count"])] = (key.camera, key.source, key.trigger_counter)
            entry["key_count"] += 1

    def decide(self, part_id: int, seq: int, verdict: Verdict, reason: Reason, decided_ns: int) -> None:
        """Written before the verdict is sent."""
        entry = self._entries[part_id % self._part_count]
        entry["seq"] = seq
        entry["verdict"] = _VERDICTS.index(verdict)
        entry["reason"] = _REASONS.index(reason)
        entry["decided_ns"] = decided_ns
        entry["state"] = _DECIDED

    def sent(self, part_id: int, sent_ns: int) -> None:
        self._entries[part_id % self._part_count]["sent_ns"] = sent_ns

    def recorded(self, part_id: int) -> None:
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] == part_id and entry["state"] == _DECIDED:
            entry["state"] = _RECORDED

    def entries(self) -> Iterator[LedgerEntry]:
        """All parts in it, by part_id."""
        present = self._entries[self._entries["state"] != _EMPTY]
        for entry in present[np.argsort(present["part_id"])]:
            decided = entry["state"] != _OPEN
            yield LedgerEntry(
                part_id=int(entry["part_id"]),
                # A writer killed in the midst of decide() leaves an open part with a seq that nobody ever saw.
                seq=int(entry["seq"]) if decided else 0,
                encoder_count=int(entry["encoder_count"]) if entry["has_encoder"] else None,
                trigger_ns=int(entry["trigger_ns"]),
                decided_ns=int(entry["decided_ns"]) if decided else 0,
                sent_ns=int(entry["sent_ns"]) or None,
                verdict=_VERDICTS[int(entry["verdict"])] if decided else None,
                reason=_REASONS[int(entry["reason"])] if decided else None,
                recorded=bool(entry["state"] == _RECORDED),
                keys=tuple(
                    TriggerKey(int(key["camera"]), int(key["source"]), int(key["trigger_counter"]))
                    for key in entry["keys"][: int(entry["key_count"])]
                ),
            )
