"""The controller's decision at the gate. Pure: moments are arguments, what was decided comes back.

A part passes only on exactly one consistent ``PASS``: its ``encoder_count`` within the part's window, received after
the part was sensed, before its deadline and before it reached the gate, from the session whose heartbeat is alive and says
``RUNNING`` and has been the same since the part was sensed. Everything else, silence included, is a reject.

All parts between camera and gate are condemned when the belt stops, and when a heartbeat names another session, says any
other state, or stays away longer than the watchdog allows. No later ``PASS`` or ``RUNNING`` redeems a condemned part:
nobody knows what was done on the belt meanwhile, nor what the service missed. After a silence an outage's whole backlog may
come at once, and a verdict that is a lap of the encoder old fits the window of a part that is on its way just then.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from pipeline.simulator.counting import is_in_window, wrap_count
from pipeline.simulator.process import Options

Mutant = Literal["fails_open", "order_of_arrival", "ignores_watchdog", "accepts_late"]
Why = Literal[
    "pass",
    "verdict",
    "contradiction",
    "silence",
    "no_heartbeat",
    "not_running",
    "session_changed",
    "stopped",
    "unknown_part",
    "mutant",
]

_PASSED_PARTS_KEPT = 64
"""So many parts past the gate are remembered, to tell a late verdict from one that belongs to no part at all."""


class GateOptions(Options):
    """What the controller knows of the line, and how it misbehaves.

    ``mutant``, for tests that must catch it: ``fails_open`` lets a part pass on silence and without a heartbeat;
    ``order_of_arrival`` gives the n-th part at the gate the n-th verdict; ``ignores_watchdog`` passes parts without a
    live heartbeat; ``accepts_late`` gives a verdict that came too late to the next part without one.
    """

    window_pulses: int = Field(ge=1, description="half width of a part's window: a quarter of the pitch")
    gate_offset_pulses: int = Field(default=800, gt=0)
    encoder_bits: int = Field(default=32, ge=8, le=62)
    watchdog_ms: float = Field(default=500.0, gt=0.0)
    mutant: Mutant | None = None


@dataclass(frozen=True, slots=True)
class HeardVerdict:
    """A verdict as the controller keeps it."""

    session_id: str
    seq: int
    part_id: int | str | None
    verdict: str
    encoder_count: int | None
    good_for_ns: int | None
    """From the trigger to the deadline; None where the message does not say."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What happened to a part at the gate, and on which verdict."""

    has_passed: bool
    why: Why
    latch: int | None
    """The part's encoder count at the trigger station; None where the register knows no such part."""
    used: HeardVerdict | None


@dataclass(slots=True)
class _SensedPart:
    latch: int
    due_from_ns: int
    """When it was sensed, or came to the last camera: its verdict's time counts from here."""
    condemned: Why | None
    """Why this part will not pass whatever is said of it; None while it may."""
    verdicts: list[HeardVerdict] = field(default_factory=list)


