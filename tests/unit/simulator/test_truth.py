"""The books of hand-made runs. Ten parts, 50 ms and 500 pulses apart, the gate 80 ms behind the trigger station."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulator.counting import wrap_count
from pipeline.simulator.truth import GateTruth, Truth, find_truth, read_book, stream_book

MS = 1_000_000
PARTS = range(1, 11)
DEFECTIVE = {3, 7}
BITS = 16
START_COUNT = 2**BITS - 2_000  # the encoder wraps behind part 3


def sensed_ns(part_number: int) -> int:
    return 1_000 * MS + part_number * 50 * MS


def gate_ns(part_number: int) -> int:
    return sensed_ns(part_number) + 80 * MS


def latch(part_number: int) -> int:
    return wrap_count(START_COUNT + part_number * 500, BITS)


@dataclasses.dataclass
class Books:
    """A faultless run, for the tests to spoil."""

    line: list[dict[str, Any]]
    controller: list[dict[str, Any]]
    wire: list[dict[str, Any]]

    def truth(self) -> Truth:
        order = {"heartbeat": 0, "verdict": 1, "result": 2}
        self.wire.sort(key=lambda record: (record["arrival_ns"], order[record["topic"]]))
        return find_truth(self.line, self.controller, self.wire)

    def decision(self, part_number: int) -> dict[str, Any]:
        return next(record for record in self.controller if record.get("gate_ns") == gate_ns(part_number))

    def messages(self, topic: str, part_number: int) -> list[dict[str, Any]]:
        return [
            record
            for record in self.wire
            if record["topic"] == topic and record["payload"].get("part_id") == part_number
        ]

    def drop(self, topic: str, part_number: int) -> None:
        gone = self.messages(topic, part_number)
        self.wire = [record for record in self.wire if record not in gone]

    def let_pass(self, part_number: int, *, on_verdict_of: int | None = None) -> None:
        """The controller let the part pass, and says on which verdict."""
        of = on_verdict_of
        self.decision(part_number).update(
            passed=True,
            why="mutant",
            session_id=of and "s",
            seq=of,
            part_id=of,
            encoder_count=of and latch(of),
        )

    def push_out(self, part_number: int) -> None:
        self.decision(part_number).update(passed=False, why="silence", session_id=None, seq=None)


def message(topic: str, arrival_ns: int, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "event": "message",
        "not_before_ns": arrival_ns - 1,
        "arrival_ns": arrival_ns,
        "topic": topic,
        "qos": 0,
        "retained": False,
        "bytes": 200,
        "payload": payload,
    }


def verdict_message(part_number: int, *, seq: int | None = None, verdict: str | None = None) -> dict[str, Any]:
    kind = verdict or ("REJECT" if part_number in DEFECTIVE else "PASS")
    payload = {
        "session_id": "s",
        "seq": part_number if seq is None else seq,
        "part_id": part_number if seq is None else seq,
        "verdict": kind,
        "reason": {"PASS": "OK", "REJECT": "DEFECT"}.get(kind, "DEADLINE"),
        "encoder_count": latch(part_number),
    }
    return message("verdict", sensed_ns(part_number) + 5 * MS, payload)


def result_message(part_number: int, *, mark: int | None) -> dict[str, Any]:
    payload = dict(verdict_message(part_number)["payload"])
    payload |= {"trigger_ns": sensed_ns(part_number), "views": [{"camera_id": "c", "part_mark": mark}]}
    return message("result", sensed_ns(part_number) + 20 * MS, payload)


def trigger_record(part_number: int, counter: int, *, sent: bool = True, camera_id: str = "c") -> dict[str, Any]:
    return {
        "event": "trigger",
        "camera_id": camera_id,
        "part_number": part_number,
        "trigger_number": counter,
        "trigger_counter": counter,
        "encoder_count": latch(part_number),
        "trigger_ns": sensed_ns(part_number),
        "connected": sent,
        "silent": False,
        "sent": sent,
        "behind_garbage": False,
    }


@pytest.fixture
def books() -> Books:
    line: list[dict[str, Any]] = [
        {"event": "line", "encoder_bits": BITS, "window_pulses": 125, "pitch_pulses": 500.0, "gate_offset_pulses": 800}
    ]
    controller: list[dict[str, Any]] = []
    wire = [message("heartbeat", at_ns * MS, {"session_id": "s", "state": "RUNNING"}) for at_ns in range(0, 2_000, 50)]
    for part in PARTS:
        label = "defective" if part in DEFECTIVE else "good"
        line += [
            {
                "event": "part",
                "part_number": part,
                "encoder_count": latch(part),
                "sensed_ns": sensed_ns(part),
                "label": label,
                "image_index": 0,
                "trigger_missing": False,
            },
            trigger_record(part, part),
            {"event": "gate", "part_number": part, "encoder_count": 0, "gate_ns": gate_ns(part)},
        ]
        controller.append(
            {
                "event": "gate",
                "gate_ns": gate_ns(part),
                "decided_ns": gate_ns(part) + MS,
                "latch": latch(part),
                "passed": part not in DEFECTIVE,
                "why": "pass" if part not in DEFECTIVE else "verdict",
                "session_id": "s",
                "seq": part,
                "part_id": part,
                "encoder_count": latch(part),
            }
        )
        wire += [verdict_message(part), result_message(part, mark=part)]
    line += [{"event": "summary", "controller_events_lost": 0}, {"event": "end", "at_ns": 5_000 * MS}]
    return Books(line, controller, wire)


def test_a_faultless_run(books: Books) -> None:
    truth = books.truth()
    assert truth.violations == ()
    assert dataclasses.asdict(truth.line) == {
        "parts_sent": 10,
        "triggers_sent": 10,
        "parts_past_gate": 10,
        "triggers_missing": 0,
        "triggers_doubled": 0,
        "triggers_observable": 10,
        "triggers_in_doubt": 0,
        "triggers_unobserved": 0,
        "frames_dropped_at_camera": 0,
        "controller_events_lost": 0,
    }
    assert dataclasses.asdict(truth.controller) == {
        "parts_at_gate": 10,
        "gate_rejects": 2,
        "passed_without_pass": 0,
        "wrong_part_passed": 0,
        "late_at_gate": 0,
        "overdue_at_gate": 0,
        "passed_without_heartbeat": 0,
        "passed_after_stop": 0,
        "passed_on_late_verdict": 0,
        "passed_unproven": 0,
        "passed_unheard": 0,
        "gate_passes": 8,
        "decisions_missing": 0,
    }
    assert dataclasses.asdict(truth.truth) == {
        "good": 8,
        "defective": 2,
        "false_accepts": 0,
        "false_rejects": 0,
        "unlabelled": 0,
    }
    assert dataclasses.asdict(truth.wire) == {
        "verdicts": 10,
        "verdicts_by_kind": {"PASS": 8, "REJECT": 2},
        "reasons": {"OK": 8, "DEFECT": 2},
        "triggers_without_verdict": 0,
        "triggers_in_doubt_without_verdict": 0,
        "triggers_with_several_verdicts": 0,
        "verdicts_without_trigger": 0,
        "duplicate_seq": 0,
        "seq_gaps": 0,
        "retained_verdicts": 0,
        "largest_verdict_bytes": 200,
        "malformed_messages": 0,
        "results": 10,
        "results_missing": 0,
        "results_duplicate": 0,
        "results_contradicting": 0,
        "observable_without_record": 0,
    }


def test_the_report_has_the_contracts_keys(books: Books) -> None:
    report = books.truth().figures()
    assert {"parts_sent", "triggers_sent"} <= report["line"].keys()
    assert {
        "parts_at_gate",
        "gate_rejects",
        "passed_without_pass",
        "wrong_part_passed",
        "late_at_gate",
    } <= report["controller"].keys()
    assert {"good", "defective", "false_accepts", "false_rejects"} <= report["truth"].keys()


def test_passed_on_silence(books: Books) -> None:
    books.drop("verdict", 4)
    books.let_pass(4)
    truth = books.truth()
    assert truth.controller.passed_without_pass == 1
    assert truth.controller.wrong_part_passed == 0
    assert truth.wire.triggers_without_verdict == 1
    assert truth.wire.seq_gaps == 1
    assert truth.wire.observable_without_record == 0  # its result is there
    assert [each.kind for each in truth.violations] == ["passed_without_pass", "no_verdict"]


@pytest.mark.parametrize("claims", [True, False])
def test_passed_on_a_reject(books: Books, claims: bool) -> None:
    books.let_pass(3, on_verdict_of=3 if claims else None)
    truth = books.truth()
    assert truth.controller.passed_without_pass == 1
    assert truth.truth.false_accepts == 1


def test_passed_on_a_verdict_that_was_never_sent(books: Books) -> None:
    books.let_pass(4, on_verdict_of=4)
    books.decision(4)["seq"] = 99
    assert books.truth().controller.passed_without_pass == 1


def test_passed_on_the_neighbours_pass(books: Books) -> None:
    books.drop("verdict", 4)
    books.let_pass(4, on_verdict_of=5)
    truth = books.truth()
    assert truth.controller.passed_without_pass == 1
    assert truth.controller.wrong_part_passed == 1


def test_a_pass_that_the_service_earned_with_another_parts_pixels(books: Books) -> None:
    books.drop("result", 4)
    books.wire.append(result_message(4, mark=5))
    truth = books.truth()
    assert truth.controller.wrong_part_passed == 1
    assert truth.controller.passed_without_pass == 0
    # The controller's own word changes nothing about it.
    books.let_pass(4)
    assert books.truth().controller.wrong_part_passed == 1


@pytest.mark.parametrize("has_result", [True, False])
def test_a_pass_that_nothing_proves(books: Books, has_result: bool) -> None:
    books.drop("result", 4)
    if has_result:
        books.wire.append(result_message(4, mark=None))
    truth = books.truth()
    assert truth.controller.passed_unproven == 1
    assert truth.controller.wrong_part_passed == 0
    assert truth.wire.results_missing == (0 if has_result else 1)
    assert truth.violations == ()


@pytest.mark.parametrize(("names_it", "faults"), [(True, 0), (False, 1)])
def test_a_pass_the_tap_heard_after_the_gate(books: Books, names_it: bool, faults: int) -> None:
    books.messages("verdict", 4)[0]["arrival_ns"] = gate_ns(4) + 3 * MS
    books.let_pass(4, on_verdict_of=4 if names_it else None)
    assert books.truth().controller.passed_without_pass == faults


def test_a_pass_from_a_lap_of_the_encoder_ago_is_no_pass(books: Books) -> None:
    books.messages("verdict", 4)[0]["arrival_ns"] = sensed_ns(4) - 1
    books.let_pass(4)
    assert books.truth().controller.passed_without_pass == 1


@pytest.mark.parametrize(("before_gate_ms", "faults"), [(50, 1), (1, 0)])
def test_passed_in_spite_of_a_contradiction(books: Books, before_gate_ms: int, faults: int) -> None:
    other = verdict_message(4, seq=11, verdict="REJECT")
    other["arrival_ns"] = gate_ns(4) - before_gate_ms * MS
    books.wire.append(other)
    truth = books.truth()
    assert truth.controller.passed_without_pass == faults
    assert truth.wire.triggers_with_several_verdicts == 1
    assert truth.truth.false_rejects == 1


@pytest.mark.parametrize("silent_ms", [400, 1_200])
def test_passed_with_a_dead_heartbeat(books: Books, silent_ms: int) -> None:
    quiet_ns = range(gate_ns(9) - (silent_ms - 100) * MS, gate_ns(9) + 150 * MS)
    books.wire = [
        record for record in books.wire if record["topic"] != "heartbeat" or record["arrival_ns"] not in quiet_ns
    ]
    truth = books.truth()
    assert (truth.controller.passed_without_heartbeat > 0) == (silent_ms > 700)
    assert truth.controller.passed_without_pass == 0


def test_a_tap_that_read_the_heartbeats_late_proves_nothing_against_the_controller(books: Books) -> None:
    for record in books.wire:
        if record["topic"] == "heartbeat":
            record["not_before_ns"], record["arrival_ns"] = record["arrival_ns"], record["arrival_ns"] + 5_000 * MS
    assert books.truth().controller.passed_without_heartbeat == 0


def test_passed_while_the_service_was_not_running(books: Books) -> None:
    for record in books.wire:
        if record["topic"] == "heartbeat":
            record["payload"]["state"] = "HALTED"
    assert books.truth().controller.passed_without_heartbeat == 8


def test_rejects_cost_no_more_than_good_parts(books: Books) -> None:
    books.push_out(4)
    truth = books.truth()
    assert truth.controller.gate_rejects == 3
    assert truth.truth.false_rejects == 0  # the verdict was PASS
    assert truth.controller.passed_without_pass == 0


def test_late_verdicts_are_the_controllers_to_count(books: Books) -> None:
    books.messages("verdict", 4)[0]["arrival_ns"] = gate_ns(4) + 30 * MS
    books.push_out(4)
    books.controller.append({"event": "late", "heard_ns": gate_ns(4) + 30 * MS, "payload": {}})
    truth = books.truth()
    assert truth.controller.late_at_gate == 1
    assert truth.controller.passed_without_pass == 0
    assert truth.wire.triggers_without_verdict == 0


def test_missing_and_doubled_triggers(books: Books) -> None:
    books.line = [record for record in books.line if record["event"] != "trigger"]
    parts_of_triggers = [1, 2, 2, *range(4, 11)]
    books.line[1:1] = [trigger_record(part, counter) for counter, part in enumerate(parts_of_triggers, 1)]
    for record in books.line:
        if record["event"] == "part":
            record["trigger_missing"] = record["part_number"] == 3
        if record["event"] == "trigger" and record["trigger_counter"] == 3:
            record["encoder_count"] += 10
            record["trigger_ns"] += MS
    second = verdict_message(2, seq=11)
    second["payload"]["encoder_count"] += 10
    books.wire.append(second)
    books.drop("verdict", 3)
    books.drop("result", 3)
    books.push_out(3)
    truth = books.truth()
    assert (truth.line.parts_sent, truth.line.triggers_sent) == (10, 10)
    assert (truth.line.triggers_missing, truth.line.triggers_doubled) == (1, 1)
    assert truth.wire.triggers_without_verdict == 0
    assert truth.wire.triggers_with_several_verdicts == 0
    assert truth.controller.passed_without_pass == 0
    assert truth.wire.seq_gaps == 1


def test_one_trigger_reaches_all_cameras(books: Books) -> None:
    books.line[-2:-2] = [trigger_record(part, part, camera_id="d", sent=part != 4) for part in PARTS]
    for record in books.line:
        if record.get("camera_id") == "d":
            record["trigger_counter"] += 100  # each device counts for itself
    truth = books.truth()
    assert truth.line.triggers_sent == 10
    assert truth.line.triggers_observable == 10


def test_triggers_that_no_driver_was_there_for(books: Books) -> None:
    for record in books.line:
        if record["event"] == "trigger" and record["part_number"] in (4, 5):
            record["sent"] = False
    for part in (4, 5):
        books.drop("verdict", part)
        books.drop("result", part)
        books.push_out(part)
    truth = books.truth()
    assert truth.line.triggers_unobserved == 2
    assert truth.wire.triggers_without_verdict == 0
    assert truth.violations == ()


@pytest.mark.parametrize("undelivered", [True, False])
def test_a_trigger_just_before_the_driver_left_is_in_doubt(books: Books, undelivered: bool) -> None:
    left = {"event": "driver", "camera_id": "c", "connected": False, "at_ns": sensed_ns(4) + 10 * MS}
    books.line.insert(-2, left)
    assert books.truth().line.triggers_in_doubt == 0  # its verdict shows that the service knew of it
    books.drop("verdict", 4)
    books.drop("result", 4)
    books.push_out(4)
    if undelivered:
        gone = {"event": "undelivered", "camera_id": "c", "kind": "TRIGGER", "trigger_ns": sensed_ns(4)}
        books.line.insert(-2, gone)
    truth = books.truth()
    assert truth.line.triggers_in_doubt == (0 if undelivered else 1)
    assert truth.line.triggers_unobserved == (1 if undelivered else 0)
    assert truth.wire.triggers_without_verdict == 0
    assert truth.wire.triggers_in_doubt_without_verdict == (0 if undelivered else 1)


def test_a_driver_that_leaves_later_leaves_no_doubt(books: Books) -> None:
    books.line.insert(-2, {"event": "driver", "camera_id": "c", "connected": False, "at_ns": sensed_ns(4) + 51 * MS})
    books.drop("verdict", 4)
    books.drop("result", 4)
    books.push_out(4)
    truth = books.truth()
    assert truth.wire.triggers_without_verdict == 1
    assert truth.wire.observable_without_record == 1


def test_the_service_says_things_twice(books: Books) -> None:
    books.wire += [verdict_message(4), verdict_message(5, seq=11), result_message(6, mark=6)]
    truth = books.truth()
    assert truth.wire.duplicate_seq == 1
    assert truth.wire.triggers_with_several_verdicts == 1
    assert truth.wire.results_duplicate == 1
    assert truth.wire.results_missing == 1  # of the verdict with seq 11
    assert truth.controller.passed_without_pass == 0


def test_result_and_verdict_tell_different_stories(books: Books) -> None:
    books.messages("result", 4)[0]["payload"]["verdict"] = "REJECT"
    assert books.truth().wire.results_contradicting == 1


def test_a_verdict_for_nobody(books: Books) -> None:
    stray = verdict_message(4, seq=11)
    stray["payload"]["encoder_count"] = latch(4) + 200
    books.wire.append(stray)
    truth = books.truth()
    assert truth.wire.verdicts_without_trigger == 1
    assert truth.wire.triggers_with_several_verdicts == 0


def test_a_decision_that_was_never_made(books: Books) -> None:
    books.controller.remove(books.decision(4))
    truth = books.truth()
    assert truth.controller.decisions_missing == 1
    assert truth.controller.parts_at_gate == 9


def test_every_trigger_is_told_with_its_verdicts(books: Books) -> None:
    books.drop("verdict", 4)
    books.wire.append(verdict_message(5, seq=11))
    triggers = books.truth().triggers
    assert [trigger.part_number for trigger in triggers] == list(PARTS)
    assert [(trigger.encoder_count, trigger.trigger_ns) for trigger in triggers] == [
        (latch(part), sensed_ns(part)) for part in PARTS
    ]
    told = [[(verdict.seq, verdict.verdict) for verdict in trigger.verdicts] for trigger in triggers]
    assert told[2:5] == [[(3, "REJECT")], [], [(5, "PASS"), (11, "PASS")]]
    assert all(trigger.has_result and trigger.observability == "observable" for trigger in triggers)


def test_every_part_at_the_gate_is_told(books: Books) -> None:
    books.controller.remove(books.decision(2))
    books.push_out(4)
    late = {"event": "late", "heard_ns": gate_ns(4) + 1, "payload": verdict_message(4)["payload"]}
    books.controller.append(late)
    gates = books.truth().gates
    assert gates[:4] == (
        GateTruth(1, sensed_ns(1), gate_ns(1), True, "pass", False),
        GateTruth(2, sensed_ns(2), gate_ns(2), None, None, False),
        GateTruth(3, sensed_ns(3), gate_ns(3), False, "verdict", False),
        GateTruth(4, sensed_ns(4), gate_ns(4), False, "silence", True),
    )
    assert [gate.part_number for gate in gates] == list(PARTS)


def test_violations_say_what_where_and_when(books: Books) -> None:
    books.drop("verdict", 8)
    books.drop("result", 8)
    books.push_out(8)
    books.let_pass(3, on_verdict_of=3)
    books.wire += [verdict_message(5, seq=11), verdict_message(6)]
    books.messages("verdict", 2)[0]["retained"] = True
    books.messages("result", 4)[0]["payload"]["verdict"] = "NO_DECISION"
    stray = verdict_message(9, seq=12)
    stray["payload"]["encoder_count"] = latch(9) + 200
    books.wire.append(stray)
    violations = books.truth().violations
    assert [(each.kind, each.part_number, each.at_ns) for each in violations] == [
        ("retained_verdict", 2, sensed_ns(2)),
        ("passed_without_pass", 3, sensed_ns(3)),
        ("result_contradicting", 4, sensed_ns(4)),
        ("several_verdicts", 5, sensed_ns(5)),
        ("repeated_verdict", 6, sensed_ns(6)),
        ("no_verdict_and_no_result", 8, sensed_ns(8)),
        ("verdict_without_trigger", None, sensed_ns(9) + 5 * MS),
    ]
    assert violations[3].text == (
        f"part 5, trigger at count {latch(5)} (observable): 2 verdicts: [('s', 5), ('s', 11)]"
    )
    assert books.truth().figures()["violations"][1]["kind"] == "passed_without_pass"


@pytest.mark.parametrize(
    ("told_ns", "speed_mm_s", "violations"),
    [
        (sensed_ns(4) + MS, 0.0, [4]),  # part 4 is between camera and gate, part 3 is past the gate
        (sensed_ns(4) + 40 * MS, 0.0, [4]),
        (sensed_ns(4) + 60 * MS, 0.0, [4, 5]),
        (sensed_ns(4) + MS, 500.0, []),
    ],
)
def test_passed_although_the_belt_was_stopped(
    books: Books, told_ns: int, speed_mm_s: float, violations: list[int]
) -> None:
    belt = {"event": "belt", "speed_mm_s": speed_mm_s, "at_ns": told_ns, "told_ns": None if speed_mm_s else told_ns}
    books.line.insert(-2, belt)
    truth = books.truth()
    found = [each.part_number for each in truth.violations]
    assert found == violations
    assert {each.kind for each in truth.violations} <= {"passed_after_stop"}
    assert truth.controller.passed_after_stop == len(violations)


@pytest.mark.parametrize(
    ("age_us", "valid_us", "heard_ms", "is_late"),
    [
        (5_000, 35_000, 5, False),
        (41_000, -1_000, 41, True),  # it says so itself
        (40_000, 0, 40, True),
        (5_000, 10_000, 60, False),  # the tap is a process like others
        (5_000, -4_000, 60, True),
    ],
)
def test_passed_on_a_late_verdict(books: Books, age_us: int, valid_us: int, heard_ms: int, is_late: bool) -> None:
    (heard,) = books.messages("verdict", 4)
    heard["payload"] |= {"age_us": age_us, "valid_us": valid_us}
    heard["arrival_ns"] = sensed_ns(4) + heard_ms * MS
    truth = books.truth()
    assert truth.controller.passed_on_late_verdict == is_late
    assert [each.kind for each in truth.violations] == ["passed_on_late_verdict"] * is_late
    books.push_out(4)
    assert books.truth().violations == ()


def test_a_pass_that_was_on_the_wire_long_after_its_deadline_is_late_whatever_it_says(books: Books) -> None:
    for record in books.line:
        if record.get("gate_ns") == gate_ns(4):
            record["gate_ns"] += 310 * MS
    books.decision(4)["gate_ns"] += 310 * MS
    (heard,) = books.messages("verdict", 4)
    heard["payload"] |= {"age_us": 5_000, "valid_us": 35_000}
    heard["not_before_ns"], heard["arrival_ns"] = sensed_ns(4) + 141 * MS, sensed_ns(4) + 142 * MS
    assert books.truth().controller.passed_on_late_verdict == 1
    heard["not_before_ns"] = sensed_ns(4) + 139 * MS  # the tap stood still meanwhile: it may have been there in time
    assert books.truth().controller.passed_on_late_verdict == 0


def test_a_pass_that_the_controller_threw_away_is_counted(books: Books) -> None:
    books.push_out(4)
    books.controller.append({"event": "overdue", "heard_ns": gate_ns(4) - 1, "payload": {}})
    truth = books.truth()
    assert truth.controller.overdue_at_gate == 1
    assert truth.controller.late_at_gate == 0


def test_a_trigger_behind_garbage_may_never_have_been_read(books: Books) -> None:
    for record in books.line:
        if record["event"] == "trigger" and record["part_number"] in (4, 5):
            record["behind_garbage"] = True
    books.drop("verdict", 4)
    books.drop("result", 4)
    books.push_out(4)
    truth = books.truth()
    assert truth.line.triggers_in_doubt == 1  # the service knew of the other one
    assert truth.violations == ()


def test_a_camera_that_was_switched_on_again_counts_from_one(books: Books) -> None:
    for record in books.line:
        if record["event"] == "trigger":
            record["trigger_counter"] = (record["part_number"] - 1) % 4 + 1
    truth = books.truth()
    assert truth.line.triggers_sent == 10
    assert truth.line.triggers_doubled == 0
    assert truth.violations == ()


def test_books_may_be_streams(books: Books, tmp_path: Path) -> None:
    at_once = books.truth()
    streams = []
    for name, records in (("line", books.line), ("gate", books.controller), ("wire", books.wire)):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        streams.append(stream_book(tmp_path / name))
    assert find_truth(*streams) == at_once


def test_messages_without_their_keys_are_counted(books: Books) -> None:
    books.wire += [message("verdict", 1, {}), {**message("heartbeat", 2, {}), "payload": "no JSON"}]
    assert books.truth().wire.malformed_messages == 2


def test_a_book_without_its_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="expected it to begin with a record of event 'line'"):
        find_truth([], [], [])


def test_a_book_that_was_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    book = tmp_path / "book.jsonl"
    book.write_text('{"event":"a"}\n{"event":"b"}\n{"eve')
    assert [record["event"] for record in read_book(book)] == ["a", "b"]
