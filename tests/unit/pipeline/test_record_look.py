"""What people see of the record: figures, one part, a table; each against the rows that were put in."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from pipeline.bench.tampering import made_results
from pipeline.payloads import ResultPayload
from pipeline.record.export import COLUMNS, CannotExport, export
from pipeline.record.reader import NotReadable, Wanted, read_late_words, read_rows
from pipeline.record.reviews import Review
from pipeline.record.stats import MINUTE, count_all
from pipeline.record.store import RecordStore
from pipeline.tally import latency_of
from tests.unit.pipeline.test_record_store import LATE

ROWS = 300


@pytest.fixture(scope="module")
def results() -> list[ResultPayload]:
    """Two sessions; a part every ten seconds, over 50 minutes."""
    made = list(made_results(ROWS))
    return [
        msgspec.structs.replace(
            result,
            session_id="s0" if number < 200 else "s1",
            part_id=number % 200 + 1,
            seq=number % 200 + 1,
            trigger_utc=f"2026-01-31T{22 + number // 360:02d}:{number // 6 % 60:02d}:{number % 6}0.000000Z",
        )
        for number, result in enumerate(made)
    ]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, results: list[ResultPayload]) -> Path:
    """In three segments, the last one not sealed."""
    path = tmp_path_factory.mktemp("look") / "records.db"
    first = RecordStore(path, "s0", budget_us=5_000, deadline_us=40_000)
    first.commit(results[:100], [LATE])
    first.seal()
    first.commit(results[100:200], [])
    first.close()
    second = RecordStore(path, "s1", budget_us=5_000, deadline_us=40_000)
    second.seal()
    second.commit(results[200:], [])
    second.close()
    return path


def test_every_part_in_order_with_its_row(record: Path, results: list[ResultPayload]) -> None:
    rows = list(read_rows(record))
    assert [row.row for row in rows] == list(range(1, ROWS + 1))
    assert [msgspec.structs.replace(row.result, row_hash="") for row in rows] == results
    assert len({row.result.row_hash for row in rows}) == ROWS
    assert [row.file.name for row in rows[::100]] == ["records-000001.db", "records-000002.db", "records.db"]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(session_id="s1"), range(200, 300)),
        (Wanted(part_id=7), [6, 206]),
        (Wanted(session_id="s1", part_id=7), [206]),
        (Wanted(since_utc="2026-01-31T22:40"), range(240, 300)),
        (Wanted(until_utc="2026-01-31T22:01:30"), range(9)),
        (Wanted(since_utc="2026-02"), []),
        (Wanted(session_id="x' OR 1 --"), []),
    ],
)
def test_the_parts_wanted(record: Path, wanted: Wanted, numbers: list[int]) -> None:
    assert [row.row - 1 for row in read_rows(record, wanted)] == list(numbers)


def spoil_page_of(file: Path, row: int) -> None:
    """All that is on the same page of the file as this row."""
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        (body,) = database.execute("SELECT body FROM part WHERE id = ?", (row,)).fetchone()
        (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    page = file.read_bytes().index(str(body).encode()) // page_bytes
    with file.open("r+b") as opened:
        opened.seek(page * page_bytes)
        opened.write(b"\xff" * page_bytes)


def test_one_part_is_found_without_reading_all_others(results: list[ResultPayload], tmp_path: Path) -> None:
    record = tmp_path / "records.db"
    store = RecordStore(record, "s0", budget_us=5_000, deadline_us=40_000)
    store.commit(results, [])
    store.close()
    spoil_page_of(record, 100)
    with pytest.raises(NotReadable):
        list(read_rows(record))
    assert [row.row for row in read_rows(record, Wanted(part_id=7))] == [7, 207]
    assert [row.row for row in read_rows(record, Wanted(part_id=9, lot=None, session_id="s1"))] == [209]
    assert [*read_rows(record, Wanted(part_id=1_000))] == []


@pytest.mark.parametrize(
    ("since", "is_looked_through"),
    [
        ("2026-01-31", True),
        ("2026-02-01T22:16", True),
        ("2026-02-01T22:18", False),
        ("2026-03-01", False),
        ("2026-03", True),
    ],
)
def test_segments_that_ended_long_before_are_not_looked_through(
    results: list[ResultPayload], tmp_path: Path, since: str, is_looked_through: bool
) -> None:
    """Whenever they say that they were sealed."""
    record = tmp_path / "records.db"
    store = RecordStore(record, "s0", budget_us=5_000, deadline_us=40_000, wall_ns=lambda: 0)
    store.commit(results[:100], [])
    # Rows of a killed session come behind the next one's.
    earlier = {"session_id": "killed", "trigger_utc": "2026-01-01T00:00:00.000000Z"}
    store.commit([msgspec.structs.replace(results[0], **earlier)], [])
    store.seal()
    late = [msgspec.structs.replace(result, trigger_utc="2026-03-01T00:00:00.000000Z") for result in results[100:110]]
    store.commit(late, [])
    store.close()
    spoil_page_of(record.with_name("records-000001.db"), 50)
    rows = read_rows(record, Wanted(since_utc=since))
    if is_looked_through:
        with pytest.raises(NotReadable):
            list(rows)
    else:
        assert [row.row for row in rows] == [*range(102, 112)]


def test_figures_are_those_of_the_rows(record: Path, results: list[ResultPayload]) -> None:
    figures = count_all((row.result for row in read_rows(record)), MINUTE)
    verdicts = Counter(result.verdict for result in results)
    passed, rejected = verdicts["PASS"], verdicts["REJECT"]
    assert min(verdicts.values()) > 0
    assert (figures["parts"], figures["passed"], figures["rejected"]) == (ROWS, passed, rejected)
    assert figures["no_decision"] == verdicts["NO_DECISION"]
    assert figures["yield_ratio"] == round(passed / (passed + rejected), 4)
    pareto = {"class": "defective", "parts": rejected, "share_of_rejected": 1.0, "cumulative_share": 1.0}
    assert figures["defects"] == [pareto]
    assert figures["reject_ratio"] == round(rejected / (passed + rejected), 4)
    assert figures["no_decision_ratio"] == round(verdicts["NO_DECISION"] / ROWS, 4)
    assert {name: told["parts"] for name, told in figures["sessions"].items()} == {"s0": 200, "s1": 100}
    assert [each["parts"] for each in figures["over_time"]] == [6] * 50
    assert figures["over_time"][-1]["from_utc"] == "2026-01-31T22:49"
    assert figures["latency_us"]["max"] == max(latency_of(result) or 0 for result in results)
    assert figures["stages_us"]["inference"]["p50"] == 2_900
    json.dumps(figures)


def test_known_parts_are_counted_apart(results: list[ResultPayload]) -> None:
    """They are rejected whatever they are: neither yields nor defects nor times of day change for them."""
    known = [
        msgspec.structs.replace(result, verdict="REJECT", reason="CHALLENGE", is_challenge=True)
        for result in results[:90]
    ]
    review = Review(
        session_id=known[0].session_id,
        part_id=known[0].part_id,
        row=1,
        row_hash="f" * 64,
        verdict="REJECT",
        utc="2026-01-31T00:00:00Z",
        who="Anna",
        said="good",
        note="",
        request="s r1",
    )
    without, with_them = count_all(results[90:]), count_all([*known, *results[90:]], reviews=[review])
    assert (without["challenge"], with_them["challenge"]) == (0, 90)
    assert with_them["parts"] == len(results)
    for name in ("passed", "rejected", "no_decision", "yield_ratio", "reject_ratio", "defects", "reviews"):
        assert with_them[name] == without[name], name
    for name in ("passed", "rejected", "yield_ratio"):
        told = {each["from_utc"]: each[name] for each in with_them["over_time"]}
        assert all(told[each["from_utc"]] == each[name] for each in without["over_time"]), name


def test_figures_of_nothing(record: Path) -> None:
    figures = count_all(row.result for row in read_rows(record, Wanted(session_id="none")))
    assert (figures["parts"], figures["yield_ratio"], figures["over_time"]) == (0, None, [])


def test_what_was_said_too_late(record: Path) -> None:
    (word,) = read_late_words(record, "s0", LATE.part_id)
    assert (word.camera_id, word.verdict, word.arrived_ns) == ("cam0", "PASS", LATE.arrived_ns)
    assert read_late_words(record, "s1", LATE.part_id) == []


def test_a_table_for_spreadsheets(record: Path, results: list[ResultPayload], tmp_path: Path) -> None:
    target = tmp_path / "parts.csv"
    assert export(read_rows(record), target) == ROWS
    with target.open(newline="") as text:
        table = list(csv.DictReader(text))
    assert list(table[0]) == list(COLUMNS)
    for row, result in zip(table, results, strict=True):
        assert (row["session_id"], row["verdict"], row["reason"]) == (result.session_id, result.verdict, result.reason)
        assert row["latency_us"] == ("" if latency_of(result) is None else str(latency_of(result)))
        assert row["defects"] == msgspec.json.encode(result.defects).decode()
    assert list(tmp_path.iterdir()) == [target]


def test_a_table_in_parquet(record: Path, results: list[ResultPayload], tmp_path: Path) -> None:
    import pyarrow.parquet

    target = tmp_path / "parts.parquet"
    assert export(read_rows(record), target) == ROWS
    table = pyarrow.parquet.read_table(target)
    assert table.column_names == list(COLUMNS)
    assert table["trigger_ns"].to_pylist() == [result.trigger_ns for result in results]
    assert table["latency_us"].to_pylist() == [latency_of(result) for result in results]
    assert table["is_simulated"].to_pylist() == [True] * ROWS


def test_a_table_of_no_known_kind(record: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match=r"parts\.xlsx, expected a file that ends in \.csv or \.parquet"):
        export(read_rows(record), tmp_path / "parts.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(NotReadable, match="got nothing, expected a file"):
        list(read_rows(tmp_path / "records.db"))
    (tmp_path / "records.db").write_text("noise " * 100)
    with pytest.raises(NotReadable, match="cannot be read: file is not a database"):
        list(read_rows(tmp_path / "records.db"))
