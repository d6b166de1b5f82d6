"""Line clearance: whether this start has to wait until an operator says that no other part is on the line."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

_LOCK_WAIT_S = 0.25
_ASK = "send cmd/confirm_line_clear when no part is between camera and gate"


@dataclass(frozen=True, slots=True)
class Made:
    """What a part was judged with."""

    recipe_id: str
    recipe_version: str
    model_sha256: str | None

    def __str__(self) -> str:
        model = "an unknown model" if self.model_sha256 is None else f"model {self.model_sha256[:8]}"
        return f"{self.recipe_id} {self.recipe_version} with {model}"


def last_made(record: Path) -> Made | None:
    """What the last judged part on record was judged with; None where there is none, or it cannot be read.

    Parts that were not judged do not count: a start that waited for its clearance in vain has made nothing.
    """
    if not record.is_file():
        return None
    try:
        database = sqlite3.connect(f"file:{quote(str(record))}?mode=ro", uri=True, timeout=_LOCK_WAIT_S)
        try:
            row = database.execute(
                "SELECT body FROM part WHERE verdict IN ('PASS', 'REJECT') ORDER BY id DESC LIMIT 1"
            ).fetchone()
        finally:
            database.close()
        if row is None:
            return None
        body = json.loads(row[0])
        return Made(body["recipe_id"], body["recipe_version"], body["model_sha256"])
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return None


def clearance_asked(mode: Literal["off", "changeover", "always"], before: Made | None, now: Made) -> str:
    """What to ask of the operator; empty where nothing is. What was made before being unknown is as good as another product."""
    if mode == "always":
        return f"line clearance: at each start; {_ASK}"
    if mode == "changeover" and before != now:
        was = f"the last part judged was {before}" if before is not None else "no part judged before is on record"
        return f"line clearance: this is {now}, {was}; {_ASK}"
    return ""
