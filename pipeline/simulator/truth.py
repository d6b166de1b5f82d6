"""What really happened: the line's book, the controller's book and the wire tap's log, joined. Pure.

Nothing here takes the service's or the controller's word for anything that another book can tell.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.simulator.counting import is_in_window

Record = Mapping[str, Any]
PartKey = tuple[str, Any]
"""(session_id, part_id)."""

WATCHDOG_NS = 500_000_000
"""Silence of the heartbeat after which a controller must let nothing pass."""
TAP_LAG_NS = 100_000_000
"""The tap, a process like others, may hear a heartbeat this much later than the controller did."""
SCAN_NS = 5_000_000
"""A contradicting verdict counts against the controller only if it was on the wire this long before the gate."""
DOUBT_NS = 50_000_000
"""What a camera sent so shortly before its driver left may have died unread in the socket."""

_RESULT_KEYS = {"session_id", "part_id", "verdict", "encoder_count"}
_KEYS_OF_TOPIC = {
    "verdict": {"session_id", "seq", "part_id", "verdict", "reason", "encoder_count"},
    "heartbeat": {"session_id", "state"},
    "result": _RESULT_KEYS,
    "history": _RESULT_KEYS,
}


@dataclass(frozen=True, slots=True)
class LineTruth:
    """By the line's book. The contract's keys first.

    Attributes:
        parts_sent: parts that came to the trigger station.
        triggers_sent: triggers emitted; one reaches all cameras, a doubled one counts twice, a missing one not.
        parts_past_gate: parts that came to the gate.
        triggers_missing: parts whose trigger was left out on purpose.
        triggers_doubled: second triggers.
        triggers_observable: triggers that a camera handed to a driver that stayed, or that the service knew of, as a
            verdict or result shows.
        triggers_in_doubt: other triggers, handed over less than ``DOUBT_NS`` before their drivers left: they may have
            been read, or not.
        triggers_unobserved: triggers that no driver was there to hear. These three sum to ``triggers_sent``.
        frames_dropped_at_camera: frames that a driver was too slow for.
        controller_events_lost: sensor events that did not reach the controller.
    """

    parts_sent: int
    triggers_sent: int
    parts_past_gate: int
    triggers_missing: int
    triggers_doubled: int
    triggers_observable: int
    triggers_in_doubt: int
    triggers_unobserved: int
    frames_dropped_at_camera: int
    controller_events_lost: int


@dataclass(frozen=True, slots=True)
class ControllerTruth:
    """By the controller's book, checked against the line and the wire. The contract's keys first.

    Attributes:
        parts_at_gate: gate events that the controller decided.
        gate_rejects: of these, parts it pushed out.
        passed_without_pass: parts that passed although, before they were at the gate, the wire carried no ``PASS`` in
            their encoder window (after they were sensed), or carried a different verdict as well at least ``SCAN_NS``
            before, or although the controller names a verdict that was never on the wire or was not a ``PASS``. A
            ``PASS`` that the tap heard after the gate counts as heard before only if the controller's record,
            written at the gate, names it by ``session_id`` and ``seq``: it cannot name what it has not received.
        wrong_part_passed: parts that passed on a verdict earned by another part: a ``PASS`` in their window, or the one
            that the controller names, whose ``result`` carries a ``views[].part_mark`` other than the part's number; or
            the controller names a verdict whose ``encoder_count`` is outside the part's window.
        late_at_gate: verdicts that the controller heard when their part was past the gate.
        passed_without_heartbeat: parts that passed with no ``RUNNING`` heartbeat of the verdict's session (any session,
            where the controller names none) on the wire in the ``WATCHDOG_NS`` before, give or take ``TAP_LAG_NS``.
        passed_unproven: parts that passed on a ``PASS`` whose ``result`` shows no part mark.
        gate_passes: parts the controller let pass.
        decisions_missing: parts past the gate, by the line's book, that the controller did not decide.
    """

    parts_at_gate: int
    gate_rejects: int
    passed_without_pass: int
    wrong_part_passed: int
    late_at_gate: int
    passed_without_heartbeat: int
    passed_unproven: int
    gate_passes: int
    decisions_missing: int


@dataclass(frozen=True, slots=True)
class LabelTruth:
    """By the pictures' labels. The contract's keys first.

    Attributes:
        good: parts sent with a good picture.
        defective: parts sent with a defective picture.
        false_accepts: defective parts that passed the gate.
        false_rejects: good parts with a verdict ``REJECT``.
        unlabelled: parts sent whose picture has no label.
    """

    good: int
    defective: int
    false_accepts: int
    false_rejects: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class WireTruth:
    """By the wire tap's log. A verdict belongs to the last trigger with its ``encoder_count`` before it was heard.

    Attributes:
        verdicts: ``verdict`` messages.
        verdicts_by_kind: {verdict: messages}.
        reasons: {reason: messages}.
        triggers_without_verdict: observable triggers with no verdict on the wire.
        triggers_in_doubt_without_verdict: the same of the triggers in doubt.
        triggers_with_several_verdicts: triggers with more than one verdict, copies of one message not counted.
        verdicts_without_trigger: verdicts that belong to no trigger.
        duplicate_seq: messages that repeat a (``session_id``, ``seq``).
        seq_gaps: numbers missing between 1 and each session's last.
        retained_verdicts: verdicts with the retain flag.
        largest_verdict_bytes: 0 where there was none.
        malformed_messages: ``verdict``, ``heartbeat`` and ``result`` messages without the keys to join them by.
        results: ``result`` and ``history`` messages.
        results_missing: verdicts on the wire with no ``result`` or ``history`` of their (``session_id``, ``part_id``).
        results_duplicate: messages that repeat a key.
        results_contradicting: keys whose results, or whose result and verdict, tell different verdicts.
        observable_without_record: observable triggers with neither a verdict nor a result.
    """

    verdicts: int
    verdicts_by_kind: dict[str, int]
    reasons: dict[str, int]
    triggers_without_verdict: int
    triggers_in_doubt_without_verdict: int
    triggers_with_several_verdicts: int
    verdicts_without_trigger: int
    duplicate_seq: int
    seq_gaps: int
    retained_verdicts: int
    largest_verdict_bytes: int
    malformed_messages: int
    results: int
    results_missing: int
    results_duplicate: int
    results_contradicting: int
    observable_without_record: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The whole truth of one run; ``dataclasses.asdict`` gives the contract's shape, with more."""

    line: LineTruth
    controller: ControllerTruth
    truth: LabelTruth
    wire: WireTruth
    faults: tuple[str, ...]
    """One line for each passed part that should not have, and for each trigger without exactly one verdict."""


