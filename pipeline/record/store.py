"""The record of every verdict: one row a part, each committing to the row before by its hash, in one SQLite file a segment."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from pipeline.clock import NS_PER_S, wall_text
from pipeline.messages import GiveReview, LateInspection
from pipeline.outbox import Delivered, Row, RowsRead
from pipeline.payloads import COUNT_MAX, ResultPayload
from pipeline.record.beside import (
    forget_key_changes,
    keep_context,
    keep_key_changes,
    kept_contexts,
    read_key_changes,
)
from pipeline.record.chain import NO_HASH, link
from pipeline.record.context import Context
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone, fault_of
from pipeline.record.files import sealed_name
from pipeline.record.reviews import Review, decode_review, insert_review
from pipeline.record.roots import open_sealed, read_roots
from pipeline.record.segment import (
    bears_a_mark,
    check_kind,
    create_tables,
    first_segment,
    no_record,
    note_part_ranges,
    read_segments,
    seconds_of,
    segments_with_part,
)
from pipeline.retention import SealedSegment
from pipeline.tally import STAGES, Tally
from pipeline.traceability import KeyChange, KeySchedule

_LOCK_WAIT_S = 0.25
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_SET_UTC = "2020"
"""An earlier time is that of a box whose clock nobody had set yet."""
_TALLY_EVERY_ROWS = 1_000

_FIND_PART = """
WITH RECURSIVE session (id) AS (
    SELECT max(session_id) FROM part
    UNION ALL
    SELECT (SELECT max(session_id) FROM part WHERE session_id < session.id) FROM session WHERE session.id IS NOT NULL
)
SELECT part.id, part.session_id, part.verdict, part.row_hash
FROM session JOIN part ON part.session_id = session.id AND part.part_id = ?1
WHERE ?2 IS NULL OR session.id = ?2
ORDER BY part.id DESC LIMIT 1
"""
"""The newest part of this number, by the index of each session's parts."""

_READ_ROWS = "SELECT id, body, row_hash FROM part WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
_FILES_AT_ONCE = 8
"""Sealed segments that are opened at once for rows to be told."""

_result_decoder = msgspec.json.Decoder(ResultPayload)
_decode_held = msgspec.json.Decoder(tuple[tuple[int, int], ...]).decode
_encode = msgspec.json.Encoder().encode


