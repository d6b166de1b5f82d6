"""Whatever somebody does to a record is found; what only an anchor can prove is not promised without one."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.bench.tampering import TAMPERINGS, write_record
from pipeline.cli.records import records
from pipeline.record.anchor import Anchor, AnchorLog, read_anchor, read_anchors
from pipeline.record.chain import NO_HASH
from pipeline.record.reader import NotReadable
from pipeline.record.verify import Verified, verify

ROWS = 250
BEHIND_THE_CHAIN = ("truncation", "recomputed_tail")
Spoil = Callable[[sqlite3.Connection], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Anchor]]:
    path = tmp_path_factory.mktemp("sound") / "records.db"
    _, anchors = write_record(path, ROWS)
    assert [anchor.row_count for anchor in anchors] == [100, 200, ROWS]
    return path, anchors


def spoiled(sound: Path, spoil: Callable[[sqlite3.Connection], object]) -> Path:
    path = sound.with_name("spoiled.db")
    shutil.copyfile(sound, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        spoil(database)
    return path


def told(verified: Verified) -> list[tuple[str, int]]:
    return [(finding.kind, finding.row) for finding in verified.findings]


def test_a_sound_record(sound: tuple[Path, list[Anchor]]) -> None:
    path, anchors = sound
    verified = verify(path, anchors)
    assert (verified.rows, verified.last_row, verified.head) == (ROWS, ROWS, anchors[-1].head)
    assert verified.sessions == {"s0": ROWS}
    assert verified.covered_rows == ROWS
    assert told(verified) == []
    assert told(verify(path)) == []
    assert verify(path).covered_rows == 0


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(TAMPERINGS)), seed=st.integers(0, 2**32))
def test_every_tampering_is_found(sound: tuple[Path, list[Anchor]], kind: str, seed: int) -> None:
    path, anchors = sound
    path = spoiled(path, lambda database: TAMPERINGS[kind](database, random.Random(seed)))
    assert verify(path, anchors).finding_count > 0
    assert bool(verify(path).finding_count) == (kind not in BEHIND_THE_CHAIN)


@pytest.mark.parametrize(
    ("statement", "findings"),
    [
        ("UPDATE part SET verdict = 'PASS', row_hash = row_hash WHERE id = 7", []),
        ("UPDATE part SET encoder_count = 3 WHERE id = 7", [("column", 7)]),
        ("UPDATE part SET encoder_count = 'x' WHERE id = 7", [("column", 7), ("structure", 7)]),
        ("UPDATE part SET body = replace(body, 'OK', 'KO') WHERE id = 7", [("column", 7), ("broken_link", 7)]),
        ("UPDATE part SET row_hash = 'f' WHERE id = 7", [("broken_link", 7), ("broken_link", 8)]),
        ("UPDATE part SET body = x'ff' WHERE id = 7", [("unreadable", 7), ("broken_link", 7), ("structure", 7)]),
        ("UPDATE part SET session_id = CAST(session_id AS BLOB) WHERE id = 7", [("structure", 7)]),
        ("UPDATE part SET trigger_utc = CAST(trigger_utc AS BLOB) WHERE id = 7", [("structure", 7)]),
        ("CREATE VIEW parts AS SELECT * FROM part", [("structure", ROWS)]),
        ("CREATE INDEX by_seq ON part (seq)", [("structure", ROWS)]),
        ("DROP TABLE late_inspection", [("structure", ROWS)] * 2),
        ("DELETE FROM part WHERE id BETWEEN 7 AND 9", [("missing", 7), ("broken_link", 10)]),
        ("UPDATE part SET id = -7 WHERE id = 7", [("broken_link", -7), ("missing", 7), ("broken_link", 8)]),
        ("DELETE FROM part WHERE id > 99", [("truncated", 100), ("truncated", 100), ("truncated", 100)]),
        ("DELETE FROM part WHERE id = 200", [("missing", 200), ("broken_link", 201), ("anchor", 200)]),
        ("DELETE FROM part", [("truncated", 1)] * 3),
    ],
)
def test_where_it_is_found(sound: tuple[Path, list[Anchor]], statement: str, findings: list[tuple[str, int]]) -> None:
    path, anchors = sound
    path = spoiled(path, lambda database: database.execute(statement))
    assert told(verify(path, anchors)) == findings


def hide_a_part(database: sqlite3.Connection) -> None:
    """From whoever looks for it by the index."""
    database.executescript("""
        CREATE TABLE fewer (session_id TEXT NOT NULL, part_id INTEGER NOT NULL, UNIQUE (session_id, part_id));
        INSERT INTO fewer (rowid, session_id, part_id) SELECT id, session_id, part_id FROM part WHERE id <> 7;
        PRAGMA writable_schema = ON;
        UPDATE sqlite_master SET rootpage =
            (SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_fewer_1')
            WHERE name = 'sqlite_autoindex_part_1';
        DELETE FROM sqlite_master WHERE tbl_name = 'fewer';
    """)


def forge_a_second_row(database: sqlite3.Connection) -> None:
    """In a table without keys."""
    database.executescript("""
        ALTER TABLE part RENAME TO parts;
        CREATE TABLE part AS SELECT * FROM parts;
        DROP TABLE parts;
        INSERT INTO part SELECT * FROM part WHERE id = 7;
    """)


@pytest.mark.parametrize("spoil", [hide_a_part, forge_a_second_row])
def test_other_tables_with_the_same_rows(sound: tuple[Path, list[Anchor]], spoil: Spoil) -> None:
    path, anchors = sound
    assert "structure" in {kind for kind, _ in told(verify(spoiled(path, spoil), anchors))}


def test_an_anchor_covers_what_is_before_it(sound: tuple[Path, list[Anchor]]) -> None:
    path, anchors = sound
    cut = spoiled(path, lambda database: database.execute("DELETE FROM part WHERE id > 150"))
    assert verify(cut, anchors[:1]).covered_rows == 100
    assert told(verify(cut, anchors[:1])) == []
    foreign = Anchor(row_count=100, head=anchors[1].head)
    assert told(verify(path, [foreign])) == [("anchor", 100)]
    assert told(verify(path, [Anchor(row_count=0, head=NO_HASH)])) == []


def test_no_more_findings_are_kept_than_asked_for(sound: tuple[Path, list[Anchor]]) -> None:
    path = spoiled(sound[0], lambda database: database.execute("UPDATE part SET seq = 0"))
    verified = verify(path, findings_max=3)
    assert verified.finding_count == ROWS
    assert len(verified.findings) == 3


def test_a_record_that_is_written_to_meanwhile(sound: tuple[Path, list[Anchor]], tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    shutil.copyfile(sound[0], path)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM part WHERE id > 100")
        assert told(verify(path, sound[1])) == []
        writer.execute("ROLLBACK")


def test_a_file_that_is_damaged_half_way(sound: tuple[Path, list[Anchor]], tmp_path: Path) -> None:
    content = bytearray(sound[0].read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path = tmp_path / "records.db"
    path.write_bytes(content)
    verified = verify(path, sound[1])
    assert 0 < verified.rows < ROWS
    assert "unreadable" in {kind for kind, _ in told(verified)}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: None, "got nothing, expected a file"),
        (lambda path: path.mkdir(), "got a folder, expected a file"),
        (lambda path: path.write_text("no database " * 100), "cannot be read: file is not a database"),
        (lambda path: path.write_bytes(b""), "is empty, expected a record of Lineside"),
    ],
)
def test_no_record(make: Callable[[Path], object], text: str, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    make(path)
    with pytest.raises(NotReadable, match=text):
        verify(path)


def test_another_programs_database(tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE part (id INTEGER PRIMARY KEY)")
        database.execute("PRAGMA user_version = 4")
    with pytest.raises(NotReadable, match="is no record of Lineside"):
        verify(path)


def test_anchors_as_the_wire_carries_them() -> None:
    lines = [
        json.dumps({"schema": "lineside.anchor/1", "row_count": n, "head": f"{n:064x}", "utc": "x"}) for n in (3, 9)
    ]
    log = read_anchors(io.StringIO("\n\n".join(lines)), "f")
    assert log == AnchorLog([Anchor(row_count=n, head=f"{n:064x}") for n in (3, 9)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "f: got no anchor"),
        ("{}", "f, line 1: expected an anchor"),
        ('{"row_count": -1, "head": "' + "0" * 64 + '"}', r"f, line 1: .* >= 0 - at `\$.row_count`"),
        ('{"row_count": 1, "head": "12"}', "64 hexadecimal digits"),
    ],
)
def test_no_anchors(text: str, words: str) -> None:
    with pytest.raises(NotReadable, match=words):
        read_anchors(io.StringIO(text), "f")


@pytest.mark.parametrize("name", ["row_count", "review_count"])
@pytest.mark.parametrize("count", [-1, 2**53, 2**63, 10**20])
def test_an_anchor_of_numbers_that_no_record_comes_to_is_none(name: str, count: int) -> None:
    told = {"row_count": 1, "head": "0" * 64, "review_count": 1, "review_head": "0" * 64, name: count}
    with pytest.raises(msgspec.DecodeError):
        read_anchor(json.dumps(told))


PAYLOAD = json.dumps({"schema": "lineside.anchor/1", "row_count": 3, "head": "f" * 64, "utc": "now"})


@pytest.mark.parametrize(
    "line",
    [
        PAYLOAD,
        f"acme/line/anchor {PAYLOAD}",
        json.dumps({"tst": "now", "topic": "acme/line/anchor", "qos": 1, "payload": PAYLOAD}),
        json.dumps({"tst": "now", "topic": "acme/line/anchor", "qos": 1, "payload": json.loads(PAYLOAD)}),
    ],
)
def test_anchors_as_they_are_printed(line: str) -> None:
    assert read_anchors(["", f"{line}\n", PAYLOAD], "x") == AnchorLog([Anchor(3, "f" * 64)])


def test_lines_that_are_no_anchor_are_counted_and_the_others_hold() -> None:
    log = [
        PAYLOAD[:70],
        "acme/line/anchor (null)",
        f"acme/line/anchor {PAYLOAD}",
        "{" * 100_000,
        PAYLOAD.replace("f", "\ufffd"),
    ]
    found = read_anchors(log, "x")
    assert (found.anchors, found.skipped) == ([Anchor(3, "f" * 64)], 4)
    assert found.first_skipped.startswith("line 1: expected an anchor: ")


def test_an_idle_line_and_reviews_that_stand_take_no_room() -> None:
    reviews = [(0, "0"), (0, "0"), (1, "e"), (1, "e")]
    lines = [
        json.dumps({"row_count": row, "head": f"{row:064x}", "review_count": count, "review_head": head * 64})
        for row in (3, 4)
        for count, head in reviews
    ]
    assert read_anchors(lines, "x").anchors == [
        Anchor(3, f"{3:064x}", 0, "0" * 64),
        Anchor(3, f"{3:064x}"),
        Anchor(3, f"{3:064x}", 1, "e" * 64),
        Anchor(4, f"{4:064x}"),
    ]


@pytest.mark.parametrize("is_piped", [True, False])
def test_a_log_cut_off_with_bytes_that_are_no_text(
    sound: tuple[Path, list[Anchor]], tmp_path: Path, is_piped: bool
) -> None:
    path, anchors = sound
    told = json.dumps({"row_count": anchors[-1].row_count, "head": anchors[-1].head}).encode()
    log = told[:30] + b"\xff\xfe\n" + told + b"\n" + told[:50]
    (tmp_path / "anchors.jsonl").write_bytes(log)
    source = "-" if is_piped else str(tmp_path / "anchors.jsonl")
    found = CliRunner().invoke(records, ["verify", str(path), "--anchor", source], input=log if is_piped else None)
    assert found.exit_code == 0, found.output
    assert "SKIPPED   2 lines of the anchors are none: line 1: expected an anchor: got no text" in found.output
    assert "NOT PROVEN" not in found.output