@dataclass(slots=True)
class _Heard:
    arrival_ns: int
    session_id: str
    seq: int
    part_id: Any
    verdict: str
    encoder_count: int | None


@dataclass(slots=True)
class _Trigger:
    part_number: int
    encoder_count: int
    trigger_ns: int
    observability: str
    verdicts: set[tuple[str, int]] = field(default_factory=set)
    has_result: bool = False


@dataclass(slots=True)
class _Wire:
    """The log, sorted out."""

    verdicts: list[_Heard]
    by_number: dict[tuple[str, int], list[_Heard]]
    results: dict[PartKey, list[dict[str, Any]]]
    result_arrivals_ns: dict[PartKey, int]
    heartbeats_ns: dict[str | None, list[int]]
    """Arrivals of ``RUNNING`` heartbeats by session; those of every session under None."""
    retained_verdicts: int
    largest_verdict_bytes: int
    malformed_messages: int
    reasons: Counter[str]


def read_book(path: Path) -> list[dict[str, Any]]:
    """The records of a book or log; a last line that was cut short, by a kill, is left out."""
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in complete.splitlines()]


def find_truth(line_book: Iterable[Record], gate_book: Iterable[Record], wire_log: Iterable[Record]) -> Truth:
    """Joins the three. Raises ValueError where the line's book does not begin with its ``line`` record."""
    line, gate_records = list(line_book), list(gate_book)
    if not line or line[0].get("event") != "line":
        raise ValueError("line book: expected it to begin with a record of event 'line'")
    opening = line[0]
    wire = _sort_out(wire_log)
    triggers = _triggers(line)
    parts = {record["part_number"]: record for record in line if record["event"] == "part"}
    gates = [record for record in line if record["event"] == "gate"]
    decisions = [record for record in gate_records if record["event"] == "gate"]
    late_at_gate = sum(record["event"] == "late" for record in gate_records)
    orphans = _give_verdicts_to_triggers(wire, triggers)
    faults: list[str] = []
    controller, false_accepts = _controller_truth(opening, parts, gates, decisions, late_at_gate, wire, faults)
    labels = Counter(record["label"] for record in parts.values())
    kind_of = {number: heard[0].verdict for number, heard in wire.by_number.items()}
    rejected_parts = {
        trigger.part_number for trigger in triggers for number in trigger.verdicts if kind_of[number] == "REJECT"
    }
    return Truth(
        line=_line_truth(line, parts, gates, triggers),
        controller=controller,
        truth=LabelTruth(
            good=labels["good"],
            defective=labels["defective"],
            false_accepts=false_accepts,
            false_rejects=sum(parts[number]["label"] == "good" for number in rejected_parts),
            unlabelled=labels[None],
        ),
        wire=_wire_truth(wire, triggers, orphans, faults),
        faults=tuple(faults),
    )


