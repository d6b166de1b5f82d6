"""What stands beside the verdicts: contexts and people's reviews, found as they were written or told not to be."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import load_line
from pipeline.messages import GiveReview, ModelInUse, ReviewSaid
from pipeline.payloads import TraceabilityKeys
from pipeline.record.anchor import Anchor
from pipeline.record.chain import link
from pipeline.record.context import Context, context_of
from pipeline.record.reader import NotReadable, Wanted, read_context, read_reviews, read_rows
from pipeline.record.reviews import Review, agreement
from pipeline.record.stats import count_all
from pipeline.record.store import RecordStore
from pipeline.record.verify import Verified, verify
from tests.service import write_line
from tests.unit.pipeline.test_record_store import results

CONTEXT = Context("", "")
FINGERPRINT = {"onnxruntime": "1.0", "batch_rows": 1}
PARTS_A_SEGMENT = 6
SEGMENTS = 3


def with_context(first: int, last: int, context: Context) -> list[msgspec.Struct]:
    return [msgspec.structs.replace(each, context_sha256=context.sha256) for each in results(first, last)]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    model = ModelInUse("c" * 64, "f" * 64, json.dumps(FINGERPRINT))
    return context_of(load_line(write_line(tmp_path, 1)), model, "1.2.3")


@pytest.fixture
def written(tmp_path: Path, context: Context) -> tuple[Path, Anchor]:
    """Three segments, a review of each part of the one before and of its own; the last file is not sealed."""
    record = tmp_path / "line.db"
    store = RecordStore(record, "a", budget_us=50, deadline_us=1_000)
    number = 0
    for segment in range(SEGMENTS):
        first = segment * PARTS_A_SEGMENT + 1
        store.commit(with_context(first, first + PARTS_A_SEGMENT - 1, context), [], context=context)  # type: ignore[arg-type]
        for part_id in range(max(1, first - 2), first + 2):
            number += 1
            assert store.add_review(GiveReview(part_id, None, "good", "seen"), "Anna", f"s r{number}") is not None
        if segment < SEGMENTS - 1:
            assert store.seal()
    (row_count, head), (review_count, review_head) = store.head(), store.review_head()
    store.close()
    return record, Anchor(row_count, head, review_count, review_head)


def kinds(verified: Verified) -> set[str]:
    return {finding.kind for finding in verified.findings}


def test_a_sound_record_of_contexts_and_reviews(written: tuple[Path, Anchor], context: Context) -> None:
    record, anchor = written
    verified = verify(record, [anchor])
    assert verified.findings == []
    assert (verified.reviews, verified.covered_reviews, verified.contexts) == (10, 10, 1)
    assert verified.review_head == anchor.review_head
    rows = list(read_rows(record))
    assert {str(each.file.name) for each in rows} == {"line-000001.db", "line-000002.db", "line.db"}
    for each in rows:
        found = read_context(each)
        assert found is not None
        assert found["fingerprint"] == FINGERPRINT
        assert (found["model_sha256"], found["version"]) == ("c" * 64, "1.2.3")
        assert found["recipe"]["recipe_id"]
        assert len(found["recipe_sha256"]) == len(found["line_sha256"]) == 64
    reviews = read_reviews(record)
    assert len(reviews) == 10
    by_row = {each.row: each.result.row_hash for each in rows}
    assert all(by_row[review.row] == review.row_hash for review in reviews)


def test_each_segment_stands_alone(written: tuple[Path, Anchor]) -> None:
    """Where retention drops the first file, all that can be told of the others is told."""
    record, anchor = written
    record.with_name("line-000001.db").unlink()
    verified = verify(record, [anchor])
    assert verified.findings == []
    assert (verified.dropped_rows, verified.covered_reviews) == (PARTS_A_SEGMENT, 10)
    assert [read_context(each) is not None for each in read_rows(record)] == [True] * 12
    early = Anchor(1, "0" * 64, 1, "1" * 64)
    assert verify(record, [early]).findings == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE context SET body = body || ' '", {"context"}),
        ("UPDATE context SET sha256 = '0'", {"context"}),
        ("DELETE FROM context", {"context"}),
        ("DROP TABLE context", {"context", "structure"}),
        ("DROP TABLE review", {"review", "structure"}),
        ("UPDATE review SET said = 'defective' WHERE id = (SELECT min(id) FROM review)", {"review"}),
        ("UPDATE review SET body = replace(body, 'seen', 'felt') WHERE id = (SELECT max(id) FROM review)", {"review"}),
        ("UPDATE review SET body = x'ff' WHERE id = (SELECT min(id) FROM review)", {"review", "structure"}),
        ("DELETE FROM review WHERE id = (SELECT min(id) FROM review)", {"review"}),
        ("DELETE FROM review WHERE id = (SELECT max(id) FROM review)", {"review"}),
        ("DELETE FROM review", {"review"}),
    ],
)
@pytest.mark.parametrize("name", ["line-000001.db", "line-000002.db", "line.db"])
def test_what_was_changed_is_found(written: tuple[Path, Anchor], statement: str, expected: set[str], name: str) -> None:
    record, anchor = written
    with closing(sqlite3.connect(record.with_name(name), isolation_level=None)) as database:
        database.execute(statement)
    assert kinds(verify(record, [anchor])) == expected


def test_a_review_worked_out_anew_is_found_by_the_seal(written: tuple[Path, Anchor]) -> None:
    """In a sealed segment also without any anchor; in the one that is written to only with one."""
    record, anchor = written
    for name, without in (("line.db", set()), ("line-000002.db", {"review"})):
        with closing(sqlite3.connect(record.with_name(name), isolation_level=None)) as database:
            last, body = database.execute("SELECT id, body FROM review ORDER BY id DESC LIMIT 1").fetchone()
            before = database.execute("SELECT review_hash FROM review WHERE id = ?", (last - 1,)).fetchone()[0]
            other = body.replace('"seen"', '"felt"')
            ask = "UPDATE review SET body = ?, review_hash = ? WHERE id = ?"
            database.execute(ask, (other, link(before, other.encode()), last))
        assert kinds(verify(record)) == without
        assert kinds(verify(record, [anchor])) == {"review"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_stats_count_the_last_review_of_each_part(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    order = random.Random(seed)
    said: tuple[ReviewSaid, ...] = ("good", "defective", "unclear")
    with closing(
        RecordStore(tmp_path_factory.mktemp("record") / "line.db", "a", budget_us=50, deadline_us=1_000)
    ) as store:
        written = store.commit(results(1, 12), [])
        last: dict[int, Review] = {}
        reviews = []
        for number in range(20):
            part_id = order.randint(1, 12)
            found = store.add_review(GiveReview(part_id, "a", order.choice(said), ""), "Anna", f"s r{number}")
            assert found is not None
            assert found[0] == number + 1
            last[part_id] = found[1]
            reviews.append(found[1])
    figures = count_all(written, reviews=reviews)["reviews"]
    assert figures["reviewed"] == len(last)
    for word in ("confirmed", "overruled", "undecided"):
        assert figures[word] == sum(agreement(review) == word for review in last.values())
    assert figures["overruled"] == figures["false_rejects"] + figures["false_accepts"]
    wrong = [review for review in last.values() if (review.verdict, review.said) == ("REJECT", "good")]
    assert figures["false_rejects"] == len(wrong)


def test_a_review_told_twice_is_there_once_and_one_of_no_part_is_not(tmp_path: Path) -> None:
    with closing(RecordStore(tmp_path / "line.db", "a", budget_us=50, deadline_us=1_000)) as store:
        store.commit([*results(1, 5), *results(3, 9, "b"), *results(4, 4, "c")], [])
        ask: Callable[[int, str | None, str], tuple[int, Review] | None] = lambda part, session, request: (  # noqa: E731
            store.add_review(GiveReview(part, session, "good", ""), "Anna", request)
        )
        first = ask(4, None, "s r1")
        assert first is not None
        assert (first[0], first[1].session_id) == (1, "c")
        assert ask(4, None, "s r1") == first
        assert ask(4, "a", "s r2")[1].session_id == "a"  # type: ignore[index]
        assert ask(5, None, "s r3")[1].session_id == "b"  # type: ignore[index]
        for part, session in ((10, None), (9, "a"), (1, "nosuch")):
            assert ask(part, session, "s r4") is None
        assert store.review_head()[0] == 3
    assert [review.part_id for review in read_reviews(tmp_path / "line.db")] == [4, 4, 5]


def test_parts_are_found_by_what_they_belong_to(tmp_path: Path) -> None:
    record = tmp_path / "line.db"
    lots = {1: "A", 2: "A", 3: 'B "1"', 4: None}
    with closing(RecordStore(record, "a", budget_us=50, deadline_us=1_000)) as store:
        keyed = [
            msgspec.structs.replace(each, traceability=TraceabilityKeys(lot=lots[each.part_id], order="7"))
            for each in results(1, 4)
        ]
        written = store.commit(keyed, [])
    for lot, expected in (("A", [1, 2]), ('B "1"', [3]), ("C", [])):
        assert [each.result.part_id for each in read_rows(record, Wanted(lot=lot))] == expected
    assert len(list(read_rows(record, Wanted(order="7")))) == 4
    assert len(list(read_rows(record, Wanted(lot="A", order="7", shift="early")))) == 0
    told = count_all(written)["traceability"]
    assert [(each["lot"], each["order"], each["shift"], each["parts"]) for each in told] == [
        ("A", "7", None, 2),
        ('B "1"', "7", None, 1),
        (None, "7", None, 1),
    ]


def test_a_context_that_is_not_as_it_was_is_not_shown(written: tuple[Path, Anchor]) -> None:
    record, _ = written
    with closing(sqlite3.connect(record, isolation_level=None)) as database:
        database.execute("UPDATE context SET body = '{}'")
    shown = list(read_rows(record))[-1]
    with pytest.raises(NotReadable, match=r"line\.db: context [0-9a-f]{64} is not there as it was"):
        read_context(shown)
