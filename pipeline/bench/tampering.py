"""Suite ``tampering``: a record is written, and spoiled in every way in turn; is each found, with an anchor and without?

Each tampering begins with a fresh copy of the sound record. The anchors are those that the wire would have carried each
second, up to the last row.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from pipeline.clock import utc_text
from pipeline.payloads import DefectResult, ResultPayload, ViewResult
from pipeline.record.anchor import Anchor
from pipeline.record.chain import NO_HASH, link
from pipeline.record.store import RecordStore
from pipeline.record.verify import Verified, verify

_PARTS_A_SESSION = 40_000
_BATCH_ROWS = 200
_ANCHOR_ROWS = 100
"""At 6,000 parts a minute an anchor is told so many rows after the one before."""
_INTERVAL_NS = 10_000_000
_CONTENT = (
    "session_id, part_id, seq, verdict, reason, encoder_count, trigger_ns, trigger_utc, decided_ns, sent_ns,"
    " deadline_ns, body, row_hash"
)
_ONLY_WITH_ANCHOR = ("truncated", "anchor")


def tampering(
    *,
    rows: int = 100_000,
    tamperings: int = 200,
    seed: int = 1,
    workers: int = 1,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """In so many processes. Raises OSError and sqlite3.Error where the folder for temporary files is full."""
    told = []
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        sound = Path(name) / "sound.db"
        written_s, anchors = write_record(sound, rows)
        began_s = time.monotonic()
        untouched = verify(sound, anchors)
        verified_s = time.monotonic() - began_s
        size_bytes = sound.stat().st_size
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            spoil_one = partial(_spoil_one, sound, anchors, seed)
            for each in pool.map(spoil_one, range(tamperings)):
                told.append(each)
                if progress is not None:
                    progress(each)
    kinds = {kind: [each for each in told if each["kind"] == kind] for kind in TAMPERINGS}
    return {
        "suite": "tampering",
        "rows": rows,
        "seed": seed,
        "tamperings": tamperings,
        "found_with_anchor": sum(each["found_with_anchor"] for each in told),
        "found_without_anchor": sum(each["found_without_anchor"] for each in told),
        "kinds": {
            kind: {
                "tamperings": len(each),
                "found_with_anchor": sum(one["found_with_anchor"] for one in each),
                "found_without_anchor": sum(one["found_without_anchor"] for one in each),
            }
            for kind, each in kinds.items()
        },
        "not_found_without_anchor": [
            kind for kind, each in kinds.items() if not all(one["found_without_anchor"] for one in each)
        ],
        "findings_in_the_sound_record": untouched.finding_count,
        "bytes_a_part": round(size_bytes / rows, 1),
        "written_rows_per_s": round(rows / written_s),
        "verified_rows_per_s": round(rows / verified_s),
        "each": told,
    }


def _spoil_one(sound: Path, anchors: list[Anchor], seed: int, number: int) -> dict[str, Any]:
    """The kinds take turns; all else about each tampering is drawn from the seed and its number."""
    kind = list(TAMPERINGS)[number % len(TAMPERINGS)]
    spoiled = sound.with_name(f"spoiled-{number}.db")
    shutil.copyfile(sound, spoiled)
    with closing(sqlite3.connect(spoiled, isolation_level=None)) as database:
        # Nobody needs this file after a power cut.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        words = TAMPERINGS[kind](database, random.Random(f"{seed} {number}"))
        database.execute("COMMIT")
    told = {"kind": kind, "done": words, **_seen(verify(spoiled, anchors))}
    spoiled.unlink()
    return told


def write_record(path: Path, rows: int) -> tuple[float, list[Anchor]]:
    """A record as the service writes it, of several sessions; what that took in seconds, and its anchors."""
    anchors = []
    took_s = 0.0
    results = made_results(rows)
    for session in range(0, rows, _PARTS_A_SESSION):
        store = RecordStore(path, f"s{session // _PARTS_A_SESSION}", budget_us=5_000, deadline_us=40_000)
        count = min(_PARTS_A_SESSION, rows - session)
        for first in range(0, count, _BATCH_ROWS):
            batch = [next(results) for _ in range(min(_BATCH_ROWS, count - first))]
            began_s = time.monotonic()
            written = store.commit(batch, [])
            took_s += time.monotonic() - began_s
            for offset, result in enumerate(written, session + first + 1):
                if offset % _ANCHOR_ROWS == 0 or offset == rows:
                    anchors.append(Anchor(row_count=offset, head=result.row_hash))
        store.close()
    return took_s, anchors


def made_results(rows: int, *, parts_a_session: int = _PARTS_A_SESSION) -> Iterator[ResultPayload]:
    """Results as one camera's line gives them: mostly good, some rejected, a few not judged."""
    order = random.Random(0)
    for number in range(rows):
        session, part = divmod(number, parts_a_session)
        trigger_ns = 1_000_000_000_000 + number * _INTERVAL_NS
        score = round(order.random(), 6)
        is_judged = order.random() > 0.01
        verdict, reason = ("REJECT", "DEFECT") if score > 0.8 else ("PASS", "OK")
        defect = DefectResult(
            class_name="defective",
            score=score,
            camera_id="cam0",
            box_px=(0.0, 0.0, 300.0, 300.0),
            box_mm=None,
            area_mm2=None,
        )
        stages = {
            "grab": 900,
            "handover": 60,
            "preprocess": 300,
            "inference": 2_900,
            "judge": 40,
            "decide": 90,
            "send": 60,
        }
        yield ResultPayload(
            session_id=f"s{session}",
            seq=part + 1,
            part_id=part + 1,
            verdict=verdict if is_judged else "NO_DECISION",  # type: ignore[arg-type]
            reason=reason if is_judged else "DEADLINE",  # type: ignore[arg-type]
            encoder_count=part * 500,
            reject_at_encoder_count=part * 500 + 800,
            part_key=None,
            age_us=4_350,
            valid_us=35_650,
            trigger_utc=utc_text(trigger_ns),
            trigger_ns=trigger_ns,
            decided_ns=trigger_ns + 4_290_000,
            sent_ns=trigger_ns + 4_350_000,
            deadline_ns=trigger_ns + 40_000_000,
            stages_us=stages if is_judged else {},
            recipe_id="solar-cell",
            recipe_version="1",
            model_sha256="0" * 64,
            calibration_id=None,
            views=[ViewResult(camera_id="cam0", frame_id=part + 1, score=score, part_mark=None)] if is_judged else [],
            defects=[defect] if verdict == "REJECT" and is_judged else [],
            is_simulated=True,
            is_challenge=False,
            image_ref=None,
            row_hash="",
        )


