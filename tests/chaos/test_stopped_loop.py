"""SIGSTOP of the loop that decides, while parts run: nobody can send, so nothing may pass, and nothing is made up for late."""

from __future__ import annotations

import random
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.clock import NS_PER_MS, NS_PER_S, NS_PER_US, now_ns
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.truth import TAP_LAG_NS, WATCHDOG_NS, Truth, read_book
from tests.chaos.books import check_marks, check_promise, check_record, check_wire_is_recorded, read_rows
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

STOPS = 5
STOP_S = 1.0
DEATHS = 2
RECOVERY_TIMEOUT_S = 60.0
PARTS_BETWEEN = 25
PITCH_S = 0.05
DEADLINE_US = 200_000
# What a verdict takes from the choice to the wire tap, on a box busy with the tests themselves.
GUARD_US = 50_000
# Behind the watchdog: a part whose PASS came just before the stop is at the gate while nothing is heard.
GATE_OFFSET_PULSES = 8_000
BLIND_NS = WATCHDOG_NS + TAP_LAG_NS
SILENT_NS = 2 * NS_PER_S
SENDING_NS = 5 * NS_PER_MS


@dataclass(frozen=True)
class Stop:
    """``stopped_ns``: the signal has been given. ``ended_ns``: just before the loop goes on, or when another one has taken over."""

    stopped_ns: int
    ended_ns: int

    @property
    def mute_until_ns(self) -> int:
        """Until then certainly nobody sent: the loop went on, or at the earliest another one was started."""
        return min(self.ended_ns, self.stopped_ns + SILENT_NS)


@dataclass(frozen=True)
class Books:
    truth: Truth
    summary: dict[str, Any]
    gate: list[dict[str, Any]]
    verdicts: list[dict[str, Any]]
    """Messages on the wire, with their arrival."""
    parts: list[dict[str, Any]]
    """Rows of the record."""


@pytest.mark.slow
def test_stopped_for_a_second(tmp_path: Path, tmp_socket_dir: Path) -> None:
    chance = random.Random(11)
    stops: list[Stop] = []
    with RehearsalRun(plan_for(tmp_path), tmp_socket_dir) as run:
        loop = workers_of(run.service_pid)["signalling"]
        run.line.start_parts()
        for _ in range(STOPS):
            let_parts_come(run, PARTS_BETWEEN)
            time.sleep(chance.uniform(0.0, PITCH_S))  # any moment between two parts
            stopped_ns = stop(loop)
            time.sleep(STOP_S)  # the fault itself
            stops.append(Stop(stopped_ns, now_ns()))
            loop.resume()
        let_parts_come(run, PARTS_BETWEEN)
        assert workers_of(run.service_pid)["signalling"].pid == loop.pid, "the supervisor's patience is longer"
        books = finish(run)
    check_promise(books.truth)
    check_books(books, stops)
    check_open_parts_were_closed(books, stops)
    assert books.truth.wire.seq_gaps == 0
    assert books.truth.wire.verdicts == books.truth.line.triggers_sent


@pytest.mark.slow
def test_stopped_for_good(tmp_path: Path, tmp_socket_dir: Path) -> None:
    """Longer than the supervisor's two seconds: killed, and another one closes what it left open."""
    chance = random.Random(12)
    stops: list[Stop] = []
    with RehearsalRun(plan_for(tmp_path), tmp_socket_dir) as run:
        run.line.start_parts()
        for _ in range(DEATHS):
            let_parts_come(run, PARTS_BETWEEN)
            time.sleep(chance.uniform(0.0, PITCH_S))
            loop = workers_of(run.service_pid)["signalling"]
            stopped_ns = stop(loop)
            run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
            stops.append(Stop(stopped_ns, now_ns()))
            assert not loop.is_running()
        let_parts_come(run, PARTS_BETWEEN)
        books = finish(run)
        errors = run.service_errors
    assert errors.count("signalling was silent for 2 s and is killed") == DEATHS
    check_promise(books.truth, sender_died=True)
    check_books(books, stops)
    for each in stops:
        meanwhile = [part for part in books.parts if each.stopped_ns < part["trigger_ns"] < each.stopped_ns + SILENT_NS]
        assert meanwhile
        assert {part["verdict"] for part in meanwhile} == {"NO_DECISION"}
    after = [part for part in books.parts if part["trigger_ns"] > stops[-1].ended_ns]
    assert any(part["verdict"] == "PASS" for part in after)


def plan_for(folder: Path) -> Rehearsal:
    return Rehearsal(
        model=write_stub_package(folder / "model"),
        deadline_us=DEADLINE_US,
        gate_offset_pulses=GATE_OFFSET_PULSES,
        service={"timing": {"guard_us": GUARD_US}},
    )


