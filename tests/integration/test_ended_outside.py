"""Commands that play a whole line, told to end or killed in the middle: nothing of what they started is left running."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.models import write_stub_package
from tests.service import lineside

ENDING_S = 60.0


def descendants(pid: int) -> list[int]:
    """A descriptor for each: readable once the process has ended."""
    return [os.pidfd_open(child.pid) for child in psutil.Process(pid).children(recursive=True)]


def expect_ended(processes: list[int]) -> None:
    for each in processes:
        ended, _, _ = select.select([each], [], [], ENDING_S)
        os.close(each)
        assert ended


@contextmanager
def playing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo in which the service is RUNNING; its temporary folder is in ``folder``."""
    model = write_stub_package(folder / "model")
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--parts", "1000000", "--model", str(model)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}
    ) as demo:
        try:
            assert demo.stdout is not None
            assert any(line.startswith("Service RUNNING") for line in demo.stdout)
            yield demo
        finally:
            demo.kill()


@pytest.mark.slow
def test_told_to_end(tmp_path: Path) -> None:
    """SIGINT and SIGHUP go the same way, but may be ignored where the tests are started from."""
    with playing(tmp_path) as demo:
        started = descendants(demo.pid)
        assert len(started) > 8  # five of the service, broker, line, controller, observer
        demo.terminate()
        demo.communicate(timeout=ENDING_S)
        assert demo.returncode == 128 + signal.SIGTERM
    expect_ended(started)
    assert not list(tmp_path.glob("lineside-*"))


@pytest.mark.slow
def test_killed(tmp_path: Path) -> None:
    with playing(tmp_path) as demo:
        started = descendants(demo.pid)
        demo.kill()
        expect_ended(started)


def test_a_place_that_takes_no_result_is_refused_beforehand(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nosuch" / "x.json", Path("/proc/x.json")):
        done = lineside("bench", "chaos", "--json", place)
        assert done.returncode == 2
        assert f"--json: got {place}, expected" in done.stderr


def test_a_device_takes_the_result_in_its_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = lineside("bench", "handover", "--json", pipe)
        assert done.returncode == 0, done.stderr
        assert os.read(reader, 1 << 16).startswith(b"{")
        assert pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--kind", "nosuch", "--kind", "cores_hogged"), "--kind: got nosuch, expected some of "),
        (("--deadline-us", "999999999"), "--deadline-us"),
        (("--faults", "0"), "--faults"),
    ],
)
def test_chaos_refuses_at_once(arguments: tuple[str, ...], what: str) -> None:
    done = lineside("bench", "chaos", *arguments)
    assert done.returncode == 2
    assert what in done.stderr


@pytest.mark.slow
def test_chaos_cut_short_is_a_failure(tmp_path: Path) -> None:
    model, file = write_stub_package(tmp_path / "model"), tmp_path / "result.json"
    arguments = ("--faults", "30", "--seconds", "3", "--calm", "1", "--kind", "camera_silent")
    done = lineside("bench", "chaos", *arguments, "--model", model, "--json", file, timeout_s=100)
    assert done.returncode == 1
    assert "of 30 faults dealt: the 3 s were over" in done.stderr
