"""What a report shows of the record beyond its figures, gathered part by part in memory that does not grow with their number."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_US
from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload
from pipeline.record.reader import NotReadable, RecordedRow, read_context
from pipeline.tally import latency_of

SCORE_BINS = 50
PICTURES_MAX = 9
"""Rejected parts that are shown, the worst ones and the last ones each."""
_SPANS_MAX = 120
_WIDTHS_S = (60, 300, 900, 3_600, 3 * 3_600, 6 * 3_600, 86_400, 7 * 86_400, 28 * 86_400)
_FAR_S = 250 * 366 * 86_400
"""A time as far from 1970 is none."""
_PAUSE_S = 60
_PAUSES_TOLD = 10
_CONTEXTS_MAX = 40
_VERDICTS = {"PASS": 0, "REJECT": 1, "NO_DECISION": 2}
_SECOND = len("2026-01-31T06:00:00")


class TimeSpans:
    """Verdicts by time, in spans that grow wider as there are more of them. ``width_s`` is what they have come to."""

    def __init__(self) -> None:
        self.width_s = _WIDTHS_S[0]
        self._spans: dict[int, npt.NDArray[np.int64]] = {}

    def add(self, moment_s: int, verdict: str) -> None:
        """``moment_s`` counts from 1970, UTC."""
        begins_s = moment_s - moment_s % self.width_s
        counts = self._spans.get(begins_s)
        if counts is None:
            counts = self._spans[begins_s] = np.zeros(3, np.int64)
        counts[_VERDICTS[verdict]] += 1
        while len(self._spans) > _SPANS_MAX:
            self._widen()

    def spans(self) -> list[tuple[datetime, int, int, int]]:
        """Each with its begin, passed, rejected and not judged parts, in order; those without parts are left out."""
        return [
            (datetime.fromtimestamp(begins_s, timezone.utc), *map(int, counts))  # type: ignore[misc]
            for begins_s, counts in sorted(self._spans.items())
        ]

    def _widen(self) -> None:
        wider = next((width_s for width_s in _WIDTHS_S if width_s > self.width_s), 2 * self.width_s)
        spans: dict[int, npt.NDArray[np.int64]] = {}
        for begins_s, counts in self._spans.items():
            merged = begins_s - begins_s % wider
            spans[merged] = spans[merged] + counts if merged in spans else counts
        self.width_s, self._spans = wider, spans


@dataclass(slots=True)
class SessionSeen:
    """What of a session was among the parts. ``part_id`` and ``seq`` count from 1 without gaps in a session."""

    parts: int
    first_utc: str
    last_utc: str
    part_ids: tuple[int, int]
    seqs: tuple[int, int]

    @property
    def missing(self) -> int:
        """Numbers of verdicts between the first and the last one that are not there."""
        return max(0, self.seqs[1] - self.seqs[0] + 1 - self.parts)


@dataclass(frozen=True, slots=True, order=True)
class Pause:
    """So long no part was triggered."""

    length_s: int
    from_utc: str
    until_utc: str


@dataclass(slots=True)
class RecordSurvey:
    """Add parts in the record's order, while they are read from it: their files keep their names as long as that goes on.

    Attributes:
        scores: {verdict: counts}, of the parts by their highest score, in SCORE_BINS bins from 0 to 1.
        age: trigger to socket of the verdicts that were sent, us.
        deadline_us: the shortest and the longest, of trigger and deadline; None without parts.
        late_verdicts: sent after their deadline.
        contexts: what parts were judged with by its hash, as ``read_context`` tells it (None where it is not there as it was), the
            first 40; with how many parts.
        over_budget: parts that took longer than ``budget_us`` from frame in memory to socket; 0 where that is not known.
        pauses: the longest, of a minute or more, the longest first.
        without_time: parts whose ``trigger_utc`` is none.
    """

    budget_us: int | None
    pictures_max: int
    over_time: TimeSpans = field(default_factory=TimeSpans)
    sessions: dict[str, SessionSeen] = field(default_factory=dict)
    scores: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    age: LatencyHistogram = field(default_factory=LatencyHistogram)
    contexts: dict[str, tuple[dict[str, Any] | None, int]] = field(default_factory=dict)
    deadline_us: tuple[int, int] | None = None
    late_verdicts: int = 0
    over_budget: int = 0
    without_time: int = 0
    simulated: int = 0
    challenges: int = 0
    _rejects: int = 0
    _worst: list[tuple[float, int, ResultPayload]] = field(default_factory=list)
    _last: deque[ResultPayload] = field(default_factory=deque)
    _pauses: list[Pause] = field(default_factory=list)
    _newest: tuple[int, str] | None = None

    def add(self, row: RecordedRow) -> None:
        """One part."""
        result = row.result
        self._see_session(result)
        self._see_moment(result)
        self._see_times(result)
        self._see_context(row)
        self.simulated += result.is_simulated
        if result.is_challenge:
            # Known parts, rejected whatever they are: they say nothing of production.
            self.challenges += 1
            return
        scores = [view.score for view in result.views if view.score is not None]
        if scores:
            counts = self.scores.setdefault(result.verdict, np.zeros(SCORE_BINS, np.int64))
            counts[int(min(max(max(scores), 0.0), 1 - 1e-9) * SCORE_BINS)] += 1
        if result.verdict == "REJECT":
            self._see_reject(result)

    @property
    def pauses(self) -> list[Pause]:
        return sorted(self._pauses, reverse=True)

    @property
    def worst(self) -> list[ResultPayload]:
        """Rejected parts with the highest scores, the highest first; of equal ones the last."""
        return [result for _, _, result in sorted(self._worst, key=lambda kept: kept[:2], reverse=True)]

    @property
    def last(self) -> list[ResultPayload]:
        """The last rejected parts, the last first."""
        return list(reversed(self._last))

    def _see_session(self, result: ResultPayload) -> None:
        utc, part_id, seq = result.trigger_utc, result.part_id, result.seq
        seen = self.sessions.get(result.session_id)
        if seen is None:
            self.sessions[result.session_id] = SessionSeen(1, utc, utc, (part_id, part_id), (seq, seq))
            return
        seen.parts += 1
        seen.first_utc, seen.last_utc = min(seen.first_utc, utc), max(seen.last_utc, utc)
        seen.part_ids = min(seen.part_ids[0], part_id), max(seen.part_ids[1], part_id)
        seen.seqs = min(seen.seqs[0], seq), max(seen.seqs[1], seq)

    def _see_moment(self, result: ResultPayload) -> None:
        utc = result.trigger_utc
        try:
            moment_s = int(datetime.fromisoformat(utc[:_SECOND]).replace(tzinfo=timezone.utc).timestamp())
        except ValueError:
            moment_s = -1
        if not 0 <= moment_s < _FAR_S:
            self.without_time += 1
            return
        if not result.is_challenge:
            self.over_time.add(moment_s, result.verdict)
        if self._newest is not None and moment_s - self._newest[0] >= _PAUSE_S:
            pause = Pause(moment_s - self._newest[0], self._newest[1], utc)
            (heapq.heappush if len(self._pauses) < _PAUSES_TOLD else heapq.heappushpop)(self._pauses, pause)
        if self._newest is None or moment_s > self._newest[0]:
            self._newest = (moment_s, utc)

    def _see_times(self, result: ResultPayload) -> None:
        deadline_us = (result.deadline_ns - result.trigger_ns) // NS_PER_US
        shortest, longest = self.deadline_us or (deadline_us, deadline_us)
        self.deadline_us = min(shortest, deadline_us), max(longest, deadline_us)
        if result.sent_ns is not None:
            self.late_verdicts += result.sent_ns > result.deadline_ns
            self.age.add((result.sent_ns - result.trigger_ns) // NS_PER_US)
        if self.budget_us is not None:
            latency_us = latency_of(result)
            self.over_budget += latency_us is not None and latency_us > self.budget_us

    def _see_context(self, row: RecordedRow) -> None:
        sha256 = row.result.context_sha256
        if sha256 is None:
            return
        if sha256 in self.contexts:
            context, parts = self.contexts[sha256]
            self.contexts[sha256] = context, parts + 1
        elif len(self.contexts) < _CONTEXTS_MAX:
            try:
                self.contexts[sha256] = read_context(row), 1
            except NotReadable:
                self.contexts[sha256] = None, 1

    def _see_reject(self, result: ResultPayload) -> None:
        self._rejects += 1
        self._last.append(result)
        if len(self._last) > self.pictures_max:
            self._last.popleft()
        score = max((defect.score for defect in result.defects), default=0.0)
        worst = (score, self._rejects, result)
        if len(self._worst) < self.pictures_max:
            heapq.heappush(self._worst, worst)
        elif worst[:2] > self._worst[0][:2]:
            heapq.heapreplace(self._worst, worst)