def _line_truth(
    line: list[Record], parts: Mapping[int, Record], gates: list[Record], triggers: list[_Trigger]
) -> LineTruth:
    seen = Counter(trigger.observability for trigger in triggers)
    per_part = Counter(trigger.part_number for trigger in triggers)
    summary = next((record for record in reversed(line) if record["event"] == "summary"), None)
    return LineTruth(
        parts_sent=len(parts),
        triggers_sent=len(triggers),
        parts_past_gate=len(gates),
        triggers_missing=sum(record["trigger_missing"] for record in parts.values()),
        triggers_doubled=sum(count - 1 for count in per_part.values()),
        triggers_observable=seen["observable"],
        triggers_in_doubt=seen["in_doubt"],
        triggers_unobserved=seen["unobserved"],
        frames_dropped_at_camera=sum(record["event"] == "frame" and record["dropped"] for record in line),
        controller_events_lost=0 if summary is None else summary["controller_events_lost"],
    )


def _triggers(line: list[Record]) -> list[_Trigger]:
    """One per trigger of the line, however many cameras it reached."""
    left_ns: dict[str, list[int]] = defaultdict(list)
    undelivered: set[tuple[str, int]] = set()
    for record in line:
        if record["event"] == "driver" and not record["connected"]:
            left_ns[record["camera_id"]].append(record["at_ns"])
        elif record["event"] == "undelivered" and record["kind"] == "TRIGGER":
            undelivered.add((record["camera_id"], record["trigger_counter"]))
    # A trigger raises every camera's counter together: one counter, one trigger.
    by_counter: dict[int, list[Record]] = defaultdict(list)
    for record in line:
        if record["event"] == "trigger":
            by_counter[record["trigger_counter"]].append(record)
    # The line hangs up on its drivers at its own end: by then nothing is unread.
    end_ns = next((record["at_ns"] for record in reversed(line) if record["event"] == "end"), None)
    triggers: list[_Trigger] = []
    for counter in sorted(by_counter):
        records = by_counter[counter]
        views: set[str] = set()
        for record in records:
            camera_id, trigger_ns = record["camera_id"], record["trigger_ns"]
            until_ns = trigger_ns + DOUBT_NS
            if not record["sent"] or (camera_id, counter) in undelivered:
                views.add("unobserved")
            elif any(
                trigger_ns <= at_ns < until_ns and (end_ns is None or at_ns < end_ns) for at_ns in left_ns[camera_id]
            ):
                views.add("in_doubt")
            else:
                views.add("observable")
        best = next(each for each in ("observable", "in_doubt", "unobserved") if each in views)
        first = records[0]
        triggers.append(_Trigger(first["part_number"], first["encoder_count"], first["trigger_ns"], best))
    return triggers


def _sort_out(log: Iterable[Record]) -> _Wire:
    wire = _Wire([], defaultdict(list), defaultdict(list), {}, defaultdict(list), 0, 0, 0, Counter())
    for record in log:
        if record["event"] != "message" or record["topic"] not in _KEYS_OF_TOPIC:
            continue
        payload, topic, arrival_ns = record["payload"], record["topic"], record["arrival_ns"]
        if not isinstance(payload, dict) or not _KEYS_OF_TOPIC[topic] <= payload.keys():
            wire.malformed_messages += 1
        elif topic == "verdict":
            heard = _Heard(
                arrival_ns,
                payload["session_id"],
                payload["seq"],
                payload["part_id"],
                payload["verdict"],
                payload["encoder_count"],
            )
            wire.verdicts.append(heard)
            wire.by_number[(heard.session_id, heard.seq)].append(heard)
            wire.reasons[payload["reason"]] += 1
            wire.retained_verdicts += record["retained"]
            wire.largest_verdict_bytes = max(wire.largest_verdict_bytes, record["bytes"])
        elif topic in ("result", "history"):
            key = (payload["session_id"], payload["part_id"])
            wire.results[key].append(payload)
            wire.result_arrivals_ns.setdefault(key, arrival_ns)
        elif topic == "heartbeat" and payload["state"] == "RUNNING":
            wire.heartbeats_ns[payload["session_id"]].append(arrival_ns)
            wire.heartbeats_ns[None].append(arrival_ns)
    return wire


