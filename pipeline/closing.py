"""Closing the books of sessions that were killed whole: what their ledgers hold and the record does not.

Their open parts become NO_DECISION/FAULT, as do those of triggers that acquisition had read and nobody taken down. Everything
is recorded under its own session and told on ``history``, and only then is a ledger removed. Killed in the midst of it, the
next start does the same again: what is on record stays as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.clock import NS_PER_MS, NS_PER_US, now_ns, utc_text
from pipeline.deadline import DeadlineMachine, Opened
from pipeline.encoder import wrap
from pipeline.ledger import BadLedger, Ledger, LedgerEntry, LedgerHead, OtherVersion
from pipeline.ledger_file import LedgerFile, damaged_ledgers, ledger_files, session_of
from pipeline.payloads import ResultPayload
from pipeline.rules import Timing
from vision.types import Reason, Verdict

_BATCH_MAX = 1_000
_RETRY_NS = 500 * NS_PER_MS


@dataclass(slots=True)
class _Left:
    """One session's ledger, locked, and what of it is not on record yet."""

    file: LedgerFile
    text: str
    head: LedgerHead
    model_sha256: str | None
    missing: deque[LedgerEntry]
    damaged_count: int


class Closing:
    """The other sessions' ledgers on a record, oldest first; ``session_id`` is the one that runs now."""

    def __init__(self, record: Path, session_id: str) -> None:
        self._waiting = [path for path in ledger_files(record) if session_of(path) != session_id]
        self._left: _Left | None = None
        self._next_try_ns = 0
        self._unusable = [
            f"ledger {path} is damaged; look what it holds and remove it" for path in damaged_ledgers(record)
        ]
        self._failure = ""
        self.done: deque[str] = deque()
        """In words, each session that was closed."""

    @property
    def trouble(self) -> str:
        """Why something is not closed; empty where all is well."""
        return "; ".join([*self._unusable, *([self._failure] if self._failure else [])])

    def batch(self) -> list[ResultPayload]:
        """What to put on record next; empty where there is nothing, or nothing now."""
        if now_ns() < self._next_try_ns:
            return []
        if self._left is None:
            self._take_next()
        left = self._left
        if left is None:
            return []
        return [_result(left.head, left.model_sha256, entry) for entry in islice(left.missing, _BATCH_MAX)]

    def written(self, results: Iterable[ResultPayload]) -> None:
        """The last batch is on disk, as ``results``."""
        assert self._left is not None
        self._failure = ""
        for _ in results:
            self._left.missing.popleft()
        if not self._left.missing:
            self._end(self._left)
            self.done.append(self._left.text)
            self._left = None

    def failed(self, why: str) -> None:
        """The last batch could not be written; it comes again."""
        assert self._left is not None
        self._failure = f"{len(self._left.missing)} parts in {self._left.file.path} are not on record yet: {why}"
        self._next_try_ns = now_ns() + _RETRY_NS

    def _take_next(self) -> None:
        """The oldest that nobody writes to any more and that holds something."""
        for path in list(self._waiting):
            try:
                file = LedgerFile.take(path)
            except BlockingIOError:
                # Its signalling has outlived its supervisor and is closing the books itself.
                continue
            except OSError as error:
                self._unusable.append(f"ledger {path} cannot be read: {error.strerror}")
                file = None
            self._waiting.remove(path)
            if file is not None:
                self._left = self._opened(file, path)
                if self._left is not None:
                    return
        self._next_try_ns = now_ns() + _RETRY_NS

    def _opened(self, file: LedgerFile, path: Path) -> _Left | None:
        try:
            ledger = Ledger(file.descriptor)
        except OtherVersion as error:
            self._unusable.append(f"ledger {path} is left as it is: {error}")
            file.close()
            return None
        except BadLedger as error:
            self._set_aside(file, str(error))
            file.close()
            return None
        except OSError as error:
            self._unusable.append(f"ledger {path} cannot be read: {error.strerror}")
            file.close()
            return None
        entries = parts_left(ledger)
        missing = missing_entries(entries, now_ns())
        undecided = sum(entry.verdict is None for entry in entries)
        text = (
            f"session {ledger.head.session_id} left parts open: {len(missing)} of its parts were put on record now, "
            f"{undecided} of them undecided"
        )
        if ledger.lost_count:
            text += f"; as many as {ledger.lost_count} are lost to the record"
        left = _Left(file, text, ledger.head, ledger.model_sha256, deque(missing), ledger.damaged_count())
        if not missing:
            self._end(left)
            if ledger.lost_count:
                self.done.append(text)
            return None
        return left

    def _end(self, left: _Left) -> None:
        """All of it that can be read is on record."""
        if left.damaged_count:
            self._set_aside(left.file, f"{left.damaged_count} of its entries cannot be read")
        else:
            left.file.remove()
        left.file.close()

    def _set_aside(self, file: LedgerFile, why: str) -> None:
        path = file.path
        try:
            text = f"is kept as {file.set_aside()}"
        except OSError as error:
            text = f"cannot be set aside: {error.strerror}"
        self._unusable.append(f"ledger {path} is damaged and {text}: {why}")


