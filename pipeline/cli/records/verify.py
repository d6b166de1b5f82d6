"""``lineside records verify``: whether the record is as it was written, and how much of that is proven."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import structs

from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json
from pipeline.cli.records.options import RecordArgument
from pipeline.cli.records.places import line_of, record_file
from pipeline.cli.records.proof import anchors_of, say_skipped, verified_against
from pipeline.record.anchor import Anchor
from pipeline.record.reader import NotReadable
from pipeline.record.verify import CANNOT_PROVE, DROPPED_OR_REMOVED, NOT_CHAINED, Verified

_FINDINGS_TOLD = 20


def verify(
    record: RecordArgument,
    anchor: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the topic `anchor` carried, as mosquitto_sub prints it, one a line; all are checked. - for standard input."
            " Kept elsewhere than the record.",
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Whether anybody edited, removed, added, exchanged or cut off rows, and where. Exit status 1 where somebody did."""
    check_json_target(json_file)
    console = console_for(json_file, highlight=False)
    try:
        line = line_of(record)
        file = record_file(record, line)
        log = anchors_of(anchor)
        anchors = log.anchors
        began_s = time.monotonic()
        verified = verified_against(anchors, file, line)
    except NotReadable as error:
        raise fail(str(error), 2) from None
    took_s = time.monotonic() - began_s
    show(console, _words(file, verified, anchors, took_s))
    say_skipped(log, console)
    result: dict[str, Any] = {
        "record": str(file),
        **asdict(verified),
        "anchors": [structs.asdict(each) for each in anchors],
        "anchor_lines_skipped": log.skipped,
        "rows_per_s": round(verified.rows / took_s) if took_s > 0 else None,
        "cannot_prove": list(CANNOT_PROVE) if verified.covered_rows < verified.last_row or not anchors else [],
        "cannot_prove_of_dropped": DROPPED_OR_REMOVED if verified.dropped_rows else None,
        "not_proven_behind_row": verified.covered_rows,
        "not_chained": list(NOT_CHAINED),
    }
    write_json(json_file, result)
    if verified.finding_count:
        raise typer.Exit(1)


def _words(record: Path, verified: Verified, anchors: list[Anchor], took_s: float) -> list[str]:
    lines = [
        f"record    {record}",
        f"rows      {verified.rows}, of {len(verified.sessions)} sessions, {verified.first_utc} to {verified.last_utc}",
        f"head      row {verified.last_row}: {verified.head}",
        f"beside    {verified.contexts} contexts, {verified.reviews} reviews",
        f"took      {took_s:.1f} s",
    ]
    if verified.dropped_rows:
        lines.insert(
            2,
            f"dropped   rows 1 to {verified.dropped_rows} are not there with their segments, only their roots are known; "
            + DROPPED_OR_REMOVED,
        )
    if verified.unchecked_anchors:
        lines.append(
            f"unchecked {verified.unchecked_anchors} anchors name rows that are not there any more: nothing to compare them with"
        )
    for finding in verified.findings[:_FINDINGS_TOLD]:
        part = f" (session {finding.session_id}, part {finding.part_id})" if finding.session_id is not None else ""
        lines.append(f"FOUND     row {finding.row}{part}: {finding.kind}: {finding.text}")
    if verified.finding_count > _FINDINGS_TOLD:
        lines.append(f"FOUND     and {verified.finding_count - _FINDINGS_TOLD} more")
    if not verified.finding_count:
        lines.append("sound     every row follows from the one before it")
    if verified.covered_rows:
        lines.append(
            f"anchored  row {verified.covered_rows} is as it was anchored: up to there nothing was worked out anew"
        )
    if not anchors:
        lines.append(f"NOT PROVEN, as no anchor was given: that there were {_not_proven()}")
    elif verified.covered_rows < verified.last_row:
        lines.append(f"NOT PROVEN behind row {verified.covered_rows}: that there were {_not_proven()}")
    if anchors and verified.covered_reviews < verified.reviews:
        lines.append(f"NOT PROVEN behind review {verified.covered_reviews}: the same of the reviews")
    lines.append(f"NOT COVERED by any hash: {', '.join(NOT_CHAINED)}")
    return lines


def _not_proven() -> str:
    return ", ".join(f"no {each}" for each in CANNOT_PROVE)
