"""Every row reaches the broker, whatever breaks; live rows never wait for old ones; history comes in order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.outbox import IN_FLIGHT_MAX, WAITING_MAX, Delivered, Outbox, Row, RowsRead, Topic

NS_PER_S = 1_000_000_000


@dataclass
class Message:
    topic: Topic
    row: int
    acknowledged: bool = False

    def is_published(self) -> bool:
        return self.acknowledged


@dataclass
class Wire:
    """A broker that may take only so many more."""

    room: int = 10**9
    sent: list[Message] = field(default_factory=list)
    gone_rows: set[int] = field(default_factory=set)
    waiting_rows: set[int] = field(default_factory=set)
    reads: int = 0

    def send(self, topic: Topic, payload: bytes) -> Message | None:
        if self.room == 0:
            return None
        self.room -= 1
        self.sent.append(Message(topic, int(payload)))
        return self.sent[-1]

    def read(self, first: int, last: int, count_max: int) -> RowsRead:
        self.reads += 1
        through = first - 1
        rows: list[Row] = []
        for row in range(first, last + 1):
            if row in self.waiting_rows:
                return RowsRead(rows, through, "the disk is away")
            if row not in self.gone_rows:
                rows.append((row, str(row).encode()))
            through = row
            if len(rows) == count_max or through == first + 99:
                break
        return RowsRead(rows, through)

    def acknowledge(self, count: int = 10**9) -> None:
        for message in [message for message in self.sent if not message.acknowledged][:count]:
            message.acknowledged = True

    def rows(self, topic: Topic) -> list[int]:
        return [message.row for message in self.sent if message.topic == topic]


def outbox_on(wire: Wire, delivered: Delivered | None = None, last_row: int = 0, rate: float = 1e9) -> Outbox:
    delivered = Delivered() if delivered is None else delivered
    return Outbox(delivered, last_row, history_per_s=rate, send=wire.send, read=wire.read)


def held_rows(delivered: Delivered) -> list[int]:
    return [row for first, last in delivered.held for row in range(first, last + 1)]


def test_live_rows_go_out_at_once_and_once() -> None:
    wire = Wire()
    outbox = outbox_on(wire)
    outbox.turn(1, 0)
    outbox.committed(3, 0)
    outbox.turn(1, 0)
    outbox.turn(1, 0)
    assert wire.rows("result") == [1, 2, 3]
    assert outbox.delivered() == Delivered(0, ())
    wire.acknowledge(2)
    outbox.turn(1, 0)
    assert outbox.delivered() == Delivered(2, ())
    wire.acknowledge()
    outbox.turn(1, 0)
    assert (outbox.delivered(), outbox.in_flight_count, wire.rows("history")) == (Delivered(3, ()), 0, [])


def test_what_an_outage_held_back_goes_out_on_history_in_order() -> None:
    wire = Wire()
    outbox = outbox_on(wire)
    outbox.turn(1, 0)
    outbox.committed(2, 0)
    outbox.turn(1, 0)
    wire.acknowledge(1)
    outbox.turn(None, 0)
    outbox.committed(5, 0)
    outbox.turn(None, NS_PER_S)
    # Row 1's acknowledgement was read by nobody before the connection broke; the others may still be told live.
    assert outbox.delivered() == Delivered(2, ((1, 2),))
    outbox.turn(None, NS_PER_S + 1)
    assert outbox.delivered() == Delivered(5, ((1, 5),))
    outbox.turn(2, 2 * NS_PER_S)
    outbox.committed(6, 2 * NS_PER_S)
    outbox.turn(2, 2 * NS_PER_S)
    assert wire.rows("result") == [1, 2, 6]
    assert wire.rows("history") == [1, 2, 3, 4, 5]
    wire.acknowledge()
    outbox.turn(2, 2 * NS_PER_S)
    assert outbox.delivered() == Delivered(6, ())


def test_history_keeps_its_rate_and_lets_live_rows_go_first() -> None:
    wire = Wire()
    outbox = outbox_on(wire, last_row=1_000, rate=100.0)
    now_ns = 10 * NS_PER_S
    outbox.turn(1, now_ns)
    counts = []
    for step in range(1, 101):
        outbox.committed(1_000 + step, now_ns)
        outbox.turn(1, now_ns + step * NS_PER_S // 100)
        wire.acknowledge()
        counts.append(len(wire.rows("history")))
        assert wire.sent[-1].topic == "history" or step == 0
        assert wire.rows("result") == list(range(1_001, 1_001 + step))
    assert 95 <= counts[-1] - counts[0] <= 101
    wire.room = 1
    outbox.committed(1_101, now_ns + 5 * NS_PER_S)
    outbox.turn(1, now_ns + 5 * NS_PER_S)
    assert wire.sent[-1].topic == "result"


def test_a_hiccup_holds_nothing_back() -> None:
    wire = Wire()
    outbox = outbox_on(wire)
    outbox.turn(None, 0)
    outbox.committed(3, 0)
    outbox.turn(None, NS_PER_S // 2)
    outbox.turn(1, NS_PER_S)
    assert wire.rows("result") == [1, 2, 3]


def test_too_many_at_once_are_no_live_ones_any_more() -> None:
    wire = Wire(room=0)
    outbox = outbox_on(wire)
    outbox.turn(1, 0)
    outbox.committed(WAITING_MAX, 0)
    assert outbox.held_count == 0
    outbox.committed(WAITING_MAX + 1, 0)
    assert outbox.held_count == WAITING_MAX + 1
    wire.room = 10**9
    outbox.turn(1, NS_PER_S)
    assert len(wire.sent) == IN_FLIGHT_MAX
    assert wire.rows("result") == []


def test_rows_that_nobody_can_read_any_more_hold_up_nothing() -> None:
    wire = Wire(gone_rows={*range(1, 251), 300, *range(400, 500)})
    outbox = outbox_on(wire, last_row=499)
    for step in range(20):
        outbox.turn(1, step * NS_PER_S)
        wire.acknowledge()
    assert wire.rows("history") == [*range(251, 300), *range(301, 400)]
    assert outbox.delivered() == Delivered(499, ())
    assert outbox.next_turn_ns() is None
    assert {row for first, last in outbox.gone for row in range(first, last + 1)} == wire.gone_rows
    assert sum(last - first + 1 for first, last in outbox.gone) == len(wire.gone_rows)


def test_rows_that_cannot_be_read_now_stay_held_back_and_are_told_later_in_order() -> None:
    wire = Wire(waiting_rows={30, 31})
    outbox = outbox_on(wire, last_row=60)
    for step in range(5):
        outbox.turn(1, step * NS_PER_S)
        wire.acknowledge()
    assert wire.rows("history") == [*range(1, 30)]
    assert (outbox.fault, outbox.delivered().held) == ("the disk is away", ((30, 60),))
    assert outbox.next_turn_ns() == 4 * NS_PER_S + NS_PER_S // 2
    wire.waiting_rows.clear()
    for step in range(5, 8):
        outbox.turn(1, step * NS_PER_S)
        wire.acknowledge()
    assert wire.rows("history") == [*range(1, 61)]
    assert (outbox.fault, outbox.delivered(), [*outbox.gone]) == ("", Delivered(60, ()), [])


def test_a_live_row_that_cannot_be_read_now_is_held_back_for_later() -> None:
    wire = Wire(waiting_rows={2})
    outbox = outbox_on(wire)
    outbox.turn(1, 0)
    outbox.committed(3, 0)
    for now_ns in (0, 1, NS_PER_S + 1):
        outbox.turn(1, now_ns)
    assert outbox.next_turn_ns() is not None
    wire.waiting_rows.clear()
    outbox.turn(1, 2 * NS_PER_S)
    assert (wire.rows("result"), wire.rows("history")) == ([1], [2, 3])


def test_history_wakes_nobody_while_live_rows_wait_for_the_broker() -> None:
    wire = Wire()
    outbox = outbox_on(wire, Delivered(1_000, ((1, 900),)), 1_000)
    outbox.turn(1, 0)
    outbox.committed(1_000 + IN_FLIGHT_MAX + 1, NS_PER_S)
    outbox.turn(1, NS_PER_S)
    assert len(wire.rows("result")) == IN_FLIGHT_MAX
    assert outbox.next_turn_ns() is None


def test_a_clogged_socket_is_waited_for_by_its_descriptor() -> None:
    wire = Wire(room=10)
    outbox = outbox_on(wire, last_row=500)
    outbox.turn(1, NS_PER_S)
    assert outbox.next_turn_ns() is None
    wire.room = 10
    wire.acknowledge(1)
    outbox.turn(1, NS_PER_S)
    assert wire.rows("history") == [*range(1, 21)]


def test_what_is_in_flight_is_waited_for_by_the_descriptor() -> None:
    outbox = outbox_on(Wire(), last_row=20)
    outbox.turn(1, NS_PER_S)
    assert (outbox.in_flight_count, outbox.next_turn_ns()) == (20, None)


def test_many_rows_that_are_gone_take_a_few_reads_a_turn() -> None:
    wire = Wire(gone_rows={*range(1, 2_001)})
    outbox = outbox_on(wire, last_row=2_001)
    turns = 0
    while not wire.sent:
        before = wire.reads
        outbox.turn(1, NS_PER_S)
        assert wire.reads - before <= 4
        due_ns = outbox.next_turn_ns()
        assert due_ns is None if wire.sent else due_ns is not None and due_ns <= NS_PER_S
        turns += 1
    assert turns <= 6
    assert sum(last - first + 1 for first, last in outbox.gone) == 2_000


class AnyOrder(RuleBasedStateMachine):
    """Commits, acknowledgements, lost connections, a clogged socket, kills with what was last kept."""

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire()
        self.now_ns = 0
        self.last_row = 0
        self.connections = 1
        self.connection: int | None = 1
        self.kept = Delivered()
        self.outbox = outbox_on(self.wire, rate=1_000.0)
        self.breaks = 0

    @rule(count=st.integers(1, 300), is_live=st.booleans())
    def commit(self, count: int, is_live: bool) -> None:
        self.last_row += count
        self.outbox.committed(self.last_row, self.now_ns, is_live=is_live)
        self.kept = self.outbox.delivered()

    @rule(ms=st.integers(0, 500))
    def turn(self, ms: int) -> None:
        self.now_ns += ms * 1_000_000
        self.outbox.turn(self.connection, self.now_ns)

    @rule(count=st.integers(1, 300))
    def acknowledge(self, count: int) -> None:
        self.wire.acknowledge(count)

    @rule(room=st.sampled_from([0, 1, 50, 10**9]))
    def clog(self, room: int) -> None:
        self.wire.room = room

    @rule()
    def lose_connection(self) -> None:
        self.connection = None
        self.breaks += 1
        # What was in flight is with the broker or not: nobody will say.
        self.wire.sent = [message for message in self.wire.sent if message.acknowledged]

    @precondition(lambda self: self.connection is None)
    @rule()
    def connect(self) -> None:
        self.connections += 1
        self.connection = self.connections

    @rule()
    def kill(self) -> None:
        self.breaks += 1
        self.wire.sent = [message for message in self.wire.sent if message.acknowledged]
        self.connections += 1
        self.connection = self.connections
        self.outbox = outbox_on(self.wire, self.kept, self.last_row, rate=1_000.0)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        acknowledged = {message.row for message in self.wire.sent if message.acknowledged}
        delivered = self.outbox.delivered()
        held = set(held_rows(delivered))
        assert held | acknowledged >= set(range(1, delivered.live_row + 1))
        assert all(first <= last for first, last in delivered.held)
        assert held_rows(delivered) == sorted(held)

    @invariant()
    def each_row_is_told_once_but_for_what_a_break_makes_doubtful(self) -> None:
        told = Counter(message.row for message in self.wire.sent)
        assert max(told.values(), default=0) <= 1 + self.breaks
        assert max(Counter(self.wire.rows("result")).values(), default=0) <= 1

    def teardown(self) -> None:
        self.wire.room = 10**9
        self.connection = self.connections = self.connections + 1
        for _ in range(2 + self.last_row // 50):
            self.now_ns += NS_PER_S
            self.outbox.turn(self.connection, self.now_ns)
            self.wire.acknowledge()
        self.outbox.turn(self.connection, self.now_ns)
        assert {message.row for message in self.wire.sent} == set(range(1, self.last_row + 1))
        assert self.outbox.delivered() == Delivered(self.last_row, ())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
