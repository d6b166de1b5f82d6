"""Whether the record is what the broker was told last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.messages import GiveReview
from pipeline.payloads import encode
from pipeline.record.faults import RecordFault
from pipeline.record.files import sealed_name
from pipeline.record.store import RecordStore
from pipeline.record.told_anchor import ToldAnchor, anchor_payload
from tests.unit.pipeline.test_record_store import results


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    made = RecordStore(tmp_path / "line.db", "a", budget_us=50, deadline_us=1_000)
    yield made
    made.close()


@pytest.fixture
def told(tmp_path: Path) -> ToldAnchor:
    return ToldAnchor(tmp_path / "line.db", "line/anchor")


def anchor_of(store: RecordStore, **changes: object) -> bytes:
    """What is told of it now, but for ``changes``."""
    said = anchor_payload(store, "a")
    return encode({key: getattr(said, key) for key in said.__struct_fields__} | changes)


def test_what_was_told_holds_as_the_record_grows_and_is_sealed(store: RecordStore, told: ToldAnchor) -> None:
    assert told.check(store, lost_power=False) is None
    for number in range(3):
        told.take(anchor_of(store))
        store.commit(results(1 + 10 * number, 10 + 10 * number), [])
        store.add_review(GiveReview(1, None, "good", ""), "Anna", f"r{number}")
        assert store.seal()
        assert told.check(store, lost_power=False) is None


def test_rows_and_reviews_that_are_cut_off_or_others(store: RecordStore, told: ToldAnchor) -> None:
    store.commit(results(1, 10), [])
    store.add_review(GiveReview(1, None, "good", ""), "Anna", "r1")
    for changes, words in (
        ({"row_count": 12}, "row 10: the record ends here; 2 more rows were anchored: it was cut off or changed"),
        ({"head": "0" * 64}, f"row 10: was anchored as {'0' * 64}, is "),
        ({"review_count": 4}, "it has 1 reviews, 4 were anchored: it was cut off"),
        ({"review_head": "0" * 64}, f"review 1 was anchored as {'0' * 64}, is "),
    ):
        told.take(anchor_of(store, **changes))
        fault = told.check(store, lost_power=False)
        assert fault is not None
        assert fault.severity == "error"
        assert words in fault.text
        assert "lost power" not in fault.text
        # It is compared once.
        assert told.check(store, lost_power=False) is None


def test_a_power_cut_may_be_the_cause(store: RecordStore, told: ToldAnchor) -> None:
    told.take(anchor_of(store, row_count=1))
    fault = told.check(store, lost_power=True)
    assert fault is not None
    assert fault.text.endswith("or the box lost power before the newest rows were on its disk")


def test_what_retention_dropped_cannot_be_told(store: RecordStore, told: ToldAnchor, tmp_path: Path) -> None:
    store.commit(results(1, 10), [])
    anchor = anchor_of(store, row_count=5, head="0" * 64)
    assert store.seal()
    store.commit(results(11, 12), [])
    sealed_name(tmp_path / "line.db", 1).unlink()
    told.take(anchor)
    assert told.check(store, lost_power=False) is None


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b"[" * 100_000, b'{"row_count": 1, "head": "x"}'])
def test_what_is_no_anchor_is_a_warning(store: RecordStore, told: ToldAnchor, payload: bytes) -> None:
    told.take(payload)
    fault = told.check(store, lost_power=False)
    assert fault is not None
    assert fault.severity == "warning"
    assert fault.text.startswith("what the broker keeps at line/anchor is no anchor of this record: ")
    assert told.check(store, lost_power=False) is None


def test_while_the_record_cannot_be_read_it_waits(
    store: RecordStore, told: ToldAnchor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: RecordStore) -> tuple[int, str]:
        raise RecordFault("record line.db: disk I/O error")

    told.take(anchor_of(store, row_count=1))
    with monkeypatch.context() as patched:
        patched.setattr(RecordStore, "head", refuse)
        with pytest.raises(RecordFault):
            told.check(store, lost_power=False)
    assert told.check(store, lost_power=False) is not None
