"""What goes wrong in the camera, on the line and in the model: right verdicts, nothing passes, and it runs again by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.faulty_model import write_faulty_package
from pipeline.simulator.line import FaultKind, FaultOptions, PictureCode
from pipeline.simulator.truth import Record, Truth, read_book
from tests.chaos.books import Row, check_marks, check_promise, check_record, check_wire_is_recorded, read_rows
from tests.models import write_stub_package
from tests.service import let_parts_come

DEADLINE_US = 200_000
GATE_OFFSET_PULSES = 2_600
PARTS_BETWEEN_FAULTS = 20
RECOVERY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Harm:
    """One fault, and what its own part must come to. ``stops``: the service says so and is RUNNING again later."""

    kind: FaultKind
    reasons: frozenset[str]
    code: PictureCode | None = None
    stops: bool = False

    @property
    def name(self) -> str:
        return self.kind if self.code is None else self.code.name


JUDGED = frozenset({"OK", "DEFECT"})
HARMS = [
    Harm("odd_picture", frozenset({"FAULT"}), PictureCode.NAN),
    Harm("odd_picture", frozenset({"FAULT"}), PictureCode.WRONG_SHAPE),
    Harm("odd_picture", frozenset({"FAULT"}), PictureCode.RAISE),
    Harm("odd_picture", JUDGED, PictureCode.SLOW),
    Harm("odd_picture", frozenset({"DEADLINE"}), PictureCode.HANG, stops=True),
    Harm("doubled_frame", JUDGED),
    Harm("incomplete_frame", frozenset({"BAD_FRAME"})),
    Harm("wrong_size_frame", frozenset({"BAD_FRAME"})),
    Harm("missed_frame", frozenset({"MISSED_FRAME"})),
    Harm("lost_frame", frozenset({"MISSED_FRAME"})),
    Harm("torn_frame", frozenset({"FAULT"}), stops=True),
    Harm("unplugged_camera", frozenset(), stops=True),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_faulty_package(write_stub_package(folder / "base"), folder / "faulty")


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_fault(harm: Harm, model: Path, tmp_socket_dir: Path) -> None:
    plan = Rehearsal(model=model, deadline_us=DEADLINE_US, gate_offset_pulses=GATE_OFFSET_PULSES)
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        for _ in range(2):
            let_parts_come(run, PARTS_BETWEEN_FAULTS)
            run.line.add_fault(FaultOptions(kind=harm.kind, code=harm.code, next_parts=1))
            if harm.stops:
                run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
        let_parts_come(run, PARTS_BETWEEN_FAULTS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        summary = run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_promise(truth)
    check_record(rows)
    assert truth.violations == ()
    assert check_wire_is_recorded(rows, tmp_socket_dir / "wire.jsonl") == len(rows) == summary["parts_triggered"]
    assert check_marks(run.record_file, tmp_socket_dir / "line.jsonl") == summary["passed"]

    line = read_book(tmp_socket_dir / "line.jsonl")
    struck = [record["part_number"] for record in line if record["event"] == "fault"]
    assert len(struck) == 2
    found = {part: reason_of_part(part, truth, rows) for part in struck}
    if harm.reasons:
        assert set(found.values()) <= harm.reasons, found
    else:
        assert set(found.values()) == {None}, found  # nobody was there to see its trigger
    assert not any(gate.passed for gate in truth.gates if gate.part_number in struck and not harm.reasons & JUDGED)
    if not harm.stops:
        others = Counter(reason_of_part(part, truth, rows) for part in range(1, truth.line.parts_sent + 1))
        others.subtract(found.values())
        assert others.total() - sum(others[reason] for reason in JUDGED) <= 0.02 * others.total(), others
    check_last_parts(truth, line)


def test_one_camera_of_two_is_unplugged(tmp_path: Path, tmp_socket_dir: Path) -> None:
    """The other one goes on to see every trigger, and none of them passes on half of its views."""
    plan = Rehearsal(
        model=write_stub_package(tmp_path / "model"),
        camera_ids=("left", "right"),
        deadline_us=DEADLINE_US,
        gate_offset_pulses=GATE_OFFSET_PULSES,
    )
    with RehearsalRun(plan, tmp_socket_dir) as run:
        run.line.start_parts()
        for camera_id, kind in (("left", "unplugged_camera"), ("right", "unplugged_camera"), ("left", "torn_frame")):
            let_parts_come(run, PARTS_BETWEEN_FAULTS)
            run.line.add_fault(FaultOptions.model_validate({"kind": kind, "camera_id": camera_id, "next_parts": 1}))
            run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
        let_parts_come(run, PARTS_BETWEEN_FAULTS)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        run.stop_service()
        truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_promise(truth)
    check_record(rows)
    assert truth.violations == ()
    assert truth.line.triggers_observable == truth.line.triggers_sent == len(rows)
    line = read_book(tmp_socket_dir / "line.jsonl")
    struck = [record["part_number"] for record in line if record["event"] == "fault"]
    # Whichever of the two was noticed first.
    assert {reason_of_part(part, truth, rows) for part in struck} <= {"FAULT", "NOT_RUNNING"}
    check_last_parts(truth, line)


def reason_of_part(part: int, truth: Truth, rows: list[Row]) -> str | None:
    """The reason on record of the part's one trigger; None where nobody observed it."""
    (trigger,) = (trigger for trigger in truth.triggers if trigger.part_number == part)
    recorded = [row.reason for row in rows if row.encoder_count == trigger.encoder_count]
    assert len(recorded) == (trigger.observability == "observable")
    return recorded[0] if recorded else None


def check_last_parts(truth: Truth, line: Sequence[Record]) -> None:
    """After its recovery the service judges again, and good parts pass."""
    good = {record["part_number"] for record in line if record["event"] == "part" and record["label"] == "good"}
    last = [gate for gate in truth.gates if gate.part_number in good][-5:]
    # The box has other things to do as well.
    assert [gate.why for gate in last].count("pass") >= 3
