"""What signalling has told and the record does not have yet. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import Line
from pipeline.messages import LateInspection, PartRecord
from pipeline.part_result import part_result
from pipeline.payloads import ResultPayload
from pipeline.record.context import Context
from pipeline.traceability import KeySchedule


@dataclass(frozen=True, slots=True)
class JudgedWith:
    """The model in use, and the whole context that it belongs to."""

    model_sha256: str
    context: Context


class Batch:
    """To be written in one transaction, and acknowledged when it is on disk.

    Attributes:
        judged_with: in use when the first of it came, None where that was not known. It may change before the disk takes the
            batch, and then nothing is added to it.
        due_ns: when it is to be written.
    """

    def __init__(self) -> None:
        self.parts: list[PartRecord] = []
        self.late: list[LateInspection] = []
        self.judged_with: JudgedWith | None = None
        self.due_ns = 0
        self._foreign_count = 0
        """How many at its head came from a signalling that is gone, and are not to be acknowledged."""

    def __len__(self) -> int:
        return len(self.parts) + len(self.late)

    def begin(self, due_ns: int, judged_with: JudgedWith | None) -> None:
        """The first of it comes now."""
        self.due_ns, self.judged_with = due_ns, judged_with

    def add(self, message: PartRecord | LateInspection) -> None:
        """The next one."""
        if isinstance(message, PartRecord):
            self.parts.append(message)
        else:
            self.late.append(message)

    def sender_gone(self) -> None:
        """Nobody waits any more for what came so far."""
        self._foreign_count = len(self)

    def results(self, line: Line, session_id: str, schedule: KeySchedule) -> list[ResultPayload]:
        """Of its parts, not hashed yet, in their order."""
        used = self.judged_with
        return [
            part_result(
                part,
                line,
                session_id,
                model_sha256=used.model_sha256 if used is not None else None,
                context_sha256=used.context.sha256 if used is not None else None,
                traceability=schedule.at(part.trigger_ns),
            )
            for part in self.parts
        ]

    def written(self) -> int:
        """It is on disk, and empty from here on. Returns how many messages are to be acknowledged."""
        count = len(self) - self._foreign_count
        self.parts.clear()
        self.late.clear()
        self._foreign_count = 0
        return count
