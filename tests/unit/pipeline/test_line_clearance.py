"""What was made last, as the record tells it, and when a start has to wait."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from pipeline.line_clearance import Made, clearance_asked, last_made
from pipeline.record_store import RecordStore
from tests.unit.pipeline.test_payloads import RESULT

NOW = Made("r", "1", "0" * 64)


def record(path: Path, *parts: tuple[str, str]) -> Path:
    """(recipe_version, verdict) in order."""
    store = RecordStore(path, "s", budget_us=1, deadline_us=1)
    results = [
        msgspec.structs.replace(
            RESULT, session_id="s", part_id=number, seq=number, recipe_version=version, verdict=verdict
        )
        for number, (version, verdict) in enumerate(parts, 1)
    ]
    store.commit(results, [])
    store.close()
    return path


def test_the_last_judged_part_tells(tmp_path: Path) -> None:
    path = record(tmp_path / "a #1.db", ("0", "PASS"), ("1", "REJECT"), ("2", "NO_DECISION"))
    assert last_made(path) == Made("r", "1", "0" * 64)


def test_nothing_judged_tells_nothing(tmp_path: Path) -> None:
    assert last_made(record(tmp_path / "a.db", ("1", "NO_DECISION"))) is None
    assert last_made(tmp_path / "none.db") is None
    assert not (tmp_path / "none.db").exists()


def test_a_damaged_or_locked_record_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "noise.db").write_bytes(b"no database" * 1_000)
    assert last_made(tmp_path / "noise.db") is None
    path = record(tmp_path / "a.db", ("1", "PASS"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE part SET body = '[]'")
    database.close()
    assert last_made(path) is None
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("CREATE TABLE part (id, verdict, body)")
    holder.execute("BEGIN EXCLUSIVE")
    assert last_made(tmp_path / "locked.db") is None
    holder.close()


@pytest.mark.parametrize(
    ("mode", "before", "asked"),
    [
        ("off", None, False),
        ("off", Made("other", "1", None), False),
        ("always", NOW, True),
        ("changeover", NOW, False),
        ("changeover", None, True),
        ("changeover", Made("other", "1", NOW.model_sha256), True),
        ("changeover", Made("r", "2", NOW.model_sha256), True),
        ("changeover", Made("r", "1", "f" * 64), True),
        ("changeover", Made("r", "1", None), True),
    ],
)
def test_when_it_is_asked(mode: Literal["off", "changeover", "always"], before: Made | None, asked: bool) -> None:
    text = clearance_asked(mode, before, NOW)
    assert bool(text) is asked
    assert not asked or text.endswith("send cmd/confirm_line_clear when no part is between camera and gate")
