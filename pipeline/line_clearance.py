"""Line clearance: whether this start has to wait until an operator says that no other part is on the line."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from pipeline.ledger import BadLedger, Ledger
from pipeline.ledger_file import damaged_ledgers, ledger_files
from pipeline.record.files import record_files
from vision.types import Reason

_LOCK_WAIT_S = 0.25
_ASK = "send cmd/confirm_line_clear when no part is between camera and gate"
_JUDGED = ("PASS", "REJECT")
_ONLY_RUNNING = ("DEADLINE", "MISSED_FRAME", "BAD_FRAME", "OVERRUN")
"""Reasons that a part is given only while the service runs. FAULT is none: a killed session is closed with it too, which may
have waited for its clearance in vain.
"""
_MADE = f"verdict IN {_JUDGED} OR reason IN {_ONLY_RUNNING}"
_PERHAPS_MADE = "reason != 'NOT_RUNNING'"
_LAST = "SELECT body FROM part WHERE {} ORDER BY {} DESC LIMIT 1"
_ORDERS = ("id", "session_id DESC, part_id")
"""Sessions that were killed are recorded by later ones, and wall clocks go back: neither order alone tells which part was last."""

Clearance: TypeAlias = Literal["off", "changeover", "always"]


@dataclass(frozen=True, slots=True)
class Made:
    """What a part was made with, as the service knows it."""

    recipe_id: str
    recipe_version: str
    model_sha256: str | None

    def __str__(self) -> str:
        model = "an unknown model" if self.model_sha256 is None else f"model {self.model_sha256[:8]}"
        return f"{self.recipe_id} {self.recipe_version} with {model}"


def made_last(record: Path) -> frozenset[Made | None]:
    """What the last part of production may have been made with, by the record and by the ledgers of sessions that were killed on
    it; None among them where that cannot be told. Empty where nothing was made yet.
    """
    made, perhaps = _on_record(record)
    for path in ledger_files(record):
        made_there, perhaps_there = _in_ledger(path)
        made |= made_there
        perhaps |= perhaps_there
    if damaged_ledgers(record) or (perhaps and not made):
        made.add(None)
    return frozenset(made | perhaps)


def clearance_asked(mode: Clearance, before: Collection[Made | None], now: Made) -> str:
    """What to ask of the operator; empty where nothing is. What was made before being unknown is as good as another product."""
    if mode == "always":
        return f"line clearance: at each start; {_ASK}"
    if mode == "off" or set(before) == {now}:
        return ""
    other = next((made for made in before if made != now), None)
    was = f"the last part made was {other}" if other is not None else "what was made last is not known"
    return f"line clearance: this is {now}, {was}; {_ASK}"


_Found: TypeAlias = tuple[set[Made | None], set[Made | None]]
"""With what the last part was made for certain, and with what perhaps."""


def _on_record(record: Path) -> _Found:
    made: set[Made | None] = set()
    perhaps: set[Made | None] = set()
    try:
        # Of each the last one there is, in whichever segment that may be.
        for file in reversed(record_files(record)):
            address = f"file:{quote(str(file))}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=_LOCK_WAIT_S)) as database:
                made = made or _last(database, _MADE)
                perhaps = perhaps or _last(database, _PERHAPS_MADE)
            if made and perhaps:
                break
    except (OSError, sqlite3.Error, ValueError, KeyError, TypeError):
        return {None}, set()
    return made, perhaps


def _last(database: sqlite3.Connection, condition: str) -> set[Made | None]:
    rows = [database.execute(_LAST.format(condition, order)).fetchone() for order in _ORDERS]
    bodies = [json.loads(row[0]) for row in rows if row is not None]
    return {Made(body["recipe_id"], body["recipe_version"], body["model_sha256"]) for body in bodies}


def _in_ledger(path: Path) -> _Found:
    """Without taking it: its signalling may still be closing its books."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return set(), set()
    except OSError:
        return {None}, set()
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return {None}, set()
        ledger = Ledger(descriptor)
        if ledger.damaged_count():
            return {None}, set()
        entries = ledger.entries()
    except (BadLedger, OSError):
        return {None}, set()
    finally:
        os.close(descriptor)
    there: set[Made | None] = {Made(ledger.head.recipe_id, ledger.head.recipe_version, ledger.model_sha256)}
    is_made = any(
        entry.verdict is not None
        and entry.reason is not None
        and (entry.verdict.value in _JUDGED or entry.reason.value in _ONLY_RUNNING)
        for entry in entries
    )
    perhaps_made = any(entry.reason is not Reason.NOT_RUNNING for entry in entries)
    return there if is_made else set(), there if perhaps_made else set()
