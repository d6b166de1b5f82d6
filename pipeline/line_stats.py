"""The figures of every second: a session's totals, and the rate and latency of the second just past. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.clock import NS_PER_S
from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload, StatsPayload, TraceabilityKeys
from pipeline.tally import Tally, latency_of


class LineStats:
    """``since_ns``: when the first second begins."""

    def __init__(self, session_id: str, since_ns: int) -> None:
        self._session_id = session_id
        self._begin(since_ns)

    def _begin(self, since_ns: int) -> None:
        self._since_ns = since_ns
        self._parts = 0
        self._latency = LatencyHistogram()

    def add(self, results: Iterable[ResultPayload]) -> None:
        """These came on record in this second."""
        for result in results:
            self._parts += 1
            latency_us = latency_of(result)
            if latency_us is not None:
                self._latency.add(latency_us)

    def end_second(
        self,
        tally: Tally,
        traceability: TraceabilityKeys,
        temperatures_c: dict[str, float],
        throttled: bool | None,
        now_ns: int,
    ) -> StatsPayload:
        """The figures up to now; the next second begins."""
        # Known parts are rejected whatever they are: they say nothing of production.
        judged = tally.verdicts["PASS"] + tally.verdicts["REJECT"] - tally.reasons["CHALLENGE"]
        span_ns = max(1, now_ns - self._since_ns)
        stats = StatsPayload(
            session_id=self._session_id,
            parts_triggered=sum(tally.verdicts.values()),
            passed=tally.verdicts["PASS"],
            rejected=tally.verdicts["REJECT"],
            no_decision=tally.verdicts["NO_DECISION"],
            late_verdicts=tally.late_verdicts,
            late_inspections=tally.late_inspections,
            over_budget=tally.over_budget,
            yield_ratio=round(tally.verdicts["PASS"] / judged, 4) if judged else None,
            rate_per_min=round(self._parts * 60 * NS_PER_S / span_ns, 1),
            budget_us=tally.budget_us,
            latency_us=self._latency.percentiles_us(),
            reasons=dict(sorted(tally.reasons.items())),
            temperatures_c=temperatures_c,
            throttled=throttled,
            traceability=traceability,
        )
        self._begin(now_ns)
        return stats