def _seen(found: Verified) -> dict[str, Any]:
    first = found.findings[0] if found.findings else None
    by_chain = [finding for finding in found.findings if finding.kind not in _ONLY_WITH_ANCHOR]
    return {
        "found_with_anchor": found.finding_count > 0,
        "found_without_anchor": bool(by_chain),
        "first_finding": f"row {first.row}: {first.kind}: {first.text}" if first is not None else None,
    }


# --- what somebody may do to a record ----------------------------------------------------------------------------


def _last(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT max(id) FROM part").fetchone()[0])


def _body(database: sqlite3.Connection, row: int) -> dict[str, Any]:
    body = json.loads(database.execute("SELECT body FROM part WHERE id = ?", (row,)).fetchone()[0])
    assert isinstance(body, dict)
    return body


def _set_body(database: sqlite3.Connection, row: int, body: dict[str, Any]) -> None:
    text = msgspec.json.encode(body).decode()
    database.execute("UPDATE part SET body = ? WHERE id = ?", (text, row))


def _other_verdict(body: dict[str, Any]) -> tuple[str, str]:
    return ("REJECT", "DEFECT") if body["verdict"] == "PASS" else ("PASS", "OK")


def _change_verdict(database: sqlite3.Connection, row: int) -> None:
    """In the body and in the columns."""
    body = _body(database, row)
    body["verdict"], body["reason"] = _other_verdict(body)
    _set_body(database, row, body)
    database.execute("UPDATE part SET verdict = ?, reason = ? WHERE id = ?", (body["verdict"], body["reason"], row))


def _hash_anew(database: sqlite3.Connection, first: int, last: int) -> None:
    found = database.execute("SELECT row_hash FROM part WHERE id < ? ORDER BY id DESC LIMIT 1", (first,)).fetchone()
    head = NO_HASH if found is None else found[0]
    rows = database.execute("SELECT id, body FROM part WHERE id BETWEEN ? AND ? ORDER BY id", (first, last)).fetchall()
    hashes = []
    for row, body in rows:
        head = link(head, body.encode())
        hashes.append((head, row))
    database.executemany("UPDATE part SET row_hash = ? WHERE id = ?", hashes)


def _shift(database: sqlite3.Connection, behind: int, by: int) -> None:
    """Number the rows behind one anew; the detour keeps numbers from meeting."""
    database.execute("UPDATE part SET id = -id WHERE id > ?", (behind,))
    database.execute("UPDATE part SET id = -id + ? WHERE id < 0", (by,))


def change_a_value(database: sqlite3.Connection, order: random.Random) -> str:
    """One row; not the last, whose hash worked out anew is a recomputed tail."""
    row = order.randrange(1, _last(database))
    how = order.choice(["column", "body", "both", "hash", "both and its hash", "not JSON"])
    if how == "column":
        body = _body(database, row)
        column, value = order.choice(
            [
                ("verdict", _other_verdict(body)[0]),
                ("trigger_ns", body["trigger_ns"] + 1),
                ("sent_ns", None if body["sent_ns"] is not None else body["decided_ns"]),
                ("seq", 0),
            ]
        )
        database.execute(f"UPDATE part SET {column} = ? WHERE id = ?", (value, row))
    elif how == "body":
        body = _body(database, row)
        key, value = order.choice(
            [("recipe_version", "2"), ("calibration_id", "c"), ("valid_us", body["valid_us"] + 1)]
        )
        _set_body(database, row, {**body, key: value})
    elif how == "hash":
        database.execute("UPDATE part SET row_hash = ? WHERE id = ?", (f"{order.getrandbits(256):064x}", row))
    elif how == "not JSON":
        database.execute("UPDATE part SET body = ? WHERE id = ?", (order.choice(["", "{}", "[", b"\xff"]), row))
    else:
        _change_verdict(database, row)
        if how == "both and its hash":
            _hash_anew(database, row, row)
    return f"row {row}: {how}"


def delete_rows(database: sqlite3.Connection, order: random.Random) -> str:
    """Not the last ones: that is a truncation."""
    last = _last(database)
    count = min(order.choice([1, 1, 2, 10, 1_000]), max(1, last // 4))
    first = order.randrange(1, last - count + 1)
    database.execute("DELETE FROM part WHERE id BETWEEN ? AND ?", (first, first + count - 1))
    is_renumbered = order.random() < 0.5
    if is_renumbered:
        _shift(database, first + count - 1, -count)
    return f"{count} rows from row {first}{', the others renumbered' if is_renumbered else ''}"


def swap_rows(database: sqlite3.Connection, order: random.Random) -> str:
    """Two rows take each other's place, with or without their hashes."""
    one, other = order.sample(range(1, _last(database) + 1), 2)
    if order.random() < 0.5:
        other = one + 1 if one < _last(database) else one - 1
    keeps_hashes = order.random() < 0.5
    rows = {
        row: database.execute(f"SELECT {_CONTENT} FROM part WHERE id = ?", (row,)).fetchone() for row in (one, other)
    }
    database.execute("DELETE FROM part WHERE id IN (?, ?)", (one, other))
    for place, content, hashes in ((one, rows[other], rows[one]), (other, rows[one], rows[other])):
        row_hash = hashes[-1] if keeps_hashes else content[-1]
        _insert(database, place, (*content[:-1], row_hash))
    return f"rows {one} and {other}, hashes {'stay' if keeps_hashes else 'go along'}"


def insert_a_row(database: sqlite3.Connection, order: random.Random) -> str:
    """Another part behind some row, with a hash that is right for its place; not behind the last one."""
    behind = order.randrange(0, _last(database))
    content = list(database.execute(f"SELECT {_CONTENT} FROM part WHERE id = ?", (behind + 1,)).fetchone())
    body = _body(database, behind + 1) | {"part_id": 9_999_999, "seq": 9_999_999}
    content[1] = content[2] = 9_999_999
    content[-2] = msgspec.json.encode(body).decode()
    _shift(database, behind, 1)
    _insert(database, behind + 1, tuple(content))
    _hash_anew(database, behind + 1, behind + 1)
    return f"behind row {behind}"


def cut_off_the_end(database: sqlite3.Connection, order: random.Random) -> str:
    """The newest rows."""
    last = _last(database)
    count = min(order.choice([1, 1, 2, 10, 1_000]), last)
    database.execute("DELETE FROM part WHERE id > ?", (last - count,))
    return f"the last {count} rows"


def work_out_the_tail_anew(database: sqlite3.Connection, order: random.Random) -> str:
    """What somebody does who knows how the chain is made."""
    last = _last(database)
    row = order.choice([order.randrange(1, last + 1), last, 1])
    if order.random() < 0.5 or row == last:
        _change_verdict(database, row)
        done = "another verdict"
    else:
        database.execute("DELETE FROM part WHERE id = ?", (row,))
        _shift(database, row, -1)
        done = "deleted"
    _hash_anew(database, row, last)
    return f"row {row}: {done}, all hashes from there on worked out anew"


def _insert(database: sqlite3.Connection, row: int, content: tuple[Any, ...]) -> None:
    places = ", ".join("?" for _ in content)
    database.execute(f"INSERT INTO part (id, {_CONTENT}) VALUES (?, {places})", (row, *content))


TAMPERINGS: dict[str, Callable[[sqlite3.Connection, random.Random], str]] = {
    "value": change_a_value,
    "deletion": delete_rows,
    "swap": swap_rows,
    "insertion": insert_a_row,
    "truncation": cut_off_the_end,
    "recomputed_tail": work_out_the_tail_anew,
}
"""By the names that the suite tells them under."""
