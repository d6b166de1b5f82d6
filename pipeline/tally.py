"""A session's totals, and the stages of a part's way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import msgspec

from pipeline.clock import NS_PER_US
from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload

STAGES = ("grab", "handover", "preprocess", "inference", "judge", "decide", "send")
"""In order: trigger -> frame in memory -> ticket received -> batch row filled -> model run -> judged -> decided -> at the
socket. The latency is what lies between frame in memory and socket."""
_LATENCY_STAGES = frozenset(STAGES) - {"grab"}


class _StoredTally(msgspec.Struct):
    verdicts: dict[str, int]
    reasons: dict[str, int]
    late_verdicts: int
    late_inspections_before: int
    over_budget: int
    first_trigger_ns: int | None
    last_trigger_ns: int | None
    latency: dict[str, int | list[int]]
    stages: dict[str, dict[str, int | list[int]]]


_tally_decoder = msgspec.json.Decoder(_StoredTally)


class Tally:
    """A session's totals, in the words of the contract."""

    def __init__(self, budget_us: int, deadline_us: int) -> None:
        self.budget_us = budget_us
        self.deadline_us = deadline_us
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.late_verdicts = 0
        self.late_inspections = 0
        self.late_inspections_before = 0
        """Of these, the ones in segments of the record that are sealed."""
        self.over_budget = 0
        self.first_trigger_ns: int | None = None
        self.last_trigger_ns: int | None = None
        self.latency = LatencyHistogram()
        self.stages = {stage: LatencyHistogram() for stage in STAGES}

    def add(self, result: ResultPayload) -> None:
        self.verdicts[result.verdict] += 1
        self.reasons[result.reason] += 1
        if result.sent_ns is not None and result.sent_ns > result.deadline_ns:
            self.late_verdicts += 1
        self.first_trigger_ns = (
            result.trigger_ns if self.first_trigger_ns is None else min(self.first_trigger_ns, result.trigger_ns)
        )
        self.last_trigger_ns = (
            result.trigger_ns if self.last_trigger_ns is None else max(self.last_trigger_ns, result.trigger_ns)
        )
        latency_us = latency_of(result)
        if latency_us is None:
            return
        self.latency.add(latency_us)
        self.over_budget += latency_us > self.budget_us
        for stage, stage_us in result.stages_us.items():
            self.stages[stage].add(stage_us)

    def summary(self) -> dict[str, object]:
        """What ``--json`` prints; all but ``frames_refused``, which acquisition counts."""
        parts = sum(self.verdicts.values())
        return {
            "parts_triggered": parts,
            "passed": self.verdicts["PASS"],
            "rejected": self.verdicts["REJECT"],
            "no_decision": self.verdicts["NO_DECISION"],
            "late_verdicts": self.late_verdicts,
            "late_inspections": self.late_inspections,
            "over_budget": self.over_budget,
            "budget_us": self.budget_us,
            "deadline_us": self.deadline_us,
            "latency_us": self.latency.percentiles_us(),
            "stages_us": {stage: histogram.percentiles_us() for stage, histogram in self.stages.items()},
            "rate_per_min": self.rate_per_min(),
            "reasons": dict(sorted(self.reasons.items())),
        }

    def rate_per_min(self) -> float:
        """Triggers a minute between the first and the last one; 0 for fewer than two."""
        parts = sum(self.verdicts.values())
        if parts < 2 or self.first_trigger_ns is None or self.last_trigger_ns is None:
            return 0.0
        span_ns = self.last_trigger_ns - self.first_trigger_ns
        return round((parts - 1) * 60e9 / span_ns, 1) if span_ns > 0 else 0.0

    def to_json(self) -> str:
        return json.dumps(
            {
                "verdicts": self.verdicts,
                "reasons": self.reasons,
                "late_verdicts": self.late_verdicts,
                "late_inspections_before": self.late_inspections_before,
                "over_budget": self.over_budget,
                "first_trigger_ns": self.first_trigger_ns,
                "last_trigger_ns": self.last_trigger_ns,
                "latency": self.latency.to_json(),
                "stages": {stage: histogram.to_json() for stage, histogram in self.stages.items()},
            }
        )

    @classmethod
    def from_json(cls, text: str, budget_us: int, deadline_us: int) -> Tally:
        """Raises ValueError where the text is none of ``to_json``'s."""
        try:
            stored = _tally_decoder.decode(text)
            tally = cls(budget_us, deadline_us)
            tally.latency = LatencyHistogram.from_json({**stored.latency})
            tally.stages = {stage: LatencyHistogram.from_json({**stored.stages[stage]}) for stage in STAGES}
        except (msgspec.DecodeError, TypeError, LookupError, OverflowError) as error:
            raise ValueError(str(error)) from error
        tally.verdicts.update(stored.verdicts)
        tally.reasons.update(stored.reasons)
        tally.late_verdicts = stored.late_verdicts
        tally.late_inspections_before = stored.late_inspections_before
        tally.over_budget = stored.over_budget
        tally.first_trigger_ns = stored.first_trigger_ns
        tally.last_trigger_ns = stored.last_trigger_ns
        return tally


def latency_of(result: ResultPayload) -> int | None:
    """Frame in memory to socket in us; None where nothing was judged or sent."""
    if result.sent_ns is None or not result.stages_us.keys() >= _LATENCY_STAGES:
        return None
    return sum(result.stages_us[stage] for stage in _LATENCY_STAGES)


def stages_us(trigger_ns: int, moments_ns: Sequence[int], decided_ns: int, sent_ns: int | None) -> dict[str, int]:
    """The stages of a part from a view's moments (grabbed, received, preprocessed, inferred, judged).

    Rounded as differences of rounded moments, so that they add up.
    """
    moments = [trigger_ns, *moments_ns, decided_ns, *([] if sent_ns is None else [sent_ns])]
    rounded = [moment // NS_PER_US for moment in moments]
    return {stage: later - earlier for stage, earlier, later in zip(STAGES, rounded, rounded[1:], strict=False)}
