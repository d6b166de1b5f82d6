"""What is dropped is the oldest, no more than has to be, and never what somebody still waits for."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.config_sections import RecordsConfig
from pipeline.retention import STEADY_NS, Retention, SealedSegment, to_drop

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


def test_nothing_goes_for_its_age_until_the_wall_clock_has_been_steady() -> None:
    sealed = segments([5, 5, 5, 5])
    retention = Retention(RecordsConfig(path=Path("records.db"), keep_days=1.5))

    def ask(boot_ns: int, ahead_s: int = 0) -> list[int]:
        wall_ns = boot_ns + (1_000_000 + ahead_s) * NS_PER_S
        found = retention.next(sealed, 1, 40, wall_ns=wall_ns, boot_ns=boot_ns)
        return [] if found is None else numbers([found])

    assert (ask(0), retention.trouble) == ([], "")
    assert ask(STEADY_NS - 1) == []
    assert ask(STEADY_NS) == [1]  # one at a time
    jumped_ns, year_s = STEADY_NS + NS_PER_S, 365 * 86_400
    assert ask(jumped_ns, year_s) == []
    assert f"the wall clock was set by +{year_s} s: for 3600 s no segment is dropped" in retention.trouble
    assert (ask(jumped_ns + STEADY_NS - 1, year_s + 1), bool(retention.trouble)) == ([], True)
    assert (ask(jumped_ns + STEADY_NS, year_s + 2), retention.trouble) == ([1], "")


def test_the_size_that_is_allowed_is_kept_to_whatever_the_clock_says() -> None:
    sealed = segments([1 << 29] * 4)
    retention = Retention(RecordsConfig(path=Path("records.db"), keep_days=1.5, keep_max_gib=1))
    found = retention.next(sealed, 1, 40, wall_ns=NS_PER_S, boot_ns=NS_PER_S)
    assert found == sealed[0]