def stop(loop: psutil.Process) -> int:
    """SIGSTOP; the moment from which it is in force."""
    loop.suspend()
    while loop.status() != psutil.STATUS_STOPPED:
        time.sleep(0.001)  # polls the kernel's own word
    return now_ns()


def finish(run: RehearsalRun) -> Books:
    run.line.finish()
    run.wait_finished(RECOVERY_TIMEOUT_S)
    summary = run.stop_service()
    truth = run.stop_world()
    rows = read_rows(run.record_file)
    check_record(rows)
    check_wire_is_recorded(rows, run.folder / "wire.jsonl")
    assert check_marks(run.record_file, run.folder / "line.jsonl") > 0
    assert len(rows) == truth.line.triggers_sent == summary["parts_triggered"]
    return Books(
        truth=truth,
        summary=summary,
        gate=[entry for entry in read_book(run.folder / "gate.jsonl") if entry["event"] == "gate"],
        verdicts=[
            entry
            for entry in read_book(run.folder / "wire.jsonl")
            if entry["event"] == "message" and entry["topic"] == "verdict"
        ],
        parts=read_parts(run.record_file),
    )


def read_parts(record: Path) -> list[dict[str, Any]]:
    columns = ("session_id", "part_id", "verdict", "reason", "trigger_ns", "decided_ns", "sent_ns", "deadline_ns")
    database = sqlite3.connect(record)
    try:
        rows = database.execute(f"SELECT {', '.join(columns)} FROM part ORDER BY id")
        return [dict(zip(columns, row, strict=True)) for row in rows]
    finally:
        database.close()


def check_books(books: Books, stops: list[Stop]) -> None:
    """What holds for a stop of any length."""
    check_gate_rejected(books, stops)
    check_no_late_pass(books, stops)


def check_gate_rejected(books: Books, stops: list[Stop]) -> None:
    """Half a second after the last heartbeat nothing passes, not even what was given a PASS before."""
    silenced = 0
    for each in stops:
        blind = [gate for gate in books.gate if each.stopped_ns + BLIND_NS <= gate["gate_ns"] < each.mute_until_ns]
        assert blind
        assert not any(gate["passed"] for gate in blind)
        silenced += sum(gate["why"] == "no_heartbeat" and gate["verdict"] == "PASS" for gate in blind)
    assert silenced > 0, "the watchdog was never what rejected"


def check_no_late_pass(books: Books, stops: list[Stop]) -> None:
    """By the wire and the record: whatever says PASS was decided and sent within the part's time."""
    part_of = {(part["session_id"], part["part_id"]): part for part in books.parts}
    passes = [entry for entry in books.verdicts if entry["payload"]["verdict"] == "PASS"]
    assert passes
    for entry in passes:
        verdict = entry["payload"]
        part = part_of[verdict["session_id"], verdict["part_id"]]
        assert part["decided_ns"] < part["deadline_ns"]
        assert verdict["valid_us"] > 0
        said_ns = part["deadline_ns"] - verdict["valid_us"] * NS_PER_US
        assert said_ns <= entry["arrival_ns"]
        # Stopped between the last look at the clock and the socket: then it says truly when that look was.
        overtaken = any(each.stopped_ns - SENDING_NS <= said_ns <= each.stopped_ns for each in stops)
        assert entry["arrival_ns"] <= part["deadline_ns"] or overtaken, f"PASS after its deadline: {verdict}"


def check_open_parts_were_closed(books: Books, stops: list[Stop]) -> None:
    """What ran out of time meanwhile was closed on the return, as NO_DECISION, and said so to whoever listened."""
    heard = {(entry["payload"]["session_id"], entry["payload"]["part_id"]) for entry in books.verdicts}
    for each in stops:
        expired = [
            part for part in books.parts if part["trigger_ns"] > each.stopped_ns and part["deadline_ns"] < each.ended_ns
        ]
        assert len(expired) >= (STOP_S - DEADLINE_US / 1e6) / PITCH_S / 2
        for part in expired:
            assert (part["verdict"], part["reason"]) in {("NO_DECISION", "DEADLINE"), ("NO_DECISION", "MISSED_FRAME")}
            assert part["decided_ns"] >= each.ended_ns
            assert (part["session_id"], part["part_id"]) in heard
    assert books.summary["late_inspections"] > 0
    outside = [
        part
        for part in books.parts
        if not any(each.stopped_ns - DEADLINE_US * NS_PER_US < part["trigger_ns"] <= each.ended_ns for each in stops)
    ]
    undecided = sum(part["verdict"] == "NO_DECISION" for part in outside)
    assert undecided <= 0.01 * len(outside), f"{undecided} of {len(outside)} NO_DECISION with nothing the matter"
