"""The comparison of the record with what was heard: each way in which they can differ is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.bench.record_kills import Delivery, PartKey, Row, compare

SAID = (1, "PASS", "OK", 500)
Rows = list[Row]
Verdicts = dict[PartKey, tuple[object, ...]]
Deliveries = list[Delivery]


def key(part: int) -> PartKey:
    return PartKey("s", part)


def books() -> tuple[Rows, Verdicts, Deliveries]:
    """Ten parts; the first six told live, four of them held back; one of these twice, and one on both topics."""
    rows = [Row(key(part), part, f"{part:064x}", SAID) for part in range(1, 11)]
    told = [("result", part) for part in (1, 2, 3, 4, 5, 6, 10)] + [("history", part) for part in (6, 7, 8, 7, 9)]
    return (
        rows,
        {row.key: SAID for row in rows},
        [Delivery(topic, key(part), f"{part:064x}", part, part) for topic, part in told],
    )


def test_what_agrees() -> None:
    found = compare(*books())
    assert set(found.counts.values()) == {0}
    assert found.redeliveries == 2
    assert found.examples == []


def forget_a_row(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    del rows[9]
    deliveries[:] = [each for each in deliveries if each.key != key(10)]


def record_otherwise(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    rows[3] = replace(rows[3], said=(1, "REJECT", "DEFECT", 500))


def record_twice(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    rows.append(replace(rows[9], number=11))


def tell_nobody(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    deliveries[:] = [each for each in deliveries if each.key != key(8)]


def tell_before_it_is_on_disk(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    del rows[9], verdicts[key(10)]


def tell_otherwise(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    deliveries[0] = replace(deliveries[0], row_hash="f" * 64)


def tell_out_of_order(rows: Rows, verdicts: Verdicts, deliveries: Deliveries) -> None:
    deliveries[1], deliveries[2] = deliveries[2], deliveries[1]


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (forget_a_row, "verdicts_not_on_record"),
        (record_otherwise, "verdicts_recorded_otherwise"),
        (record_twice, "keys_twice_on_record"),
        (tell_nobody, "rows_not_told"),
        (tell_before_it_is_on_disk, "told_not_on_record"),
        (tell_otherwise, "told_otherwise"),
        (tell_out_of_order, "told_out_of_order"),
    ],
)
def test_what_does_not(spoil: Callable[[Rows, Verdicts, Deliveries], None], name: str) -> None:
    rows, verdicts, deliveries = books()
    spoil(rows, verdicts, deliveries)
    found = compare(rows, verdicts, deliveries)
    assert {each: count for each, count in found.counts.items() if count} == {name: 1}
    assert len(found.examples) == 1
