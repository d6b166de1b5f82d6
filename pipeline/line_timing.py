"""How long verdicts take to arrive, of a running line that is followed over the broker as its controller would.

**The clock.** ``result`` tells when a part was triggered and decided, by CLOCK_MONOTONIC of the service's box; when a verdict has
arrived is read from the same clock where this runs. So it has to run on the service's box, which the session's ledger in shared
memory proves: over a network only the sum of both ways could be measured, and half of a sum is a guess. The verdict still goes to
the broker and back, wherever that is, as it goes to the controller.

**Which parts.** ``seq`` has no gaps: from the first verdict heard every part counts, those as well whose verdict never came. Parts
seen while the line did not judge (NOT_RUNNING) or rejected everything (CHALLENGE) say nothing of production and are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Literal

import msgspec

from pipeline.clock import NS_PER_MS, NS_PER_S, NS_PER_US, now_ns
from pipeline.ledger_file import runs_on_this_box
from pipeline.line_config import LineConfig
from pipeline.line_terminal import LineTerminal, NoAnswer
from pipeline.payloads import ResultPayload, VerdictPayload

TOPICS = ("verdict", "result", "history")
"""``history`` has the results that were held back while the broker was away."""

Fate = Literal["inspected", "cut off", "not inspected", "verdict lost", "not told"]

_LEFT_OUT = ("NOT_RUNNING", "CHALLENGE")
_TURN_NS = NS_PER_S // 4
_SILENCE_NS = NS_PER_S
_RESULTS_NS = 10 * NS_PER_S
"""Results come when they are on disk."""
_PROGRESS_NS = NS_PER_S // 2

_decode_verdict = msgspec.json.Decoder(VerdictPayload).decode
_decode_result = msgspec.json.Decoder(ResultPayload).decode


@dataclass(frozen=True, slots=True)
class PartTimes:
    """One part. ``latency_us``: from its trigger to the verdict's arrival, inf where it did not have all the time it takes;
    ``arrival_us``: from when it could be decided, inf where no verdict came.

    ``fate``: ``cut off``: the final choice fell before the inspection was done. ``not inspected``: no frame, or none that could be
    judged. ``verdict lost``: it was sent, or not, and never came. ``not told``: no ``result`` came, so that nothing is known of it.
    """

    seq: int
    reason: str
    fate: Fate
    latency_us: float
    arrival_us: float


class ClocksDiffer(RuntimeError):
    """A verdict was there before it was sent: the moments are not by one clock."""


class TimesHeard:
    """What was heard of one session's parts. ``guard_us``: of the running line, for when the final choice was due."""

    def __init__(self, guard_us: int) -> None:
        self._guard_ns = guard_us * NS_PER_US
        self._arrived_ns: dict[int, int] = {}
        self._reasons: dict[int, str] = {}
        self._results: dict[int, ResultPayload] = {}
        self._left_out: Counter[str] = Counter()
        self._first_seq = 0
        self._last_seq = 0
        self._has_news = False
        self.session_id: str | None = None
        """None before the first verdict."""
        self.next_session_id: str | None = None
        """Of one that began while it was listened: the service was started again."""

    def hear(self, topic: str, payload: bytes, at_ns: int) -> None:
        """A message came at ``at_ns``. Raises msgspec.DecodeError for what is none of ours."""
        if topic == "verdict":
            self._hear_verdict(_decode_verdict(payload), at_ns)
        else:
            result = _decode_result(payload)
            if result.session_id == self.session_id and result.seq >= self._first_seq:
                self._results.setdefault(result.seq, result)

    def _hear_verdict(self, verdict: VerdictPayload, at_ns: int) -> None:
        self._has_news = True
        if self.session_id is None:
            self.session_id = verdict.session_id
            self._first_seq = verdict.seq
        if verdict.session_id != self.session_id:
            self.next_session_id = verdict.session_id
            return
        if verdict.seq < self._first_seq or verdict.seq in self._arrived_ns:
            return
        self._arrived_ns[verdict.seq] = at_ns
        self._reasons[verdict.seq] = verdict.reason
        self._last_seq = max(self._last_seq, verdict.seq)
        if verdict.reason in _LEFT_OUT:
            self._left_out[verdict.reason] += 1

    def take_news(self) -> bool:
        """Whether a verdict came since this was asked last."""
        has_news, self._has_news = self._has_news, False
        return has_news

    @property
    def count(self) -> int:
        """Parts that count, heard or lost, so far."""
        return 0 if self.session_id is None else self._last_seq - self._first_seq + 1 - self._left_out.total()

    @property
    def lost_count(self) -> int:
        """Parts so far whose verdict did not come, though a later one did."""
        return 0 if self.session_id is None else self._last_seq - self._first_seq + 1 - len(self._arrived_ns)

    @property
    def left_out(self) -> dict[str, int]:
        """Parts that do not count, by reason."""
        return dict(self._left_out)

    def has_results(self, count: int) -> bool:
        """Whether each of the first so many parts was told."""
        return all(seq in self._results for seq in self._seqs(count))

    def parts(self, count: int) -> list[PartTimes]:
        """The first so many that count, in order of their decisions. Raises ClocksDiffer."""
        return [self._times(seq) for seq in self._seqs(count)]

    def _seqs(self, count: int) -> Iterator[int]:
        all_seqs = range(self._first_seq, self._last_seq + 1) if self.session_id is not None else ()
        return islice((seq for seq in all_seqs if self._reason(seq) not in _LEFT_OUT), count)

    def _reason(self, seq: int) -> str:
        """Empty where nothing was told."""
        result = self._results.get(seq)
        return self._reasons.get(seq) or ("" if result is None else result.reason)

    def _times(self, seq: int) -> PartTimes:
        at_ns, result, reason = self._arrived_ns.get(seq), self._results.get(seq), self._reason(seq)
        if at_ns is None or result is None:
            return PartTimes(seq, reason, "verdict lost" if at_ns is None else "not told", inf, inf)
        if at_ns < max(result.trigger_ns, result.decided_ns):
            early_us = (result.decided_ns - at_ns) / NS_PER_US
            raise ClocksDiffer(f"the verdict of seq {seq} was there {early_us:.0f} us before it was decided")
        # The stages are told where every view was inspected in time; one that rejects decides without the others.
        if result.verdict in ("PASS", "REJECT") and "decide" in result.stages_us:
            # The loop that decides is woken by the last view, as it is by a timer at the final choice: what that takes counts.
            ready_ns = result.decided_ns - result.stages_us["decide"] * NS_PER_US
            latency_us = (at_ns - result.trigger_ns) / NS_PER_US
            return PartTimes(seq, reason, "inspected", latency_us, (at_ns - ready_ns) / NS_PER_US)
        choice_ns = result.deadline_ns - self._guard_ns
        is_cut_off = result.decided_ns >= choice_ns
        from_ns = choice_ns if is_cut_off else result.decided_ns
        return PartTimes(seq, reason, "cut off" if is_cut_off else "not inspected", inf, (at_ns - from_ns) / NS_PER_US)


