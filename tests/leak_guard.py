"""A test leaves nothing behind: no process, no shared memory, no open socket, pipe or file of its own.

One guard stands at each fixture scope and compares before with after. What a wider fixture starts, whenever it is
first asked for, belongs to the wider scope and is looked for when that is over. Of a test that failed nothing is
reported (its traceback keeps things alive), but its processes are ended all the same.

Several sessions may run at once. Processes and descriptors are a session's own; a name in shared memory says nothing of who
made it, so one that came during a test is told only when it is still there at the end of the session.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Generator, Hashable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

MARK = "LINESIDE_TEST_SESSION"
"""Environment variable that every process of a test session inherits: orphans are found by it."""

GRACE_S = 5.0
"""How long processes that are on their way out are waited for."""

SEGMENT_GRACE_S = 60.0
"""How long, at its end, a session waits for shared memory that nobody holds: another session's test may have killed a whole
service, and be about to start the one that tidies up.
"""

SCOPES = ("function", "class", "module", "package", "session")

SHARED_MEMORY = Path("/dev/shm")
GENICAM_LOCKS = "sem.*GenICam_XML"
"""Semaphores by which the processes of a box share descriptions of cameras: GenICam leaves them for the next one."""
DESCRIPTOR_KINDS = ("socket:", "pipe:", "anon_inode:", "/memfd:", f"{SHARED_MEMORY}/", f"{tempfile.gettempdir()}/")
"""What a descriptor may not be left open on. Devices and files elsewhere are kept open by libraries."""


@dataclass(frozen=True)
class Descriptor:
    """An open file descriptor of this process and what it is open on, as /proc tells it."""

    number: int
    target: str

    @property
    def kind(self) -> str | None:
        return next((kind for kind in DESCRIPTOR_KINDS if self.target.startswith(kind)), None)


@dataclass(frozen=True)
class Belongings:
    """What this test session has at one moment."""

    processes: frozenset[psutil.Process]
    segments: frozenset[Path]
    descriptors: frozenset[Descriptor]


class LeakGuard:
    """Keeps the books of one test session.

    Args:
        session: Value of MARK in the environment of everything that this session starts.
    """

    def __init__(self, session: str) -> None:
        self._session = session.encode()
        self._owner: dict[Hashable, str] = {}  # thing -> widest scope of the fixtures that were being set up
        self._told: set[Hashable] = set()
        self._seen_after: dict[Path, str] = {}  # shared memory that came meanwhile -> whose end it was there at first

    def look(self) -> Belongings:
        """Takes stock."""
        return Belongings(self._processes(), _segments(), _descriptors())

    def attribute(self, before: Belongings, scope: str) -> None:
        """Gives what has come since ``before`` to a fixture of the given scope."""
        now = self.look()
        come = (now.processes - before.processes, now.descriptors - before.descriptors)
        for thing in frozenset[Hashable]().union(*come):
            self._owner[thing] = max(scope, self._owner.get(thing, scope), key=SCOPES.index)

    def left_behind(self, before: Belongings, scope: str, name: str, *, is_failed: bool) -> list[str]:
        """Describes what has come since ``before`` and should be gone at the end of the scope. Ends such processes.

        Args:
            before: What there was at the beginning of the scope.
            scope: What is at its end: a test, a module ...
            name: Of which one.
            is_failed: Of such a test no shared memory is told later.
        """
        wider = {thing for thing, owner in self._owner.items() if SCOPES.index(owner) > SCOPES.index(scope)}
        known = wider | self._told
        if self._new_processes(before, known) or _new_descriptors(before, known):
            gc.collect()  # closes what only garbage holds
        left: dict[Hashable, str] = {}

        processes = self._new_processes(before, known)
        _wait_for_exit(processes)
        for process in processes:
            if description := _end(process):
                left[process] = description

        new = _segments() - before.segments - self._seen_after.keys()
        if is_failed:
            self._told |= new
        else:
            self._seen_after |= dict.fromkeys(new, name)
        if scope == "session":
            end = time.monotonic() + SEGMENT_GRACE_S
            while (segments := self._segments_left()) and time.monotonic() < end:
                time.sleep(0.05)
            left |= {path: f"shared memory {path}, there since {self._seen_after[path]}" for path in segments}

        left |= {found: f"descriptor on {found.target}" for found in _new_descriptors(before, known)}
        self._told |= left.keys()
        return sorted(left.values())

    def _processes(self) -> frozenset[psutil.Process]:
        """All processes started by this session, whoever their parent is by now; not multiprocessing's own helper."""
        found = set(psutil.Process().children(recursive=True))
        for pid in psutil.pids():
            try:
                if self._session in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(psutil.Process(pid))
            except (OSError, psutil.NoSuchProcess):  # ended meanwhile, or another user's
                continue
        helper_pid = getattr(resource_tracker._resource_tracker, "_pid", None)  # lives as long as this process
        return frozenset(process for process in found if process.pid not in (os.getpid(), helper_pid))

    def _new_processes(self, before: Belongings, known: set[Hashable]) -> list[psutil.Process]:
        """New processes, but not those that one which may stay has started: a service restarts its workers."""
        may_stay = before.processes | known
        new = []
        for process in self._processes() - may_stay:
            try:
                if may_stay.isdisjoint(process.parents()):
                    new.append(process)
            except psutil.NoSuchProcess:
                continue
        return new

    def _segments_left(self) -> list[Path]:
        segments = _segments() & self._seen_after.keys() - self._told
        if not segments:
            return []
        ours = self._processes()
        return [path for path in segments if not _is_held_by_others(path, ours)]


