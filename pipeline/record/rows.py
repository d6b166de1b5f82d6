"""The rows of the record as they are written and read back: parts, and what an inspection said after its part was decided."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pipeline.messages import LateInspection
from pipeline.payloads import ResultPayload
from pipeline.record.chain import link
from pipeline.record.faults import RecordDamaged
from pipeline.tally import STAGES

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(ResultPayload)


def insert_row(database: sqlite3.Connection, number: int, result: ResultPayload, follows: str) -> str:
    """Writes it as the next one; ``follows`` is the hash of the one before. Returns its own. Raises sqlite3.Error."""
    body = _encode(result)
    row_hash = link(follows, body)
    database.execute(
        "INSERT INTO part (id, session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns, trigger_utc,"
        " decided_ns, sent_ns, deadline_ns, body, row_hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            number,
            result.session_id,
            result.part_id,
            result.seq,
            result.verdict,
            result.reason,
            result.encoder_count,
            result.trigger_ns,
            result.trigger_utc,
            result.decided_ns,
            result.sent_ns,
            result.deadline_ns,
            body.decode(),
            row_hash,
        ),
    )
    return row_hash


def decode_row(path: Path, body: object, row_hash: str) -> ResultPayload:
    """A row as it was written, with its hash. Raises RecordDamaged."""
    return msgspec.structs.replace(decode_body(path, body), row_hash=row_hash)


def decode_body(path: Path, body: object) -> ResultPayload:
    """A row as it is hashed; ``path`` is for the error's text. Raises RecordDamaged."""
    try:
        result = _decoder.decode(body)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as error:
        raise RecordDamaged(f"record {path}: a row holds no result: {error}") from error
    stages = result.stages_us.keys()
    needed = {*STAGES[:-1]} if result.sent_ns is None else {*STAGES}
    if not stages <= {*STAGES} or ("handover" in stages and not needed <= stages):
        raise RecordDamaged(f"record {path}: a row holds no result: its stages are {sorted(stages)}")
    return result


def insert_late(database: sqlite3.Connection, session_id: str, late: Iterable[LateInspection]) -> int:
    """Those that are there already are left as they are. Returns how many are new. Raises sqlite3.Error."""
    written = database.executemany(
        "INSERT OR IGNORE INTO late_inspection (session_id, part_id, camera_id, arrived_ns, body) VALUES (?, ?, ?, ?, ?)",
        [
            (
                session_id,
                item.part_id,
                item.view.camera_id,
                item.arrived_ns,
                _encode(msgspec.structs.asdict(item.view)).decode(),
            )
            for item in late
        ],
    ).rowcount
    return max(0, written)
