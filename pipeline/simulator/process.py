"""Processes of the simulator: how they are started, spoken to and stopped.

The handle spawns ``python -m pipeline.simulator.<name> OPTIONS_JSON``. Requests go to the child's standard input and
reports come from its standard output, one JSON object a line. The first report is ``{"event": "ready", ...}``. End of
file on standard input means that the parent stopped the child, or died: the child ends either way.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

READY_TIMEOUT_S = 60.0
"""Until a child says ready: it may have to load thousands of images on a busy box."""
REPLY_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_TIMERSLACK = 29
_READ_BYTES = 65536

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Options(BaseModel):
    """Base of the simulators' options: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SimulatorError(RuntimeError):
    """A simulator process did not start, did not answer or ended by itself. The text carries its last words."""


_AnyOptions = TypeVar("_AnyOptions", bound=Options)
_AnyHandle = TypeVar("_AnyHandle", bound="SimulatorProcess")


class SimulatorProcess:
    """Handle of one simulator process; a context manager. Use from one thread.

    Attributes:
        options: what the process was, or will be, started with.
        ready: the child's ready report, empty before ``start``.
    """

    module: ClassVar[str]

    def __init__(self, options: Options) -> None:
        self.options = options
        self.ready: dict[str, Any] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._received = bytearray()
        self._events: list[dict[str, Any]] = []

    def start(self: _AnyHandle) -> _AnyHandle:
        """Spawns the process and waits until it is ready. Raises SimulatorError where it does not become so."""
        if self._child is not None:
            raise SimulatorError(f"{self.module}: started twice; stop it first")
        source_root = str(Path(__file__).resolve().parents[2])
        search_path = [source_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._child = subprocess.Popen(
            [sys.executable, "-m", self.module, self.options.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path)},
            start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which stops us in order
        )
        try:
            self.ready = self.wait_event("ready", READY_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def pid(self) -> int:
        """The process id. Raises SimulatorError where the process was not started."""
        return self._running().pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Sends a command and returns its reply. Raises SimulatorError where it is refused or not answered."""
        self._send({"command": command, **arguments})
        reply = self.wait_event("reply", REPLY_TIMEOUT_S)
        if "error" in reply:
            raise SimulatorError(f"{self.module}: {command}: {reply['error']}")
        return reply

    def report(self) -> dict[str, Any]:
        """The process's figures so far."""
        return self.request("report")

    def wait_event(self, event: str, timeout_s: float) -> dict[str, Any]:
        """Waits for the next report of this kind, keeping others for later calls.

        Raises SimulatorError where the process ends first, or after ``timeout_s``.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            for index, report in enumerate(self._events):
                if report["event"] == event:
                    return self._events.pop(index)
            self._receive(event, deadline_s)

    def stop(self) -> int | None:
        """Ends the process in order, by force after ten seconds. Its exit status, None where it was not started."""
        if self._child is None:
            return None
        child, self._child = self._child, None
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            child.stdin.close()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
        return child.returncode

    def kill(self) -> None:
        """Ends the process at once with SIGKILL and reaps it."""
        child = self._running()
        child.kill()
        child.wait()
        self.stop()

    def __enter__(self: _AnyHandle) -> _AnyHandle:
        return self if self._child is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise SimulatorError(f"{self.module}: not running; start it first")
        return self._child

    def _send(self, message: Mapping[str, Any]) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise SimulatorError(f"{self.module}: has ended{self._last_words()}") from None

    def _receive(self, awaited: str, deadline_s: float) -> None:
        stdout = self._running().stdout
        assert stdout is not None
        left_s = max(0.0, deadline_s - time.monotonic())
        if not select.select([stdout], [], [], left_s)[0]:
            raise SimulatorError(f"{self.module}: no {awaited!r} within the time given{self._last_words()}")
        chunk = os.read(stdout.fileno(), _READ_BYTES)
        if not chunk:
            status = self._running().wait()
            raise SimulatorError(f"{self.module}: ended with status {status} before {awaited!r}{self._last_words()}")
        self._received += chunk
        self._events += [json.loads(line) for line in take_lines(self._received)]

    def _last_words(self) -> str:
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip()
        return f": {words[-2000:]}" if words else ""


class Control:
    """The child's end: commands from standard input, reports to standard output.

    Attributes:
        is_closed: the parent closed standard input or died; the process should end.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._received = bytearray()
        os.set_blocking(0, False)

    def fileno(self) -> int:
        """To wait on for commands."""
        return 0

    def commands(self) -> list[dict[str, Any]]:
        """The commands that have arrived; does not wait."""
        while True:
            try:
                chunk = os.read(0, _READ_BYTES)
            except BlockingIOError:
                break
            if not chunk:
                self.is_closed = True
                break
            self._received += chunk
        return [json.loads(line) for line in take_lines(self._received)]

    def say(self, event: str, **fields: Any) -> None:
        """Sends one report. A parent that has gone is noticed at standard input, not here."""
        try:
            os.write(1, json.dumps({"event": event, **fields}).encode() + b"\n")
        except BrokenPipeError:
            self.is_closed = True


class Book:
    """A JSON-lines file, appended as things happen; reaches the file at ``flush`` and at ``close``."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1 << 16)

    def write(self, event: str, **fields: Any) -> None:
        """Appends one record."""
        self._file.write(_encode({"event": event, **fields}) + "\n")

    def flush(self) -> None:
        """Hands what was written to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """Writes what is left and closes the file."""
        self._file.close()


def take_lines(received: bytearray) -> list[bytes]:
    """Takes the complete lines out of ``received`` and leaves the rest in it."""
    end = received.rfind(b"\n")
    if end < 0:
        return []
    lines = bytes(received[:end]).split(b"\n")
    del received[: end + 1]
    return [line for line in lines if line]


def options_from_argv(kind: type[_AnyOptions]) -> _AnyOptions:
    """The child's options from its command line; ends the process with status 2 where they are malformed."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} OPTIONS_JSON")
    try:
        return kind.model_validate_json(sys.argv[1])
    except ValidationError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def set_timer_slack_ns(slack_ns: int) -> None:
    """How late the kernel may wake this thread to save wake-ups; 50,000 ns by default."""
    _prctl(_PR_SET_TIMERSLACK, slack_ns)


def die_with_parent() -> None:
    """Asks the kernel to kill this process when the thread that spawned it ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_with_parent() -> None:
    """Asks the kernel to send this process SIGTERM when the thread that spawned it ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