def _give_verdicts_to_triggers(wire: _Wire, triggers: list[_Trigger]) -> int:
    """Books every verdict and result with its trigger; returns how many verdicts have none."""
    by_count: dict[int, list[_Trigger]] = defaultdict(list)
    for trigger in triggers:
        by_count[trigger.encoder_count].append(trigger)
    moments = {count: [trigger.trigger_ns for trigger in same] for count, same in by_count.items()}

    def last_before(count: int | None, at_ns: int) -> _Trigger | None:
        if count is None or count not in by_count:
            return None
        index = bisect.bisect_right(moments[count], at_ns) - 1
        return by_count[count][index] if index >= 0 else None

    orphans = 0
    for number, copies in wire.by_number.items():
        found = last_before(copies[0].encoder_count, copies[0].arrival_ns)
        if found is None:
            orphans += 1
        else:
            found.verdicts.add(number)
    for key, results in wire.results.items():
        # The trigger's own moment tells laps of the encoder apart where the result came much later.
        at_ns = results[0].get("trigger_ns", wire.result_arrivals_ns[key])
        found = last_before(results[0]["encoder_count"], at_ns)
        if found is not None:
            found.has_result = True
    for trigger in triggers:
        if trigger.verdicts or trigger.has_result:
            trigger.observability = "observable"
    return orphans


def _wire_truth(wire: _Wire, triggers: list[_Trigger], orphans: int, faults: list[str]) -> WireTruth:
    for trigger in triggers:
        where = f"part {trigger.part_number}, trigger at count {trigger.encoder_count} ({trigger.observability})"
        if not trigger.verdicts and trigger.observability == "observable":
            faults.append(f"{where}: no verdict{'' if trigger.has_result else ' and no result'}")
        if len(trigger.verdicts) > 1:
            faults.append(f"{where}: {len(trigger.verdicts)} verdicts: {sorted(trigger.verdicts)}")
    seqs: dict[str, set[int]] = defaultdict(set)
    for session_id, seq in wire.by_number:
        seqs[session_id].add(seq)
    verdict_of: dict[PartKey, set[str]] = defaultdict(set)
    for heard in wire.verdicts:
        verdict_of[(heard.session_id, heard.part_id)].add(heard.verdict)
    contradicting = sum(
        len({result["verdict"] for result in results} | verdict_of.get(key, set())) > 1
        for key, results in wire.results.items()
    )
    silent = [trigger for trigger in triggers if not trigger.verdicts]
    return WireTruth(
        verdicts=len(wire.verdicts),
        verdicts_by_kind=dict(Counter(heard.verdict for heard in wire.verdicts)),
        reasons=dict(wire.reasons),
        triggers_without_verdict=sum(trigger.observability == "observable" for trigger in silent),
        triggers_in_doubt_without_verdict=sum(trigger.observability == "in_doubt" for trigger in silent),
        triggers_with_several_verdicts=sum(len(trigger.verdicts) > 1 for trigger in triggers),
        verdicts_without_trigger=orphans,
        duplicate_seq=len(wire.verdicts) - len(wire.by_number),
        seq_gaps=sum(max(seen) - len(seen) for seen in seqs.values()),
        retained_verdicts=wire.retained_verdicts,
        largest_verdict_bytes=wire.largest_verdict_bytes,
        malformed_messages=wire.malformed_messages,
        results=sum(map(len, wire.results.values())),
        results_missing=sum(key not in wire.results for key in verdict_of),
        results_duplicate=sum(len(results) - 1 for results in wire.results.values()),
        results_contradicting=contradicting,
        observable_without_record=sum(
            trigger.observability == "observable" and not trigger.has_result for trigger in silent
        ),
    )


