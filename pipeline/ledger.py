"""The ledger of parts: what signalling must not forget when it is killed.

Memory that outlives the processes (``ledger_file`` says where it lies), written by signalling alone. A part is in it before
its verdict can go out, so a successor closes what a crash left open and hands on to records what was decided but not yet on
disk. It is a circle over part_id: the newest ``part_count`` parts, which also serve to recognise triggers told twice.

A killed process leaves every store it made, in program order, so the state byte is written last.

Layout: a header, then the head as JSON, then from ``entries_at`` on the entries, then a journal for each camera, which that
camera's acquisition writes.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import zlib
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.journal import LAYOUT, Journal, journal_bytes
from pipeline.messages import Trigger
from pipeline.rules import Matching
from vision.types import Reason, Verdict

CAMERAS_MAX = 8
KEYS_TOLD = 16_384
"""So many parts' trigger keys are read: nothing comes any more for the triggers of older ones."""
_VERDICTS = tuple(Verdict)
_REASONS = tuple(Reason)
_EMPTY, _OPEN, _DECIDED, _RECORDED = range(4)
_NO_KEY = -1
"""No part's key: the controller's numbers are never negative."""

_ENTRY = np.dtype(
    [
        ("part_id", "<u8"),
        ("seq", "<u8"),
        ("encoder_count", "<i8"),
        ("part_key", "<i8"),
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

_HEADER = np.dtype(
    [
        ("magic", "S16"),
        ("layout", "S16"),
        ("part_count", "<u8"),
        ("entries_at", "<u8"),
        ("head_bytes", "<u8"),
        ("head_crc32", "<u8"),
        ("lost_count", "<u8"),
        ("model_sha256", "S64"),
        ("is_halted", "<u8"),
        ("halted", "S1024"),
    ]
)
_HALTED_BYTES_MAX = _HEADER["halted"].itemsize
_MAGIC = b"lineside-ledger"
_LAYOUT_TEXT = repr((_HEADER.descr, _ENTRY.descr, _VERDICTS, _REASONS, LAYOUT))
_LAYOUT = hashlib.sha256(_LAYOUT_TEXT.encode()).hexdigest()[:16].encode()
"""Names what the bytes mean, so that no other version of this program reads them wrongly."""
_NUMBER_MAX = 2**62
"""No identifier or moment gets so far from 0, and no sum of them leaves what a database's integer holds."""
_SHA256 = re.compile(rb"[0-9a-f]{64}")
_Value = TypeVar("_Value")


class BadLedger(ValueError):
    """The memory holds no ledger that this program can read; the text says why."""


class OtherVersion(BadLedger):
    """It may be sound, but another version of this program wrote it."""


class LedgerHead(msgspec.Struct, frozen=True):
    """Whose parts these are, and what a record of them needs besides: the line as it was when they came."""

    session_id: str
    part_count: int
    deadline_ns: int
    encoder_bits: int | None
    reject_offset_pulses: int
    recipe_id: str
    recipe_version: str
    is_simulated: bool
    camera_count: int
    matching: Matching
    calibration_id: str | None = None


class TriggerKey(NamedTuple):
    """Names one trigger for ever: the camera's position in the line, acquisition's incarnation, its counter."""

    camera: int
    source: int
    trigger_counter: int


class LedgerEntry(NamedTuple):
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
    part_key: int | None = None


class Ledger:
    """Maps the ledger's memory; ``descriptor`` stays the caller's. Raises BadLedger where there is none in it, OSError where it
    cannot be mapped.
    """

    def __init__(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        if size < _HEADER.itemsize:
            raise BadLedger(f"{size} bytes are too few for a ledger")
        memory = mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._header = np.frombuffer(memory, _HEADER, 1)
        header = self._header[0]
        if header["magic"] != _MAGIC:
            raise BadLedger("not a ledger")
        if header["layout"] != _LAYOUT:
            raise OtherVersion("written by another version of Lineside")
        self._part_count, entries_at = int(header["part_count"]), int(header["entries_at"])
        head = memory[_HEADER.itemsize : _HEADER.itemsize + int(header["head_bytes"])]
        if zlib.crc32(head) != header["head_crc32"]:
            raise BadLedger("its head is damaged")
        try:
            self.head = msgspec.json.decode(head, type=LedgerHead)
        except msgspec.DecodeError as error:
            raise BadLedger(f"its head: {error}") from error
        journals_at = entries_at + self._part_count * _ENTRY.itemsize
        journal_size = journal_bytes(self._part_count)
        needed = journals_at + self.head.camera_count * journal_size
        if size != needed or self._part_count == 0:
            raise BadLedger(f"{size} bytes, expected {needed} for {self._part_count} parts")
        self._entries = np.frombuffer(memory, _ENTRY, self._part_count, entries_at)
        starts = [journals_at + camera * journal_size for camera in range(self.head.camera_count)]
        self.journals = tuple(Journal(memoryview(memory)[start : start + journal_size]) for start in starts)
        """In the cameras' order in the line."""

    @staticmethod
    def create(head: LedgerHead) -> int:
        """New, empty memory that dies with its last holder; returns its descriptor."""
        descriptor = os.memfd_create("lineside-ledger", os.MFD_CLOEXEC)
        Ledger.format(descriptor, head)
        return descriptor

    @staticmethod
    def format(descriptor: int, head: LedgerHead) -> None:
        """Make an empty ledger of an empty file. Raises OSError where there is no room for it."""
        text = msgspec.json.encode(head)
        entries_at = -(-(_HEADER.itemsize + len(text)) // mmap.PAGESIZE) * mmap.PAGESIZE
        journals_at = entries_at + head.part_count * _ENTRY.itemsize
        os.posix_fallocate(descriptor, 0, journals_at + head.camera_count * journal_bytes(head.part_count))
        header = np.array(
            [(_MAGIC, _LAYOUT, head.part_count, entries_at, len(text), zlib.crc32(text), 0, b"", 0, b"")], _HEADER
        )
        os.pwrite(descriptor, header.tobytes() + text, 0)

    @property
    def model_sha256(self) -> str | None:
        """The model that the parts were judged with, as far as it was known."""
        found = bytes(self._header[0]["model_sha256"])
        return found.decode() if _SHA256.fullmatch(found) else None

    def model_in_use(self, sha256: str) -> None:
        self._header["model_sha256"] = sha256.encode()

    @property
    def halted(self) -> str:
        """Why the line is halted, empty where it is not."""
        header = self._header[0]
        return bytes(header["halted"]).decode(errors="replace") if header["is_halted"] else ""

    def keep_halt(self, reason: str) -> None:
        """Empty: the line is not halted any more."""
        if reason:
            self._header["halted"] = reason.encode()[:_HALTED_BYTES_MAX]
        self._header["is_halted"] = bool(reason)

    @property
    def lost_count(self) -> int:
        """Parts that were overwritten before they were on record, for want of room."""
        return int(self._header[0]["lost_count"])

    def open_part(
        self,
        part_id: int,
        encoder_count: int | None,
        trigger_ns: int,
        key: TriggerKey,
        part_key: int | None = None,
    ) -> None:
        entry = self._entries[part_id % self._part_count]
        if entry["state"] in (_OPEN, _DECIDED):
            # Before the store that loses it: a writer killed in between counts one too many, never one too few.
            self._header["lost_count"] += 1
        entry["state"] = _EMPTY
        entry["part_id"] = part_id
        entry["seq"] = 0
        entry["encoder_count"] = encoder_count if encoder_count is not None else 0
        entry["has_encoder"] = encoder_count is not None
        entry["part_key"] = part_key if part_key is not None else _NO_KEY
        entry["trigger_ns"] = trigger_ns
        entry["decided_ns"] = 0
        entry["sent_ns"] = 0
        entry["keys"][0] = (key.camera, key.source, key.trigger_counter)
        entry["key_count"] = 1
        entry["state"] = _OPEN

    def add_key(
        self, part_id: int, key: TriggerKey, trigger_ns: int | None = None, part_key: int | None = None
    ) -> None:
        """``trigger_ns`` and ``part_key``: the part's from now on, None where they stay."""
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] == part_id and entry["key_count"] < CAMERAS_MAX:
            if trigger_ns is not None:
                entry["trigger_ns"] = trigger_ns
            if part_key is not None:
                entry["part_key"] = part_key
            entry["keys"][int(entry["key_count"])] = (key.camera, key.source, key.trigger_counter)
            entry["key_count"] += 1

    def decide(
        self, part_id: int, seq: int, verdict: Verdict, reason: Reason, decided_ns: int, trigger_ns: int | None = None
    ) -> None:
        """Written before the verdict is sent. ``trigger_ns``: the part's after all, None where it stays."""
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] != part_id:
            # More parts are open than there is room for; it was counted as lost when it was overwritten.
            return
        entry["seq"] = seq
        entry["verdict"] = _VERDICTS.index(verdict)
        entry["reason"] = _REASONS.index(reason)
        entry["decided_ns"] = decided_ns
        if trigger_ns is not None:
            entry["trigger_ns"] = trigger_ns
        entry["state"] = _DECIDED

    def sent(self, part_id: int, sent_ns: int) -> None:
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] == part_id:
            entry["sent_ns"] = sent_ns

    def recorded(self, part_id: int) -> None:
        """To be called once for each part."""
        entry = self._entries[part_id % self._part_count]
        if entry["part_id"] != part_id:
            # It was overwritten, but signalling lived to hand it over all the same.
            self._header["lost_count"] -= 1
        elif entry["state"] == _DECIDED:
            entry["state"] = _RECORDED

    def entries(self) -> list[LedgerEntry]:
        """All parts in it that can be read, by part_id; with keys the newest ``KEYS_TOLD``."""
        present = self._entries[self._readable()]
        present = present[np.argsort(present["part_id"])]
        # Column by column, and tuples without a call in Python for each: it takes a tenth of the time.
        is_decided = present["state"] != _OPEN
        columns = zip(
            present["part_id"].tolist(),
            # A writer killed in the midst of decide() leaves an open part with a seq that nobody ever saw.
            (present["seq"] * is_decided).tolist(),
            _where(present["has_encoder"], present["encoder_count"].tolist()),
            present["trigger_ns"].tolist(),
            (present["decided_ns"] * is_decided).tolist(),
            _where(present["sent_ns"], present["sent_ns"].tolist()),
            _where(is_decided, [_VERDICTS[code] for code in (present["verdict"] * is_decided).tolist()]),
            _where(is_decided, [_REASONS[code] for code in (present["reason"] * is_decided).tolist()]),
            (present["state"] == _RECORDED).tolist(),
            [()] * (len(present) - KEYS_TOLD) + _keys(present[-KEYS_TOLD:]),
            _where(present["part_key"] != _NO_KEY, present["part_key"].tolist()),
            strict=True,
        )
        return list(map(partial(tuple.__new__, LedgerEntry), columns))

    def untold(self, camera_ids: Sequence[str]) -> list[Trigger]:
        """What acquisition has read and nobody has marked as taken down, camera by camera. The first may have become a part all
        the same, where its writer was killed between the two: its key is then in an entry.
        """
        return [
            trigger
            for camera_id, journal in zip(camera_ids, self.journals, strict=True)
            for trigger in journal.after(journal.told, camera_id)
        ]

    def unrecorded_count(self) -> int:
        """Parts in it that records never acknowledged, and triggers in its journals that are no parts yet."""
        unacknowledged = np.count_nonzero((self._entries["state"] != _EMPTY) & (self._entries["state"] != _RECORDED))
        return int(unacknowledged) + len(self.untold([""] * len(self.journals)))

    def damaged_count(self) -> int:
        """Entries that say what cannot be, or cannot be reached, and are not read."""
        in_journals = sum(journal.damaged_count() for journal in self.journals)
        return int(np.count_nonzero((self._entries["state"] != _EMPTY) & ~self._readable())) + in_journals

    def _readable(self) -> NDArray[np.bool_]:
        """Which entries hold a part."""
        entries, part_ids, states = self._entries, self._entries["part_id"], self._entries["state"]
        readable = (states != _EMPTY) & (states <= _RECORDED) & (part_ids >= 1) & (part_ids <= _NUMBER_MAX)
        readable &= part_ids % self._part_count == np.arange(self._part_count)
        readable &= (entries["key_count"] >= 1) & (entries["key_count"] <= CAMERAS_MAX)
        readable &= (entries["part_key"] >= _NO_KEY) & (entries["part_key"] <= _NUMBER_MAX)
        for name in ("trigger_ns", "decided_ns", "sent_ns"):
            readable &= (entries[name] >= -_NUMBER_MAX) & (entries[name] <= _NUMBER_MAX)
        if readable.any():
            # They are parts in a row, and no part was decided before it came: so far from the middle one no number is.
            present = np.sort(part_ids[readable])
            middle = int(present[len(present) // 2])
            readable &= (middle - self._part_count < part_ids.astype(np.int64)) & (part_ids < middle + self._part_count)
            is_verdict = (entries["verdict"] < len(_VERDICTS)) & (entries["reason"] < len(_REASONS))
            is_verdict &= (entries["seq"] >= 1) & (entries["seq"] < middle + self._part_count)
            readable &= (states == _OPEN) | is_verdict
        return np.asarray(readable)


def _where(there: NDArray[np.generic], values: Sequence[_Value]) -> list[_Value | None]:
    """None where nothing is there."""
    return [value if is_there else None for is_there, value in zip(there.tolist(), values, strict=True)]


def _keys(entries: NDArray[np.void]) -> list[tuple[TriggerKey, ...]]:
    """The trigger keys of each entry."""
    counts = entries["key_count"]
    keys = entries["keys"][np.arange(CAMERAS_MAX) < counts[:, np.newaxis]]
    names = ("camera", "source", "trigger_counter")
    flat = map(partial(tuple.__new__, TriggerKey), zip(*(keys[name].tolist() for name in names), strict=True))
    return [tuple(islice(flat, count)) for count in counts.tolist()]
