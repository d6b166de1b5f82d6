"""The record as one flat table, a row a part: CSV, or Parquet where pyarrow is installed (extra ``parquet``)."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.record.reader import RecordedRow
from pipeline.tally import STAGES, latency_of

_ROWS_A_GROUP = 20_000
"""Of Parquet: so many are in memory at once."""

COLUMNS: dict[str, type] = {
    "row": int,
    "session_id": str,
    "part_id": int,
    "seq": int,
    "verdict": str,
    "reason": str,
    "encoder_count": int,
    "part_key": int,
    "trigger_utc": str,
    "trigger_ns": int,
    "decided_ns": int,
    "sent_ns": int,
    "deadline_ns": int,
    "latency_us": int,
    **{f"{stage}_us": int for stage in STAGES},
    "recipe_id": str,
    "recipe_version": str,
    "model_sha256": str,
    "calibration_id": str,
    "views": str,
    "defects": str,
    "is_simulated": bool,
    "is_challenge": bool,
    "image_ref": str,
    "lot": str,
    "order": str,
    "serial": str,
    "shift": str,
    "context_sha256": str,
    "row_hash": str,
}
"""In order. ``views`` and ``defects`` are JSON; what a part has not is empty, in Parquet null."""


class CannotExport(RuntimeError):
    """The text says what is missing, or expected."""


def export(rows: Iterable[RecordedRow], target: Path) -> int:
    """Writes the table; by the file's ending ``.csv`` or ``.parquet``. How many rows. Raises CannotExport and OSError."""
    write = {".csv": _write_csv, ".parquet": _write_parquet}.get(target.suffix)
    if write is None:
        raise CannotExport(f"got {target}, expected a file that ends in .csv or .parquet")
    scratch = target.with_name(f".{target.name}.new")
    try:
        count = write((_flat(row) for row in rows), scratch)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def _flat(recorded: RecordedRow) -> list[Any]:
    result = recorded.result
    stages = [result.stages_us.get(stage) for stage in STAGES]
    return [
        recorded.row,
        result.session_id,
        result.part_id,
        result.seq,
        result.verdict,
        result.reason,
        result.encoder_count,
        result.part_key,
        result.trigger_utc,
        result.trigger_ns,
        result.decided_ns,
        result.sent_ns,
        result.deadline_ns,
        latency_of(result),
        *stages,
        result.recipe_id,
        result.recipe_version,
        result.model_sha256,
        result.calibration_id,
        msgspec.json.encode(result.views).decode(),
        msgspec.json.encode(result.defects).decode(),
        result.is_simulated,
        result.is_challenge,
        result.image_ref,
        result.traceability.lot,
        result.traceability.order,
        result.traceability.serial,
        result.traceability.shift,
        result.context_sha256,
        result.row_hash,
    ]


def _write_csv(rows: Iterator[Sequence[Any]], file: Path) -> int:
    count = 0
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def _write_parquet(rows: Iterator[Sequence[Any]], file: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise CannotExport("Parquet needs pyarrow: pip install 'lineside[parquet]'; .csv needs nothing") from None
    kinds = {int: pyarrow.int64(), str: pyarrow.string(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _ROWS_A_GROUP)):
            columns = [
                pyarrow.array(column, kind) for column, kind in zip(zip(*group, strict=True), schema.types, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            count += len(group)
    return count
