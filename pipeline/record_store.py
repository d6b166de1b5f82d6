"""The record of every verdict in one SQLite file: one row a part, each committing to the row before by its hash."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pipeline.clock import NS_PER_US
from pipeline.latency import LatencyHistogram
from pipeline.messages import LateInspection
from pipeline.payloads import ResultPayload
from pipeline.record_chain import NO_HASH, link

STAGES = ("grab", "handover", "preprocess", "inference", "judge", "decide", "send")
"""In order: trigger -> frame in memory -> ticket received -> batch row filled -> model run -> judged -> decided -> at the
socket. The latency is what lies between frame in memory and socket."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS part (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    part_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    encoder_count INTEGER,
    trigger_ns INTEGER NOT NULL,
    trigger_utc TEXT NOT NULL,
    decided_ns INTEGER NOT NULL,
    sent_ns INTEGER,
    deadline_ns INTEGER NOT NULL,
    body TEXT NOT NULL,
    row_hash TEXT NOT NULL,
    UNIQUE (session_id, part_id)
);
CREATE TABLE IF NOT EXISTS late_inspection (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    part_id INTEGER NOT NULL,
    camera_id TEXT NOT NULL,
    arrived_ns INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (session_id, part_id, camera_id, arrived_ns)
);
CREATE TABLE IF NOT EXISTS tally (
    session_id TEXT PRIMARY KEY,
    last_part_row INTEGER NOT NULL,
    body TEXT NOT NULL
);
"""
SCHEMA_VERSION = 2
_COLUMNS = {"session_id", "part_id", "body", "row_hash"}
_MARK = re.compile(rb'row_hash TEXT NOT NULL,|"row_hash":""\}[0-9a-f]{64}')
"""What a record's pages hold and no other file: the table's words, and a row's end with its hash."""
_MARK_WITHIN_BYTES = 8 << 20
_LOCK_WAIT_S = 0.25
_TALLY_EVERY_ROWS = 1_000

_PASSING = ("database is locked", "database or disk is full")
_DAMAGE = ("file is not a database", "malformed", "could not decode to utf-8")
"""In SQLite's words for SQLITE_NOTADB, SQLITE_CORRUPT and text that is none; its codes are known to Python from 3.11 on."""


class _StoredTally(msgspec.Struct):
    verdicts: dict[str, int]
    reasons: dict[str, int]
    late_verdicts: int
    over_budget: int
    first_trigger_ns: int | None
    last_trigger_ns: int | None
    latency: dict[str, int | list[int]]
    stages: dict[str, dict[str, int | list[int]]]


_result_decoder = msgspec.json.Decoder(ResultPayload)
_tally_decoder = msgspec.json.Decoder(_StoredTally)
_encode = msgspec.json.Encoder().encode


class RecordFault(RuntimeError):
    """The record cannot be written now; the text names file and cause. Trying again may help."""


class RecordGone(RecordFault):
    """This connection will write no more: the file was deleted or replaced, or it was opened while it could only be read.
    Open it anew.
    """


class RecordDamaged(RecordGone):
    """The file is no sound database any more: set it aside and begin another."""