def parts_left(ledger: Ledger) -> list[LedgerEntry]:
    """Its parts, and as open ones those that the untold triggers in its journals make: the same, whenever it is worked out."""
    head, entries = ledger.head, ledger.entries()
    camera_ids = [str(camera) for camera in range(head.camera_count)]
    machine = DeadlineMachine(camera_ids, Timing(head.deadline_ns, guard_ns=0), head.matching)
    machine.recover(entries, 0)
    for trigger in ledger.untold(camera_ids):
        for output in machine.trigger(trigger, 0):
            if isinstance(output, Opened):
                entries.append(
                    LedgerEntry(
                        part_id=output.part_id,
                        seq=0,
                        encoder_count=output.encoder_count,
                        trigger_ns=output.trigger_ns,
                        decided_ns=0,
                        sent_ns=None,
                        verdict=None,
                        reason=None,
                        recorded=False,
                        keys=(output.key,),
                        part_key=output.part_key,
                    )
                )
    return entries


def missing_entries(entries: Sequence[LedgerEntry], closed_ns: int) -> list[LedgerEntry]:
    """What the record must hold of a ledger's parts beyond those that records acknowledged, all decided, by part_id.

    Whenever it is worked out, it is the same: an open part's seq follows from its place.
    """
    seq = max((entry.seq for entry in entries), default=0)
    missing = []
    for entry in entries:
        if entry.verdict is None:
            seq += 1
            missing.append(
                entry._replace(seq=seq, verdict=Verdict.NO_DECISION, reason=Reason.FAULT, decided_ns=closed_ns)
            )
        elif not entry.recorded:
            missing.append(entry)
    return missing


def _result(head: LedgerHead, model_sha256: str | None, entry: LedgerEntry) -> ResultPayload:
    """Without its views, which died with the processes."""
    deadline_ns = entry.trigger_ns + head.deadline_ns
    gate_count = None
    if entry.encoder_count is not None and head.encoder_bits is not None:
        gate_count = wrap(entry.encoder_count + head.reject_offset_pulses, head.encoder_bits)
    sent_ns = entry.sent_ns
    assert entry.verdict is not None
    assert entry.reason is not None
    return ResultPayload(
        session_id=head.session_id,
        seq=entry.seq,
        part_id=entry.part_id,
        verdict=entry.verdict.value,
        reason=entry.reason.value,
        encoder_count=entry.encoder_count,
        reject_at_encoder_count=gate_count,
        part_key=entry.part_key,
        age_us=None if sent_ns is None else (sent_ns - entry.trigger_ns) // NS_PER_US,
        valid_us=None if sent_ns is None else (deadline_ns - sent_ns) // NS_PER_US,
        trigger_utc=utc_text(entry.trigger_ns),
        trigger_ns=entry.trigger_ns,
        decided_ns=entry.decided_ns,
        sent_ns=sent_ns,
        deadline_ns=deadline_ns,
        stages_us={},
        recipe_id=head.recipe_id,
        recipe_version=head.recipe_version,
        model_sha256=model_sha256,
        calibration_id=head.calibration_id,
        views=[],
        defects=[],
        is_simulated=head.is_simulated,
        is_challenge=entry.reason is Reason.CHALLENGE,
        image_ref=None,
        row_hash="",
    )