def _controller_truth(
    opening: Record,
    parts: Mapping[int, Record],
    gates: list[Record],
    decisions: list[Record],
    late_at_gate: int,
    wire: _Wire,
    faults: list[str],
) -> tuple[ControllerTruth, int]:
    """The controller's account, and the false accepts."""
    decision_at = {record["gate_ns"]: record for record in decisions}
    arrivals_ns = [heard.arrival_ns for heard in wire.verdicts]
    tally: Counter[str] = Counter()
    for gate in gates:
        decision = decision_at.get(gate["gate_ns"])
        if decision is None:
            tally["decisions_missing"] += 1
            continue
        if not decision["passed"]:
            continue
        part = parts[gate["part_number"]]
        tally["false_accepts"] += part["label"] == "defective"
        # From the moment it was sensed: a verdict before that, a lap of the encoder ago, was not for this part.
        first = bisect.bisect_left(arrivals_ns, part["sensed_ns"])
        last = bisect.bisect_right(arrivals_ns, gate["gate_ns"])
        found = _passage_faults(opening, part, gate, decision, wire.verdicts[first:last], wire)
        if not _was_alive(wire.heartbeats_ns.get(decision["session_id"], []), gate["gate_ns"]):
            found.append("passed_without_heartbeat")
        for fault in found:
            tally[fault] += 1
            if fault != "passed_unproven":
                faults.append(f"part {gate['part_number']} at count {part['encoder_count']}: {fault}: {dict(decision)}")
    passes = sum(record["passed"] for record in decisions)
    controller = ControllerTruth(
        parts_at_gate=len(decisions),
        gate_rejects=len(decisions) - passes,
        passed_without_pass=tally["passed_without_pass"],
        wrong_part_passed=tally["wrong_part_passed"],
        late_at_gate=late_at_gate,
        passed_without_heartbeat=tally["passed_without_heartbeat"],
        passed_unproven=tally["passed_unproven"],
        gate_passes=passes,
        decisions_missing=tally["decisions_missing"],
    )
    return controller, tally["false_accepts"]


def _passage_faults(
    opening: Record, part: Record, gate: Record, decision: Record, heard_in_time: list[_Heard], wire: _Wire
) -> list[str]:
    """What was wrong with letting this part pass, in ``ControllerTruth``'s words; empty where nothing was."""

    def is_for_part(count: int | None) -> bool:
        bits, half_width = opening["encoder_bits"], opening["window_pulses"]
        return count is not None and is_in_window(count, part["encoder_count"], half_width, bits)

    in_window = [heard for heard in heard_in_time if is_for_part(heard.encoder_count)]
    used = [heard for heard in in_window if heard.verdict == "PASS"]
    has_contradiction = any(
        heard.verdict != "PASS" and heard.arrival_ns <= gate["gate_ns"] - SCAN_NS for heard in in_window
    )
    is_named_false = is_named_outside = False
    if decision["seq"] is not None:
        copies = wire.by_number.get((decision["session_id"], decision["seq"]), [])
        is_named_false = not copies or copies[0].verdict != "PASS"
        is_named_outside = not is_for_part(copies[0].encoder_count if copies else decision["encoder_count"])
        if copies and not is_named_false and copies[0].arrival_ns >= part["sensed_ns"] and copies[0] not in used:
            used.append(copies[0])
    faults: list[str] = []
    if is_named_false or has_contradiction or not any(is_for_part(heard.encoder_count) for heard in used):
        faults.append("passed_without_pass")
    marks = {mark for heard in used for mark in _marks(wire, heard)}
    if is_named_outside or marks - {part["part_number"]}:
        faults.append("wrong_part_passed")
    if used and not marks:
        faults.append("passed_unproven")
    return faults


def _marks(wire: _Wire, heard: _Heard) -> set[int]:
    """The part numbers that the service read in the pixels it judged for this verdict."""
    results = wire.results.get((heard.session_id, heard.part_id), [])
    marks = {view.get("part_mark") for result in results for view in result.get("views", [])}
    return {mark for mark in marks if mark is not None}


def _was_alive(heartbeats_ns: list[int], gate_ns: int) -> bool:
    index = bisect.bisect_right(heartbeats_ns, gate_ns + TAP_LAG_NS) - 1
    return index >= 0 and heartbeats_ns[index] >= gate_ns - WATCHDOG_NS - TAP_LAG_NS
