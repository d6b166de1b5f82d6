"""The three accounts joined: whose verdict is whose, what was let pass, and what must not have been."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from pipeline.simulator.counting import is_in_window
from pipeline.simulator.truth.books import Record
from pipeline.simulator.truth.controller_book import ControllerAccount, Decision, read_controller
from pipeline.simulator.truth.line_book import LineAccount, LinePart, LineTrigger, read_line
from pipeline.simulator.truth.report import (
    SCAN_NS,
    TAP_LAG_NS,
    WATCHDOG_NS,
    ControllerTruth,
    GateTruth,
    LabelTruth,
    LineTruth,
    Truth,
    Violation,
    ViolationKind,
    WireTruth,
    WireVerdict,
)
from pipeline.simulator.truth.wire_log import PartKey, WireAccount, read_wire

_PARTS_ASKED = 64
"""A late verdict belongs to one of the last so many parts past the gate, or to none."""


def find_truth(line_book: Iterable[Record], gate_book: Iterable[Record], wire_log: Iterable[Record]) -> Truth:
    """Joins the three, each read once from beginning to end, so that they may be streams.

    Raises ValueError where the line's book does not begin with its ``line`` record.
    """
    line, controller, wire = read_line(line_book), read_controller(gate_book), read_wire(wire_log)
    triggers = _Triggers(line.triggers)
    orphans = _book_verdicts(wire, triggers)
    gates = _Gates(line, controller, wire, triggers)
    violations = [
        *gates.violations,
        *_trigger_violations(line.triggers),
        *_message_violations(wire, triggers, orphans),
    ]
    labels = Counter(part.label for part in line.parts.values())
    rejected = {
        trigger.part_number
        for trigger in line.triggers
        if any(verdict.verdict == "REJECT" for verdict in trigger.verdicts)
    }
    return Truth(
        line=_line_truth(line),
        controller=gates.truth(),
        truth=LabelTruth(
            good=labels["good"],
            defective=labels["defective"],
            false_accepts=gates.tally["false_accepts"],
            false_rejects=sum(line.parts[number].label == "good" for number in rejected),
            unlabelled=labels[None],
        ),
        wire=_wire_truth(wire, line.triggers, len(orphans)),
        violations=tuple(sorted(violations, key=lambda violation: violation.at_ns)),
        triggers=tuple(trigger.told() for trigger in line.triggers),
        gates=tuple(gates.told),
    )


class _Triggers:
    """Finds the trigger that an encoder count belongs to."""

    def __init__(self, triggers: Iterable[LineTrigger]) -> None:
        self._of_count: dict[int, list[LineTrigger]] = defaultdict(list)
        for trigger in triggers:
            for count in set(trigger.encoder_counts):
                self._of_count[count].append(trigger)

    def last_before(self, count: int | None, at_ns: int) -> LineTrigger | None:
        """The last trigger with this count by then; the encoder's laps tell them apart."""
        same = [] if count is None else self._of_count.get(count, [])
        index = bisect.bisect_right(same, at_ns, key=lambda trigger: trigger.trigger_ns) - 1
        return same[index] if index >= 0 else None

    def of_verdict(self, heard: WireVerdict) -> LineTrigger | None:
        """The trigger that a verdict is for."""
        return self.last_before(heard.encoder_count, heard.arrival_ns)


def _book_verdicts(wire: WireAccount, triggers: _Triggers) -> list[WireVerdict]:
    """Books every verdict and result with its trigger; returns the verdicts that have none."""
    orphans = []
    for heard in wire.by_number.values():
        trigger = triggers.of_verdict(heard)
        if trigger is None:
            orphans.append(heard)
        else:
            trigger.verdicts.append(heard)
            trigger.observability = "observable"
    for result in wire.results.values():
        trigger = triggers.last_before(result.encoder_count, result.at_ns)
        if trigger is not None:
            trigger.has_result = True
            trigger.observability = "observable"
    return orphans


# --- the line and the wire -------------------------------------------------------------------------------------


