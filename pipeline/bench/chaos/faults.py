"""The catalogue: what is done to the line, one entry a kind.

Each fault is a function that does the harm, waits as long as it is to last and takes it back. What it returns says, for the
book, what exactly was done.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.bench.chaos.disk import DiskUnavailable, SmallDisk
from pipeline.bench.chaos.processes import has_ended, send_signal
from pipeline.bench.chaos.wall_clock import SteppedClock
from pipeline.bench.processes import service_pids
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.rehearsal import RehearsalError, RehearsalRun
from pipeline.simulator.line_faults import FaultKind, FaultOptions
from pipeline.simulator.picture_code import PictureCode

_POLL_S = 0.002
_UNREAD_NS = 50 * NS_PER_MS
"""What was sent so shortly before may lie in the socket yet, on a busy box."""
_DEATH_TIMEOUT_S = 30.0
_REMOUNT_TIMEOUT_S = 2.0
_CORES_HOGGED = 4
_WORKERS = ("acquisition", "inspection", "signalling", "records")


@dataclass(slots=True)
class World:
    """What faults can lay hands on. ``disk``: None where mounting is not permitted. ``lifted_ns``: when the harm was over;
    a fault sets it that returns later, since to start the service again is part of the recovery.
    """

    run: RehearsalRun
    chance: random.Random
    disk: SmallDisk | None
    clock: SteppedClock
    damaged: Path
    """Folder for copies of what the suite is about to destroy."""
    lifted_ns: int = 0
    deaf_ns: list[tuple[int, int]] = field(default_factory=list)
    """From when to when triggers went to an acquisition that stood still and was killed without ever reading them."""


Fault = Callable[[World], str]


@dataclass(frozen=True, slots=True)
class FaultOfKind:
    """``needs``: what of the world must be there, else the kind is not run and said so."""

    kind: str
    strike: Fault
    needs: tuple[str, ...] = ()


# --- processes ---------------------------------------------------------------------------------------------------------


def _kill(role: str, world: World) -> str:
    _kill_worker(world, role)
    return f"SIGKILL to {role}"


def _kill_two(world: World) -> str:
    """One after the other, at most half a second apart: the second while the service still gets over the first."""
    roles = world.chance.sample(_WORKERS, 2)
    apart_s = world.chance.choice([0.0, 0.05, 0.5])
    _kill_worker(world, roles[0])
    time.sleep(apart_s)
    if roles[1] in service_pids(world.run.service_pid):
        _kill_worker(world, roles[1])
    return f"SIGKILL to {roles[0]}, and {apart_s:g} s later to {roles[1]}"


def _freeze_and_kill(world: World) -> str:
    """Signalling stands still, acquisition goes on reading triggers; then both are killed."""
    with _stopped(_worker(world, "signalling")):
        time.sleep(1.0)
        _kill_worker(world, "acquisition")
        _kill_worker(world, "signalling")
    return "SIGSTOP to signalling for 1 s, then SIGKILL to acquisition and to signalling"


def _freeze(role: str, world: World) -> str:
    """Up to 3 s: the supervisor kills a worker that is silent for 2 s; with records it has more patience."""
    held_s = world.chance.choice([0.1, 0.5, 1.0, 3.0])
    pid = _worker(world, role)
    stopped_ns = now_ns()
    with _stopped(pid):
        time.sleep(held_s)
        if role == "acquisition" and has_ended(pid):
            world.deaf_ns.append((stopped_ns - _UNREAD_NS, now_ns()))
    return f"SIGSTOP to {role} for {held_s} s"


def _freeze_supervisor(world: World) -> str:
    held_s = world.chance.choice([0.5, 1.0, 3.0])
    with _stopped(world.run.service_pid):
        time.sleep(held_s)
    return f"SIGSTOP to the supervisor for {held_s} s"


def _no_free_slot(world: World) -> str:
    """The reader stands still, just too short for the supervisor to notice, and the ring fills up."""
    with _stopped(_worker(world, "inspection")):
        time.sleep(1.7)
    return "inspection keeps its slots for 1.7 s"


def _kill_supervisor(world: World) -> str:
    supervisor, *workers = service_pids(world.run.service_pid).values()
    with _deaf(world):
        send_signal(supervisor, signal.SIGKILL)
        world.lifted_ns = now_ns()
        for pid in workers:
            _wait_gone(pid)
    world.run.start_service()
    return "SIGKILL to the supervisor; started again when its workers had ended"


def _kill_everything(world: World) -> str:
    _, *workers = pids = list(service_pids(world.run.service_pid).values())
    # In any order, as an out-of-memory killer would.
    world.chance.shuffle(pids)
    with _deaf(world):
        for pid in pids:
            send_signal(pid, signal.SIGKILL)
        world.lifted_ns = now_ns()
        for pid in workers:
            _wait_gone(pid)
    world.run.start_service()
    return f"SIGKILL to all {len(pids)} processes at once; started again"


def _terminate(world: World) -> str:
    world.lifted_ns = now_ns()
    world.run.stop_service()
    world.run.start_service()
    return "SIGTERM; started again"


def _limit_memory(world: World) -> str:
    """No process of the service may map a byte more, and one has to be replaced just then: those that start inherit the limit."""
    held_s = 2.0
    supervisor = world.run.service_pid
    limited = service_pids(supervisor)
    for pid in limited.values():
        _limit_mapping(pid, _mapped_bytes(pid))
    role = world.chance.choice(_WORKERS)
    _kill_worker(world, role)
    time.sleep(held_s)
    _limit_mapping(supervisor, resource.RLIM_INFINITY)
    for pid in service_pids(supervisor).values():
        _limit_mapping(pid, resource.RLIM_INFINITY)
    if world.run.service_has_ended:
        # The C library ends a process that it finds no memory for; a service manager starts it again.
        world.lifted_ns = now_ns()
        world.run.start_service()
        return f"no process may map more memory for {held_s:g} s, and {role} is killed; the service ended and was started again"
    return f"no process may map more memory for {held_s:g} s, and {role} is killed"


def _mapped_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit_mapping(pid: int, limit_bytes: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_AS, (limit_bytes, resource.RLIM_INFINITY))


def _hog_cores(world: World) -> str:
    held_s = world.chance.choice([0.5, 2.0])
    # Ordinary programs, and one that goes before the service's own processes.
    nice = world.chance.choice([0, -20])
    hogs = [
        subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL)
        for _ in range(_CORES_HOGGED)
    ]
    for hog in hogs:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, hog.pid, nice)
    try:
        time.sleep(held_s)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    return f"{_CORES_HOGGED} busy loops of nice {nice} for {held_s} s"


# --- broker and network ------------------------------------------------------------------------------------------------


def _kill_broker(world: World) -> str:
    held_s = world.chance.choice([0.2, 1.0, 3.0])
    world.run.broker.halt()
    time.sleep(held_s)
    world.run.broker.restart()
    return f"broker killed, and there again after {held_s} s"


def _restart_broker(world: World) -> str:
    world.run.broker.restart()
    return "broker killed and at once there again"


def _freeze_broker(world: World) -> str:
    held_s = world.chance.choice([0.3, 1.0, 7.0])
    world.run.broker.pause()
    time.sleep(held_s)
    world.run.broker.resume()
    return f"broker frozen for {held_s} s"


def _slow_network(world: World) -> str:
    delay_ms = world.chance.choice([20.0, 100.0, 600.0])
    world.run.proxy.slow(delay_ms, None)
    time.sleep(2.0)
    world.run.proxy.pass_through()
    return f"{delay_ms:g} ms either way for 2 s"


def _half_open(world: World) -> str:
    held_s = world.chance.choice([1.0, 7.0])
    world.run.proxy.stall()
    time.sleep(held_s)
    world.run.proxy.pass_through()
    return f"connection half open for {held_s} s: nothing comes or goes, nobody hangs up"


def _reset_connections(world: World) -> str:
    world.run.proxy.reset()
    return "every connection reset"


def _refuse_connections(world: World) -> str:
    held_s = world.chance.choice([0.5, 2.0])
    world.run.proxy.refuse()
    time.sleep(held_s)
    world.run.proxy.pass_through()
    return f"connections reset and refused for {held_s} s"


def _partition(world: World) -> str:
    held_s = world.chance.choice([0.5, 2.0, 7.0])
    assert world.run.namespace is not None
    world.run.namespace.cut()
    time.sleep(held_s)
    world.run.namespace.mend()
    return f"the service's network interface down for {held_s} s"


# --- camera, triggers, model -------------------------------------------------------------------------------------------


def _at_parts(
    kind: FaultKind, parts: int, world: World, *, time_ms: float | None = None, code: PictureCode | None = None
) -> str:
    """Strikes the next ``parts`` parts, and is over when they have passed the camera."""
    line = world.run.line
    before = int(line.report()["parts_sent"])
    line.add_fault(FaultOptions(kind=kind, next_parts=parts, time_ms=time_ms, code=code))
    while int(line.report()["parts_sent"]) < before + parts + 1:
        time.sleep(0.01)
    if time_ms is not None:
        time.sleep(time_ms / 1e3)
    what = kind if code is None else f"{kind} {code.name}"
    return f"{what} at {parts} parts" + ("" if time_ms is None else f", {time_ms:g} ms")


# --- record ------------------------------------------------------------------------------------------------------------


def _fill_disk(world: World) -> str:
    held_s = world.chance.choice([0.5, 2.0])
    assert world.disk is not None
    with world.disk.full():
        time.sleep(held_s)
    return f"the record's disk full for {held_s} s"


def _read_only_disk(world: World) -> str:
    """A disk turns read-only under a running service after an error of its own; a remount needs that nobody has it open."""
    assert world.disk is not None
    pid = _worker(world, "records")
    with _stopped(world.run.service_pid):
        send_signal(pid, signal.SIGKILL)
        _wait_gone(pid)
        give_up_s = time.monotonic() + _REMOUNT_TIMEOUT_S
        while True:
            try:
                world.disk.set_read_only()
                break
            except DiskUnavailable as error:
                if time.monotonic() > give_up_s:
                    raise RehearsalError(f"the record's disk is in use by others than records: {error}") from error
                time.sleep(_POLL_S)
    try:
        time.sleep(2.0)
    finally:
        world.disk.set_writable()
    return "the record's disk read-only for 2 s, found so by a restarted records"


def _lock_database(world: World) -> str:
    held_s = world.chance.choice([0.2, 2.0])
    database = sqlite3.connect(world.run.record_file, isolation_level=None, timeout=5.0)
    try:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(held_s)
        database.execute("ROLLBACK")
    finally:
        database.close()
    return f"database locked by another process for {held_s} s"


def _damage_database(world: World) -> str:
    """As after a crash of the disk: found by a restarted records. What stood in it is kept aside, for the books alone."""
    record = world.run.record_file
    pid = _worker(world, "records")
    with _stopped(world.run.service_pid):
        send_signal(pid, signal.SIGKILL)
        _wait_gone(pid)
        copy = world.damaged / f"{len(list(world.damaged.glob('*.db'))) + 1}.db"
        for suffix in ("", "-wal"):
            source = record.with_name(record.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        with record.open("r+b") as file:
            file.write(world.chance.randbytes(min(65_536, record.stat().st_size)))
        record.with_name(record.name + "-wal").unlink(missing_ok=True)
    return "the first 64 KiB of the database overwritten with noise, its write-ahead log lost"


def _step_clock(world: World) -> str:
    offset_s = world.chance.choice([-7_200, -30, 5, 86_400])
    world.clock.step(offset_s * NS_PER_S)
    time.sleep(1.0)
    world.clock.step(0)
    return f"wall clock off by {offset_s} s for 1 s"


# -----------------------------------------------------------------------------------------------------------------------


def _worker(world: World, role: str) -> int:
    """Its pid. Raises RehearsalError where the service has no such worker now."""
    try:
        return service_pids(world.run.service_pid)[role]
    except KeyError:
        raise RehearsalError(f"the service has no {role} process") from None


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        send_signal(pid, signal.SIGCONT)


def _kill_worker(world: World, role: str) -> None:
    """And wait until it is gone."""
    pid = _worker(world, role)
    with _deaf(world) if role == "acquisition" else contextlib.nullcontext():
        send_signal(pid, signal.SIGKILL)
        _wait_gone(pid)


@contextlib.contextmanager
def _deaf(world: World) -> Iterator[None]:
    """Acquisition is killed herein. Its socket outlives it by tens of milliseconds, while the kernel takes down its memory."""
    since_ns = now_ns() - _UNREAD_NS
    yield
    world.deaf_ns.append((since_ns, now_ns()))


def _wait_gone(pid: int) -> None:
    if not has_ended(pid, _DEATH_TIMEOUT_S):
        raise RehearsalError(f"process {pid} of the service did not end within {_DEATH_TIMEOUT_S:.0f} s")


CATALOGUE: tuple[FaultOfKind, ...] = (
    FaultOfKind("acquisition_killed", partial(_kill, "acquisition")),
    FaultOfKind("inspection_killed", partial(_kill, "inspection")),
    FaultOfKind("signalling_killed", partial(_kill, "signalling")),
    FaultOfKind("records_killed", partial(_kill, "records")),
    FaultOfKind("images_killed", partial(_kill, "images")),
    FaultOfKind("two_workers_killed", _kill_two),
    FaultOfKind("frozen_then_killed", _freeze_and_kill),
    FaultOfKind("supervisor_killed", _kill_supervisor),
    FaultOfKind("everything_killed", _kill_everything),
    FaultOfKind("terminated", _terminate),
    FaultOfKind("acquisition_frozen", partial(_freeze, "acquisition")),
    FaultOfKind("inspection_frozen", partial(_freeze, "inspection")),
    FaultOfKind("signalling_frozen", partial(_freeze, "signalling")),
    FaultOfKind("records_frozen", partial(_freeze, "records")),
    FaultOfKind("images_frozen", partial(_freeze, "images")),
    FaultOfKind("supervisor_frozen", _freeze_supervisor),
    FaultOfKind("no_free_slot", _no_free_slot),
    FaultOfKind("memory_limited", _limit_memory),
    FaultOfKind("cores_hogged", _hog_cores),
    FaultOfKind("broker_killed", _kill_broker),
    FaultOfKind("broker_restarted", _restart_broker),
    FaultOfKind("broker_frozen", _freeze_broker),
    FaultOfKind("network_slow", _slow_network),
    FaultOfKind("network_half_open", _half_open),
    FaultOfKind("network_reset", _reset_connections),
    FaultOfKind("network_refused", _refuse_connections),
    FaultOfKind("network_partitioned", _partition, needs=("namespace",)),
    FaultOfKind("camera_silent", partial(_at_parts, "silent_camera", 1, time_ms=700.0)),
    FaultOfKind("camera_unplugged", partial(_at_parts, "unplugged_camera", 1, time_ms=700.0)),
    FaultOfKind("frame_lost", partial(_at_parts, "lost_frame", 3)),
    FaultOfKind("frame_missed", partial(_at_parts, "missed_frame", 3)),
    FaultOfKind("frame_late", partial(_at_parts, "late_frame", 3, time_ms=60.0)),
    FaultOfKind("frame_doubled", partial(_at_parts, "doubled_frame", 3)),
    FaultOfKind("frame_wrong_size", partial(_at_parts, "wrong_size_frame", 3)),
    FaultOfKind("frame_incomplete", partial(_at_parts, "incomplete_frame", 3)),
    FaultOfKind("frame_torn", partial(_at_parts, "torn_frame", 1)),
    FaultOfKind("trigger_missing", partial(_at_parts, "missing_trigger", 3)),
    FaultOfKind("trigger_doubled", partial(_at_parts, "doubled_trigger", 3)),
    FaultOfKind("inference_nan", partial(_at_parts, "odd_picture", 3, code=PictureCode.NAN), ("faulty_model",)),
    FaultOfKind(
        "inference_wrong_shape", partial(_at_parts, "odd_picture", 3, code=PictureCode.WRONG_SHAPE), ("faulty_model",)
    ),
    FaultOfKind("inference_raises", partial(_at_parts, "odd_picture", 3, code=PictureCode.RAISE), ("faulty_model",)),
    FaultOfKind("inference_slow", partial(_at_parts, "odd_picture", 30, code=PictureCode.SLOW), ("faulty_model",)),
    FaultOfKind("inference_hangs", partial(_at_parts, "odd_picture", 1, code=PictureCode.HANG), ("faulty_model",)),
    FaultOfKind("disk_full", _fill_disk, ("disk",)),
    FaultOfKind("disk_read_only", _read_only_disk, ("disk",)),
    FaultOfKind("database_locked", _lock_database),
    FaultOfKind("database_damaged", _damage_database),
    FaultOfKind("wall_clock_stepped", _step_clock),
)