class Tally:
    """A session's totals, in the words of the contract."""

    def __init__(self, budget_us: int, deadline_us: int) -> None:
        self.budget_us = budget_us
        self.deadline_us = deadline_us
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.late_verdicts = 0
        self.late_inspections = 0
        self.over_budget = 0
        self.first_trigger_ns: int | None = None
        self.last_trigger_ns: int | None = None
        self.latency = LatencyHistogram()
        self.stages = {stage: LatencyHistogram() for stage in STAGES}

    def add(self, result: ResultPayload) -> None:
        self.verdicts[result.verdict] += 1
        self.reasons[result.reason] += 1
        if result.sent_ns is not None and result.sent_ns > result.deadline_ns:
            self.late_verdicts += 1
        self.first_trigger_ns = (
            result.trigger_ns if self.first_trigger_ns is None else min(self.first_trigger_ns, result.trigger_ns)
        )
        self.last_trigger_ns = (
            result.trigger_ns if self.last_trigger_ns is None else max(self.last_trigger_ns, result.trigger_ns)
        )
        latency_us = latency_of(result)
        if latency_us is None:
            return
        self.latency.add(latency_us)
        self.over_budget += latency_us > self.budget_us
        for stage, stage_us in result.stages_us.items():
            self.stages[stage].add(stage_us)

    def summary(self) -> dict[str, object]:
        """What ``--json`` prints; all but ``frames_refused``, which acquisition counts."""
        parts = sum(self.verdicts.values())
        return {
            "parts_triggered": parts,
            "passed": self.verdicts["PASS"],
            "rejected": self.verdicts["REJECT"],
            "no_decision": self.verdicts["NO_DECISION"],
            "late_verdicts": self.late_verdicts,
            "late_inspections": self.late_inspections,
            "over_budget": self.over_budget,
            "budget_us": self.budget_us,
            "deadline_us": self.deadline_us,
            "latency_us": self.latency.percentiles_us(),
            "stages_us": {stage: histogram.percentiles_us() for stage, histogram in self.stages.items()},
            "rate_per_min": self.rate_per_min(),
            "reasons": dict(sorted(self.reasons.items())),
        }

    def rate_per_min(self) -> float:
        """Triggers a minute between the first and the last one; 0 for fewer than two."""
        parts = sum(self.verdicts.values())
        if parts < 2 or self.first_trigger_ns is None or self.last_trigger_ns is None:
            return 0.0
        span_ns = self.last_trigger_ns - self.first_trigger_ns
        return round((parts - 1) * 60e9 / span_ns, 1) if span_ns > 0 else 0.0

    def to_json(self) -> str:
        return json.dumps(
            {
                "verdicts": self.verdicts,
                "reasons": self.reasons,
                "late_verdicts": self.late_verdicts,
                "over_budget": self.over_budget,
                "first_trigger_ns": self.first_trigger_ns,
                "last_trigger_ns": self.last_trigger_ns,
                "latency": self.latency.to_json(),
                "stages": {stage: histogram.to_json() for stage, histogram in self.stages.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str, budget_us: int, deadline_us: int) -> Tally:
        """Raises ValueError where the text is none of ``to_json``'s."""
        try:
            stored = _tally_decoder.decode(text)
            tally = cls(budget_us, deadline_us)
            tally.latency = LatencyHistogram.from_json({**stored.latency})
            tally.stages = {stage: LatencyHistogram.from_json({**stored.stages[stage]}) for stage in STAGES}
        except (msgspec.DecodeError, TypeError, LookupError, OverflowError) as error:
            raise ValueError(str(error)) from error
        tally.verdicts.update(stored.verdicts)
        tally.reasons.update(stored.reasons)
        tally.late_verdicts = stored.late_verdicts
        tally.over_budget = stored.over_budget
        tally.first_trigger_ns = stored.first_trigger_ns
        tally.last_trigger_ns = stored.last_trigger_ns
        return tally


def latency_of(result: ResultPayload) -> int | None:
    """Frame in memory to socket in us; None where nothing was judged or sent."""
    if result.sent_ns is None or "handover" not in result.stages_us:
        return None
    return sum(result.stages_us[stage] for stage in STAGES if stage != "grab")


class RecordStore:
    """The file, open for writing. One writer; readers may look on."""

    def __init__(self, path: Path, session_id: str, *, budget_us: int, deadline_us: int) -> None:
        """Opens or creates the file and takes up the session's totals. Raises RecordFault."""
        self._path = path
        self._session_id = session_id
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Asked before SQLite makes them itself.
            was_left_open = any(path.with_name(path.name + suffix).exists() for suffix in ("-wal", "-shm"))
            self._database = sqlite3.connect(path, timeout=_LOCK_WAIT_S, isolation_level=None)
        except OSError as error:
            raise RecordFault(f"record {path}: {error}") from error
        except sqlite3.Error as error:
            raise _fault(path, error) from error
        try:
            is_new = self._check_kind()
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            if is_new:
                self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._database.executescript(_SCHEMA)
            self.tally = self._load_tally(budget_us, deadline_us)
            self._identity = _identity(path)
        except sqlite3.Error as error:
            self.close()
            fault = _fault(path, error)
            if isinstance(fault, RecordDamaged) and not was_left_open and not _bears_a_mark(path):
                raise _no_record(path) from error
            raise fault from error
        except RecordFault:
            self.close()
            raise
        self._rows_since_tally = 0

    def commit(self, results: Sequence[ResultPayload], late: Sequence[LateInspection]) -> list[ResultPayload]:
        """Write a batch in one transaction; what is there already is left as it is.

        Returns the results as they stand in the record, hashed, in the order given. Raises RecordFault, and then nothing
        of the batch is written.
        """
        if _identity(self._path) != self._identity:
            raise RecordGone(f"record {self._path}: the file was deleted or replaced while the service ran")
        written: list[ResultPayload] = []
        new: list[ResultPayload] = []
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                _, row_hash = self.head()
                for result in results:
                    present = self._database.execute(
                        "SELECT body, row_hash FROM part WHERE session_id = ? AND part_id = ?",
                        (result.session_id, result.part_id),
                    ).fetchone()
                    if present is not None:
                        kept = _decode_result(self._path, present[0])
                        written.append(msgspec.structs.replace(kept, row_hash=present[1]))
                        continue
                    body = _encode(result)
                    row_hash = link(row_hash, body)
                    self._insert(result, body.decode(), row_hash)
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
                    ],
                ).rowcount
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error
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

    def save_tally(self) -> None:
        """Keep the totals, so that a successor need not read the whole session. Raises RecordFault."""
        try:
            self._database.execute(
                "INSERT OR REPLACE INTO tally (session_id, last_part_row, body)"
                " VALUES (?, (SELECT coalesce(max(id), 0) FROM part), ?)",
                (self._session_id, self.tally.to_json()),
            )
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error
        self._rows_since_tally = 0

    def head(self) -> tuple[int, str]:
        """The number of the last row and its hash. Raises RecordFault."""
        try:
            row = self._database.execute("SELECT id, row_hash FROM part ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise _fault(self._path, error) from error
        return (0, NO_HASH) if row is None else (row[0], row[1])

    def close(self) -> None:
        # What it still moves from its log into the file may fail; the log then stays.
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def _insert(self, result: ResultPayload, body: str, row_hash: str) -> None:
        self._database.execute(
            "INSERT INTO part (session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns, trigger_utc,"
            " decided_ns, sent_ns, deadline_ns, body, row_hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
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
                body,
                row_hash,
            ),
        )

    def _check_kind(self) -> bool:
        """Whether the record is new. Changes nothing, as the database may be another's. Raises RecordFault where it is."""
        found = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, SCHEMA_VERSION):
            raise RecordFault(
                f"record {self._path}: is of version {found}, this service writes version {SCHEMA_VERSION}; "
                "move the file away or name another under records.path"
            )
        is_empty = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        columns = {name for (name,) in self._database.execute("SELECT name FROM pragma_table_info('part')")}
        if not is_empty and (found == 0 or not columns >= _COLUMNS):
            raise _no_record(self._path)
        return bool(found == 0)

    def _load_tally(self, budget_us: int, deadline_us: int) -> Tally:
        stored = self._database.execute(
            "SELECT last_part_row, body FROM tally WHERE session_id = ?", (self._session_id,)
        ).fetchone()
        tally, last_row = Tally(budget_us, deadline_us), 0
        if stored is not None:
            try:
                tally, last_row = Tally.from_json(stored[1], budget_us, deadline_us), stored[0]
            except ValueError as error:
                raise RecordDamaged(f"record {self._path}: the kept totals are none: {error}") from error
        # The plus keeps SQLite from going through all rows of a session that has run for months, where the newest will do.
        by_session = "+session_id" if stored is not None else "session_id"
        missing = self._database.execute(
            f"SELECT body FROM part WHERE id > ? AND {by_session} = ?", (last_row, self._session_id)
        )
        for (body,) in missing:
            tally.add(_decode_result(self._path, body))
        tally.late_inspections = self._database.execute(
            "SELECT count(*) FROM late_inspection WHERE session_id = ?", (self._session_id,)
        ).fetchone()[0]
        return tally