def _line_truth(line: LineAccount) -> LineTruth:
    seen = Counter(trigger.observability for trigger in line.triggers)
    per_part = Counter(trigger.part_number for trigger in line.triggers)
    return LineTruth(
        parts_sent=len(line.parts),
        triggers_sent=len(line.triggers),
        parts_past_gate=len(line.past_gate),
        triggers_missing=sum(part.trigger_missing for part in line.parts.values()),
        triggers_doubled=sum(count - 1 for count in per_part.values()),
        triggers_observable=seen["observable"],
        triggers_in_doubt=seen["in_doubt"],
        triggers_unobserved=seen["unobserved"],
        frames_dropped_at_camera=line.frames_dropped,
        controller_events_lost=line.controller_events_lost,
    )


def _trigger_violations(triggers: Iterable[LineTrigger]) -> Iterable[Violation]:
    """Triggers without a verdict, or with more than they may have."""
    for trigger in triggers:
        kind: ViolationKind
        where = f"part {trigger.part_number}, trigger at count {trigger.encoder_counts[0]} ({trigger.observability})"
        if not trigger.verdicts and trigger.observability == "observable":
            kind = "no_verdict" if trigger.has_result else "no_verdict_and_no_result"
            text = f"{where}: no verdict{'' if trigger.has_result else ' and no result'}"
        elif len(trigger.verdicts) > trigger.verdicts_max:
            kind = "several_verdicts"
            numbers = sorted((verdict.session_id, verdict.seq) for verdict in trigger.verdicts)
            text = f"{where}: {len(numbers)} verdicts: {numbers}"
        else:
            continue
        yield Violation(kind, trigger.part_number, trigger.trigger_ns, text)


def _message_violations(wire: WireAccount, triggers: _Triggers, orphans: Iterable[WireVerdict]) -> Iterable[Violation]:
    """Messages that should not have been."""
    for heard in orphans:
        yield Violation("verdict_without_trigger", None, heard.arrival_ns, f"for no trigger: {asdict(heard)}")
    kind: ViolationKind
    for kind, messages in (("repeated_verdict", wire.repeated), ("retained_verdict", wire.retained)):
        for heard in messages:
            trigger = triggers.of_verdict(heard)
            yield _violation_at(kind, trigger, heard.arrival_ns, f"{kind}: {asdict(heard)}")
    for key, kinds in _contradictions(wire).items():
        result = wire.results[key]
        trigger = triggers.last_before(result.encoder_count, result.at_ns)
        yield _violation_at("result_contradicting", trigger, result.at_ns, f"{key} was told to be {sorted(kinds)}")


def _violation_at(kind: ViolationKind, trigger: LineTrigger | None, otherwise_ns: int, text: str) -> Violation:
    if trigger is None:
        return Violation(kind, None, otherwise_ns, text)
    return Violation(kind, trigger.part_number, trigger.trigger_ns, f"part {trigger.part_number}: {text}")


def _contradictions(wire: WireAccount) -> dict[PartKey, set[str]]:
    """The verdicts of keys of which results, or result and verdict, tell different ones."""
    told = {key: set(result.verdicts) for key, result in wire.results.items()}
    for heard in wire.verdicts:
        if (heard.session_id, heard.part_id) in told:
            told[(heard.session_id, heard.part_id)].add(heard.verdict)
    return {key: kinds for key, kinds in told.items() if len(kinds) > 1}


def _wire_truth(wire: WireAccount, triggers: Sequence[LineTrigger], orphan_count: int) -> WireTruth:
    seqs: dict[str, set[int]] = defaultdict(set)
    for session_id, seq in wire.by_number:
        seqs[session_id].add(seq)
    keys = {(heard.session_id, heard.part_id) for heard in wire.verdicts}
    message_count = sum(result.message_count for result in wire.results.values())
    silent = [trigger for trigger in triggers if not trigger.verdicts]
    return WireTruth(
        verdicts=len(wire.verdicts),
        verdicts_by_kind=dict(Counter(heard.verdict for heard in wire.verdicts)),
        reasons=dict(wire.reasons),
        triggers_without_verdict=sum(trigger.observability == "observable" for trigger in silent),
        triggers_in_doubt_without_verdict=sum(trigger.observability == "in_doubt" for trigger in silent),
        triggers_with_several_verdicts=sum(len(each.verdicts) > each.verdicts_max for each in triggers),
        verdicts_without_trigger=orphan_count,
        duplicate_seq=len(wire.repeated),
        seq_gaps=sum(max(seen) - len(seen) for seen in seqs.values()),
        retained_verdicts=len(wire.retained),
        largest_verdict_bytes=wire.largest_verdict_bytes,
        malformed_messages=wire.malformed_messages,
        results=message_count,
        results_missing=len(keys - wire.results.keys()),
        results_duplicate=message_count - len(wire.results),
        results_contradicting=len(_contradictions(wire)),
        observable_without_record=sum(
            trigger.observability == "observable" and not trigger.has_result for trigger in silent
        ),
    )


