"""Two processes killed one soon after the other: what acquisition had read by then is on record once, told or not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from pipeline.clock import now_ns
from pipeline.ledger_file import ledger_files
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.truth import read_book
from tests.chaos.books import check_marks, check_promise, check_record, check_wire_is_recorded, observed, read_rows
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

ROUNDS = 3
PARTS_BETWEEN = 10
PARTS_UNTOLD = 6
READING_NS = 50_000_000
"""From the camera to acquisition's journal, with much to spare: a busy box may not let it run at once."""
RECOVERY_TIMEOUT_S = 60.0


class Faults:
    """``unheard``: from when to when nobody took triggers down; ``acquisition_died_ns``: each of its deaths."""

    def __init__(self, run: RehearsalRun, order: random.Random) -> None:
        self._run = run
        self._order = order
        self.unheard: list[tuple[int, int]] = []
        self.acquisition_died_ns: list[int] = []

    def frozen_signalling_and_acquisition(self) -> None:
        """Signalling stands still, parts come, both are killed."""
        workers = self._freeze_signalling()
        self.acquisition_died_ns.append(now_ns())
        for role in self._order.sample(["acquisition", "signalling"], 2):
            workers[role].kill()
        self._run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)

    def acquisition_under_frozen_signalling(self) -> None:
        """Signalling stands still, parts come, acquisition is killed, signalling goes on."""
        workers = self._freeze_signalling()
        self.acquisition_died_ns.append(now_ns())
        workers["acquisition"].kill()
        psutil.wait_procs([workers["acquisition"]], timeout=RECOVERY_TIMEOUT_S)
        workers["signalling"].resume()
        self._run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)

    def signalling_then_supervisor(self) -> None:
        """Parts come while signalling is away; then everything goes, and the service is started again."""
        supervisor = psutil.Process(self._run.service_pid)
        workers_of(supervisor.pid)["signalling"].kill()
        self._let_parts_come_unheard()
        family = supervisor.children()
        self.acquisition_died_ns.append(now_ns())
        supervisor.kill()
        _, alive = psutil.wait_procs(family, timeout=RECOVERY_TIMEOUT_S)
        assert not alive, f"left behind: {alive}"
        self._run.start_service()

    def acquisition_then_signalling(self) -> None:
        """One right after the other."""
        workers = workers_of(self._run.service_pid)
        self.acquisition_died_ns.append(now_ns())
        workers["acquisition"].kill()
        workers["signalling"].kill()
        self._run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)

    def _freeze_signalling(self) -> dict[str, psutil.Process]:
        workers = workers_of(self._run.service_pid)
        workers["signalling"].suspend()
        self._let_parts_come_unheard()
        return workers

    def _let_parts_come_unheard(self) -> None:
        began_ns = now_ns()
        let_parts_come(self._run, PARTS_UNTOLD)
        self.unheard.append((began_ns, now_ns()))


def test_pairs_killed_in_quick_succession(tmp_path: Path, tmp_socket_dir: Path) -> None:
    order = random.Random(5)
    plan = Rehearsal(
        model=write_stub_package(tmp_path / "model"),
        deadline_us=200_000,
        gate_offset_pulses=2_600,
        service={"supervision": {"restarts_max_count": 100, "back_off_max_s": 0.2}},
    )
    with RehearsalRun(plan, tmp_socket_dir) as run:
        faults = Faults(run, order)
        kinds: list[Callable[[], None]] = [
            faults.frozen_signalling_and_acquisition,
            faults.acquisition_under_frozen_signalling,
            faults.signalling_then_supervisor,
            faults.acquisition_then_signalling,
        ]
        run.line.start_parts()
        for _ in range(ROUNDS):
            for kind in order.sample(kinds, len(kinds)):
                let_parts_come(run, PARTS_BETWEEN)
                run.read_words()
                kind()
        let_parts_come(run, PARTS_BETWEEN)
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        run.stop_service()
        truth = run.stop_world()
        rows = read_rows(run.record_file)
        violations = tuple(found for found in truth.violations if not found.kind.startswith("no_verdict"))
        check_promise(replace(truth, violations=violations), sender_died=True)
        check_record(rows)
        check_wire_is_recorded(rows, tmp_socket_dir / "wire.jsonl")
        check_marks(run.record_file, tmp_socket_dir / "line.jsonl")
        recorded = Counter(row.encoder_count for row in rows)
        assert recorded.total() == len(recorded), f"recorded twice: {recorded - Counter(dict.fromkeys(recorded, 1))}"
        book = read_book(tmp_socket_dir / "line.jsonl")
        assert recorded.keys() <= {entry["encoder_count"] for entry in book if entry["event"] == "trigger"}
        missing = observed(tmp_socket_dir / "line.jsonl", faults.acquisition_died_ns, READING_NS) - recorded.keys()
        assert not missing, f"read by acquisition and not on record: {sorted(missing)}"
        for since_ns, until_ns in faults.unheard:
            unheard = [row for row in rows if since_ns < row.trigger_ns < until_ns - READING_NS]
            assert unheard
            assert all(row.verdict == "NO_DECISION" for row in unheard)
        assert ledger_files(run.record_file) == []
