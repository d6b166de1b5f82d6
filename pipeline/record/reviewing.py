"""Taking down what a person says of a part, in whichever segment the part is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.messages import GiveReview
from pipeline.record.faults import RecordDamaged
from pipeline.record.heads import end_of_reviews
from pipeline.record.opening import OpenSegment
from pipeline.record.reviews import Review, decode_review, insert_review
from pipeline.record.sealed import find_sealed
from pipeline.record.segment import segments_with_part

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


def take_review(segment: OpenSegment, given: GiveReview, who: str, request: str, utc: str) -> tuple[int, Review] | None:
    """Within a transaction; what ``request`` brought already is left as it is. Its number, and as it stands in the record.
    None where there is no such part. Raises RecordDamaged and sqlite3.Error.
    """
    # In the newest sealed segment too: the answer to it may have been lost when that was sealed.
    ask_present = "SELECT id, body FROM review WHERE request = ?"
    present = segment.database.execute(ask_present, (request,)).fetchone()
    present = present or find_sealed(segment.path, segment.newest_sealed, ask_present, (request,))
    if present is not None:
        return int(present[0]), _decode(segment.path, present[1])
    asked = (given.part_id, given.part_session_id)
    found = segment.database.execute(_FIND_PART, asked).fetchone()
    if found is None:
        found = find_sealed(segment.path, segments_with_part(segment.database, *asked), _FIND_PART, asked)
    if found is None:
        return None
    row, session_id, verdict, row_hash = found
    review = Review(
        session_id=session_id,
        part_id=given.part_id,
        row=row,
        row_hash=row_hash,
        verdict=verdict,
        utc=utc,
        who=who,
        said=given.said,
        note=given.note,
        request=request,
    )
    count, head = end_of_reviews(segment)
    insert_review(segment.database, count + 1, review, head)
    return count + 1, review


def _decode(path: Path, body: object) -> Review:
    try:
        return decode_review(body)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as error:
        raise RecordDamaged(f"record {path}: a review cannot be read: {error}") from error
