"""Suite ``record``: how fast the record takes rows, what they take on the disk, how fast they are read again, and whether a month
of them grows.

Writing takes turns with the named alternative: the same rows, as the same JSON, with the same pragmas, key and syncs, into one
plain SQLite table, without chain, segments or totals. The month is played in compressed time: the store's wall clock is the
suite's own, and rows, size of segments and quota are all divided by ``scale``, so that as many segments are sealed and
dropped as in the month itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.bench.statistics import median_ratio
from pipeline.bench.tampering import made_results
from pipeline.clock import NS_PER_S, wall_text
from pipeline.config_sections import RecordsConfig
from pipeline.payloads import DefectResult, ResultPayload, encode
from pipeline.record.anchor import Anchor
from pipeline.record.export import CannotExport, export
from pipeline.record.files import record_files
from pipeline.record.reader import read_rows
from pipeline.record.segment import LOG_BYTES, PAGE_BYTES, read_segments, seal_of
from pipeline.record.store import RecordStore
from pipeline.record.verify import verify
from pipeline.retention import is_to_be_sealed, past_limits

BATCHES_ROWS = (2, 200, 2_000)
"""6,000 parts a minute with a commit every 20 ms; a burst; and the most that the service commits at once."""
_BLOCKS = 6
_BLOCK_ROWS = {2: 2_000, 200: 10_000, 2_000: 20_000}
_SYNC_INTERVAL_S = 1.0
_SESSION = "s0"
_DAY_S = 86_400
_FULL_SEGMENT_MIB = 256
_MONTH_BEGINS_NS = 1_767_225_600 * NS_PER_S
_MONTH_BATCH_ROWS = 100
_MONTH_SYNC_S = 3_600
_FLAT_SHARE = 0.02
"""Of what is written a day: a disk that grows by less is called flat."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Retention:
    """As configured for the whole month; one of the two."""

    keep_days: float | None = None
    keep_max_gib: float | None = None


RETENTIONS = {"by age": Retention(keep_days=7.0), "by size": Retention(keep_max_gib=16.0)}


def record(
    *, scale: int = 128, days: int = 30, parts_per_min: float = 1_200.0, blocks: int = _BLOCKS, progress: Progress
) -> dict[str, Any]:
    """``scale`` divides rows, segments and quota of the month. Raises OSError and sqlite3.Error where the disk is full."""
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        folder = Path(name)
        writing = {}
        for rows in BATCHES_ROWS:
            progress(f"writing in batches of {rows}")
            writing[str(rows)] = _write(folder / f"batch-{rows}", rows, blocks)
        progress("reading")
        reading = _read(folder / f"batch-{BATCHES_ROWS[-1]}" / "records.db", folder)
        months = {}
        for kind, retention in RETENTIONS.items():
            progress(f"a month, pruned {kind}")
            months[kind] = month(
                folder / kind, retention, scale=scale, days=days, parts_per_min=parts_per_min, progress=progress
            )
    return {
        "suite": "record",
        "alternative": "plain SQLite table: same rows, pragmas, key and syncs; no chain, segments, totals",
        "row": "one view, two defects",
        "sync_interval_s": _SYNC_INTERVAL_S,
        "writing": writing,
        "reading": reading,
        "month": months,
        "broken_promises": {
            "findings": reading["findings"] + sum(each["verified"]["findings"] for each in months.values()),
            "months_not_flat": sum(not each["is_flat"] for each in months.values()),
            "roots_not_proven": sum(not each["is_archive_proven"] for each in months.values()),
        },
    }


# --- writing -----------------------------------------------------------------------------------------------------


