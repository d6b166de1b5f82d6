"""How much of the record is proven."""

from __future__ import annotations

from pipeline.record.report.shown import RecordShown
from pipeline.record.verify import CANNOT_PROVE, DROPPED_OR_REMOVED, NOT_CHAINED, Verified
from pipeline.report.blocks import Notice, plain

_FINDINGS_TOLD = 8


def state_of_proof(shown: RecordShown) -> Notice:
    """At the head of the page: findings are not to be overlooked."""
    verified = shown.verified
    if verified is None:
        return Notice("warning", "Not verified: nobody looked whether the record is as the service wrote it.")
    rows = f"{verified.rows:,} rows read"
    if verified.dropped_rows:
        rows += f"; rows 1 to {verified.dropped_rows:,} are not there, only their roots are known; {DROPPED_OR_REMOVED}"
    if verified.finding_count:
        lines = [f"Row {each.row}: {each.kind}: {plain(each.text, 300)}" for each in verified.findings[:_FINDINGS_TOLD]]
        more = verified.finding_count - len(lines)
        lines += [f"and {more:,} more: lineside records verify"] if more > 0 else []
        title = f"NOT as it was written: {verified.finding_count:,} findings. Do not rely on these figures."
        return Notice("bad", title, [rows, *lines])
    if verified.covered_rows and verified.covered_rows >= verified.last_row:
        title = f"Verified up to its last row against {shown.anchor_count:,} anchors kept elsewhere."
        lines = [f"{rows}; every one follows from the one before it.", *_beside(verified), f"Head: {verified.head}"]
        return Notice("good", title, lines)
    if verified.covered_rows:
        title = f"Verified; proven by an anchor up to row {verified.covered_rows:,} of {verified.last_row:,}."
        unproven = f"Not proven behind it, that none of this was done: {'; '.join(CANNOT_PROVE)}."
    else:
        title = "Verified without an anchor: every row follows from the one before it."
        unproven = f"Not proven, that none of this was done: {'; '.join(CANNOT_PROVE)}."
    return Notice("warning", title, [f"{rows}.", unproven, *_beside(verified), f"Head: {verified.head}"])


def _beside(verified: Verified) -> list[str]:
    """What the rows' chain does not cover."""
    lines = []
    if verified.reviews:
        lines.append(
            f"People's reviews: {verified.reviews:,}, proven by an anchor up to number {verified.covered_reviews:,}."
        )
    return [*lines, f"Covered by no hash: {', '.join(NOT_CHAINED)}."]