# --- the gate --------------------------------------------------------------------------------------------------


class _Gates:
    """What the controller did with each part that came to the gate, and what was wrong with it.

    Attributes:
        told: one for each part past the gate.
        tally: the violations counted, ``passed_unproven``, ``decisions_missing`` and ``false_accepts``.
    """

    def __init__(
        self, line: LineAccount, controller: ControllerAccount, wire: WireAccount, triggers: _Triggers
    ) -> None:
        self.violations: list[Violation] = []
        self.told: list[GateTruth] = []
        self.tally: Counter[str] = Counter()
        self._line = line
        self._controller = controller
        self._wire = wire
        self._triggers = triggers
        self._arrivals_ns = [heard.arrival_ns for heard in wire.verdicts]
        late_parts = self._late_parts()
        for gate_ns, part in line.past_gate:
            decision = controller.decisions.get(gate_ns)
            passed, why = (None, None) if decision is None else (decision.passed, decision.why)
            is_late = part.part_number in late_parts
            self.told.append(GateTruth(part.part_number, part.sensed_ns, gate_ns, passed, why, is_late))
            if decision is None:
                self.tally["decisions_missing"] += 1
            elif decision.passed:
                self._check_passage(part, gate_ns, decision)

    def truth(self) -> ControllerTruth:
        """The counts."""
        decisions = self._controller.decisions.values()
        passes = sum(decision.passed for decision in decisions)
        return ControllerTruth(
            parts_at_gate=len(decisions),
            gate_rejects=len(decisions) - passes,
            passed_without_pass=self.tally["passed_without_pass"],
            wrong_part_passed=self.tally["wrong_part_passed"],
            late_at_gate=len(self._controller.late),
            overdue_at_gate=self._controller.overdue_count,
            passed_without_heartbeat=self.tally["passed_without_heartbeat"],
            passed_after_stop=self.tally["passed_after_stop"],
            passed_on_late_verdict=self.tally["passed_on_late_verdict"],
            passed_unproven=self.tally["passed_unproven"],
            passed_unheard=self.tally["passed_unheard"],
            gate_passes=passes,
            decisions_missing=self.tally["decisions_missing"],
        )

    def _late_parts(self) -> set[int]:
        """The parts that a late verdict was for."""
        gates_ns = [gate_ns for gate_ns, _ in self._line.past_gate]
        late: set[int] = set()
        for heard_ns, count in self._controller.late:
            last = bisect.bisect_right(gates_ns, heard_ns)
            asked = reversed(self._line.past_gate[max(0, last - _PARTS_ASKED) : last])
            late.update([part.part_number for _, part in asked if self._is_for(part, count)][:1])
        return late

    def _is_for(self, part: LinePart, count: int | None) -> bool:
        half_width, bits = self._line.window_pulses, self._line.encoder_bits
        return count is not None and is_in_window(count, part.encoder_count, half_width, bits)

    def _check_passage(self, part: LinePart, gate_ns: int, decision: Decision) -> None:
        """What was wrong with letting this part pass."""
        self.tally["false_accepts"] += part.label == "defective"
        if self._wire.was_deaf(part.sensed_ns - WATCHDOG_NS, gate_ns) and self._is_unheard(decision):
            # The controller was back on the broker before the tap: what it heard meanwhile only the record can tell.
            self.tally["passed_unheard"] += 1
            return
        found = self._verdict_violations(part, gate_ns, decision)
        if not _was_alive(self._wire, decision.session_id, gate_ns):
            found.append("passed_without_heartbeat")
        stops_ns = self._line.stops_ns
        if bisect.bisect_right(stops_ns, gate_ns) > bisect.bisect_left(stops_ns, part.sensed_ns):
            found.append("passed_after_stop")
        for kind in found:
            self.tally[kind] += 1
            where = f"part {part.part_number} at count {part.encoder_count}"
            text = f"{where}: {kind}: {decision}"
            if kind == "passed_on_late_verdict":
                text += f"; at the gate at {gate_ns}, {self._told_of(decision)}"
            self.violations.append(Violation(kind, part.part_number, part.sensed_ns, text))

    def _told_of(self, decision: Decision) -> str:
        """What tells a late verdict from a tap that stood still."""
        if decision.session_id is None or decision.seq is None:
            return "on a verdict that the controller does not name"
        heard = self._wire.by_number.get((decision.session_id, decision.seq))
        trigger = self._triggers.of_verdict(heard) if heard is not None else None
        return f"triggered at {trigger.trigger_ns if trigger is not None else None}, on {heard}"

    def _is_unheard(self, decision: Decision) -> bool:
        """Whether the controller names a verdict, and the tap has not heard it."""
        if decision.session_id is None or decision.seq is None:
            return False
        return (decision.session_id, decision.seq) not in self._wire.by_number

    def _verdict_violations(self, part: LinePart, gate_ns: int, decision: Decision) -> list[ViolationKind]:
        """In ``ControllerTruth``'s words. Counts ``passed_unproven``, which is none."""
        # From the moment it was sensed: a verdict before that, a lap of the encoder ago, was not for this part.
        first = bisect.bisect_left(self._arrivals_ns, part.sensed_ns)
        last = bisect.bisect_right(self._arrivals_ns, gate_ns)
        in_window = [heard for heard in self._wire.verdicts[first:last] if self._is_for(part, heard.encoder_count)]
        used = [heard for heard in in_window if heard.verdict == "PASS"]
        has_contradiction = any(
            heard.verdict != "PASS" and heard.arrival_ns <= gate_ns - SCAN_NS for heard in in_window
        )
        named: WireVerdict | None = None
        is_named_false = is_named_outside = False
        if decision.session_id is not None and decision.seq is not None:
            named = self._wire.by_number.get((decision.session_id, decision.seq))
            is_named_false = named is None or named.verdict != "PASS"
            is_named_outside = not self._is_for(part, decision.encoder_count if named is None else named.encoder_count)
            if named is not None and not is_named_false and named.arrival_ns >= part.sensed_ns and named not in used:
                used.append(named)
        found: list[ViolationKind] = []
        if is_named_false or has_contradiction or not any(self._is_for(part, heard.encoder_count) for heard in used):
            found.append("passed_without_pass")
        marks = {mark for heard in used for mark in self._marks(heard)}
        if is_named_outside or marks - {part.part_number}:
            found.append("wrong_part_passed")
        acted_on = [named] if named is not None else used
        if acted_on and all(self._was_late(heard) for heard in acted_on):
            found.append("passed_on_late_verdict")
        self.tally["passed_unproven"] += bool(used and not marks)
        return found

    def _marks(self, heard: WireVerdict) -> tuple[int, ...]:
        """The part numbers that the service read in the pixels it judged for this verdict."""
        result = self._wire.results.get((heard.session_id, heard.part_id))
        return () if result is None else result.marks

    def _was_late(self, heard: WireVerdict) -> bool:
        """Whether the verdict was sent after its deadline: by its own word, or by the line's clock and the tap's."""
        if heard.age_us is None or heard.valid_us is None:
            return False
        trigger = self._triggers.of_verdict(heard)
        if heard.valid_us <= 0 or trigger is None:
            return heard.valid_us <= 0
        deadline_ns = trigger.due_from_ns + (heard.age_us + heard.valid_us) * 1_000
        return heard.not_before_ns > deadline_ns + TAP_LAG_NS


def _was_alive(wire: WireAccount, session_id: str | None, gate_ns: int) -> bool:
    """Whether a heartbeat may have come in the watchdog's time before."""
    if session_id not in wire.heartbeats_ns:
        return False
    index = bisect.bisect_right(wire.heartbeats_not_before_ns[session_id], gate_ns + TAP_LAG_NS) - 1
    return index >= 0 and wire.heartbeats_ns[session_id][index] >= gate_ns - WATCHDOG_NS - TAP_LAG_NS
