"""The ledger: what a killed writer leaves is what its successor reads. Torn writes are tried in test_deadline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec
import pytest

from pipeline.ledger import CAMERAS_MAX, KEYS_TOLD, BadLedger, Ledger, LedgerEntry, LedgerHead, TriggerKey
from pipeline.rules import Matching
from vision.types import Reason, Verdict

PARTS = 8
KEY = TriggerKey(1, 2, 3)
MATCHING = Matching(encoder_bits=16, pulses=5, window_ns=0)
HEAD = LedgerHead("a1", PARTS, 40_000_000, 16, 800, "cells", "3", True, 1, MATCHING)


@pytest.fixture
def open_ledger() -> Iterator[Callable[[], Ledger]]:
    """Each call maps the same memory again, as a successor does."""
    descriptor = Ledger.create(HEAD)
    yield lambda: Ledger(descriptor)
    os.close(descriptor)


def test_a_new_ledger_is_empty(open_ledger: Callable[[], Ledger]) -> None:
    assert open_ledger().entries() == []


def test_a_successor_reads_what_was_written(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    extremes = TriggerKey(2**16 - 1, 2**32 - 1, 2**64 - 1)
    writer.open_part(3, -(2**63), 2**62, extremes, 2**62)
    writer.open_part(1, 0, 100, KEY, 0)
    writer.open_part(2, None, 200, KEY)
    writer.decide(1, 1, Verdict.PASS, Reason.OK, 150)
    writer.sent(1, 160)
    writer.decide(2, 2, Verdict.NO_DECISION, Reason.CHALLENGE, 250)
    writer.recorded(1)
    assert open_ledger().entries() == [
        LedgerEntry(1, 1, 0, 100, 150, 160, Verdict.PASS, Reason.OK, True, (KEY,), 0),
        LedgerEntry(2, 2, None, 200, 250, None, Verdict.NO_DECISION, Reason.CHALLENGE, False, (KEY,)),
        LedgerEntry(3, 0, -(2**63), 2**62, 0, None, None, None, False, (extremes,), 2**62),
    ]


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("reason", list(Reason))
def test_every_verdict_and_reason_is_kept(open_ledger: Callable[[], Ledger], verdict: Verdict, reason: Reason) -> None:
    writer = open_ledger()
    writer.open_part(1, 5, 100, KEY)
    writer.decide(1, 1, verdict, reason, 150)
    (entry,) = open_ledger().entries()
    assert (entry.verdict, entry.reason) == (verdict, reason)


def test_all_cameras_triggers_are_kept(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    keys = tuple(TriggerKey(camera, 1, 9) for camera in range(CAMERAS_MAX))
    writer.open_part(1, 5, 100, keys[0])
    for key in keys[1:]:
        writer.add_key(1, key)
    writer.add_key(1, TriggerKey(8, 1, 9))  # there is no ninth camera; the neighbour's entry stays whole
    (entry,) = open_ledger().entries()
    assert entry.keys == keys


def test_the_circle_keeps_the_newest_parts_and_counts_what_it_lost(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    for part_id in range(1, PARTS + 4):
        writer.open_part(part_id, 5, part_id, TriggerKey(0, 1, part_id))
        writer.decide(part_id, part_id, Verdict.PASS, Reason.OK, part_id)
        if part_id != 2:
            writer.recorded(part_id)
    assert [entry.part_id for entry in open_ledger().entries()] == list(range(4, PARTS + 4))
    assert open_ledger().lost_count == 1  # a successor knows of it
    writer.recorded(2)  # its entry is another part's by now, but it came on record all the same
    assert open_ledger().lost_count == 0
    writer.add_key(2, KEY)
    assert all(len(entry.keys) == 1 for entry in open_ledger().entries())


def test_a_part_may_be_named_by_a_later_trigger(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    writer.open_part(1, 5, 1, KEY)
    writer.add_key(1, TriggerKey(1, 1, 1), part_key=8)
    writer.add_key(1, TriggerKey(2, 1, 1))
    (entry,) = open_ledger().entries()
    assert entry.part_key == 8


def test_an_overwritten_part_is_not_marked_recorded(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    writer.open_part(1, 5, 1, KEY)
    writer.decide(1, 1, Verdict.PASS, Reason.OK, 2)
    writer.open_part(1 + PARTS, 5, 3, KEY)
    writer.decide(1 + PARTS, 2, Verdict.PASS, Reason.OK, 4)
    writer.recorded(1)
    (entry,) = open_ledger().entries()
    assert not entry.recorded


def test_a_verdict_on_an_overwritten_part_is_not_its_successors(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    writer.open_part(1, 5, 1, KEY)
    writer.open_part(1 + PARTS, 6, 3, KEY)
    writer.decide(1, 1, Verdict.PASS, Reason.OK, 4)
    writer.sent(1, 5)
    assert open_ledger().entries() == [LedgerEntry(1 + PARTS, 0, 6, 3, 0, None, None, None, False, (KEY,))]
    assert open_ledger().lost_count == 1


def test_a_full_circle_is_read_as_it_was_written() -> None:
    """All kinds of parts among many; the oldest without keys, since nobody tells their triggers again."""
    part_count = KEYS_TOLD + 100
    descriptor = Ledger.create(msgspec.structs.replace(HEAD, part_count=part_count))
    writer = Ledger(descriptor)
    written = []
    for part_id in range(1_001, 1_001 + part_count):
        encoder_count = part_id if part_id % 3 else None
        keys = tuple(TriggerKey(camera, 1, part_id) for camera in range(1 + part_id % CAMERAS_MAX))
        verdict, reason = (Verdict.REJECT, Reason.DEFECT) if part_id % 4 else (None, None)
        seq, decided_ns = (part_id - 1_000, part_id + 5) if verdict else (0, 0)
        sent_ns = part_id + 6 if verdict and part_id % 5 else None
        part_key = 7 * part_id if part_id % 7 else None
        writer.open_part(part_id, encoder_count, 2 * part_id, keys[0], part_key)
        for key in keys[1:]:
            writer.add_key(part_id, key)
        if verdict and reason:
            writer.decide(part_id, seq, verdict, reason, decided_ns)
        if sent_ns:
            writer.sent(part_id, sent_ns)
        if part_id % 6 == 0:
            writer.recorded(part_id)  # of an open part it says nothing
        recorded = verdict is not None and part_id % 6 == 0
        keys = keys if part_id > 1_100 else ()
        written.append(
            LedgerEntry(
                part_id, seq, encoder_count, 2 * part_id, decided_ns, sent_ns, verdict, reason, recorded, keys, part_key
            )
        )
    assert Ledger(descriptor).entries() == written
    os.close(descriptor)


def test_what_is_open_or_unacknowledged_is_unrecorded(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    for part_id in (1, 2, 3):
        writer.open_part(part_id, 5, part_id, KEY)
    writer.decide(1, 1, Verdict.PASS, Reason.OK, 4)
    writer.decide(2, 2, Verdict.PASS, Reason.OK, 4)
    writer.recorded(1)
    assert open_ledger().unrecorded_count() == 2


def test_the_head_says_whose_parts_these_are(open_ledger: Callable[[], Ledger]) -> None:
    writer = open_ledger()
    assert (open_ledger().head, open_ledger().model_sha256) == (HEAD, None)
    writer.model_in_use("0f" * 32)
    assert open_ledger().model_sha256 == "0f" * 32


@pytest.mark.parametrize("length", [1, 63])
def test_a_model_that_was_half_written_is_none(open_ledger: Callable[[], Ledger], length: int) -> None:
    open_ledger().model_in_use("a" * length)
    assert open_ledger().model_sha256 is None


def test_a_long_head_takes_more_room() -> None:
    head = LedgerHead("a1", PARTS, 1, None, 0, "r" * 10_000, "1", False, 1, MATCHING)
    descriptor = Ledger.create(head)
    ledger = Ledger(descriptor)
    ledger.open_part(PARTS - 1, 5, 1, KEY)
    assert Ledger(descriptor).head == head
    assert len(Ledger(descriptor).entries()) == 1
    os.close(descriptor)


@pytest.mark.parametrize(
    ("at", "written", "told"),
    [
        (0, b"another thing", "not a ledger"),
        (16, b"0123456789abcdef", "another version"),
        (32, b"\xff", r"expected \d+ for 255 parts"),
        (1_168, b"!", "its head is damaged"),
    ],
)
def test_what_is_no_ledger_is_refused(at: int, written: bytes, told: str) -> None:
    descriptor = Ledger.create(HEAD)
    os.pwrite(descriptor, written, at)
    with pytest.raises(BadLedger, match=told):
        Ledger(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("size", [0, 64, 4096, 5000])
def test_memory_that_is_too_small_is_refused(size: int) -> None:
    descriptor = Ledger.create(HEAD)
    os.ftruncate(descriptor, size)
    with pytest.raises(BadLedger, match=f"{size} bytes"):
        Ledger(descriptor)
    os.close(descriptor)