class RecordStore:
    """The segment that is written to. One writer; readers may look on."""

    def __init__(
        self,
        path: Path,
        session_id: str,
        *,
        budget_us: int,
        deadline_us: int,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Opens or creates the file and takes up the session's totals. ``wall_ns`` tells ages. Raises RecordFault."""
        self._path = path
        self._session_id = session_id
        self._budget_us, self._deadline_us = budget_us, deadline_us
        self._wall_ns = wall_ns
        self._is_run_begun = False
        self._forgets_keys = False
        self._unwritten_keys: list[KeyChange] = []
        """With the next transaction they are on record."""
        self.cut_off: deque[str] = deque()
        """Sessions that ended with the box, to be told; found when the file is opened, or with the first commit."""
        self.troubles: deque[str] = deque()
        """Of files beside the record that were passed over when a segment was begun, to be told."""
        self._last_sealed_part: dict[str, int] = {}
        """By session, as far as it was asked for: its highest part in the sealed segments."""
        self._last_sealed_late_ns: int | None = None
        """When the newest sealed segment's last late inspection of this session came; None: not asked yet."""
        self._open()

    def _open(self) -> None:
        path = self._path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                self._begin()
            # Asked before SQLite makes them itself.
            was_left_open = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm"))
            self._database = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
        except OSError as error:
            raise RecordFault(f"record {path}: {error}") from error
        except sqlite3.Error as error:
            if path.is_dir():
                raise RecordFault(
                    f"record {path}: got a folder, expected a file; name another under records.path"
                ) from error
            raise fault_of(path, error) from error
        try:
            if check_kind(path, self._database):
                self._database.close()
                self._begin()
                self._database = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
            own = read_segments(self._database)[-1]
            if own.sealed_utc is not None:
                # Killed between sealing and giving the file its name.
                self.close()
                self._name_sealed(own.number)
                self._open()
                return
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._segments = read_segments(self._database)
            self.tally = self._load_tally()
            self.delivered = _read_delivered(self._database)
            self._contexts = kept_contexts(self._database)
            self.schedule = KeySchedule(_boot_id(), self._read_key_changes())
            self._forgets_keys, self._unwritten_keys = False, []
            self._begin_run_if_it_goes()
            self._identity = _identity(path)
            self._is_name_synced = False
        except sqlite3.Error as error:
            self.close()
            fault = fault_of(path, error)
            if isinstance(fault, RecordDamaged) and not was_left_open and not bears_a_mark(path):
                raise no_record(path) from error
            raise fault from error
        except RecordFault:
            self.close()
            raise
        self._rows_since_tally = 0

    def _begin(self) -> None:
        """The segment after the last one that was sealed; its file is there whole or not at all."""
        roots, begun_utc = read_roots(self._path), wall_text(self._wall_ns())
        before, number = roots.segments, roots.next_number
        own = before[-1].next(begun_utc, number) if before else first_segment(begun_utc, number)
        self._segments = [*before, own]
        inherited = self._inherited_tally()
        scratch = self._path.with_name(f"{self._path.name}.new")
        scratch.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            create_tables(database, self._segments, roots.part_ranges)
            if inherited is not None:
                _keep_tally(database, self._session_id, inherited, own.first_row - 1)
            _keep_delivered(database, self._inherited_delivered())
            keep_key_changes(database, self._inherited_key_changes())
            database.executemany("INSERT INTO run VALUES (?, ?, ?, NULL)", self._inherited_runs())
            database.execute("COMMIT")
        for suffix in ("-wal", "-shm"):
            # Of a file that is gone: SQLite would take it for the new one's, and drops it itself only beside an empty file.
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        scratch.rename(self._path)
        _sync_folder(self._path.parent)
        self.troubles.extend(roots.troubles)

    def commit(
        self,
        results: Sequence[ResultPayload],
        late: Sequence[LateInspection],
        delivered: Delivered | None = None,
        context: Context | None = None,
    ) -> list[ResultPayload]:
        """Write a batch in one transaction; what is there already is left as it is. ``delivered`` is kept along with it, and
        ``context``, which results may name, with the first of them.

        Returns the results as they stand in the record, hashed, in the order given. Raises RecordFault, and then nothing
        of the batch is written.
        """
        self._check_identity()
        is_context_new = False
        written: list[ResultPayload] = []
        new: list[ResultPayload] = []
        with self._transaction():
            cut_off = () if self._is_run_begun else self._begin_run()
            number, row_hash = self._end_of_chain()
            for result in results:
                present = self._present(result)
                if present is not None:
                    kept = _decode_result(self._path, present[0])
                    written.append(msgspec.structs.replace(kept, row_hash=present[1]))
                    continue
                body = _encode(result)
                number, row_hash = number + 1, link(row_hash, body)
                self._insert(number, result, body.decode(), row_hash)
                hashed = msgspec.structs.replace(result, row_hash=row_hash)
                written.append(hashed)
                new.append(hashed)
            new_late = self._database.executemany(
                "INSERT OR IGNORE INTO late_inspection (session_id, part_id, camera_id, arrived_ns, body)"
                " VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        self._session_id,
                        item.part_id,
                        item.view.camera_id,
                        item.arrived_ns,
                        _encode(msgspec.structs.asdict(item.view)).decode(),
                    )
                    for item in late
                    if not self._is_late_sealed(item)
                ],
            ).rowcount
            if context is not None and context.sha256 not in self._contexts:
                is_context_new = any(result.context_sha256 == context.sha256 for result in new)
                if is_context_new:
                    keep_context(self._database, context)
            self._keep_delivered(delivered)
        self._is_run_begun = True
        self.cut_off.extend(cut_off)
        self.delivered = delivered or self.delivered
        if context is not None and is_context_new:
            self._contexts.add(context.sha256)
        for result in new:
            # What another session left is no part of this one's totals.
            if result.session_id == self._session_id:
                self.tally.add(result)
                self._rows_since_tally += 1
        self.tally.late_inspections += max(0, new_late)
        if self._rows_since_tally >= _TALLY_EVERY_ROWS:
            # The batch is on disk: totals that cannot be kept now are kept with a later one.
            with contextlib.suppress(RecordFault):
                self.save_tally()
        return written

    def begin_keys(self, changes: Sequence[KeyChange], *, forgets: bool = False) -> None:
        """From now on ``schedule`` has these too, and the record with the first commit. ``forgets``: and none of those before."""
        if forgets:
            self.schedule = KeySchedule(self.schedule.boot_id)
            self._forgets_keys = True
            self._unwritten_keys.clear()
        self._unwritten_keys += changes
        for change in changes:
            self.schedule.add(change)

    def change_keys(self, change: KeyChange) -> None:
        """On record, and then in ``schedule``. Raises RecordFault, and then nothing is changed."""
        self._check_identity()
        with self._transaction():
            keep_key_changes(self._database, [change])
        self.schedule.add(change)

    def add_review(self, given: GiveReview, who: str, request: str) -> tuple[int, Review] | None:
        """Write what a person says of a part; what ``request`` brought already is left as it is. Its number, and as it stands in
        the record. None where there is no such part. Raises RecordFault.
        """
        self._check_identity()
        asked = (given.part_id, given.part_session_id)
        with self._transaction():
            # In the newest sealed segment too: the answer to it may have been lost when that was sealed.
            ask_present = "SELECT id, body FROM review WHERE request = ?"
            present = self._database.execute(ask_present, (request,)).fetchone()
            present = present or self._in_newest_sealed(ask_present, (request,))
            if present is not None:
                return int(present[0]), _decode_review(self._path, present[1])
            found = self._database.execute(_FIND_PART, asked).fetchone()
            if found is None:
                found = self._find_sealed(_FIND_PART, asked, segments_with_part(self._database, *asked))
            if found is None:
                return None
            row, session_id, verdict, row_hash = found
            review = Review(
                session_id=session_id,
                part_id=given.part_id,
                row=row,
                row_hash=row_hash,
                verdict=verdict,
                utc=wall_text(self._wall_ns()),
                who=who,
                said=given.said,
                note=given.note,
                request=request,
            )
            count, head = self._end_of_reviews()
            insert_review(self._database, count + 1, review, head)
            return count + 1, review

    def review_head(self) -> tuple[int, str]:
        """The number of the last review, over all segments, and its hash. Raises RecordFault."""
        try:
            return self._end_of_reviews()
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error

    def hash_of(self, number: int, table: Literal["part", "review"] = "part") -> str | None:
        """Of this row, or this review; None where there is none, or it is in a file that cannot be read. Raises RecordFault."""
        if not 0 <= number <= COUNT_MAX:
            return None  # nor can SQLite be asked for any integer
        column = "row_hash" if table == "part" else "review_hash"
        ask = f"SELECT {column} FROM {table} WHERE id = ?"
        try:
            own = self._database.execute(ask, (number,)).fetchone()
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error
        if own is not None:
            return str(own[0])
        if number == 0:
            return NO_HASH
        for segment in self._segments[:-1]:
            last, head = (
                (segment.last_row, segment.head) if table == "part" else (segment.last_review, segment.review_head)
            )
            if last == number:
                return head
            if last is not None and last > number:
                # The first that ends behind it: it is there or nowhere.
                found = self._find_sealed(ask, (number,), [segment.number])
                return None if found is None else str(found[0])
        return None

    def may_be_dropped(self, row: int) -> bool:
        """Whether it is in a segment whose file is not there."""
        return any(
            segment.last_row is not None
            and segment.first_row <= row <= segment.last_row
            and not sealed_name(self._path, segment.number).exists()
            for segment in self._segments[:-1]
        )

    def save_tally(self) -> None:
        """Keep the totals, so that a successor need not read the whole session. Raises RecordFault."""
        try:
            _keep_tally(self._database, self._session_id, self.tally, self._end_of_chain()[0])
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error
        self._rows_since_tally = 0

    def save_delivered(self, delivered: Delivered) -> None:
        """Keep what the broker has. Raises RecordFault."""
        try:
            self._keep_delivered(delivered)
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error
        self.delivered = delivered

    def read_payloads(self, first: int, last: int, count_max: int) -> RowsRead:
        """Numbers and ``result`` payloads of the first rows that are there of this interval, in order, over all segments.

        Rows of a sealed segment that is not there any more, or damaged, are gone; where one cannot be read for any other reason
        it stops there and says so. Raises RecordFault where it is the segment that is written to.
        """
        rows: list[Row] = []
        through = first - 1
        begin = max(0, bisect_right(self._segments, first, key=lambda segment: segment.first_row) - 1)
        opened = 0
        for segment in self._segments[begin:]:
            if segment.first_row > last or len(rows) == count_max or opened == _FILES_AT_ONCE:
                return RowsRead(rows, through)
            is_own = segment is self._segments[-1]
            end = last if segment.last_row is None else min(last, segment.last_row)
            asked = (through + 1, end, count_max - len(rows))
            if is_own:
                try:
                    found = self._database.execute(_READ_ROWS, asked).fetchall()
                    read = [_payload(self._path, *row) for row in found]
                except sqlite3.Error as error:
                    raise fault_of(self._path, error) from error
                found_through = found[-1][0] if len(found) == asked[2] else end
            else:
                file = sealed_name(self._path, segment.number)
                try:
                    file.stat()
                    opened += 1
                    read, found_through = _read_sealed(file, *asked)
                except FileNotFoundError as error:
                    if _identity(self._path) != self._identity:
                        # The folder is away, with all that is in it.
                        return RowsRead(rows, through, f"record {file}: {error.strerror}")
                    read, found_through = [], end
                except OSError as error:
                    return RowsRead(rows, through, f"record {file}: {error.strerror}")
                except RecordFault as error:
                    return RowsRead(rows, through, str(error))
            rows += read
            through = max(through, found_through)
            if through < end:
                return RowsRead(rows, through)
        return RowsRead(rows, max(through, last))

    def sync(self) -> None:
        """So that a power cut does not cost what is committed by now. Waits for the disk. Raises RecordFault."""
        try:
            descriptor = os.open(self._path.with_name(f"{self._path.name}-wal"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # nothing was written since it was opened
        except OSError as error:
            raise RecordFault(f"record {self._path}: its log cannot be opened: {error.strerror}") from error
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            raise RecordFault(f"record {self._path}: its log cannot be put on the disk: {error.strerror}") from error
        finally:
            os.close(descriptor)
        if not self._is_name_synced:
            try:
                _sync_folder(self._path.parent)
            except OSError as error:
                raise RecordFault(
                    f"record {self._path}: its folder cannot be put on the disk: {error.strerror}"
                ) from error
            self._is_name_synced = True

    def end_run(self) -> None:
        """The session ends in good order; close it next. Raises RecordFault."""
        try:
            self._database.execute(
                "UPDATE run SET ended_utc = ? WHERE session_id = ?", (wall_text(self._wall_ns()), self._session_id)
            )
            # With no log of its own it can be read by anybody, and nothing is left beside it by who does.
            with contextlib.suppress(sqlite3.OperationalError):
                self._database.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error

    def head(self) -> tuple[int, str]:
        """The number of the last row, over all segments, and its hash. Raises RecordFault."""
        try:
            row = self._last_row()
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error
        if row is not None:
            return row
        before = self._segments[-2] if len(self._segments) > 1 else None
        return (0, NO_HASH) if before is None else (before.last_row or 0, before.head or NO_HASH)

    def seal(self) -> bool:
        """Ends this segment and begins the next. False where it holds no row yet, or a reader has it open: then later.

        Raises RecordFault; RecordGone where the file has to be opened anew. Killed at any moment, the next to open it goes on
        where this stopped: the seal is in the file before the file gets its name, and the name before the next file is there.
        """
        self._check_identity()
        number = self._segments[-1].number
        try:
            last = self._last_row()
            if last is None:
                return False
            # Only without a log beside it may the file change its name: the next one would take that log for its own.
            try:
                mode = self._database.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            except sqlite3.OperationalError:
                return False
            if mode != "delete":
                return False
            with self._transaction():
                _keep_tally(self._database, self._session_id, self.tally, last[0])
                reviews = self._end_of_reviews()
                note_part_ranges(self._database, number)
                self._database.execute(
                    "UPDATE segment SET last_row = ?, head = ?, last_review = ?, review_head = ?, sealed_utc = ?"
                    " WHERE number = ?",
                    (*last, *reviews, wall_text(self._wall_ns()), number),
                )
        except (sqlite3.Error, RecordFault) as error:
            with contextlib.suppress(sqlite3.Error):
                # Without its log each commit would wait for the disk.
                self._database.execute("PRAGMA journal_mode = WAL")
            if isinstance(error, RecordFault):
                raise
            raise fault_of(self._path, error) from error
        self.close()
        self._name_sealed(number)
        self._last_sealed_part.clear()
        self._last_sealed_late_ns = None
        self._open()
        return True

    @property
    def size_bytes(self) -> int:
        """Of this segment's file as it stands on disk, without its log."""
        with contextlib.suppress(OSError):
            return self._path.stat().st_size
        return 0

    def sealed_segments(self) -> list[SealedSegment]:
        """Those that are there, the oldest first, by the roots in this file. One that was sealed before the box knew the time is as
        old as the one after it. Raises RecordFault, and OSError.
        """
        found: list[SealedSegment] = []
        age_s = 0.0
        for segment in reversed(self._segments[:-1]):
            file = sealed_name(self._path, segment.number)
            if segment.last_row is None or segment.sealed_utc is None:
                raise RecordFault(f"record {self._path}: says nothing of how segment {segment.number} ended")
            if segment.sealed_utc >= _CLOCK_SET_UTC:
                age_s = self._age_s(segment.sealed_utc)
            with contextlib.suppress(FileNotFoundError):
                found.append(SealedSegment(file, segment.last_row, file.stat().st_size, age_s))
        return found[::-1]

    @property
    def age_s(self) -> float:
        """How long ago this segment was begun, by the wall clock; negative where that was set back."""
        return self._age_s(self._segments[-1].begun_utc)

    def close(self) -> None:
        # What it still moves from its log into the file may fail; the log then stays.
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def _age_s(self, utc: str) -> float:
        return self._wall_ns() / NS_PER_S - seconds_of(utc)

    def _name_sealed(self, number: int) -> None:
        sealed = sealed_name(self._path, number)
        try:
            if sealed.exists():
                raise RecordGone(f"record {self._path}: cannot be sealed as {sealed}: there is such a file already")
            self._path.rename(sealed)
            _sync_folder(sealed.parent)
        except OSError as error:
            raise RecordGone(f"record {self._path}: cannot be sealed as {sealed}: {error.strerror}") from error

    def _last_row(self) -> tuple[int, str] | None:
        row = self._database.execute("SELECT id, row_hash FROM part ORDER BY id DESC LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def _check_identity(self) -> None:
        if _identity(self._path) != self._identity:
            raise RecordGone(f"record {self._path}: the file was deleted or replaced while the service ran")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing. Raises RecordFault."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._forgets_keys:
                    forget_key_changes(self._database)
                keep_key_changes(self._database, self._unwritten_keys)
                yield
                self._database.execute("COMMIT")
                self._forgets_keys, self._unwritten_keys = False, []
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error

    def _end_of_reviews(self) -> tuple[int, str]:
        row = self._database.execute("SELECT id, review_hash FROM review ORDER BY id DESC LIMIT 1").fetchone()
        if row is not None:
            return int(row[0]), str(row[1])
        before = self._segments[-2] if len(self._segments) > 1 else None
        return (0, NO_HASH) if before is None else (before.last_review or 0, before.review_head or NO_HASH)

    def _end_of_chain(self) -> tuple[int, str]:
        """The last row's number, and what the next row commits to."""
        own = self._segments[-1]
        return self._last_row() or (own.first_row - 1, own.follows)

    def _present(self, result: ResultPayload) -> tuple[str, str] | None:
        """Body and hash of this part's row, where there is one."""
        ask, key = (
            "SELECT body, row_hash FROM part WHERE session_id = ? AND part_id = ?",
            (
                result.session_id,
                result.part_id,
            ),
        )
        found = self._database.execute(ask, key).fetchone()
        if found is None and result.part_id <= self._last_sealed_part_of(result.session_id):
            numbers = segments_with_part(self._database, result.part_id, result.session_id)
            found = self._find_sealed(ask, key, numbers)
        return None if found is None else (found[0], found[1])

    def _last_sealed_part_of(self, session_id: str) -> int:
        known = self._last_sealed_part.get(session_id)
        if known is None:
            ask = "SELECT coalesce(max(last_part), 0) FROM sealed_parts WHERE session_id = ?"
            known = self._last_sealed_part[session_id] = self._database.execute(ask, (session_id,)).fetchone()[0]
        return known

    def _is_late_sealed(self, item: LateInspection) -> bool:
        """Whether it is in the newest sealed segment: what was on record before the seal may be told again behind it."""
        if self._last_sealed_late_ns is None:
            ask = "SELECT coalesce(max(arrived_ns), 0) FROM late_inspection WHERE session_id = ?"
            found = self._in_newest_sealed(ask, (self._session_id,))
            self._last_sealed_late_ns = 0 if found is None else found[0]
        if item.arrived_ns > self._last_sealed_late_ns:
            return False
        ask = "SELECT 1 FROM late_inspection WHERE session_id = ? AND part_id = ? AND camera_id = ? AND arrived_ns = ?"
        key = (self._session_id, item.part_id, item.view.camera_id, item.arrived_ns)
        return self._in_newest_sealed(ask, key) is not None

    def _in_newest_sealed(self, ask: str, arguments: tuple[object, ...]) -> tuple[Any, ...] | None:
        """None also where that segment is not there or cannot be read."""
        return self._find_sealed(ask, arguments, [segment.number for segment in self._segments[-2:-1]])

    def _find_sealed(self, ask: str, arguments: tuple[object, ...], numbers: Sequence[int]) -> tuple[Any, ...] | None:
        """The first answer of these segments, as far as they can be read."""
        for number in numbers:
            with (
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(open_sealed(sealed_name(self._path, number))) as database,
            ):
                found: tuple[Any, ...] | None = database.execute(ask, arguments).fetchone()
                if found is not None:
                    return found
        return None

    def _insert(self, number: int, result: ResultPayload, body: str, row_hash: str) -> None:
        self._database.execute(
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
                body,
                row_hash,
            ),
        )

    def _inherited_tally(self) -> Tally | None:
        """The session's totals at the end of the segment before; None where it had no part of this session."""
        ask = (
            "SELECT body, (SELECT count(*) FROM late_inspection WHERE session_id = ?1) FROM tally WHERE session_id = ?1"
        )
        found = self._in_newest_sealed(ask, (self._session_id,))
        if found is not None:
            # A sealed file whose totals are none is no damage to the one that is begun.
            with contextlib.suppress(ValueError):
                tally = Tally.from_json(found[0], self._budget_us, self._deadline_us)
                tally.late_inspections_before += found[1]
                return tally
        return None

    def _begin_run_if_it_goes(self) -> None:
        """Else with the first commit: while the disk is full or somebody has the file locked, it can be read all the same."""
        self._is_run_begun = False
        try:
            self.cut_off.extend(self._begin_run())
            self._is_run_begun = True
        except sqlite3.Error as error:
            if isinstance(fault_of(self._path, error), RecordGone):
                raise

    def _begin_run(self) -> tuple[str, ...]:
        """The sessions that ended neither in order nor by a kill that left the box running."""
        boot_id, utc = _boot_id(), wall_text(self._wall_ns())
        self._database.execute(
            "INSERT OR IGNORE INTO run (session_id, boot_id, begun_utc) VALUES (?, ?, ?)",
            (self._session_id, boot_id, utc),
        )
        over = "ended_utc IS NULL AND session_id != ?"
        ask = f"SELECT session_id FROM run WHERE {over} AND boot_id != ? ORDER BY begun_utc"
        found = tuple(session_id for (session_id,) in self._database.execute(ask, (self._session_id, boot_id)))
        # Who writes has the record alone: whatever session has not ended is over.
        self._database.execute(f"UPDATE run SET ended_utc = ? WHERE {over}", (utc, self._session_id))
        return found

    def _inherited_runs(self) -> list[tuple[str, str, str]]:
        """Those that had not ended when the segment before was sealed."""
        if len(self._segments) < 2:
            return []
        file = sealed_name(self._path, self._segments[-2].number)
        with contextlib.suppress(sqlite3.Error), contextlib.closing(open_sealed(file)) as database:
            return database.execute("SELECT session_id, boot_id, begun_utc FROM run WHERE ended_utc IS NULL").fetchall()
        return []

    def _read_key_changes(self) -> list[KeyChange]:
        try:
            return read_key_changes(self._database)
        except ValueError as error:
            raise RecordDamaged(f"record {self._path}: {error}") from error

    def _inherited_key_changes(self) -> list[KeyChange]:
        """As they were when the segment before was sealed."""
        if len(self._segments) < 2:
            return []
        file = sealed_name(self._path, self._segments[-2].number)
        with (
            contextlib.suppress(sqlite3.Error, ValueError),
            contextlib.closing(open_sealed(file)) as database,
        ):
            return read_key_changes(database)
        return []

    def _inherited_delivered(self) -> Delivered:
        """As it was when the segment before was sealed."""
        found = self._in_newest_sealed("SELECT live_row, held FROM delivery", ())
        return Delivered() if found is None else _delivered(*found)

    def _keep_delivered(self, delivered: Delivered | None) -> None:
        if delivered is not None and delivered != self.delivered:
            _keep_delivered(self._database, delivered)

    def _read_tally(self, body: str) -> Tally:
        try:
            return Tally.from_json(body, self._budget_us, self._deadline_us)
        except ValueError as error:
            raise RecordDamaged(f"record {self._path}: the kept totals are none: {error}") from error

    def _load_tally(self) -> Tally:
        """The session's totals."""
        stored = self._database.execute(
            "SELECT last_part_row, body FROM tally WHERE session_id = ?", (self._session_id,)
        ).fetchone()
        tally = Tally(self._budget_us, self._deadline_us) if stored is None else self._read_tally(stored[1])
        last_row = 0 if stored is None else stored[0]
        # The plus keeps SQLite from going through all rows of a session that has run for months, where the newest will do.
        by_session = "+session_id" if stored is not None else "session_id"
        missing = self._database.execute(
            f"SELECT body FROM part WHERE id > ? AND {by_session} = ?", (last_row, self._session_id)
        )
        for (body,) in missing:
            tally.add(_decode_result(self._path, body))
        here = self._database.execute(
            "SELECT count(*) FROM late_inspection WHERE session_id = ?", (self._session_id,)
        ).fetchone()[0]
        tally.late_inspections = tally.late_inspections_before + here
        return tally


def _keep_tally(database: sqlite3.Connection, session_id: str, tally: Tally, last_row: int) -> None:
    database.execute(
        "INSERT OR REPLACE INTO tally (session_id, last_part_row, body) VALUES (?, ?, ?)",
        (session_id, last_row, tally.to_json()),
    )


def _keep_delivered(database: sqlite3.Connection, delivered: Delivered) -> None:
    database.execute(
        "INSERT OR REPLACE INTO delivery (id, live_row, held) VALUES (1, ?, ?)",
        (delivered.live_row, _encode(delivered.held).decode()),
    )


def _read_delivered(database: sqlite3.Connection) -> Delivered:
    found = database.execute("SELECT live_row, held FROM delivery").fetchone()
    return Delivered() if found is None else _delivered(*found)


def _delivered(live_row: object, held: object) -> Delivered:
    """What cannot be read is nothing: at worst a consumer sees rows again."""
    if not isinstance(live_row, int) or not isinstance(held, str) or live_row < 0:
        return Delivered()
    try:
        intervals = _decode_held(held)
    except msgspec.DecodeError:
        return Delivered()
    ends = [0, *(row for interval in intervals for row in interval)]
    # Each interval's ends may be one row; the next one begins behind it.
    is_ascending = all(a < b if place % 2 == 0 else a <= b for place, (a, b) in enumerate(pairwise(ends)))
    return Delivered(live_row, intervals) if is_ascending else Delivered()


def _payload(file: Path, number: int, body: object, row_hash: str) -> Row:
    """Raises RecordDamaged."""
    return number, _encode(msgspec.structs.replace(_decode_result(file, body), row_hash=row_hash))


def _read_sealed(file: Path, first: int, last: int, count_max: int) -> tuple[list[Row], int]:
    """The first rows that can be read of this interval, and up to where it was looked through. Raises RecordFault."""
    try:
        with contextlib.closing(open_sealed(file)) as database:
            try:
                found = database.execute(_READ_ROWS, (first, last, count_max)).fetchall()
                through = found[-1][0] if len(found) == count_max else last
            except sqlite3.Error as error:
                if not isinstance(fault_of(file, error), RecordDamaged):
                    raise
                # Rows beside the damage are told all the same.
                through = min(last, first + count_max - 1)
                found = [row for number in range(first, through + 1) for row in _row_if_sound(file, database, number)]
    except sqlite3.Error as error:
        raise fault_of(file, error) from error
    rows = []
    for row in found:
        with contextlib.suppress(RecordDamaged):
            rows.append(_payload(file, *row))
    return rows, through


def _row_if_sound(file: Path, database: sqlite3.Connection, number: int) -> list[tuple[int, object, str]]:
    """Raises sqlite3.Error where it is not for damage that it cannot be read."""
    try:
        return database.execute(_READ_ROWS, (number, number, 1)).fetchall()
    except sqlite3.Error as error:
        if not isinstance(fault_of(file, error), RecordDamaged):
            raise
        return []


def _sync_folder(folder: Path) -> None:
    """So that a name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode_result(path: Path, body: object) -> ResultPayload:
    try:
        result = _result_decoder.decode(body)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as error:
        raise RecordDamaged(f"record {path}: a row holds no result: {error}") from error
    stages = result.stages_us.keys()
    needed = {*STAGES[:-1]} if result.sent_ns is None else {*STAGES}
    if not stages <= {*STAGES} or ("handover" in stages and not needed <= stages):
        raise RecordDamaged(f"record {path}: a row holds no result: its stages are {sorted(stages)}")
    return result


def _decode_review(path: Path, body: object) -> Review:
    try:
        return decode_review(body)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as error:
        raise RecordDamaged(f"record {path}: a review cannot be read: {error}") from error


def _boot_id() -> str:
    """Empty where the kernel does not say."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