class Gate:
    """Shift register of sensed parts, watchdog and verdicts of one controller.

    Attributes:
        counts: ``verdicts``, ``duplicate_verdicts`` (the same verdict again for one part), ``repeated_messages`` (one
            ``session_id`` and ``seq`` twice), ``seq_gaps`` (numbers never heard), ``late_at_gate``, ``overdue_at_gate``
            (``PASS`` after its deadline), ``unmatched_verdicts`` (in no part's window), ``malformed_messages``,
            ``parts_at_gate``, ``gate_rejects``, ``gate_passes``, ``heartbeats``.
    """

    def __init__(self, options: GateOptions) -> None:
        self.counts: Counter[str] = Counter()
        self._options = options
        self._watchdog_ns = round(options.watchdog_ms * 1e6)
        self._register: deque[_SensedPart] = deque()
        self._past_gate: deque[int] = deque(maxlen=_PASSED_PARTS_KEPT)
        self._session_id: str | None = None
        self._state: str | None = None
        self._heartbeat_ns: int | None = None
        self._seq_of_session: dict[str, int] = {}
        self._in_order: deque[HeardVerdict] = deque()
        self._late: deque[HeardVerdict] = deque()

    def sense(self, latch: int, now_ns: int) -> None:
        """A part is at the trigger station."""
        condemned: Why | None = None
        if self._heartbeat_ns is None:
            condemned = "no_heartbeat"
        elif self._state != "RUNNING":
            condemned = "not_running"
        self._register.append(_SensedPart(latch, now_ns, condemned))

    def pass_last_camera(self, latch: int, now_ns: int) -> None:
        """A part is at the last camera, which is further down the belt than the trigger station; ``latch``: its count there."""
        for part in self._register:
            if self._belongs(latch, part.latch):
                part.due_from_ns = now_ns
                return

    def stop_belt(self) -> None:
        """The belt stands, or runs back."""
        self._condemn("stopped")

    def hear_heartbeat(self, payload: Any, now_ns: int) -> None:
        """A heartbeat has come."""
        if not isinstance(payload, dict) or not isinstance(payload.get("session_id"), str):
            self.counts["malformed_messages"] += 1
            return
        self.counts["heartbeats"] += 1
        self._mind_silence(now_ns)
        session_before, self._session_id = self._session_id, payload["session_id"]
        self._state = str(payload.get("state"))
        self._heartbeat_ns = now_ns
        if session_before != self._session_id:
            self._condemn("session_changed")
        if self._state != "RUNNING":
            self._condemn("not_running")

    def hear_verdict(self, payload: Any, now_ns: int) -> Literal["kept", "overdue", "late", "unmatched", "malformed"]:
        """A verdict has come. What became of it: a ``PASS`` after its deadline is ``overdue`` and not kept."""
        heard = _verdict_in(payload)
        if heard is None:
            self.counts["malformed_messages"] += 1
            return "malformed"
        self.counts["verdicts"] += 1
        self._count_seq(heard)
        self._in_order.append(heard)
        if heard.encoder_count is not None:
            for part in self._register:
                if self._belongs(heard.encoder_count, part.latch):
                    return self._keep(part, heard, now_ns)
            if any(self._belongs(heard.encoder_count, latch) for latch in self._past_gate):
                self.counts["late_at_gate"] += 1
                self._late.append(heard)
                return "late"
        self.counts["unmatched_verdicts"] += 1
        return "unmatched"

    def _keep(self, part: _SensedPart, heard: HeardVerdict, now_ns: int) -> Literal["kept", "overdue"]:
        good_for_ns = heard.good_for_ns
        if heard.verdict == "PASS" and good_for_ns is not None and now_ns > part.due_from_ns + good_for_ns:
            self.counts["overdue_at_gate"] += 1
            return "overdue"
        known = [each.verdict for each in part.verdicts]
        self.counts["duplicate_verdicts"] += heard.verdict in known
        part.verdicts.append(heard)
        return "kept"

    def _mind_silence(self, now_ns: int) -> None:
        if self._heartbeat_ns is None or now_ns - self._heartbeat_ns > self._watchdog_ns:
            self._condemn("no_heartbeat")

    def _condemn(self, why: Why) -> None:
        """The first reason stands."""
        for part in self._register:
            part.condemned = part.condemned or why

    def decide(self, gate_count: int, now_ns: int) -> GateDecision:
        """A part is at the gate, now: pass or reject."""
        self.counts["parts_at_gate"] += 1
        self._mind_silence(now_ns)
        part = self._take_part(gate_count)
        if part is None:
            decision = GateDecision(False, "unknown_part", None, None)
        else:
            self._past_gate.append(part.latch)
            decision = self._mutated(part, self._judged(part))
        self.counts["gate_passes" if decision.has_passed else "gate_rejects"] += 1
        return decision

    def _take_part(self, gate_count: int) -> _SensedPart | None:
        latch = wrap_count(gate_count - self._options.gate_offset_pulses, self._options.encoder_bits)
        for index, part in enumerate(self._register):
            if self._belongs(part.latch, latch):
                # Parts in front of it that never came to the gate were taken off the belt.
                for _ in range(index + 1):
                    self._register.popleft()
                return part
        return None

    def _judged(self, part: _SensedPart) -> GateDecision:
        ignores_watchdog = self._options.mutant == "ignores_watchdog"
        used = part.verdicts[-1] if part.verdicts else None
        why: Why = "pass"
        if not part.verdicts:
            why = "silence"
        elif len({each.verdict for each in part.verdicts}) > 1:
            why = "contradiction"
        elif part.verdicts[0].verdict != "PASS":
            why = "verdict"
        elif part.condemned is not None and (part.condemned == "stopped" or not ignores_watchdog):
            why = part.condemned
        elif {each.session_id for each in part.verdicts} != {self._session_id} and not ignores_watchdog:
            why = "session_changed"
        return GateDecision(why == "pass", why, part.latch, used)

    def _mutated(self, part: _SensedPart, right: GateDecision) -> GateDecision:
        mutant = self._options.mutant
        if mutant == "fails_open" and right.why in ("silence", "no_heartbeat"):
            return GateDecision(True, "mutant", part.latch, None)
        if mutant == "order_of_arrival":
            used = self._in_order.popleft() if self._in_order else None
            return GateDecision(used is not None and used.verdict == "PASS", "mutant", part.latch, used)
        if mutant == "accepts_late" and right.why == "silence" and self._late:
            used = self._late.popleft()
            return GateDecision(used.verdict == "PASS", "mutant", part.latch, used)
        return right

    def _belongs(self, count: int, latch: int) -> bool:
        return is_in_window(count, latch, self._options.window_pulses, self._options.encoder_bits)

    def _count_seq(self, heard: HeardVerdict) -> None:
        last = self._seq_of_session.get(heard.session_id)
        if last is not None:
            if heard.seq <= last:
                self.counts["repeated_messages"] += 1
                return
            self.counts["seq_gaps"] += heard.seq - last - 1
        self._seq_of_session[heard.session_id] = heard.seq


def _verdict_in(payload: Any) -> HeardVerdict | None:
    if not isinstance(payload, dict):
        return None
    session_id, seq, verdict = payload.get("session_id"), payload.get("seq"), payload.get("verdict")
    count = payload.get("encoder_count")
    if not (isinstance(session_id, str) and isinstance(seq, int) and isinstance(verdict, str)):
        return None
    if not (count is None or isinstance(count, int)):
        return None
    age_us, valid_us = payload.get("age_us"), payload.get("valid_us")
    good_for_ns = (age_us + valid_us) * 1_000 if isinstance(age_us, int) and isinstance(valid_us, int) else None
    return HeardVerdict(session_id, seq, payload.get("part_id"), verdict, count, good_for_ns)
