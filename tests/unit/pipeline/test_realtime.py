"""What is asked of the kernel is taken for every thread where it is permitted, and else said in words that name the remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import machine
from pipeline.config import load_line
from tests.service import write_line
from vision.faults import FaultsError

IN_A_PROCESS = """
import json, os, resource, sys, threading
from pathlib import Path
from pipeline.config_sections import RealtimeConfig
from pipeline.realtime import take_cores, take_urgency
config = RealtimeConfig.model_validate_json(sys.argv[1])
early = threading.Event()
threading.Thread(target=early.wait).start()
if sys.argv[2] == "unprivileged":
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    if os.geteuid() == 0:
        os.setuid(65534)
said = [*take_cores("signalling", config), *take_urgency("signalling", config)]
late = threading.Event()
threading.Thread(target=late.wait).start()
threads = [int(name) for name in os.listdir("/proc/self/task")]
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "said": said,
    "cores": [sorted(os.sched_getaffinity(thread)) for thread in threads],
    "policies": [[os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority] for thread in threads],
    "locked": [line.split()[1] for line in status.splitlines() if line.startswith("VmLck:")][0] != "0",
}))
early.set(); late.set()
"""

EVERYTHING = {"cores": {"signalling": [0]}, "fifo_priority": {"signalling": 7}, "lock_memory": True}


def ask(config: dict[str, Any], *, unprivileged: bool = False) -> dict[str, Any]:
    how = "unprivileged" if unprivileged else "as it is"
    command = [sys.executable, "-c", IN_A_PROCESS, json.dumps(config), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_nothing_is_asked_by_default() -> None:
    answer = ask({}, unprivileged=True)
    assert answer["said"] == []
    assert not answer["locked"]
    assert {tuple(policy) for policy in answer["policies"]} == {(os.SCHED_OTHER, 0)}


def test_every_thread_gets_it_the_later_ones_too() -> None:
    answer = ask(EVERYTHING)
    if answer["said"]:
        pytest.skip(f"not permitted here: {answer['said']}")
    assert len(answer["policies"]) >= 3
    assert {tuple(policy) for policy in answer["policies"]} == {(os.SCHED_FIFO, 7)}
    assert answer["cores"] == [[0]] * len(answer["cores"])
    assert answer["locked"]


def test_what_is_not_permitted_is_said_with_what_to_grant() -> None:
    answer = ask(EVERYTHING, unprivileged=True)
    fifo, memory = answer["said"]
    assert fifo == (
        "realtime.fifo_priority.signalling: SCHED_FIFO 7 not granted (Operation not permitted, errno 1): "
        "grant CAP_SYS_NICE or LimitRTPRIO=7"
    )
    assert memory == (
        "realtime.lock_memory: mlockall of signalling not granted (RLIMIT_MEMLOCK is 65536 bytes, errno 1): "
        "grant CAP_IPC_LOCK or LimitMEMLOCK=infinity"
    )
    assert answer["cores"] == [[0]] * len(answer["cores"])  # this needs no permission
    assert not answer["locked"]


@pytest.mark.parametrize(
    ("realtime", "key", "got", "expected"),
    [
        ({"cores": {"signalling": [0, 9_999]}}, "cores.signalling", "0, 9999", "cores of this machine: 0"),
        ({"cores": {"signalling": []}}, "cores.signalling", "", "at least 1"),
        ({"cores": {"supervisor": [0]}}, "cores.supervisor", "supervisor", "acquisition"),
        ({"fifo_priority": {"signalling": 50}}, "fifo_priority.signalling", "50", "49"),
        ({"fifo_priority": {"signalling": 0}}, "fifo_priority.signalling", "0", "1"),
    ],
)
def test_what_cannot_be_is_a_fault_of_the_file(
    tmp_path: Path, realtime: dict[str, Any], key: str, got: str, expected: str
) -> None:
    with pytest.raises(FaultsError) as caught:
        load_line(write_line(tmp_path, 1, realtime=realtime))
    (fault,) = caught.value.faults
    assert fault.key.startswith(f"realtime.{key}")
    assert got in fault.got
    assert expected in fault.expected


def test_cores_that_are_switched_off_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "online").write_text("0-2,5,7-8\n")
    monkeypatch.setattr(machine, "_ONLINE_CORES", tmp_path / "online")
    assert machine.online_cores() == {0, 1, 2, 5, 7, 8}
    line = write_line(tmp_path, 1, realtime={"cores": {"inspection": [5, 7]}})
    assert load_line(line).config.realtime.cores == {"inspection": [5, 7]}
    assert yaml.safe_load(line.read_text())["realtime"]["cores"]["inspection"] == [5, 7]
