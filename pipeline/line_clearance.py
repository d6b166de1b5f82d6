"""Line clearance: whether this start has to wait until an operator says that no other part is on the line."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from pipeline.ledger import BadLedger, Ledger
from pipeline.ledger_file import damaged_ledgers, ledger_files

_LOCK_WAIT_S = 0.25
_ASK = "send cmd/confirm_line_clear when no part is between camera and gate"
# Parts that were not judged do not count: a start that waited for its clearance in vain has made nothing.
_LAST_JUDGED = "SELECT body FROM part WHERE verdict IN ('PASS', 'REJECT') ORDER BY {} DESC LIMIT 1"
_ORDERS = ("id", "session_id DESC, part_id")
"""Sessions that were killed are recorded by later ones, and wall clocks go back: neither order alone tells which part was last."""

Clearance: TypeAlias = Literal["off", "changeover", "always"]


@dataclass(frozen=True, slots=True)
class Made:
    """What a part was judged with."""

    recipe_id: str
    recipe_version: str
    model_sha256: str | None

    def __str__(self) -> str:
        model = "an unknown model" if self.model_sha256 is None else f"model {self.model_sha256[:8]}"
        return f"{self.recipe_id} {self.recipe_version} with {model}"


def made_last(record: Path) -> frozenset[Made | None]:
    """What the part judged last may have been judged with, by the record and by the ledgers of sessions that were killed on it;
    None among them where that cannot be read. Empty where nothing was judged yet.
    """
    found: set[Made | None] = set()
    if record.exists():
        found |= _on_record(record)
    for path in ledger_files(record):
        found |= _in_ledger(path)
    if damaged_ledgers(record):
        found.add(None)
    return frozenset(found)


def clearance_asked(mode: Clearance, before: Collection[Made | None], now: Made) -> str:
    """What to ask of the operator; empty where nothing is. What was made before being unknown is as good as another product."""
    if mode == "always":
        return f"line clearance: at each start; {_ASK}"
    if mode == "off" or set(before) == {now}:
        return ""
    other = next((made for made in before if made != now), None)
    was = f"the last part judged was {other}" if other is not None else "what was judged last is not known"
    return f"line clearance: this is {now}, {was}; {_ASK}"


def _on_record(record: Path) -> set[Made | None]:
    try:
        database = sqlite3.connect(f"file:{quote(str(record))}?mode=ro", uri=True, timeout=_LOCK_WAIT_S)
        try:
            rows = [database.execute(_LAST_JUDGED.format(order)).fetchone() for order in _ORDERS]
        finally:
            database.close()
        bodies = [json.loads(row[0]) for row in rows if row is not None]
        return {Made(body["recipe_id"], body["recipe_version"], body["model_sha256"]) for body in bodies}
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return {None}


def _in_ledger(path: Path) -> set[Made | None]:
    """Without taking it: its signalling may still be closing its books."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return set()
    except OSError:
        return {None}
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return {None}
        ledger = Ledger(descriptor)
        if ledger.damaged_count():
            return {None}
        judged = any(
            entry.verdict is not None and entry.verdict.value in ("PASS", "REJECT") for entry in ledger.entries()
        )
    except (BadLedger, OSError):
        return {None}
    finally:
        os.close(descriptor)
    return {Made(ledger.head.recipe_id, ledger.head.recipe_version, ledger.model_sha256)} if judged else set()
