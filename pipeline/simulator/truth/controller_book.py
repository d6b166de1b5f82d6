"""The controller's book: what it did with each part, and on whose word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.simulator.truth.books import Record


@dataclass(slots=True)
class Decision:
    """One part at the gate; ``session_id`` to ``encoder_count`` name the verdict it was decided on, None for none."""

    passed: bool
    why: str
    session_id: str | None
    seq: int | None
    part_id: Any
    encoder_count: int | None


@dataclass(slots=True)
class ControllerAccount:
    """The book, sorted out. ``decisions`` by the moment at the gate; ``late`` holds (heard_ns, encoder_count)."""

    decisions: dict[int, Decision] = field(default_factory=dict)
    late: list[tuple[int, int | None]] = field(default_factory=list)
    overdue_count: int = 0


def read_controller(book: Iterable[Record]) -> ControllerAccount:
    """Reads the book once."""
    account = ControllerAccount()
    for record in book:
        if record["event"] == "gate":
            account.decisions[record["gate_ns"]] = Decision(
                record["passed"],
                record["why"],
                record["session_id"],
                record["seq"],
                record["part_id"],
                record["encoder_count"],
            )
        elif record["event"] == "late":
            account.late.append((record["heard_ns"], record["payload"].get("encoder_count")))
        elif record["event"] == "overdue":
            account.overdue_count += 1
    return account