class _Plain:
    """The alternative."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute(f"PRAGMA wal_autocheckpoint = {LOG_BYTES // PAGE_BYTES}")
        self._database.execute(
            "CREATE TABLE part (id INTEGER PRIMARY KEY, session_id TEXT NOT NULL, part_id INTEGER NOT NULL, seq INTEGER NOT NULL,"
            " verdict TEXT NOT NULL, reason TEXT NOT NULL, encoder_count INTEGER, trigger_ns INTEGER NOT NULL,"
            " trigger_utc TEXT NOT NULL, decided_ns INTEGER NOT NULL, sent_ns INTEGER, deadline_ns INTEGER NOT NULL,"
            " body TEXT NOT NULL, UNIQUE (session_id, part_id))"
        )

    def commit(self, results: Sequence[ResultPayload]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        self._database.executemany(
            "INSERT INTO part (session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns, trigger_utc, decided_ns,"
            " sent_ns, deadline_ns, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
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
                    encode(result).decode(),
                )
                for result in results
            ],
        )
        self._database.execute("COMMIT")

    def sync(self) -> None:
        descriptor = os.open(f"{self._path}-wal", os.O_RDONLY)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._database.close()


def _write(folder: Path, batch_rows: int, blocks: int) -> dict[str, Any]:
    """Blocks of both take turns, each with the same rows."""
    folder.mkdir()
    block_rows = _BLOCK_ROWS[batch_rows]
    store = _open(folder / "records.db")
    plain = _Plain(folder / "plain.db")
    us_a_row: dict[str, list[float]] = {"record": [], "plain": []}
    results = two_defects(made_results(block_rows * blocks, parts_a_session=block_rows * blocks))
    with closing(store), closing(plain):
        for block in range(blocks):
            rows = [next(results) for _ in range(block_rows)]
            turns: list[tuple[str, Callable[[Sequence[ResultPayload]], object], Callable[[], None]]] = [
                ("record", lambda batch: store.commit(batch, []), store.sync),
                ("plain", plain.commit, plain.sync),
            ]
            for name, commit, sync in turns if block % 2 == 0 else reversed(turns):
                us_a_row[name].append(_timed_us(rows, batch_rows, commit, sync) / block_rows)
    sizes = {name: (folder / f"{file}.db").stat().st_size for name, file in (("record", "records"), ("plain", "plain"))}
    return {
        "batch_rows": batch_rows,
        "rows": block_rows * blocks,
        "rows_per_s": {name: round(1e6 / float(np.median(each))) for name, each in us_a_row.items()},
        "slowest_block_rows_per_s": {name: round(1e6 / max(each)) for name, each in us_a_row.items()},
        "time_ratio": median_ratio(us_a_row["record"], us_a_row["plain"]),
        "bytes_a_part": {name: round(size / (block_rows * blocks), 1) for name, size in sizes.items()},
    }


def _timed_us(
    rows: Sequence[ResultPayload],
    batch_rows: int,
    commit: Callable[[Sequence[ResultPayload]], object],
    sync: Callable[[], None],
) -> float:
    """As the service does: a commit a batch, a sync a second, and one at the end."""
    began_s = synced_s = time.perf_counter()
    for first in range(0, len(rows), batch_rows):
        commit(rows[first : first + batch_rows])
        if time.perf_counter() - synced_s > _SYNC_INTERVAL_S:
            sync()
            synced_s = time.perf_counter()
    sync()
    return (time.perf_counter() - began_s) * 1e6


def two_defects(results: Iterator[ResultPayload]) -> Iterator[ResultPayload]:
    """The same parts, each with two defects found."""
    for result in results:
        defects = [
            DefectResult(
                class_name=name,
                score=0.734512,
                camera_id="cam0",
                box_px=(12.25, 40.5, 96.75, 128.0),
                box_mm=None,
                area_mm2=None,
            )
            for name in ("scratch", "chip")
        ]
        yield msgspec.structs.replace(result, defects=defects)


def _open(path: Path, wall_ns: Callable[[], int] = time.time_ns) -> RecordStore:
    return RecordStore(path, _SESSION, budget_us=5_000, deadline_us=40_000, wall_ns=wall_ns)


# --- reading -----------------------------------------------------------------------------------------------------


def _read(path: Path, folder: Path) -> dict[str, Any]:
    began_s = time.perf_counter()
    verified = verify(path)
    verify_s = time.perf_counter() - began_s
    with closing(sqlite3.connect(path)) as database:
        began_s = time.perf_counter()
        rows = sum(1 for _ in database.execute("SELECT id, body, row_hash FROM part ORDER BY id"))
        plain_s = time.perf_counter() - began_s
    told: dict[str, Any] = {
        "rows": rows,
        "findings": verified.finding_count,
        "verified_rows_per_s": round(rows / verify_s),
        "plain_read_rows_per_s": round(rows / plain_s),
    }
    for kind in ("csv", "parquet"):
        target = folder / f"export.{kind}"
        try:
            began_s = time.perf_counter()
            export(read_rows(path), target)
        except CannotExport as error:
            told[kind] = {"not_run": str(error)}
        else:
            rows_per_s = round(rows / (time.perf_counter() - began_s))
            told[kind] = {"exported_rows_per_s": rows_per_s, "bytes_a_part": round(target.stat().st_size / rows, 1)}
    return told


# --- a month -----------------------------------------------------------------------------------------------------


def month(
    folder: Path, retention: Retention, *, scale: int, days: int, parts_per_min: float, progress: Progress
) -> dict[str, Any]:
    """``days`` of a line, everything in it ``scale`` times smaller; sealed and pruned by the service's own rules."""
    folder.mkdir()
    keep_max_gib = None if retention.keep_max_gib is None else retention.keep_max_gib / scale
    limits = RecordsConfig(
        path=folder / "records.db",
        segment_max_mib=_FULL_SEGMENT_MIB // scale,
        keep_days=retention.keep_days,
        keep_max_gib=keep_max_gib,
    )
    wall_ns = _MONTH_BEGINS_NS
    row_ns = round(60 * NS_PER_S / parts_per_min * scale)
    row_count = int(days * _DAY_S * NS_PER_S // row_ns)
    results = two_defects(made_results(row_count, parts_a_session=row_count))
    archive = folder.with_name(f"{folder.name} archive.db")
    anchors: list[Anchor] = []
    samples: list[dict[str, Any]] = []
    dropped_count = sealed_count = written = 0
    began_s = time.perf_counter()
    with closing(_open(limits.path, lambda: wall_ns)) as store:
        next_sample_ns, next_sync_ns = wall_ns + _DAY_S * NS_PER_S, wall_ns
        while written < row_count:
            batch = [_at(next(results), wall_ns) for _ in range(min(_MONTH_BATCH_ROWS, row_count - written))]
            store.commit(batch, [])
            written += len(batch)
            wall_ns += len(batch) * row_ns
            if wall_ns >= next_sync_ns:
                store.sync()
                next_sync_ns = wall_ns + _MONTH_SYNC_S * NS_PER_S
            if is_to_be_sealed(limits, store.size_bytes, store.age_s):
                sealed_count += store.seal()
            for segment in past_limits(limits, store.sealed_segments(), store.size_bytes, written):
                if dropped_count == 0:
                    shutil.copyfile(segment.file, archive)
                segment.file.unlink()
                dropped_count += 1
            if wall_ns >= next_sample_ns:
                next_sample_ns += _DAY_S * NS_PER_S
                samples.append(_sample(folder, store, len(samples) + 1, written, dropped_count))
                row, head = store.head()
                anchors.append(Anchor(row_count=row, head=head))
                progress(f"day {len(samples)}: {samples[-1]['disk_bytes'] >> 20} MiB, {written} rows")
    took_s = time.perf_counter() - began_s
    verified = verify(limits.path, anchors)
    day_bytes = written / days * (verified.rows and _disk_bytes(folder) / verified.rows)
    growth = _growth_a_day(samples, day_bytes)
    return {
        "scale": scale,
        "scaled": f"1 : {scale}: rows, segment_max_mib ({_FULL_SEGMENT_MIB} -> {limits.segment_max_mib}), keep_max_gib",
        "days": days,
        "parts_per_min": parts_per_min,
        "keep_days": limits.keep_days,
        "keep_max_gib": limits.keep_max_gib,
        "took_s": round(took_s, 1),
        "rows_written": written,
        "segments_sealed": sealed_count,
        "segments_dropped": dropped_count,
        "bytes_a_part": round(_disk_bytes(folder) / max(1, verified.rows), 1),
        "growth_share": growth,
        "is_flat": growth is not None and abs(growth) <= _FLAT_SHARE,
        "verified": {
            "findings": verified.finding_count,
            "dropped_rows": verified.dropped_rows,
            "first_row_kept": verified.dropped_rows + 1,
            "rows": verified.rows,
            "covered_rows": verified.covered_rows,
        },
        "is_archive_proven": dropped_count > 0 and _is_proven(archive, limits.path),
        "samples": samples,
    }


def _at(result: ResultPayload, wall_ns: int) -> ResultPayload:
    return msgspec.structs.replace(result, trigger_utc=wall_text(wall_ns))


def _disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _sample(folder: Path, store: RecordStore, day: int, written: int, dropped: int) -> dict[str, Any]:
    return {
        "day": day,
        "disk_bytes": _disk_bytes(folder),
        "rows_written": written,
        "segments": len(store.sealed_segments()) + 1,
        "segments_dropped": dropped,
    }


def _growth_a_day(samples: Sequence[dict[str, Any]], day_bytes: float) -> float | None:
    """By how much the disk grew a day once segments were dropped, as a share of what is written a day: 0 is flat, and 1 what
    a record does that keeps all. None where too few days were left.
    """
    pruned = [sample for sample in samples if sample["segments_dropped"]]
    if len(pruned) < 3 or not day_bytes:
        return None
    slope = np.polyfit([sample["day"] for sample in pruned], [sample["disk_bytes"] for sample in pruned], 1)[0]
    return round(float(slope) / day_bytes, 4)


def _is_proven(archive: Path, record: Path) -> bool:
    """Whether the record's newest file still proves a segment's file that was kept elsewhere and is not there any more."""
    newest = record_files(record)[-1]
    with closing(sqlite3.connect(newest)) as database:
        roots = read_segments(database)
    with closing(sqlite3.connect(archive)) as database:
        own = read_segments(database)[-1]
        last = database.execute("SELECT id, row_hash FROM part ORDER BY id DESC LIMIT 1").fetchone()
    following = next((root for root in roots if root.number == own.number + 1), None)
    return following is not None and last == (own.last_row, own.head) and following.follows == seal_of(own)
