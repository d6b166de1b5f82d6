"""The figures of every second."""

from __future__ import annotations

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.line_stats import LineStats
from pipeline.payloads import StatsPayload, TraceabilityKeys
from pipeline.tally import Tally
from tests.unit.pipeline.test_record_store import results

KEYS = TraceabilityKeys(lot="L")


def stats_at(stats: LineStats, tally: Tally, now_ns: int) -> StatsPayload:
    return stats.end_second(tally, KEYS, {"cpu": 50.0}, None, now_ns)


def test_totals_are_the_sessions_and_rate_and_latency_those_of_the_second() -> None:
    stats, tally = LineStats("s", 0), Tally(50, 1_000)
    made = results(1, 30)
    for result in made:
        tally.add(result)
    stats.add(made[:10])
    first = stats_at(stats, tally, 2 * NS_PER_S)
    stats.add(made[10:])
    second = stats_at(stats, tally, 3 * NS_PER_S)
    third = stats_at(stats, tally, 4 * NS_PER_S)
    assert [told.parts_triggered for told in (first, second, third)] == [30, 30, 30]
    assert (first.passed, first.rejected, first.no_decision, first.yield_ratio) == (10, 10, 10, 0.5)
    assert [told.rate_per_min for told in (first, second, third)] == [300.0, 1_200.0, 0.0]
    assert first.latency_us != second.latency_us
    assert third.latency_us == LineStats("s", 0).end_second(tally, KEYS, {}, None, NS_PER_S).latency_us
    assert (first.traceability, first.temperatures_c, first.throttled) == (KEYS, {"cpu": 50.0}, None)


def test_nothing_judged_is_no_yield() -> None:
    assert stats_at(LineStats("s", 0), Tally(50, 1_000), 0).yield_ratio is None


def test_known_parts_do_not_lower_the_yield() -> None:
    stats, tally = LineStats("s", 0), Tally(50, 1_000)
    production = results(1, 30)
    for result in production:
        tally.add(result)
        if result.verdict == "REJECT":
            tally.add(msgspec.structs.replace(result, reason="CHALLENGE", is_challenge=True))
    told = stats_at(stats, tally, NS_PER_S)
    assert (told.passed, told.rejected, told.yield_ratio) == (10, 20, 0.5)
