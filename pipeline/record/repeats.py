"""What is on record already when it is told again: by a predecessor's ledger, or behind a seal that hid the answer."""

from __future__ import annotations

from pipeline.messages import LateInspection
from pipeline.payloads import ResultPayload
from pipeline.record.opening import OpenSegment
from pipeline.record.sealed import find_sealed
from pipeline.record.segment import segments_with_part


class Repeats:
    """Looks in the sealed segments only where they may have it. For as long as ``segment`` is written to."""

    def __init__(self, segment: OpenSegment, session_id: str) -> None:
        self._segment = segment
        self._session_id = session_id
        self._last_sealed_part: dict[str, int] = {}
        """By session, as far as it was asked for: its highest part in the sealed segments."""
        self._last_sealed_late_ns: int | None = None
        """When the newest sealed segment's last late inspection of this session came; None: not asked yet."""

    def row_of(self, result: ResultPayload) -> tuple[str, str] | None:
        """Body and hash of this part's row, where there is one. Raises sqlite3.Error."""
        segment = self._segment
        ask = "SELECT body, row_hash FROM part WHERE session_id = ? AND part_id = ?"
        key = (result.session_id, result.part_id)
        found = segment.database.execute(ask, key).fetchone()
        if found is None and result.part_id <= self._last_sealed_part_of(result.session_id):
            numbers = segments_with_part(segment.database, result.part_id, result.session_id)
            found = find_sealed(segment.path, numbers, ask, key)
        return None if found is None else (found[0], found[1])

    def is_late_sealed(self, item: LateInspection) -> bool:
        """Whether it is in the newest sealed segment: what was on record before the seal may be told again behind it."""
        path, newest = self._segment.path, self._segment.newest_sealed
        if self._last_sealed_late_ns is None:
            ask = "SELECT coalesce(max(arrived_ns), 0) FROM late_inspection WHERE session_id = ?"
            found = find_sealed(path, newest, ask, (self._session_id,))
            self._last_sealed_late_ns = 0 if found is None else found[0]
        if item.arrived_ns > self._last_sealed_late_ns:
            return False
        ask = "SELECT 1 FROM late_inspection WHERE session_id = ? AND part_id = ? AND camera_id = ? AND arrived_ns = ?"
        key = (self._session_id, item.part_id, item.view.camera_id, item.arrived_ns)
        return find_sealed(path, newest, ask, key) is not None

    def _last_sealed_part_of(self, session_id: str) -> int:
        known = self._last_sealed_part.get(session_id)
        if known is None:
            ask = "SELECT coalesce(max(last_part), 0) FROM sealed_parts WHERE session_id = ?"
            known = self._segment.database.execute(ask, (session_id,)).fetchone()[0]
            self._last_sealed_part[session_id] = known
        return known