def set_aside(path: Path, session_id: str) -> Path:
    """Move a damaged record and its log out of the way, under names that SQLite's own tools can open together; nobody may
    have it open. Returns the new name. Raises RecordFault.

    Killed at any moment, it leaves all the database and log hold under names that belong together: the log gets its new name as a
    second one, then the database moves, then the log's old name goes.
    """
    numbers = [int(found[1]) for found in _set_aside_names(path, session_id)]
    aside = path.with_name(f"{path.name}.damaged-{session_id}-{max(numbers, default=0) + 1}")
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    try:
        with contextlib.suppress(FileNotFoundError):
            aside.with_name(aside.name + "-wal").hardlink_to(log)
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
        log.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            index.rename(aside.with_name(aside.name + "-shm"))
    except OSError as error:
        raise RecordFault(f"record {path}: is damaged and cannot be set aside as {aside}: {error.strerror}") from error
    return aside


def set_aside_by(path: Path, session_id: str) -> list[Path]:
    """The damaged records that this session has set aside. Raises RecordFault."""
    return [path.with_name(found[0]) for found in _set_aside_names(path, session_id) if not found[2]]


def _set_aside_names(path: Path, session_id: str) -> list[re.Match[str]]:
    """Each with its number and, of a log or index, the suffix."""
    pattern = re.compile(re.escape(f"{path.name}.damaged-{session_id}-") + r"(\d+)(-wal|-shm)?")
    try:
        return [match for found in path.parent.iterdir() if (match := pattern.fullmatch(found.name)) is not None]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordFault(f"record {path}: its folder cannot be read: {error.strerror}") from error


def _fault(path: Path, error: sqlite3.Error) -> RecordFault:
    text = str(error).lower()
    kind: type[RecordFault] = RecordGone
    if any(words in text for words in _PASSING):
        kind = RecordFault
    elif any(words in text for words in _DAMAGE):
        kind = RecordDamaged
    return kind(f"record {path}: {error}")


def _no_record(path: Path) -> RecordFault:
    return RecordFault(
        f"record {path}: the file is no record of Lineside; move it away or name another under records.path"
    )


def _bears_a_mark(path: Path) -> bool:
    """Whether a file that SQLite cannot read was a record once."""
    try:
        with path.open("rb") as file:
            return _MARK.search(file.read(_MARK_WITHIN_BYTES)) is not None
    except OSError as error:
        raise RecordFault(f"record {path}: {error}") from error


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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def stages_us(trigger_ns: int, moments_ns: Sequence[int], decided_ns: int, sent_ns: int | None) -> dict[str, int]:
    """The stages of a part from a view's moments (grabbed, received, preprocessed, inferred, judged).

    Rounded as differences of rounded moments, so that they add up.
    """
    moments = [trigger_ns, *moments_ns, decided_ns, *([] if sent_ns is None else [sent_ns])]
    rounded = [moment // NS_PER_US for moment in moments]
    return {stage: later - earlier for stage, earlier, later in zip(STAGES, rounded, rounded[1:], strict=False)}
