"""What a record says of a span of production: yield, why parts were rejected, when, and how long it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload
from pipeline.record_reviews import Review, agreement
from pipeline.tally import STAGES, latency_of

HOUR = len("2026-01-01T00")
MINUTE = len("2026-01-01T00:00")
_REVIEWED = ("confirmed", "overruled", "undecided", "false_rejects", "false_accepts")
"""What a review makes of a verdict; the last two are what was overruled."""


class RecordStats:
    """Counts parts one by one, in any order; ``figures`` tells them. ``by`` is ``HOUR`` or ``MINUTE``."""

    def __init__(self, by: int = HOUR) -> None:
        self._by = by
        self._verdicts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._defects: Counter[str] = Counter()
        self._sessions: dict[str, Counter[str]] = {}
        self._products: Counter[tuple[str, str, str | None]] = Counter()
        self._belongs: dict[tuple[str | None, str | None, str | None], Counter[str]] = {}
        self._reviewed: Counter[str] = Counter()
        self._over_time: dict[str, Counter[str]] = {}
        self._latency = LatencyHistogram()
        self._stages = {stage: LatencyHistogram() for stage in STAGES}
        self._unsent_count = 0
        self._first_utc: str | None = None
        self._last_utc: str | None = None

    def add(self, result: ResultPayload, review: Review | None = None) -> None:
        """One part, and what was said of it last. A defect class counts once a part, however many there are of it."""
        self._verdicts[result.verdict] += 1
        self._reasons[result.reason] += 1
        self._defects.update({defect.class_name for defect in result.defects} if result.verdict == "REJECT" else ())
        self._sessions.setdefault(result.session_id, Counter())[result.verdict] += 1
        self._products[(result.recipe_id, result.recipe_version, result.model_sha256)] += 1
        self._over_time.setdefault(result.trigger_utc[: self._by], Counter())[result.verdict] += 1
        keys = result.traceability
        self._belongs.setdefault((keys.lot, keys.order, keys.shift), Counter())[result.verdict] += 1
        if review is not None:
            self._reviewed[agreement(review)] += 1
            if agreement(review) == "overruled":
                self._reviewed["false_rejects" if result.verdict == "REJECT" else "false_accepts"] += 1
        self._unsent_count += result.sent_ns is None
        self._first_utc = min(self._first_utc or result.trigger_utc, result.trigger_utc)
        self._last_utc = max(self._last_utc or result.trigger_utc, result.trigger_utc)
        latency_us = latency_of(result)
        if latency_us is not None:
            self._latency.add(latency_us)
            for stage, stage_us in result.stages_us.items():
                self._stages[stage].add(stage_us)

    def figures(self) -> dict[str, Any]:
        """Ready for JSON. ``yield_ratio`` is PASS among PASS and REJECT, null where there is neither."""
        return {
            "first_utc": self._first_utc,
            "last_utc": self._last_utc,
            **_counts(self._verdicts),
            "reasons": dict(self._reasons.most_common()),
            "defects": self._pareto(),
            "verdicts_unsent": self._unsent_count,
            "latency_us": self._latency.percentiles_us(),
            "stages_us": {stage: histogram.percentiles_us() for stage, histogram in self._stages.items()},
            "sessions": {session_id: _counts(counts) for session_id, counts in self._sessions.items()},
            "products": [
                {"recipe_id": recipe_id, "recipe_version": version, "model_sha256": model_sha256, "parts": count}
                for (recipe_id, version, model_sha256), count in self._products.most_common()
            ],
            "traceability": [
                {"lot": lot, "order": order, "shift": shift, **_counts(counts)}
                for (lot, order, shift), counts in self._belongs.items()
            ],
            "reviews": {
                "reviewed": sum(self._reviewed[name] for name in ("confirmed", "overruled", "undecided")),
                **{name: self._reviewed[name] for name in _REVIEWED},
            },
            "over_time": [{"from_utc": span, **_counts(self._over_time[span])} for span in sorted(self._over_time)],
        }

    def _pareto(self) -> list[dict[str, Any]]:
        """The most frequent first; a part may have several."""
        rejected = self._verdicts["REJECT"]
        return [
            {"class": name, "parts": count, "share_of_rejected": round(count / rejected, 4)}
            for name, count in self._defects.most_common()
        ]


def _counts(verdicts: Counter[str]) -> dict[str, Any]:
    passed, rejected = verdicts["PASS"], verdicts["REJECT"]
    judged = passed + rejected
    return {
        "parts": verdicts.total(),
        "passed": passed,
        "rejected": rejected,
        "no_decision": verdicts["NO_DECISION"],
        "yield_ratio": round(passed / judged, 4) if judged else None,
    }


def count_all(results: Iterable[ResultPayload], by: int = HOUR, reviews: Iterable[Review] = ()) -> dict[str, Any]:
    """The figures of these parts; of several reviews of one part the last counts."""
    last = {(review.session_id, review.part_id): review for review in reviews}
    stats = RecordStats(by)
    for result in results:
        stats.add(result, last.get((result.session_id, result.part_id)))
    return stats.figures()
