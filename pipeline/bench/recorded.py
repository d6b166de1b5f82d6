"""Reads the record of a run, row by row: what was decided, and what it took."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pipeline.clock import NS_PER_US
from pipeline.payloads import ResultPayload
from pipeline.record.files import record_files
from pipeline.tally import latency_of

_INSPECTION_STAGES = ("handover", "preprocess", "inference", "judge")


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """One part. ``is_sent``: the verdict was handed to the broker's socket. ``latency_us``: frame in memory -> socket;
    ``inspection_us``: frame in memory -> judged. None where there was no such thing in time.
    """

    session_id: str
    part_id: int
    trigger_ns: int
    verdict: str
    reason: str
    is_sent: bool
    latency_us: int | None
    inspection_us: int | None


@dataclass(frozen=True, slots=True)
class LateView:
    """A view that was judged after its part was decided."""

    session_id: str
    part_id: int
    trigger_ns: int
    inspection_us: int


class _Judged(msgspec.Struct):
    grabbed_ns: int
    judged_ns: int


_PARTS = "SELECT session_id, part_id, trigger_ns, verdict, reason, body FROM part ORDER BY id"
_LATE_VIEWS = (
    "SELECT late.session_id, late.part_id, part.trigger_ns, late.body FROM late_inspection AS late"
    " JOIN part ON part.session_id = late.session_id AND part.part_id = late.part_id ORDER BY late.id"
)
_decode_result = msgspec.json.Decoder(ResultPayload).decode
_decode_judged = msgspec.json.Decoder(_Judged).decode


def read_parts(record: Path) -> Iterator[RecordedPart]:
    """Every part, in the order of the record."""
    for file in record_files(record):
        for session_id, part_id, trigger_ns, verdict, reason, body in _rows(file, _PARTS):
            result = _decode_result(body)
            stages_us = result.stages_us
            yield RecordedPart(
                session_id=session_id,
                part_id=part_id,
                trigger_ns=trigger_ns,
                verdict=verdict,
                reason=reason,
                is_sent=result.sent_ns is not None,
                latency_us=latency_of(result),
                inspection_us=sum(stages_us[stage] for stage in _INSPECTION_STAGES) if stages_us else None,
            )


def read_late_views(record: Path) -> Iterator[LateView]:
    """Every late inspection of a part in the same segment, with the moment of its trigger."""
    for file in record_files(record):
        for session_id, part_id, trigger_ns, body in _rows(file, _LATE_VIEWS):
            judged = _decode_judged(body)
            # As the stages are: a difference of rounded moments.
            inspection_us = judged.judged_ns // NS_PER_US - judged.grabbed_ns // NS_PER_US
            yield LateView(session_id, part_id, trigger_ns, inspection_us)


def count_rows(record: Path) -> int:
    """How many parts were ever put on record, at once however many: rows are numbered from 1 over all segments."""
    with contextlib.closing(_open(record_files(record)[-1])) as database:
        ask = "SELECT coalesce(max(id), (SELECT max(first_row) - 1 FROM segment)) FROM part"
        return int(database.execute(ask).fetchone()[0])


def _rows(file: Path, ask: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.closing(_open(file)) as database:
        yield from database.execute(ask)


def _open(record: Path) -> sqlite3.Connection:
    """To look on while the service writes."""
    return sqlite3.connect(f"{record.resolve().as_uri()}?mode=ro", uri=True)
