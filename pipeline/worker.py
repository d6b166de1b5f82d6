"""What every worker process has in common: its tie to the supervisor.

A worker is started as ``python -m pipeline.<role> DESCRIPTOR``. On the link behind that descriptor it gets its
``Configure``, then ends of links to its peers; it answers with ``Ready``, then ``Alive`` as long as its loop turns.
EOF on it means that the supervisor is dead.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import select
import signal
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from pipeline.channel import Link, PeerGone, TooLong
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.config import Line
from pipeline.ledger import BadLedger, Ledger
from pipeline.ledger_file import LedgerFile
from pipeline.messages import Alarm, Alive, AnyMessage, Configure, Fatal, LedgerOffer, Message, Role, Severity
from pipeline.realtime import take_cores, take_priority, take_urgency

ALIVE_INTERVAL_NS = 200 * NS_PER_MS
_ORPHAN_ALARM_S = 5
_ALARM_TEXT_MAX = 1_000
_FATAL_TEXT_MAX = 10_000
_PR_SET_PDEATHSIG = 1


class Supervised:
    """A worker's end of the link to the supervisor."""

    def __init__(self, control: Link, configure: Configure, line: Line) -> None:
        self.control = control
        self.configure = configure
        self.line = line
        self.orphaned = False
        self._pending: deque[Message] = deque()
        self._next_alive_ns = 0
        self._raised: dict[str, str] = {}
        self._expires_ns: dict[str, int] = {}
        self.not_granted: list[str] = []
        """What the kernel did not permit, in words."""

    def fileno(self) -> int:
        return self.control.fileno()

    def post(self, message: Message) -> None:
        """Tell the supervisor, now or as soon as it reads again."""
        self._pending.append(message)
        self._flush()

    def alarm(self, code: str, severity: Severity, text: str, *, lasts_s: float | None = None) -> None:
        """Raise an alarm; saying the same again costs nothing. ``lasts_s``: taken back by itself when not said again."""
        text = _cut(text, _ALARM_TEXT_MAX)
        if lasts_s is not None:
            self._expires_ns[code] = now_ns() + int(lasts_s * NS_PER_S)
        if self._raised.get(code) != text:
            self._raised[code] = text
            self.post(Alarm(code, severity, text, raised=True))

    def clear_alarm(self, code: str) -> None:
        if self._raised.pop(code, None) is not None:
            self.post(Alarm(code, "warning", "", raised=False))

    def alive(self, counters: dict[str, int]) -> None:
        """To be called at every turn of the loop; sends now and then."""
        now = now_ns()
        if now < self._next_alive_ns:
            return
        self._next_alive_ns = now + ALIVE_INTERVAL_NS
        for code in [code for code, expires_ns in self._expires_ns.items() if expires_ns <= now]:
            del self._expires_ns[code]
            self.clear_alarm(code)
        self.say_alive(counters)

    def say_alive(self, counters: dict[str, int]) -> None:
        """Now, as far as the supervisor takes it: a worker's last counts."""
        self._flush()
        if not self._pending and not self.orphaned:
            try:
                self.control.send(Alive(counters))
            except PeerGone:
                self._orphan()

    @property
    def next_alive_ns(self) -> int:
        return self._next_alive_ns

    def received(self) -> Iterator[tuple[AnyMessage, list[int]]]:
        """Messages with their descriptors; sets ``orphaned`` at EOF."""
        while not self.orphaned:
            try:
                received = self.control.receive()
            except PeerGone:
                self._orphan()
                return
            if received is None:
                return
            yield received

    def _flush(self) -> None:
        try:
            while self._pending and not self.orphaned and self.control.send(self._pending[0]):
                self._pending.popleft()
        except TooLong as error:
            # Lost, and said so: better than a worker that dies of it again and again.
            self._pending.popleft()
            self.alarm("message-lost", "error", f"{self.configure.role}: {error}")
        except PeerGone:
            self._orphan()

    def _orphan(self) -> None:
        if not self.orphaned:
            self.orphaned = True
            # Whatever the orderly end then waits for, it does not wait for ever.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_ORPHAN_ALARM_S)


def attach(role: Role, *, dies_with_supervisor: bool) -> Supervised:
    """Take up the link named on the command line and wait for the configuration.

    ``dies_with_supervisor``: the kernel kills this worker with the supervisor, even while it hangs in a driver. Otherwise
    the kernel only wakes it, were it stopped, so that it can close its books.
    """
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        sys.exit(f"lineside {role}: started by `lineside run`, not by hand")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    death_signal = signal.SIGKILL if dies_with_supervisor else signal.SIGCONT
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    take_priority(role)
    control = Link.from_descriptor(int(sys.argv[1]))
    select.select([control], [], [])
    try:
        received = control.receive()
    except PeerGone:
        sys.exit(1)
    assert received is not None
    configure, _ = received
    assert isinstance(configure, Configure), f"the first message to a worker is its configuration, got {configure}"
    supervised = Supervised(control, configure, Line.from_json(configure.line_json))
    supervised.not_granted += take_cores(role, supervised.line.config.realtime)
    return supervised


def map_ledger(supervised: Supervised) -> tuple[LedgerFile, Ledger]:
    """The ledger, which comes right after the configuration to those who write to it. One that is damaged ends the service."""
    while not supervised.orphaned:
        select.select([supervised], [], [])
        for message, descriptors in supervised.received():
            if isinstance(message, LedgerOffer):
                file = LedgerFile(descriptors[0], Path(message.path) if message.path is not None else None)
                try:
                    return file, Ledger(file.descriptor)
                except BadLedger as error:
                    refuse(supervised, f"ledger {file.path}: {error}; start the service again", malformed=False)
    raise SystemExit(1)


def refuse(supervised: Supervised, text: str, *, malformed: bool) -> NoReturn:
    """End because the configuration cannot run; restarting would not help. See ``Fatal``."""
    with contextlib.suppress(PeerGone):
        supervised.control.send(Fatal(_cut(text, _FATAL_TEXT_MAX), malformed))
    sys.exit(3)


def settle(supervised: Supervised) -> None:
    """After warm-up: what is alive now lives for ever, so the collector need never look at it again; and the process may go
    first and stay in memory, as configured.
    """
    gc.collect()
    gc.freeze()
    configure = supervised.configure
    supervised.not_granted += take_urgency(configure.role, supervised.line.config.realtime)
    if supervised.not_granted:
        place = configure.role if configure.camera_id is None else f"{configure.role}-{configure.camera_id}"
        supervised.alarm(f"realtime-{place}", "warning", "; ".join(supervised.not_granted))


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[:length_max]}..."