@dataclass(frozen=True, slots=True)
class Progress:
    """Parts that counted so far."""

    count: int
    wanted: int
    lost_count: int


def follow(
    config: LineConfig,
    parts_count: int,
    *,
    give_up_s: float,
    tell: Callable[[str], None],
    progress: Callable[[Progress], None],
) -> TimesHeard:
    """Hears ``parts_count`` parts and their results. ``tell`` gets what an operator should know meanwhile.

    Raises NoAnswer where nobody is there, no part comes for ``give_up_s``, the service was started again, or runs elsewhere.
    """
    heard = TimesHeard(config.timing.guard_us)
    with LineTerminal(config, topics=TOPICS, hear=lambda topic, payload: heard.hear(topic, payload, now_ns())) as line:
        session_id = line.heartbeat().session_id
        if not runs_on_this_box(session_id):
            got = f"session {session_id}, which has no ledger in this box's shared memory"
            raise NoAnswer(
                f"the service runs elsewhere: got {got}, expected to run beside it, where both read one clock. "
                "Run this on the service's box (in its container), where the network to the broker is the controller's too"
            )
        _listen(line, heard, parts_count, session_id, give_up_s=give_up_s, tell=tell, progress=progress)
        if not line.turn_until(lambda: heard.has_results(parts_count), _RESULTS_NS):
            tell("not all results came: nothing is known of some parts, which count as if their verdicts were lost")
    return heard


def _listen(
    line: LineTerminal,
    heard: TimesHeard,
    parts_count: int,
    session_id: str,
    *,
    give_up_s: float,
    tell: Callable[[str], None],
    progress: Callable[[Progress], None],
) -> None:
    last_part_ns = told_ns = now_ns()
    last_word: str | None = None
    while (count_before := heard.count) < parts_count:
        came = line.turn_until(heard.take_news, _TURN_NS)
        if {heard.session_id, heard.next_session_id, line.session_id} - {None, session_id}:
            raise NoAnswer("the service was started again while it was measured; begin again")
        now = now_ns()
        if heard.count > count_before:
            last_part_ns = now
        word = _state(line, now)
        if word != last_word:
            last_word = word
            tell(word or "the line judges production")
        if now - last_part_ns > give_up_s * NS_PER_S:
            raise NoAnswer(f"no verdict came for {give_up_s:g} s: {word or 'are there parts on the belt?'}")
        # Right behind a verdict, when the next one is furthest: what is printed must not delay an arrival.
        if now - told_ns > _PROGRESS_NS and (came or now - last_part_ns > _SILENCE_NS):
            told_ns = now
            progress(Progress(heard.count, parts_count, heard.lost_count))
    progress(Progress(parts_count, parts_count, heard.lost_count))


def _state(line: LineTerminal, now: int) -> str:
    """What keeps verdicts of production away just now; empty where nothing does."""
    if not line.is_connected:
        return f"no connection to the broker ({line.last_error}): what is sent meanwhile is lost"
    if now - line.heartbeat_ns > _SILENCE_NS:
        return f"no heartbeat for more than {_SILENCE_NS // NS_PER_MS} ms: does the service run?"
    if line.state != "RUNNING":
        return f"the line is {line.state}: parts do not count until it is RUNNING"
    return ""
