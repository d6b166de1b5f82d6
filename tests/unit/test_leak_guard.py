"""The guard of tests/leak_guard.py, tried in test sessions of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = """
import atexit, os, signal, socket, subprocess, sys, tempfile
from multiprocessing import shared_memory
import pytest

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
kept = []
"""

CONFTEST = """
pytest_plugins = ["tests.leak_guard"]

def pytest_configure():
    from tests import leak_guard
    for grace in {impatient_of}:
        assert hasattr(leak_guard, grace)
        setattr(leak_guard, grace, 0.2)
"""

Run = Callable[..., str]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a test module under the guard, checks the numbers of its outcomes and returns the output. The guard is impatient
    only with what is left there on purpose: other things may take their time to end, and other sessions' are none of its own.
    """

    def run(module: str, *, impatient_of: tuple[str, ...] = ("GRACE_S",), **outcomes: int) -> str:
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        pytester.makeconftest(CONFTEST.format(impatient_of=impatient_of))
        pytester.makepyfile(HEAD + module)
        result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
        result.assert_outcomes(**outcomes)
        return result.stdout.str()

    return run


def test_what_is_given_back_is_no_leak(run: Run) -> None:
    run(
        """
def test_tidy():
    with subprocess.Popen(SLEEPER) as child:
        child.kill()
    with socket.socket(), tempfile.TemporaryFile():
        pass
    segment = shared_memory.SharedMemory(create=True, size=64)
    segment.close()
    segment.unlink()

def test_cycle_holding_a_pipe():
    class End:
        def __init__(self, fd): self.fd, self.itself = fd, self
        def __del__(self): os.close(self.fd)
    for fd in os.pipe():
        End(fd)
""",
        impatient_of=(),
        passed=2,
    )


def test_leak_is_told_once_and_blamed_on_its_test(run: Run) -> None:
    output = run(
        """
def test_child():
    kept.append(subprocess.Popen(SLEEPER))

def test_zombie():
    kept.append(subprocess.Popen("true"))
    os.waitid(os.P_PID, kept[-1].pid, os.WEXITED | os.WNOWAIT)

def test_orphan():  # the shell ends at once, and init takes over its child
    subprocess.run(["sh", "-c", '"$@" &', "sh", *SLEEPER], check=True)

def test_socket():
    kept.append(socket.socket())

def test_pipe():
    kept.append(os.pipe())

def test_memfd():
    kept.append(os.memfd_create("slots"))

def test_file():
    kept.append(tempfile.TemporaryFile())

def test_next():
    pass
""",
        passed=8,
        errors=7,
    )
    expected = []
    for test, left in [
        ("child", "process * signal.pause()), killed now"),
        ("zombie", "process *, ended but never waited for"),
        ("orphan", "process * signal.pause()), killed now"),
        ("socket", "descriptor on socket:*"),
        ("pipe", "descriptor on pipe:*; descriptor on pipe:*"),
        ("memfd", "descriptor on /memfd:slots *"),
        ("file", "descriptor on /tmp/*"),
    ]:
        expected += [f"*ERROR at teardown of test_{test} *", f"left behind at the end of the function: {left}"]
    pytest.LineMatcher(output.splitlines()).fnmatch_lines(expected)


def test_wider_fixture_keeps_its_own_while_it_lasts(run: Run) -> None:
    run(
        """
@pytest.fixture(scope="session")
def broker():
    with subprocess.Popen(SLEEPER) as child, socket.socket():
        yield child
        child.kill()

@pytest.fixture(scope="module")
def service(broker):
    # Starts a child of its own for each line it reads.
    program = "import subprocess, sys\\nfor line in sys.stdin: print(subprocess.Popen(sys.argv[1:]).pid, flush=True)"
    command = [sys.executable, "-c", program, *SLEEPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        pids = []
        yield child, pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

@pytest.fixture(scope="module")
def connection():
    sockets = [socket.socket()]
    yield sockets
    sockets[0].close()

def test_before_any_of_them(): pass

def test_asks_by_name(request):
    request.getfixturevalue("broker")

def test_service_starts_a_child(service):
    child, pids = service
    child.stdin.write("go\\n")
    child.stdin.flush()
    pids.append(int(child.stdout.readline()))

def test_connection_is_renewed(connection):
    new = [socket.socket(), socket.socket()]
    connection.pop().close()
    connection.append(new[0])
    new[1].close()
""",
        impatient_of=(),
        passed=4,
    )


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_leak_of_a_wider_fixture_is_told_at_the_end_of_its_scope(run: Run, scope: str) -> None:
    output = run(
        f"""
@pytest.fixture(scope="{scope}")
def service():
    kept.append(subprocess.Popen(SLEEPER))

class TestService:
    def test_one(self, service): pass
    def test_two(self, service): pass
""",
        passed=2,
        errors=1,
    )
    assert f"left behind at the end of the {scope}: process" in output


def test_shared_memory_is_told_at_the_end_with_the_test_it_is_there_since(run: Run) -> None:
    """Until then it may be another session's, which tidies up."""
    output = run(
        """
def in_shared_memory():
    descriptor, path = tempfile.mkstemp(dir="/dev/shm")
    os.close(descriptor)
    return path

def test_leaves():
    atexit.register(os.unlink, in_shared_memory())

def test_is_late():
    kept.append(in_shared_memory())

def test_tidies_up_after_it():
    os.unlink(kept.pop())
""",
        impatient_of=("SEGMENT_GRACE_S",),
        passed=3,
        errors=1,
    )
    line = "left behind at the end of the session: shared memory /dev/shm/*, there since test_*.py::test_leaves"
    pytest.LineMatcher(output.splitlines()).fnmatch_lines([line])
    assert sum(each.startswith("left behind") for each in output.splitlines()) == 1


def test_failed_test_is_not_blamed_twice_but_its_process_is_ended(run: Run) -> None:
    run(
        """
def test_fails():
    connection = socket.socket()
    kept.append(subprocess.Popen(SLEEPER))
    kept.append(shared_memory.SharedMemory(create=True, size=64))
    assert connection is None

def test_next():
    assert kept[0].wait() == -signal.SIGKILL
""",
        passed=1,
        failed=1,
    )
