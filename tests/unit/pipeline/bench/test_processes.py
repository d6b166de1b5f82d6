"""What /proc says of a supervisor and its workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.bench.processes import sample_service

PARENT = """
import subprocess, sys
children = [
    subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", name],
                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for name in sys.argv[1:]
]
for child in children:
    child.stdout.readline()
print("up", flush=True)
sys.stdin.read()
for child in children:
    child.communicate()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    """A process with children whose command lines name roles, and one that names none."""
    names = ["pipeline.records", "pipeline.acquisition", "pipeline.acquisition", "pipeline.nothing"]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.communicate()


def test_every_worker_by_its_role(parent: subprocess.Popen[str]) -> None:
    samples = sample_service(parent.pid)
    assert set(samples) == {"supervisor", "records", "acquisition", "acquisition 2"}
    for sample in samples.values():
        kernel = psutil.Process(sample.pid)
        assert sample.threads == kernel.num_threads()
        assert sample.descriptors == kernel.num_fds()
        assert sample.rss_bytes == pytest.approx(kernel.memory_info().rss, rel=0.2)
        assert 0 < sample.anonymous_bytes < sample.rss_bytes
        assert 0 < sample.pss_bytes <= sample.rss_bytes
        assert sample.cpu_s == pytest.approx(sum(kernel.cpu_times()[:2]), abs=0.1)


def test_who_has_gone_is_left_out(parent: subprocess.Popen[str]) -> None:
    gone = sample_service(parent.pid)["records"].pid
    psutil.Process(gone).kill()
    while Path(f"/proc/{gone}/smaps_rollup").exists() and psutil.Process(gone).status() != psutil.STATUS_ZOMBIE:
        pass
    assert "records" not in sample_service(parent.pid)
    assert sample_service(gone) == {}
