"""What was looked at: the selection, and what its parts belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from calibration.intervals import share_of
from pipeline.record.report.shown import ROWS_TOLD, RecordShown, moment, rest
from pipeline.record.survey import RecordSurvey
from pipeline.report.blocks import Block, Table, plain
from pipeline.report.shares import percent
from pipeline.report.shares import told as told_share

_SELECTION = {
    "session_id": "session",
    "part_id": "part",
    "since_utc": "triggered from (UTC)",
    "until_utc": "triggered before (UTC)",
    "lot": "lot",
    "order": "order",
    "serial": "serial number",
    "shift": "shift",
}


def selection(shown: RecordShown) -> Iterator[Block]:
    """And recipes and models, contexts, lots, sessions."""
    asked = [(_SELECTION.get(each.name, each.name), getattr(shown.wanted, each.name)) for each in fields(shown.wanted)]
    rows = [("record", plain(str(shown.record), 200))]
    rows += [(name, plain(str(value))) for name, value in asked if value is not None]
    if len(rows) == 1:
        rows.append(("selection", "the whole record"))
    if shown.survey.simulated:
        rows.append(("simulated", f"{shown.survey.simulated:,} of the parts are of a simulated line"))
    if shown.survey.challenges:
        rows.append(
            (
                "challenge",
                f"{shown.survey.challenges:,} of the parts are challenge parts: not in yields, rates and scores",
            )
        )
    yield Table("Selection", ["what", "which"], rows)
    products = shown.figures["products"]
    if products:
        yield Table(
            "Recipes and models",
            ["recipe", "version", "model, SHA-256", "parts"],
            [
                (
                    plain(each["recipe_id"], 64),
                    plain(each["recipe_version"], 32),
                    plain(each["model_sha256"] or "not known", 64),
                    f"{each['parts']:,}",
                )
                for each in products[:ROWS_TOLD]
            ],
            frozenset({3}),
            rest(len(products), "recipes and models"),
        )
        yield from _contexts(shown.survey)
        yield from _belongs(shown.figures)
        yield _sessions(shown)


def _contexts(survey: RecordSurvey) -> Iterator[Block]:
    if not survey.contexts:
        return
    rows = []
    for sha256, (context, parts) in survey.contexts.items():
        told = {"version": "its context is not there as it was"} if context is None else context
        hashes = [plain(str(told.get(key) or "-"), 20) for key in ("recipe_sha256", "fingerprint_sha256")]
        rows.append((plain(sha256, 20), *hashes, plain(str(told.get("version"))), f"{parts:,}"))
    yield Table(
        "Judged with",
        ["context, SHA-256", "recipe, SHA-256", "runtime, SHA-256", "lineside", "parts"],
        rows,
        frozenset({4}),
        "Whole in the record, where each row commits to its context; records show tells that of a part.",
    )


def _belongs(figures: Mapping[str, Any]) -> Iterator[Block]:
    told = [each for each in figures["traceability"] if each["lot"] or each["order"] or each["shift"]]
    if not told:
        return
    yield Table(
        "Lots, orders and shifts",
        ["lot", "order", "shift", "parts", "yield", "rejected", "not judged"],
        [
            (
                *(plain(each[key] or "-", 32) for key in ("lot", "order", "shift")),
                f"{each['parts']:,}",
                told_share(share_of(each["passed"], each["passed"] + each["rejected"])),
                f"{each['rejected']:,}",
                f"{each['no_decision']:,}",
            )
            for each in told[-ROWS_TOLD:]
        ],
        frozenset({3, 4, 5, 6}),
        rest(len(told), "of them", "older "),
    )


def _sessions(shown: RecordShown) -> Table:
    seen = shown.survey.sessions
    rows = []
    for session_id, each in list(seen.items())[-ROWS_TOLD:]:
        counts = shown.figures["sessions"][session_id]
        first, last = (f"{number:,}" for number in each.part_ids)
        rows.append(
            (
                plain(session_id, 32),
                moment(each.first_utc),
                moment(each.last_utc),
                f"{first} to {last}",
                f"{each.parts:,}",
                percent(counts["yield_ratio"]),
                f"{counts['no_decision']:,}",
            )
        )
    columns = ["session", "from, UTC", "to, UTC", "part numbers", "parts", "yield", "not judged"]
    return Table("Sessions", columns, rows, frozenset({4, 5, 6}), rest(len(seen), "sessions", "older "))
