"""The service behind a faulty cable: it comes back by itself, and no part passes that was not judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.clock import now_ns
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace
from pipeline.simulator.truth import Truth
from tests.chaos.books import Window, check_marks, check_promise, check_record, no_decision_outside, read_rows
from tests.models import write_stub_package
from tests.service import let_parts_come, workers_of

RECOVERY_TIMEOUT_S = 60.0
PARTS_BETWEEN = 25
# A deadline that a box busy with the tests themselves keeps; the gate is as far behind it as on the demo's line.
DEADLINE_US = 200_000
GATE_OFFSET_PULSES = 2_600
# Half-open is noticed after two of these.
KEEP_ALIVE_S = 1


def plan_for(folder: Path, **changes: object) -> Rehearsal:
    return Rehearsal(
        model=write_stub_package(folder / "model"),
        deadline_us=DEADLINE_US,
        gate_offset_pulses=GATE_OFFSET_PULSES,
        service={"mqtt": {"keep_alive_s": KEEP_ALIVE_S}},
        **changes,  # type: ignore[arg-type]
    )


class Faults:
    """Injects faults into a run one after the other and keeps their windows."""

    def __init__(self, run: RehearsalRun) -> None:
        self._run = run
        self.windows: list[Window] = []
        self.quiet_since_ns: list[int] = []

    def inject(self, begin: Callable[[], None], end: Callable[[], None] | None, *, says_error: bool = True) -> None:
        """``end`` None: the fault is over as soon as it has begun."""
        run = self._run
        let_parts_come(run, PARTS_BETWEEN)
        fault_ns = now_ns()
        begin()
        if end is not None:
            if says_error:
                run.wait_for("ERROR", RECOVERY_TIMEOUT_S)
            let_parts_come(run, PARTS_BETWEEN)
            end()
        if says_error:
            run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
        self.windows.append(Window(fault_ns, now_ns()))
        let_parts_come(run, PARTS_BETWEEN)

    def settle(self) -> Truth:
        """Ends the run and checks what must hold after whatever happened."""
        run = self._run
        run.line.finish()
        run.wait_finished(RECOVERY_TIMEOUT_S)
        assert set(workers_of(run.service_pid)) == {"acquisition", "inspection", "signalling", "records"}
        summary = run.stop_service()
        truth = run.stop_world()
        # While the cable was broken a verdict could not be sent; its record came through afterwards.
        check_promise(truth, sender_died=True)
        rows = read_rows(run.record_file)
        check_record(rows)
        check_marks(run.record_file, run.folder / "line.jsonl")
        assert len({row.session_id for row in rows}) == 1
        assert summary["parts_triggered"] == len(rows) == truth.line.triggers_sent
        failed, judged = no_decision_outside(rows, self.windows, DEADLINE_US * 1_000)
        assert judged >= PARTS_BETWEEN
        assert failed <= max(1, 0.01 * judged), f"{failed} of {judged} NO_DECISION with nothing the matter"
        for window, following in zip(self.windows, [*self.windows[1:], None], strict=True):
            until_ns = now_ns() if following is None else following.fault_ns
            passed = [gate for gate in truth.gates if window.recovered_ns < gate.gate_ns < until_ns and gate.passed]
            assert passed, "nothing passed between one fault's end and the next one's beginning"
        return truth


@pytest.mark.slow
def test_behind_a_proxy(tmp_path: Path, tmp_socket_dir: Path) -> None:
    with RehearsalRun(plan_for(tmp_path, cable="proxy"), tmp_socket_dir) as run:
        proxy, faults = run.proxy, Faults(run)
        run.line.start_parts()
        faults.inject(lambda: proxy.slow(300.0, 20_000.0), proxy.pass_through, says_error=False)
        faults.inject(proxy.stall, proxy.pass_through)
        faults.inject(proxy.reset, None)
        faults.inject(proxy.refuse, proxy.pass_through)
        assert proxy.report()["mode"] == "pass_through"
        truth = faults.settle()
    # The slow cable's verdicts came, and came too late to be acted on.
    slow, stalled = faults.windows[0], faults.windows[1]
    late = [gate for gate in truth.gates if slow.fault_ns < gate.sensed_ns < stalled.fault_ns and gate.late]
    assert late
    assert not any(gate.passed for gate in late)


@pytest.mark.slow
def test_in_a_network_namespace(tmp_path: Path, tmp_socket_dir: Path) -> None:
    try:
        NetworkNamespace().start().stop()
    except NamespaceUnavailable as error:
        pytest.skip(str(error))
    plan = plan_for(tmp_path, cable="namespace", service_environment={"LINESIDE_TEST_MARK": "inside"})
    with RehearsalRun(plan, tmp_socket_dir) as run:
        supervisor = psutil.Process(run.service_pid)
        assert "pipeline.cli" in supervisor.cmdline(), "nsenter has become the supervisor"
        assert supervisor.environ()["LINESIDE_TEST_MARK"] == "inside"
        network = run.namespace.path.readlink()
        pids = [supervisor.pid, *(worker.pid for worker in workers_of(supervisor.pid).values())]
        assert {Path(f"/proc/{pid}/ns/net").readlink() for pid in pids} == {network}
        faults = Faults(run)
        run.line.start_parts()
        faults.inject(run.namespace.cut, run.namespace.mend)
        faults.inject(run.proxy.reset, None)
        faults.settle()


def test_started_without_waiting(tmp_path: Path, tmp_socket_dir: Path) -> None:
    with RehearsalRun(plan_for(tmp_path, cable="proxy"), tmp_socket_dir) as run:
        run.stop_service()
        run.proxy.refuse()
        run.start_service(wait=False)
        run.wait_for("ERROR", RECOVERY_TIMEOUT_S)  # it says that there is no broker, and goes on trying
        run.proxy.pass_through()
        run.wait_for("RUNNING", RECOVERY_TIMEOUT_S)
        run.stop_service()
