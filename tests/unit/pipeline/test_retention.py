"""What is dropped is the oldest, no more than has to be, and never what somebody still waits for."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.retention import SealedSegment, to_drop

DAY_S = 86_400.0


def segments(sizes: list[int]) -> list[SealedSegment]:
    """A day each, ten rows each."""
    return [
        SealedSegment(Path(f"records-{number:06d}.db"), number * 10, size, (len(sizes) - number) * DAY_S)
        for number, size in enumerate(sizes, 1)
    ]


def numbers(dropped: list[SealedSegment]) -> list[int]:
    return [segment.last_row // 10 for segment in dropped]


def test_by_age_and_by_size() -> None:
    sealed = segments([5, 5, 5, 5])
    assert numbers(to_drop(sealed, 1, keep_s=None, keep_bytes=None, delivered_row=40)) == []
    assert numbers(to_drop(sealed, 1, keep_s=1.5 * DAY_S, keep_bytes=None, delivered_row=40)) == [1, 2]
    assert numbers(to_drop(sealed, 1, keep_s=None, keep_bytes=21, delivered_row=40)) == []
    assert numbers(to_drop(sealed, 1, keep_s=None, keep_bytes=20, delivered_row=40)) == [1]
    assert numbers(to_drop(sealed, 30, keep_s=None, keep_bytes=20, delivered_row=40)) == [1, 2, 3, 4]
    assert numbers(to_drop(sealed, 30, keep_s=None, keep_bytes=20, delivered_row=29)) == [1, 2]


@given(
    sizes=st.lists(st.integers(0, 100), max_size=12),
    newest=st.integers(0, 100),
    keep_days=st.none() | st.floats(0, 12),
    keep_bytes=st.none() | st.integers(0, 600),
    delivered=st.integers(0, 130),
)
def test_always(sizes: list[int], newest: int, keep_days: float | None, keep_bytes: int | None, delivered: int) -> None:
    sealed = segments(sizes)
    keep_s = None if keep_days is None else keep_days * DAY_S
    dropped = to_drop(sealed, newest, keep_s=keep_s, keep_bytes=keep_bytes, delivered_row=delivered)
    kept = sealed[len(dropped) :]
    assert [*dropped, *kept] == sealed
    assert all(segment.last_row <= delivered for segment in dropped)
    size = newest + sum(segment.size_bytes for segment in kept)
    may_go = bool(kept) and kept[0].last_row <= delivered
    assert not (may_go and keep_bytes is not None and size > keep_bytes)
    assert not (may_go and keep_s is not None and kept[0].age_s > keep_s)
    if dropped:
        last = dropped[-1]
        was_old = keep_s is not None and last.age_s > keep_s
        assert was_old or (keep_bytes is not None and size + last.size_bytes > keep_bytes)
