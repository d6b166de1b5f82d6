"""Which of the record's rows the broker has, and telling it the others: live ones on ``result``, held back ones on ``history``.

A row is delivered when the broker has acknowledged it. What could not be told live (no connection, a connection that broke
before the acknowledgement, too many rows at once, a restart) is *held back*: it goes out on ``history``, in the record's
order, slowly enough that live rows never wait for it. Rows are known by their numbers alone; what they say is read from the
record when it is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from pipeline.clock import NS_PER_S

Topic: TypeAlias = Literal["result", "history"]
Row: TypeAlias = tuple[int, bytes]
"""Its number and its payload."""

IN_FLIGHT_MAX = 200
"""Rows handed to the socket and not acknowledged yet, of each kind."""
WAITING_MAX = 2_000
WAITING_MAX_NS = NS_PER_S
"""So many rows wait for the socket, and the oldest so long, before they are held back: live means of use now."""
_ROWS_AT_ONCE = 100
_READS_A_TURN = 4
"""Of rows held back: where they are gone there is nothing to send, and the next turn goes on behind them."""
_RETRY_NS = NS_PER_S // 2


class Fate(Protocol):
    """Of one message on one connection."""

    def is_published(self) -> bool:
        """Whether the broker has acknowledged it."""


@dataclass(frozen=True, slots=True)
class RowsRead:
    """What was found of an interval of rows.

    Attributes:
        rows: ascending, no more than were asked for.
        through: up to here it was looked through: what is not among ``rows`` is gone, dropped or damaged.
        fault: why what comes behind cannot be read now; empty where it was not looked for.
    """

    rows: Sequence[Row]
    through: int
    fault: str = ""


class Read(Protocol):
    """Reads rows of the record."""

    def __call__(self, first: int, last: int, count_max: int) -> RowsRead:
        """The first rows that are there of this interval. It may stop before its end, but gets on, or names a fault."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What has to outlive the process.

    Attributes:
        live_row: up to here every row is acknowledged, or held back.
        held: intervals of rows, first and last, ascending and apart, to be told on ``history``.
    """

    live_row: int = 0
    held: tuple[tuple[int, int], ...] = ()


class Outbox:
    """``send`` hands a payload to the socket, or says None.

    Attributes:
        fault: why rows that are held back cannot be read now; they stay held back. Empty while they can.
        gone: intervals of rows that the broker may not have and nobody can tell it any more; whoever reads them takes them out.
    """

    def __init__(
        self,
        delivered: Delivered,
        last_row: int,
        *,
        history_per_s: float,
        send: Callable[[Topic, bytes], Fate | None],
        read: Read,
    ) -> None:
        self._held = [*delivered.held]
        self._last_row = last_row
        self._next_live_row = last_row + 1
        self._waiting_since_ns = 0
        self._live: deque[tuple[int, Fate]] = deque()
        self._history: deque[tuple[int, Fate]] = deque()
        self._next_history_row = 0
        """Rows of ``held`` before it are in flight."""
        self._history_per_s = history_per_s
        self._history_from_ns = 0
        """At the rate asked for, the next row is due then."""
        self._retry_ns = 0
        """Rows that cannot be read now are tried again then."""
        self._is_clogged = False
        """Whether the socket took no more; a descriptor tells when it does."""
        self._gone_row = 0
        """Up to here what is gone was told."""
        self._connection: int | None = None
        self._send = send
        self._read = read
        self.fault = ""
        self.gone: deque[tuple[int, int]] = deque()
        self._hold(delivered.live_row + 1, last_row)

    @property
    def held_count(self) -> int:
        """Rows that are held back."""
        return sum(last - first + 1 for first, last in self._held)

    @property
    def in_flight_count(self) -> int:
        """Rows that the broker may have, and has not acknowledged."""
        return len(self._live) + len(self._history)

    @property
    def first_wanted_row(self) -> int:
        """Of the rows that the broker may not have the first; the one after the last where it has all."""
        delivered = self.delivered()
        return delivered.held[0][0] if delivered.held else delivered.live_row + 1

    def delivered(self) -> Delivered:
        """As it stands now."""
        live_row = self._live[0][0] - 1 if self._live else self._next_live_row - 1
        return Delivered(live_row, tuple(self._held))

    def committed(self, last_row: int, now_ns: int, *, is_live: bool = True) -> None:
        """Rows up to this one are on record now."""
        if self._next_live_row > self._last_row:
            self._waiting_since_ns = now_ns
        self._last_row = last_row
        if not is_live or last_row - self._next_live_row >= WAITING_MAX:
            self._hold_waiting()

    def turn(self, connection: int | None, now_ns: int) -> None:
        """``connection`` numbers the connections that there were; None where there is none."""
        if connection != self._connection:
            self._connection = connection
            self._connection_lost()
        if connection is not None:
            self._turn_connected(now_ns)
        if self._next_live_row <= self._last_row and now_ns - self._waiting_since_ns > WAITING_MAX_NS:
            self._hold_waiting()

    def _turn_connected(self, now_ns: int) -> None:
        while self._live and self._live[0][1].is_published():
            self._live.popleft()
        while self._history and self._history[0][1].is_published():
            self._let_go(self._history.popleft()[0])
        self._is_clogged = False
        self._send_live(now_ns)
        if self._next_live_row > self._last_row:
            self._send_history(now_ns)
        if not self._history:
            # With the broker, or gone: retention has dropped them, or their file is damaged.
            self._let_go(self._next_history_row - 1)

    def next_turn_ns(self) -> int | None:
        """When something is due that no descriptor tells of; None where nothing is."""
        is_waiting = bool(self._held) and self._held[-1][1] >= self._next_history_row
        # Behind live rows, and where the socket takes no more, it waits for the broker.
        is_free = self._next_live_row > self._last_row and not self._is_clogged and len(self._history) < IN_FLIGHT_MAX
        is_due = self._connection is not None and is_waiting and is_free
        return max(self._history_from_ns, self._retry_ns) if is_due else None

    def _send_live(self, now_ns: int) -> None:
        while self._next_live_row <= self._last_row and len(self._live) < IN_FLIGHT_MAX:
            count = min(_ROWS_AT_ONCE, IN_FLIGHT_MAX - len(self._live))
            found = self._read(self._next_live_row, self._last_row, count)
            for row, payload in found.rows:
                fate = self._send("result", payload)
                if fate is None:
                    self._is_clogged = True
                    return
                self._live.append((row, fate))
                self._pass_over(self._next_live_row, row)
                self._next_live_row = row + 1
                self._waiting_since_ns = now_ns  # as long as the socket takes some
            self._pass_over(self._next_live_row, found.through + 1)
            self._next_live_row = found.through + 1
            if found.fault:
                return  # they are held back, when they have waited long enough

    def _send_history(self, now_ns: int) -> None:
        interval_ns = round(NS_PER_S / self._history_per_s)
        self._history_from_ns = max(self._history_from_ns, now_ns - NS_PER_S // 10)
        for _ in range(_READS_A_TURN):
            if max(self._history_from_ns, self._retry_ns) > now_ns or len(self._history) >= IN_FLIGHT_MAX:
                return
            asked = next(
                (
                    (max(first, self._next_history_row), last)
                    for first, last in self._held
                    if last >= self._next_history_row
                ),
                None,
            )
            if asked is None:
                self.fault = ""
                return
            due_count = (now_ns - self._history_from_ns) // interval_ns + 1
            count = min(_ROWS_AT_ONCE, IN_FLIGHT_MAX - len(self._history), due_count)
            self._next_history_row, last = asked
            found = self._read(self._next_history_row, last, count)
            for row, payload in found.rows:
                fate = self._send("history", payload)
                if fate is None:
                    self._is_clogged = True
                    return
                self._history.append((row, fate))
                self._pass_over(self._next_history_row, row)
                self._next_history_row = row + 1
                self._history_from_ns += interval_ns
            self._pass_over(self._next_history_row, found.through + 1)
            self._next_history_row = found.through + 1
            self.fault = found.fault
            if found.fault:
                self._retry_ns = now_ns + _RETRY_NS

    def _pass_over(self, first: int, end: int) -> None:
        """Rows from ``first`` on and before ``end`` are gone; a lost connection leads past them again."""
        first = max(first, self._gone_row + 1)
        if first < end:
            self.gone.append((first, end - 1))
            self._gone_row = end - 1

    def _connection_lost(self) -> None:
        if self._live:
            self._hold(self._live[0][0], self._live[-1][0])
            self._live.clear()
        self._history.clear()
        self._next_history_row = 0

    def _hold_waiting(self) -> None:
        self._hold(self._next_live_row, self._last_row)
        self._next_live_row = self._last_row + 1

    def _hold(self, first: int, last: int) -> None:
        if first > last:
            return
        merged: list[tuple[int, int]] = []
        for interval in sorted([*self._held, (first, last)]):
            if merged and interval[0] <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], interval[1]))
            else:
                merged.append(interval)
        self._held = merged

    def _let_go(self, row: int) -> None:
        """Everything held back up to this row is with the broker, or gone."""
        self._held = [(max(first, row + 1), last) for first, last in self._held if last > row]
