"""The real service with everything asked of the kernel: where permitted it has it, where not it says so and runs all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.service import Service, workers_of, write_line
from tests.tap import Tap

REALTIME = {
    "cores": {"signalling": [0], "inspection": [0]},
    "fifo_priority": {"signalling": 20, "acquisition": 15},
    "lock_memory": True,
}


def test_the_workers_have_what_was_asked_for(tmp_path: Path, broker_port: int) -> None:
    with Service(write_line(tmp_path, broker_port, realtime=REALTIME)) as service, Tap(broker_port, "test/line") as tap:
        service.wait_for("RUNNING")
        tap.wait_count("verdict", 20)
        if "not granted" in service.errors:
            pytest.skip(f"not permitted here: {service.errors}")
        workers = workers_of(service.process.pid)
        for role, cores, policy in (
            ("signalling", {0}, (os.SCHED_FIFO, 20)),
            ("acquisition", os.sched_getaffinity(0), (os.SCHED_FIFO, 15)),
            ("inspection", {0}, (os.SCHED_OTHER, 0)),
            ("records", os.sched_getaffinity(0), (os.SCHED_OTHER, 0)),
        ):
            threads = [thread.id for thread in workers[role].threads()]
            assert [os.sched_getaffinity(thread) for thread in threads] == [cores] * len(threads), role
            policies = {(os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority) for thread in threads}
            assert policies == {policy}, role
            assert _is_locked(workers[role]) is (role != "records")
        service.stop()
    assert not any("realtime" in heard.topic for heard in tap.heard)


def test_without_permission_it_says_so_and_runs(tmp_path: Path, broker_port: int) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("setpriv (util-linux) is needed to give permissions up")
    drop = [str(setpriv), "--bounding-set=-sys_nice,-ipc_lock"] if os.geteuid() == 0 else []
    line = write_line(tmp_path, broker_port, realtime=REALTIME)
    command = [*drop, sys.executable, "-m", "pipeline.cli", "run", str(line), "--parts", "40"]
    with Tap(broker_port, "test/line") as tap:
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        alarms = {role: tap.bodies(f"alarm/realtime-{role}") for role in ("signalling", "acquisition-cam0")}
    warnings = [line for line in done.stderr.splitlines() if "not granted" in line]
    assert len(warnings) == 3, done.stderr  # signalling, acquisition, and inspection for its memory
    for heard in alarms.values():
        assert heard[0]["severity"] == "warning"
        assert "SCHED_FIFO" in heard[0]["text"]
        assert "grant CAP_SYS_NICE or LimitRTPRIO=" in heard[0]["text"]
        assert "grant CAP_IPC_LOCK or LimitMEMLOCK=infinity" in heard[0]["text"]


def _is_locked(process: psutil.Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmLck:")]
    return int(line.split()[1]) > 10_000
