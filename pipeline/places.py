"""The places in the line-up, one for each worker: the process that fills it now, the link to it, and when it is filled again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.channel import Link, PeerGone, TooLong, link_pair
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config_sections import SupervisionConfig
from pipeline.messages import Message, Ready, Role

_SOURCE_ROOT = Path(__file__).resolve().parents[1]
_DOUBLINGS_MAX = 20


class DiesTooOften(RuntimeError):
    """A worker needs more restarts than are allowed."""


@dataclass(slots=True, eq=False)
class Place:
    """One worker's place. ``tell`` gets words for whoever watches."""

    role: Role
    camera_id: str | None
    tell: Callable[[str], None]
    incarnation: int = 0
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    control: Link | None = None
    unsent: deque[tuple[Message, tuple[int, ...]]] = field(default_factory=deque)
    ready: Ready | None = None
    stopped: bool = False
    hung_up: bool = False
    """Whether it has closed its link. It may take its time to end."""
    status: int | None = None
    """How the last incarnation ended."""
    last_words: str = ""
    """Why it ended, where it said so itself."""
    heard_ns: int = 0
    killed_ns: int | None = None
    """When it was killed for its silence; it may take its time to die, stuck in the kernel on a disk or a device."""
    start_at_ns: int = 0
    deaths_ns: deque[int] = field(default_factory=deque)
    counters: dict[str, int] = field(default_factory=dict)
    counters_of_the_dead: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.role if self.camera_id is None else f"{self.role} {self.camera_id}"

    @property
    def is_needed(self) -> bool:
        """Whether parts cannot be judged without it, or not be recorded."""
        return self.role != "images"

    @property
    def death_code(self) -> str:
        """The alarm for its death."""
        return "worker" if self.is_needed else f"worker-{self.role}"

    @property
    def silence_code(self) -> str:
        return f"silent-{self.role}" if self.camera_id is None else f"silent-{self.role}-{self.camera_id}"

    def patience_s(self, supervision: SupervisionConfig) -> tuple[float, float]:
        """Silent for so long it is spoken of, and killed for so long."""
        if self.ready is None:
            return supervision.warm_up_timeout_s / 2, supervision.warm_up_timeout_s
        lags = self.role in ("records", "images")
        patience_s = supervision.records_silent_after_s if lags else supervision.silent_after_s
        return min(patience_s / 2, supervision.silent_after_s), patience_s

    def total(self, counter: str) -> int:
        return self.counters.get(counter, 0) + self.counters_of_the_dead.get(counter, 0)

    def spawn(self) -> None:
        """The next incarnation. Raises OSError where the box has no process, memory or descriptor to spare."""
        self.incarnation += 1
        ours, theirs = link_pair()
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"pipeline.{self.role}", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    # `-m` looks in the working directory first, which may hold a package of one of our names.
                    cwd=_SOURCE_ROOT,
                    # A Ctrl-C at the terminal is the supervisor's to act on.
                    start_new_session=True,
                )
            try:
                self.pidfd = os.pidfd_open(process.pid)
            except OSError:
                process.kill()
                process.wait()
                raise
        except OSError:
            ours.close()
            raise
        self.process = process
        self.control = Link(ours)
        self.last_words = ""
        self.ready = None
        self.stopped = False
        self.hung_up = False
        self.killed_ns = None
        self.heard_ns = now_ns()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """In order; what the worker does not take now waits for it with descriptors of its own."""
        if self.control is None:
            return
        self.unsent.append((message, tuple(os.dup(descriptor) for descriptor in descriptors)))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as it is taken."""
        if self.control is None:
            return
        try:
            while self.unsent and self.control.send(*self.unsent[0]):
                self._drop_first()
        except TooLong as error:
            self._drop_first()
            self.tell(f"lineside: error: not told to {self.name}: {error}")
        except PeerGone:
            # Its death is seen at its pidfd.
            self._drop_unsent()

    def clear(self) -> None:
        """The worker is dead and waited for: nobody fills this place now. Sets ``status``."""
        assert self.process is not None
        assert self.control is not None
        self.status = self.process.returncode
        self.control.close()
        os.close(self.pidfd)
        self._drop_unsent()
        for counter, value in self.counters.items():
            self.counters_of_the_dead[counter] = self.counters_of_the_dead.get(counter, 0) + value
        self.process, self.control, self.pidfd, self.counters = None, None, -1, {}
        self.ready = None

    def plan_restart(self, supervision: SupervisionConfig) -> str:
        """When it is filled again; the text says how it came to be empty. Raises DiesTooOften, but for one that is not
        needed.
        """
        assert self.status is not None
        status, now = self.status, now_ns()
        cause = f"killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        if self.last_words:
            cause, self.last_words = f"{cause} ({self.last_words})", ""
        self.deaths_ns.append(now)
        while now - self.deaths_ns[0] > supervision.restarts_within_s * NS_PER_S:
            self.deaths_ns.popleft()
        if self.is_needed and len(self.deaths_ns) > supervision.restarts_max_count:
            raise DiesTooOften(
                f"{self.name} died {len(self.deaths_ns)} times within {supervision.restarts_within_s:g} s, "
                f"the last time {cause}; at most {supervision.restarts_max_count} restarts are allowed"
            )
        doublings = min(len(self.deaths_ns) - 1, _DOUBLINGS_MAX)
        back_off_s = min(supervision.back_off_first_s * 2**doublings, supervision.back_off_max_s)
        self.start_at_ns = now + int(back_off_s * NS_PER_S)
        return f"{self.name} {cause}; restarting"

    def _drop_unsent(self) -> None:
        while self.unsent:
            self._drop_first()

    def _drop_first(self) -> None:
        for descriptor in self.unsent.popleft()[1]:
            os.close(descriptor)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # most real-time signals have no name
