"""The table of times under a fault against healthy ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

TABLE_WIDTH = 140


def difference_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each comparison that there are times for, as ``pipeline.bench.comparison`` tells it, under its name."""
    table = Table(title=title)
    for column in ("", "healthy p50 / p90 / p99", "fault p50 / p90 / p99", "p50 differs (95 %)", "p99 differs (95 %)"):
        table.add_column(column, justify="right" if column else "left")
    for name, told in rows.items():
        if "difference_us" in told:
            differences = told["difference_us"]
            table.add_row(
                name,
                _times(told["healthy_us"]),
                _times(told["fault_us"]),
                _difference(differences["p50"]),
                _difference(differences["p99"]),
            )
    return table


def _times(told: Mapping[str, Any]) -> str:
    return f"{told['p50']:.0f} / {told['p90']:.0f} / {told['p99']:.0f}"


def _difference(told: Mapping[str, Any]) -> str:
    interval = "one window" if told["low"] is None else f"{told['low']:+.0f} .. {told['high']:+.0f}"
    return f"{told['difference']:+.0f} ({interval})"
