"""What a record says of a span of production: yield, why parts were rejected, when, and how long it took."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload
from pipeline.record.reviews import Review, agreement
from pipeline.tally import STAGES, latency_of

HOUR = len("2026-01-01T00")
MINUTE = len("2026-01-01T00:00")
_CHALLENGE = "CHALLENGE"
"""In the place of the verdict of a challenge part, which is rejected whatever it is and says nothing of production."""
_REVIEWED = ("confirmed", "overruled", "undecided", "false_rejects", "false_accepts")
"""What a review makes of a verdict; the last two are what was overruled."""


class RecordStats:
    """Counts parts one by one, in any order; ``figures`` tells them. ``by`` is ``HOUR`` or ``MINUTE``. ``reviews`` in the order in
    which they were given: of several of one part the last counts.

    Attributes:
        latency: frame in memory to socket.
    """

    def __init__(self, by: int = HOUR, reviews: Iterable[Review] = ()) -> None:
        self._by = by
        self._verdicts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._defects: Counter[str] = Counter()
        self._sessions: dict[str, Counter[str]] = defaultdict(Counter)
        self._products: Counter[tuple[str, str, str | None]] = Counter()
        self._belongs: dict[tuple[str | None, str | None, str | None], Counter[str]] = defaultdict(Counter)
        self._last_review = {(review.session_id, review.part_id): review for review in reviews}
        self._reviewed: Counter[str] = Counter()
        self._over_time: dict[str, Counter[str]] = defaultdict(Counter)
        self.latency = LatencyHistogram()
        self._stages = {stage: LatencyHistogram() for stage in STAGES}
        self._unsent_count = 0
        self._first_utc: str | None = None
        self._last_utc: str | None = None

    def add(self, result: ResultPayload) -> None:
        """One part. A defect class counts once a part, however many there are of it."""
        verdict = _CHALLENGE if result.is_challenge else result.verdict
        self._verdicts[verdict] += 1
        self._reasons[result.reason] += 1
        self._defects.update({defect.class_name for defect in result.defects} if verdict == "REJECT" else ())
        self._sessions[result.session_id][verdict] += 1
        self._products[(result.recipe_id, result.recipe_version, result.model_sha256)] += 1
        self._over_time[result.trigger_utc[: self._by]][verdict] += 1
        keys = result.traceability
        self._belongs[keys.lot, keys.order, keys.shift][verdict] += 1
        review = self._last_review.get((result.session_id, result.part_id))
        if review is not None and verdict != _CHALLENGE:
            self._reviewed[agreement(review)] += 1
            if agreement(review) == "overruled":
                self._reviewed["false_rejects" if verdict == "REJECT" else "false_accepts"] += 1
        self._unsent_count += result.sent_ns is None
        self._first_utc = min(self._first_utc or result.trigger_utc, result.trigger_utc)
        self._last_utc = max(self._last_utc or result.trigger_utc, result.trigger_utc)
        latency_us = latency_of(result)
        if latency_us is not None:
            self.latency.add(latency_us)
            for stage, histogram in self._stages.items():
                if stage in result.stages_us:
                    histogram.add(result.stages_us[stage])

    def figures(self) -> dict[str, Any]:
        """Ready for JSON. ``yield_ratio`` is PASS among PASS and REJECT, ``reject_ratio`` REJECT among them, both null where
        there is neither; ``no_decision_ratio`` is NO_DECISION among all parts. Parts of a challenge count as ``challenge`` alone.
        """
        return {
            "first_utc": self._first_utc,
            "last_utc": self._last_utc,
            **_counts(self._verdicts),
            "reasons": dict(self._reasons.most_common()),
            "defects": self._pareto(),
            "verdicts_unsent": self._unsent_count,
            "latency_us": self.latency.percentiles_us(),
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
        """The most frequent first; a part may have several. ``cumulative_share`` is of all that are counted here."""
        rejected, total = self._verdicts["REJECT"], self._defects.total()
        counted = self._defects.most_common()
        together = itertools.accumulate(count for _, count in counted)
        return [
            {
                "class": name,
                "parts": count,
                "share_of_rejected": round(count / rejected, 4),
                "cumulative_share": round(up_to_here / total, 4),
            }
            for (name, count), up_to_here in zip(counted, together, strict=True)
        ]


def _counts(verdicts: Counter[str]) -> dict[str, Any]:
    passed, rejected = verdicts["PASS"], verdicts["REJECT"]
    judged = passed + rejected
    return {
        "parts": verdicts.total(),
        "passed": passed,
        "rejected": rejected,
        "no_decision": verdicts["NO_DECISION"],
        "challenge": verdicts[_CHALLENGE],
        "yield_ratio": round(passed / judged, 4) if judged else None,
        "reject_ratio": round(rejected / judged, 4) if judged else None,
        "no_decision_ratio": round(verdicts["NO_DECISION"] / verdicts.total(), 4) if verdicts else None,
    }


def count_all(results: Iterable[ResultPayload], by: int = HOUR, reviews: Iterable[Review] = ()) -> dict[str, Any]:
    """The figures of these parts; see ``RecordStats``."""
    stats = RecordStats(by, reviews)
    for result in results:
        stats.add(result)
    return stats.figures()
