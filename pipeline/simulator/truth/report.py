"""What is told in the end: counts for a summary, and every trigger, part and violation for who wants to know more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Observability = Literal["observable", "in_doubt", "unobserved"]
ViolationKind = Literal[
    "passed_without_pass",
    "wrong_part_passed",
    "passed_without_heartbeat",
    "passed_after_stop",
    "passed_on_late_verdict",
    "no_verdict",
    "no_verdict_and_no_result",
    "several_verdicts",
    "verdict_without_trigger",
    "repeated_verdict",
    "retained_verdict",
    "result_contradicting",
]
UNHEARD: tuple[ViolationKind, ...] = ("no_verdict", "no_verdict_and_no_result")
"""Nobody heard it: no violation where nobody could be told and the silence rejects, so long as it is on record."""

WATCHDOG_NS = 500_000_000
"""Silence of the heartbeat after which a controller must let nothing pass."""
TAP_LAG_NS = 100_000_000
"""The broker may hand a message to the tap this much later than to the controller. How late the tap itself was in reading
it, the tap knows and says."""
SCAN_NS = 5_000_000
"""A contradicting verdict counts against the controller only if it was on the wire this long before the gate."""
DOUBT_NS = 50_000_000
"""What a camera sent so shortly before its driver left may have died unread in the socket."""


@dataclass(frozen=True, slots=True)
class LineTruth:
    """By the line's book. The contract's keys first.

    Attributes:
        parts_sent: parts that came to the trigger station.
        triggers_sent: triggers emitted; one reaches all cameras, a doubled one counts twice, a missing one not. Where cameras are
            at several places on the belt, parts with any trigger.
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
        overdue_at_gate: ``PASS`` that the controller discarded, heard after their deadline and before their part was there.
        passed_without_heartbeat: parts that passed with no ``RUNNING`` heartbeat of the verdict's session (any session,
            where the controller names none) on the wire in the ``WATCHDOG_NS`` before, give or take ``TAP_LAG_NS``.
        passed_after_stop: parts that passed although the belt was stopped while they were between trigger station and
            gate.
        passed_on_late_verdict: parts that passed on a ``PASS`` that says itself that it was sent after its deadline, or that
            the tap had not been sent ``TAP_LAG_NS`` after it: ``age_us`` and ``valid_us`` behind the line's own trigger.
        passed_unproven: parts that passed on a ``PASS`` whose ``result`` shows no part mark.
        passed_unheard: parts that passed on a verdict that the controller names and the tap, cut off from the broker just then, has
            not heard: whether it was a ``PASS`` only the service's record can tell.
        gate_passes: parts the controller let pass.
        decisions_missing: parts past the gate, by the line's book, that the controller did not decide.
    """

    parts_at_gate: int
    gate_rejects: int
    passed_without_pass: int
    wrong_part_passed: int
    late_at_gate: int
    overdue_at_gate: int
    passed_without_heartbeat: int
    passed_after_stop: int
    passed_on_late_verdict: int
    passed_unproven: int
    passed_unheard: int
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
        triggers_with_several_verdicts: triggers with more than one verdict, copies of one message not counted. Where cameras are at
            several places on the belt, parts with more verdicts than triggers at single cameras.
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
class WireVerdict:
    """A ``verdict`` message as the tap heard it, between ``not_before_ns`` and ``arrival_ns``; null where it said nothing."""

    not_before_ns: int
    arrival_ns: int
    session_id: str
    seq: int
    part_id: Any
    verdict: str
    reason: str
    encoder_count: int | None
    age_us: int | None
    valid_us: int | None


@dataclass(frozen=True, slots=True)
class TriggerTruth:
    """One trigger of the line with its verdicts on the wire, copies of one message left out."""

    part_number: int
    encoder_count: int
    trigger_ns: int
    observability: Observability
    verdicts: tuple[WireVerdict, ...]
    has_result: bool


@dataclass(frozen=True, slots=True)
class GateTruth:
    """One part that came to the gate, in order.

    Attributes:
        passed: None where the controller decided nothing.
        why: in the controller's words.
        late: a verdict for this part was heard when it was past the gate.
    """

    part_number: int
    sensed_ns: int
    gate_ns: int
    passed: bool | None
    why: str | None
    late: bool


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be.

    Attributes:
        part_number: None where it belongs to no part.
        at_ns: when the part was triggered or sensed, so that it can be laid at the door of what went wrong at that time; when
            the message was heard, where there is no part.
        text: for people.
    """

    kind: ViolationKind
    part_number: int | None
    at_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Truth:
    """The whole truth of one run.

    Attributes:
        violations: in the order of their moments.
        triggers: in the order of the line's book.
        gates: parts that came to the gate, in order.
    """

    line: LineTruth
    controller: ControllerTruth
    truth: LabelTruth
    wire: WireTruth
    violations: tuple[Violation, ...]
    triggers: tuple[TriggerTruth, ...]
    gates: tuple[GateTruth, ...]

    def figures(self) -> dict[str, Any]:
        """The contract's ``line``, ``controller`` and ``truth``, with more; without what there is one of for each part."""
        names = ("line", "controller", "truth", "wire")
        return {
            **{name: asdict(getattr(self, name)) for name in names},
            "violations": list(map(asdict, self.violations)),
        }
