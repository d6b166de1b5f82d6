"""The record of every verdict: one row a part, each committing to the row before by its hash, in one SQLite file a segment."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pipeline.clock import wall_text
from pipeline.messages import GiveReview, LateInspection
from pipeline.outbox import Delivered, RowsRead
from pipeline.payloads import ResultPayload
from pipeline.record.begin import begin_segment
from pipeline.record.beside import (
    forget_key_changes,
    keep_context,
    keep_key_changes,
    kept_contexts,
    read_key_changes,
)
from pipeline.record.context import Context
from pipeline.record.delivered import keep_delivered, read_delivered
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone, fault_of, faults_of
from pipeline.record.files import sync_folder
from pipeline.record.heads import end_of_chain, end_of_reviews, end_of_rows, hash_of, last_own_row, may_be_dropped
from pipeline.record.opening import close_database, open_segment
from pipeline.record.readback import read_payloads
from pipeline.record.repeats import Repeats
from pipeline.record.reviewing import take_review
from pipeline.record.reviews import Review
from pipeline.record.rows import decode_row, insert_late, insert_row
from pipeline.record.runs import begin_run, boot_id, end_run
from pipeline.record.sealing import age_s, name_sealed, sealed_there, write_seal
from pipeline.record.totals import keep_tally, load_tally
from pipeline.retention import SealedSegment
from pipeline.tally import Tally
from pipeline.traceability import KeyChange, KeySchedule

_TALLY_EVERY_ROWS = 1_000


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
        self.cut_off: deque[str] = deque()
        """Sessions that ended with the box, to be told; found when the file is opened, or with the first commit."""
        self.troubles: deque[str] = deque()
        """Of files beside the record that were passed over when a segment was begun, to be told."""
        self._open()

    def _open(self) -> None:
        segment = open_segment(self._path, self._begin)
        self._database = segment.database
        try:
            self.tally = load_tally(self._path, self._database, self._session_id, self._no_tally())
            self.delivered = read_delivered(self._database)
            self._contexts = kept_contexts(self._database)
            self.schedule = KeySchedule(boot_id(), self._read_key_changes())
            self._begin_run_if_it_goes()
        except sqlite3.Error as error:
            self.close()
            raise fault_of(self._path, error) from error
        except RecordFault:
            self.close()
            raise
        self._segment = segment
        self._forgets_keys = False
        self._unwritten_keys: list[KeyChange] = []
        """With the next transaction they are on record."""
        self._repeats = Repeats(segment, self._session_id)
        self._is_name_synced = False
        self._rows_since_tally = 0

    def _begin(self) -> None:
        """The file of the next segment."""
        begun_utc = wall_text(self._wall_ns())
        self.troubles += begin_segment(self._path, self._session_id, self._no_tally(), begun_utc)

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
        self._segment.check_in_place()
        is_context_new = False
        written: list[ResultPayload] = []
        new: list[ResultPayload] = []
        with self._transaction():
            cut_off = () if self._is_run_begun else self._begin_run()
            number, row_hash = end_of_chain(self._segment)
            for result in results:
                present = self._repeats.row_of(result)
                if present is not None:
                    written.append(decode_row(self._path, *present))
                    continue
                number, row_hash = number + 1, insert_row(self._database, number + 1, result, row_hash)
                hashed = msgspec.structs.replace(result, row_hash=row_hash)
                written.append(hashed)
                new.append(hashed)
            unsealed = [item for item in late if not self._repeats.is_late_sealed(item)]
            new_late = insert_late(self._database, self._session_id, unsealed)
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
        self.tally.late_inspections += new_late
        if self._rows_since_tally >= _TALLY_EVERY_ROWS:
            # The batch is on disk: totals that cannot be kept now are kept with a later one.
            with contextlib.suppress(RecordFault):
                self.save_tally()
        return written

    @property
    def identity(self) -> tuple[int, int] | None:
        """Of the file that is written to."""
        return self._segment.identity

    def check_pages(self) -> None:
        """Whether the file can be read throughout, pages included that no writing touches. Raises RecordFault."""
        try:
            with faults_of(self._path):
                self._segment.check_pages()
        except OSError as error:
            raise RecordGone(f"record {self._path}: {error.strerror}") from error

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
        self._segment.check_in_place()
        with self._transaction():
            keep_key_changes(self._database, [change])
        self.schedule.add(change)

    def add_review(self, given: GiveReview, who: str, request: str) -> tuple[int, Review] | None:
        """Write what a person says of a part; what ``request`` brought already is left as it is. Its number, and as it stands in
        the record. None where there is no such part. Raises RecordFault.
        """
        self._segment.check_in_place()
        with self._transaction():
            return take_review(self._segment, given, who, request, wall_text(self._wall_ns()))

    def head(self) -> tuple[int, str]:
        """The number of the last row, over all segments, and its hash. Raises RecordFault."""
        with faults_of(self._path):
            return end_of_rows(self._segment)

    def review_head(self) -> tuple[int, str]:
        """The number of the last review, over all segments, and its hash. Raises RecordFault."""
        with faults_of(self._path):
            return end_of_reviews(self._segment)

    def hash_of(self, number: int, table: Literal["part", "review"] = "part") -> str | None:
        """Of this row, or this review; None where there is none, or it is in a file that cannot be read. Raises RecordFault."""
        return hash_of(self._segment, number, table)

    def may_be_dropped(self, row: int) -> bool:
        """Whether it is in a segment whose file is not there."""
        return may_be_dropped(self._segment, row)

    def read_payloads(self, first: int, last: int, count_max: int) -> RowsRead:
        """Numbers and ``result`` payloads of the first rows that are there of this interval, in order, over all segments.

        Rows of a sealed segment that is not there any more, or damaged, are gone; where one cannot be read for any other reason
        it stops there and says so. Raises RecordFault where it is the segment that is written to.
        """
        return read_payloads(self._segment, first, last, count_max)

    def save_tally(self) -> None:
        """Keep the totals, so that a successor need not read the whole session. Raises RecordFault."""
        with faults_of(self._path):
            keep_tally(self._database, self._session_id, self.tally, end_of_chain(self._segment)[0])
        self._rows_since_tally = 0

    def save_delivered(self, delivered: Delivered) -> None:
        """Keep what the broker has. Raises RecordFault."""
        with faults_of(self._path):
            self._keep_delivered(delivered)
        self.delivered = delivered

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
                sync_folder(self._path.parent)
            except OSError as error:
                raise RecordFault(
                    f"record {self._path}: its folder cannot be put on the disk: {error.strerror}"
                ) from error
            self._is_name_synced = True

    def end_run(self) -> None:
        """The session ends in good order; close it next. Raises RecordFault."""
        with faults_of(self._path):
            end_run(self._database, self._session_id, wall_text(self._wall_ns()))
            # With no log of its own it can be read by anybody, and nothing is left beside it by who does.
            with contextlib.suppress(sqlite3.OperationalError):
                self._database.execute("PRAGMA journal_mode = DELETE")

    def seal(self) -> bool:
        """Ends this segment and begins the next. False where it holds no row yet, or a reader has it open: then later.

        Raises RecordFault; RecordGone where the file has to be opened anew. Killed at any moment, the next to open it goes on
        where this stopped: the seal is in the file before the file gets its name, and the name before the next file is there.
        """
        self._segment.check_in_place()
        number = self._segment.own.number
        try:
            last = last_own_row(self._segment)
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
                keep_tally(self._database, self._session_id, self.tally, last[0])
                reviews = end_of_reviews(self._segment)
                write_seal(self._database, number, last, reviews, wall_text(self._wall_ns()))
        except (sqlite3.Error, RecordFault) as error:
            with contextlib.suppress(sqlite3.Error):
                # Without its log each commit would wait for the disk.
                self._database.execute("PRAGMA journal_mode = WAL")
            if isinstance(error, RecordFault):
                raise
            raise fault_of(self._path, error) from error
        self.close()
        name_sealed(self._path, number)
        self._open()
        return True

    def sealed_segments(self) -> list[SealedSegment]:
        """Those that are there, the oldest first, by the roots in this file. One that was sealed before the box knew the time is as
        old as the one after it. Raises RecordFault, and OSError.
        """
        return sealed_there(self._path, self._segment.sealed, self._wall_ns())

    @property
    def size_bytes(self) -> int:
        """Of this segment's file as it stands on disk, without its log."""
        with contextlib.suppress(OSError):
            return self._path.stat().st_size
        return 0

    @property
    def age_s(self) -> float:
        """How long ago this segment was begun, by the wall clock; negative where that was set back."""
        return age_s(self._segment.own.begun_utc, self._wall_ns())

    def close(self) -> None:
        close_database(self._database)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it or nothing. Raises RecordFault."""
        with faults_of(self._path):
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
        return begin_run(self._database, self._session_id, wall_text(self._wall_ns()))

    def _read_key_changes(self) -> list[KeyChange]:
        try:
            return read_key_changes(self._database)
        except ValueError as error:
            raise RecordDamaged(f"record {self._path}: {error}") from error

    def _keep_delivered(self, delivered: Delivered | None) -> None:
        if delivered is not None and delivered != self.delivered:
            keep_delivered(self._database, delivered)

    def _no_tally(self) -> Tally:
        return Tally(self._budget_us, self._deadline_us)
