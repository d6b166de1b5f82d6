"""The figures of a record in words and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table

from pipeline.report.blocks import plain

_SPANS_TOLD = 48


def stats_tables(figures: dict[str, Any]) -> Iterator[Table | str]:
    """Of what ``RecordStats.figures`` tells."""
    yield f"{figures['parts']} parts of {len(figures['sessions'])} sessions, {figures['first_utc']} to {figures['last_utc']}"
    ratio = _percent(figures["yield_ratio"])
    known = f", of a challenge {figures['challenge']}" if figures["challenge"] else ""
    yield (
        f"passed {figures['passed']}, rejected {figures['rejected']}, not judged {figures['no_decision']}{known}; yield {ratio}"
    )
    yield f"verdicts on record as not sent: {figures['verdicts_unsent']}"
    if figures["reasons"]:
        yield _table(
            "Reasons",
            ("reason", "parts", "of all"),
            [(reason, str(count), _percent(count / figures["parts"])) for reason, count in figures["reasons"].items()],
        )
    if figures["defects"]:
        yield _table(
            "Defects of rejected parts",
            ("class", "parts", "of the rejected", "together"),
            [
                (
                    each["class"],
                    str(each["parts"]),
                    _percent(each["share_of_rejected"]),
                    _percent(each["cumulative_share"]),
                )
                for each in figures["defects"]
            ],
        )
    if figures["latency_us"]["max"]:
        times = {"frame in memory -> socket": figures["latency_us"], **figures["stages_us"]}
        yield _table(
            "Time, us",
            ("", "p50", "p90", "p99", "p99.9", "max"),
            [(name, *map(str, told.values())) for name, told in times.items()],
        )
    belongs = [each for each in figures["traceability"] if (each["lot"], each["order"], each["shift"]) != (None,) * 3]
    if belongs:
        yield _table(
            "Lots, orders, shifts",
            ("lot", "order", "shift", "parts", "passed", "rejected", "not judged", "yield"),
            [
                (
                    *(each[key] or "-" for key in ("lot", "order", "shift")),
                    *(str(each[key]) for key in ("parts", "passed", "rejected", "no_decision")),
                    _percent(each["yield_ratio"]),
                )
                for each in belongs[-_SPANS_TOLD:]
            ],
        )
    said = figures["reviews"]
    if said["reviewed"]:
        yield (
            f"reviewed {said['reviewed']}: confirmed {said['confirmed']}, overruled {said['overruled']}"
            f" ({said['false_rejects']} rejected and good, {said['false_accepts']} passed and defective),"
            f" undecided {said['undecided']}"
        )
    yield _table(
        "Over time",
        ("from, UTC", "parts", "passed", "rejected", "not judged", "yield", "reject rate"),
        [
            (
                each["from_utc"],
                *(str(each[key]) for key in ("parts", "passed", "rejected", "no_decision")),
                _percent(each["yield_ratio"]),
                _percent(each["reject_ratio"]),
            )
            for each in figures["over_time"][-_SPANS_TOLD:]
        ],
    )
    if len(figures["over_time"]) > _SPANS_TOLD:
        yield f"and {len(figures['over_time']) - _SPANS_TOLD} before; --json has all"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """The first column is words, the others are numbers."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"