def _segments() -> frozenset[Path]:
    """Our user's entries in /dev/shm."""
    found = set()
    for path in SHARED_MEMORY.iterdir():
        try:
            if path.lstat().st_uid == os.getuid() and not path.match(GENICAM_LOCKS):
                found.add(path)
        except FileNotFoundError:  # removed meanwhile
            continue
    return frozenset(found)


def _descriptors() -> frozenset[Descriptor]:
    helper_fd = getattr(resource_tracker._resource_tracker, "_fd", None)
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            descriptor = Descriptor(int(link.name), str(link.readlink()))
        except FileNotFoundError:  # the one that listed the folder
            continue
        # Fonts and the like, which libraries keep open: the environment may lie in the folder for temporary files.
        is_library = descriptor.target.startswith(f"{sys.prefix}/")
        if descriptor.kind and not is_library and descriptor.number != helper_fd:
            found.add(descriptor)
    return frozenset(found)


def _new_descriptors(before: Belongings, known: set[Hashable]) -> list[Descriptor]:
    """Descriptors beyond the number there may be of their kind: a connection of a wider fixture may be renewed."""
    now = _descriptors()
    may_stay = before.descriptors | (now & known)
    beyond = Counter(found.kind for found in now) - Counter(found.kind for found in may_stay)
    return [found for found in now - may_stay if found.kind in beyond]


def _wait_for_exit(processes: list[psutil.Process]) -> None:
    """Waits until all have ended or the grace is over. Reaps none of them."""
    end = time.monotonic() + GRACE_S
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(max(0.0, end - time.monotonic()) * 1000)
        finally:
            os.close(pidfd)


def _end(process: psutil.Process) -> str | None:
    """Describes a process that is still there and kills it, so that it disturbs no other test."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            is_ours_to_reap = process.ppid() == os.getpid()
            return f"process {process.pid} ({process.name()}), ended but never waited for" if is_ours_to_reap else None
        description = f"process {process.pid} ({' '.join(process.cmdline())[:200]}), killed now"
        process.kill()
    except psutil.NoSuchProcess:
        return None
    return description


def _is_held_by_others(segment: Path, ours: frozenset[psutil.Process]) -> bool:
    """Whether the segment has gone, or a process outside this session has it mapped or open: then it was never ours."""
    for process in psutil.process_iter():
        if process.pid == os.getpid() or process in ours:
            continue
        try:
            if any(mapped.path == str(segment) for mapped in process.memory_maps()):
                return True
            # Compared by what they are: one that got its name after it was opened is not called by it here.
            if any(link.samefile(segment) for link in Path(f"/proc/{process.pid}/fd").iterdir()):
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return not segment.exists()


_guard = pytest.StashKey[LeakGuard]()
_failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    session = f"{os.environ.get(MARK, '')}/{uuid.uuid4()}"  # begins with the outer session's where one runs in another
    os.environ[MARK] = session
    config.stash[_guard] = LeakGuard(session)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    if call.excinfo is not None:
        item.stash[_failed] = True
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    if fixturedef.scope == "function":
        return (yield)
    guard = request.config.stash[_guard]
    before = guard.look()
    try:
        return (yield)
    finally:
        guard.attribute(before, fixturedef.scope)


def _watch(request: pytest.FixtureRequest) -> Iterator[None]:
    guard = request.config.stash[_guard]
    before = guard.look()
    yield
    node = cast(pytest.Item, request.node)
    is_failed = node.stash.get(_failed, False)
    left = guard.left_behind(before, request.scope, node.nodeid or "the last test", is_failed=is_failed)
    if left and not is_failed:
        pytest.fail(f"left behind at the end of the {request.scope}: " + "; ".join(left), pytrace=False)


@pytest.fixture(autouse=True, scope="session")
def _leak_guard_of_session(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request)


@pytest.fixture(autouse=True, scope="module")
def _leak_guard_of_module(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request)


@pytest.fixture(autouse=True, scope="class")
def _leak_guard_of_class(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request)


@pytest.fixture(autouse=True)
def _leak_guard_of_function(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request)
