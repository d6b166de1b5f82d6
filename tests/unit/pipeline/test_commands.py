"""Commands: read off the wire, told apart when told twice, and judged by the heartbeat they name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.channel import Link, link_pair
from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.command_relay import REMEMBERED_MAX, UNDER_WAY_MAX, CommandRelay
from pipeline.commands import (
    COMMANDS_AT_ONCE,
    COMMANDS_PER_S,
    CORRELATION_BYTES_MAX,
    Arrived,
    CommandInbox,
    reply_payload,
)
from pipeline.deadline import Decision
from pipeline.ledger import LedgerEntry
from pipeline.line_watch import FRESH_NS, LineWatch
from pipeline.messages import (
    Admitted,
    Alarm,
    Command,
    CommandReply,
    Configure,
    GiveReview,
    Halt,
    LineClear,
    Permission,
    SetTraceability,
)
from pipeline.worker import Supervised
from tests.unit.pipeline.small_line import LINE
from vision.types import Reason, Verdict

ROOT = "plant/line"
PAYLOAD = {"schema": "lineside.command/1", "request_id": "r1", "session_id": "s", "heartbeat_count": 5, "who": "Anna"}
COMMAND = Command("halt", "r1", "s", 5, "Anna", f"{ROOT}/cmd/halt/reply", None)
RUNNING = Permission("RUNNING", "")


def arrived(
    name: str = "halt", payload: object = PAYLOAD, *, retain: bool = False, topic: str | None = None
) -> Arrived:
    return Arrived(name, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), retain, topic, b"c")


# --- the inbox -------------------------------------------------------------------------------------------------


def test_a_command_is_read() -> None:
    assert CommandInbox(ROOT).take(arrived(payload={**PAYLOAD, "one_day": 1}), 0) == msgspec.structs.replace(
        COMMAND, correlation=b"c"
    )
    taken = CommandInbox(ROOT).take(arrived(topic="desk/7"), 0)
    assert taken == msgspec.structs.replace(COMMAND, reply_topic="desk/7", correlation=b"c")


@given(st.binary(max_size=200), st.text(max_size=20), st.booleans(), st.none() | st.text(max_size=300))
def test_whatever_comes_is_answered(payload: bytes, name: str, retain: bool, topic: str | None) -> None:
    taken = CommandInbox(ROOT).take(Arrived(name, payload, retain, topic, None), 0)
    assert isinstance(taken, CommandReply)
    assert not taken.ok
    assert taken.text
    assert taken.reply_topic in (topic, f"{ROOT}/cmd/{name}/reply")
    assert json.loads(reply_payload(taken, "s"))["command"] == name


def test_a_command_with_an_endless_name_is_answered_below_a_short_one() -> None:
    taken = CommandInbox(ROOT).take(arrived("n" * 65_000), 0)
    assert isinstance(taken, CommandReply)
    assert (taken.name, taken.reply_topic) == ("n" * 64, f"{ROOT}/cmd/{'n' * 64}/reply")


@pytest.mark.parametrize(
    "topic",
    [f"{ROOT}/verdict", f"{ROOT}/cmd/halt", f"{ROOT}/cmd/resume", "$SYS/x", "a/" * 40, "x" * 300, "a/+", "a/#", "\0"],
)
def test_answers_go_to_no_topic_of_the_service(topic: str) -> None:
    taken = CommandInbox(ROOT).take(arrived(topic=topic), 0)
    assert isinstance(taken, CommandReply)
    assert taken.reply_topic == f"{ROOT}/cmd/halt/reply"
    assert "response topic" in taken.text


def test_correlation_data_come_back_up_to_a_length() -> None:
    longest = b"c" * CORRELATION_BYTES_MAX
    taken = CommandInbox(ROOT).take(replace(arrived(), correlation=longest), 0)
    assert isinstance(taken, Command)
    assert taken.correlation == longest
    refusal = CommandInbox(ROOT).take(replace(arrived(topic="desk/7"), correlation=longest + b"c"), 0)
    assert isinstance(refusal, CommandReply)
    assert (refusal.reply_topic, refusal.correlation) == ("desk/7", None)
    assert "correlation data: got 257 bytes" in refusal.text


@given(st.lists(st.integers(0, NS_PER_S), max_size=200))
def test_no_more_than_the_rate_is_read(gaps_ns: list[int]) -> None:
    inbox, now_ns, taken_ns = CommandInbox(ROOT), 0, []
    for gap_ns in gaps_ns:
        now_ns += gap_ns
        if isinstance(inbox.take(arrived(), now_ns), Command):
            taken_ns.append(now_ns)
    for first in range(len(taken_ns)):
        for last in range(first, len(taken_ns)):
            span_ns = taken_ns[last] - taken_ns[first]
            assert last - first + 1 <= COMMANDS_AT_ONCE + span_ns * COMMANDS_PER_S / NS_PER_S


def test_what_is_remembered_covers_what_can_still_be_fresh() -> None:
    assert FRESH_NS // NS_PER_S * COMMANDS_PER_S + COMMANDS_AT_ONCE <= REMEMBERED_MAX


REVIEW = {**PAYLOAD, "part_id": 7, "said": "good"}


@pytest.mark.parametrize(
    ("name", "payload", "parameters"),
    [
        ("set_traceability", {**PAYLOAD, "lot": "L-1"}, SetTraceability({"lot": "L-1"})),
        (
            "set_traceability",
            {**PAYLOAD, "shift": None, "serial": "Ö 7", "else": 1},
            SetTraceability({"serial": "Ö 7", "shift": None}),
        ),
        ("review", REVIEW, GiveReview(7, None, "good", "")),
        (
            "review",
            {**REVIEW, "part_session_id": "t", "said": "unclear", "note": "dust?"},
            GiveReview(7, "t", "unclear", "dust?"),
        ),
        ("halt", {**PAYLOAD, "lot": "L-1"}, None),
    ],
)
def test_parameters_are_read(name: str, payload: dict[str, object], parameters: object) -> None:
    taken = CommandInbox(ROOT).take(arrived(name, payload), 0)
    assert isinstance(taken, Command)
    assert (taken.name, taken.parameters) == (name, parameters)


@pytest.mark.parametrize(
    ("name", "payload", "words"),
    [
        ("set_traceability", PAYLOAD, "got no key to set, expected at least one of lot, order, serial, shift"),
        ("set_traceability", {**PAYLOAD, "lot": ""}, "length >= 1 - at `$.lot`"),
        ("set_traceability", {**PAYLOAD, "lot": "x" * 65}, "length <= 64 - at `$.lot`"),
        ("set_traceability", {**PAYLOAD, "lot": 7, "order": "7"}, "Expected `str | null`, got `int` - at `$.lot`"),
        ("set_traceability", {**PAYLOAD, "lot": "a\nb"}, r"lot: got 'a\nb', expected printable characters"),
        ("review", PAYLOAD, "missing required field `part_id`"),
        ("review", {**REVIEW, "part_id": 0}, "Expected `int` >= 1 - at `$.part_id`"),
        ("review", {**REVIEW, "said": "fine"}, "Invalid enum value 'fine' - at `$.said`"),
        ("review", {**REVIEW, "note": "x" * 501}, "length <= 500 - at `$.note`"),
        ("review", {**REVIEW, "note": "\x07"}, r"note: got '\x07', expected printable characters"),
    ],
)
def test_wrong_parameters_are_refused(name: str, payload: dict[str, object], words: str) -> None:
    taken = CommandInbox(ROOT).take(arrived(name, payload), 0)
    assert isinstance(taken, CommandReply)
    assert words in taken.text


# --- the relay -------------------------------------------------------------------------------------------------


def numbered(number: int) -> Command:
    return msgspec.structs.replace(COMMAND, request_id=f"r{number}")


def answer_to(command: Command) -> CommandReply:
    return CommandReply(command.name, command.request_id, True, "done", command.reply_topic, command.correlation)


def test_told_twice_is_passed_on_once_and_answered_twice() -> None:
    relay = CommandRelay()
    assert relay.take(COMMAND, signalling_lives=True) == COMMAND
    assert relay.take(COMMAND, signalling_lives=True) is None
    assert relay.answered(answer_to(COMMAND)) == COMMAND
    elsewhere = msgspec.structs.replace(COMMAND, reply_topic="desk/2", correlation=b"2")
    assert relay.take(elsewhere, signalling_lives=False) == answer_to(elsewhere)
    other = msgspec.structs.replace(COMMAND, name="resume")
    refusal = relay.take(other, signalling_lives=True)
    assert isinstance(refusal, CommandReply)
    assert "used before, for halt" in refusal.text


def test_too_many_under_way_are_refused() -> None:
    relay = CommandRelay()
    taken = [relay.take(numbered(number), signalling_lives=True) for number in range(UNDER_WAY_MAX + 3)]
    assert [isinstance(onward, Command) for onward in taken] == [True] * UNDER_WAY_MAX + [False] * 3
    replies = relay.signalling_died()
    assert len(replies) == UNDER_WAY_MAX
    assert all("signalling died" in reply.text for reply in replies)
    # Whether it was carried out nobody knows: it is not carried out again.
    assert relay.take(numbered(0), signalling_lives=True) == replies[0]
    # Those refused for the crowd were never tried, and may be sent again as they are.
    assert relay.take(numbered(UNDER_WAY_MAX), signalling_lives=True) == numbered(UNDER_WAY_MAX)


def test_without_signalling_there_is_an_answer_too() -> None:
    refusal = CommandRelay().take(COMMAND, signalling_lives=False)
    assert isinstance(refusal, CommandReply)
    assert "try again" in refusal.text


def test_what_is_for_records_waits_for_the_next_records_and_outlives_signalling() -> None:
    relay = CommandRelay()
    for number in (1, 2):
        assert relay.take(numbered(number), signalling_lives=True) == numbered(number)
    relay.admitted(Admitted(numbered(1), 5))
    assert relay.waiting_for_records() == [Admitted(numbered(1), 5)]
    assert [reply.request_id for reply in relay.signalling_died()] == ["r2"]
    assert relay.waiting_for_records() == [Admitted(numbered(1), 5)]
    assert relay.answered(answer_to(numbered(1))) == numbered(1)
    assert relay.waiting_for_records() == []
    # Its predecessor's answer, and then the successor's: one is enough.
    assert relay.answered(answer_to(numbered(1))) is None
    relay.admitted(Admitted(numbered(1), 5))
    assert relay.waiting_for_records() == []


# --- the watch -------------------------------------------------------------------------------------------------

INTERVAL_NS = LINE.config.heartbeat_ms * NS_PER_MS


@dataclass
class Desk:
    """A watch, and what it says to the supervisor."""

    watch: LineWatch
    supervisor: Link
    first_beat: int
    kept: list[str]

    def said(self, kind: type[Halt] | type[Alarm] | type[LineClear]) -> list[object]:
        return [message for message in self.supervisor.drain() if isinstance(message, kind)]

    def ask(
        self, name: str, *, count: int = 1, session: str = "s", at_ns: int = 0, permission: Permission = RUNNING
    ) -> str:
        """``+`` or ``-`` and the text."""
        command = msgspec.structs.replace(COMMAND, name=name, heartbeat_count=count, session_id=session)
        reply = self.watch.execute(command, permission, at_ns, ("RUNNING", ""))
        assert isinstance(reply, CommandReply)
        assert (reply.request_id, reply.name, reply.reply_topic) == ("r1", name, COMMAND.reply_topic)
        return ("+" if reply.ok else "-") + reply.text


class Desks:
    """Makes watches: the first, and successors that get what the supervisor kept."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._incarnation = 0

    def new(self, halt: Halt | None = None, now_ns: int = 0) -> Desk:
        self._incarnation += 1
        one, other = link_pair()
        control, supervisor = Link(one), Link(other)
        self._links += [control, supervisor]
        configure = Configure("signalling", self._incarnation, "s", "", None, 0, halt or Halt(), True)
        kept: list[str] = []
        watch = LineWatch(Supervised(control, configure, LINE), kept.append)
        first_beat = watch.heartbeat_count_before(now_ns) + 1
        watch.beat(first_beat, now_ns)
        return Desk(watch, supervisor, first_beat, kept)

    def close(self) -> None:
        for link in self._links:
            link.close()


@pytest.fixture
def desks() -> Iterator[Desks]:
    made = Desks()
    yield made
    made.close()


def decision(seq: int, verdict: Verdict) -> Decision:
    reason = {Verdict.PASS: Reason.OK, Verdict.REJECT: Reason.DEFECT, Verdict.NO_DECISION: Reason.DEADLINE}[verdict]
    return Decision(seq, seq, verdict, reason, None, 0, 1, (), ())


def entry(seq: int, verdict: Verdict | None) -> LedgerEntry:
    reason = None if verdict is None else decision(seq, verdict).reason
    return LedgerEntry(seq, 0 if verdict is None else seq, None, 0, 0, None, verdict, reason, False, ())


def test_halt_resume_and_what_the_supervisor_keeps(desks: Desks) -> None:
    desk = desks.new()
    assert desk.ask("resume").startswith("-not halted")
    assert desk.ask("halt").startswith("+halted")
    assert desk.said(Halt) == [Halt("cmd/halt by Anna; send cmd/resume", 1)]
    assert desk.ask("halt").startswith("+halted already")
    successor = desks.new(Halt("cmd/halt by Anna; send cmd/resume", 1))
    assert successor.watch.halted.startswith("cmd/halt by Anna")
    for seq in (1, 2, 3):
        successor.watch.decided(decision(seq, Verdict.PASS), 2)
    assert successor.ask("resume", count=2).startswith("+resumed by Anna")
    assert successor.watch.halted == ""
    assert successor.said(Halt) == [Halt("", 4, resumed=True)]


def test_a_rule_stops_and_its_count_is_taken_up_by_a_successor(desks: Desks) -> None:
    first = desks.new()
    for seq in (1, 2):
        first.watch.decided(decision(seq, Verdict.REJECT), 2)
    assert first.watch.halted == ""
    second = desks.new()
    second.watch.recover([entry(4, None), entry(2, Verdict.REJECT), entry(1, Verdict.REJECT)])
    second.watch.decided(decision(3, Verdict.REJECT), 2)
    assert "3 parts rejected in a row, up to part 3" in second.watch.halted
    (halt,) = second.said(Halt)
    assert isinstance(halt, Halt)
    # Killed before its last word was heard, it is halted all the same: the ledger says so.
    third = desks.new()
    third.watch.recover([entry(seq, Verdict.REJECT) for seq in (1, 2, 3)])
    assert third.watch.halted
    # But what was before a resume is past.
    fourth = desks.new(Halt("", 4))
    fourth.watch.recover([entry(seq, Verdict.REJECT) for seq in (1, 2, 3, 4, 5)])
    assert fourth.watch.halted == ""


def test_line_clearance_is_confirmed_where_it_is_asked(desks: Desks) -> None:
    desk = desks.new()
    assert desk.ask("confirm_line_clear").startswith("-no line clearance")
    asked = Permission("RUNNING", "", "line clearance: please")
    assert desk.ask("confirm_line_clear", permission=asked) == "+line clearance confirmed by Anna"
    assert desk.said(LineClear) == [LineClear()]


def test_what_concerns_the_record_alone_is_passed_on_while_it_is_fresh(desks: Desks) -> None:
    desk = desks.new()
    command = msgspec.structs.replace(
        COMMAND, name="set_traceability", heartbeat_count=1, parameters=SetTraceability({"lot": "L-1"})
    )
    assert desk.watch.execute(command, RUNNING, 7, ("RUNNING", "")) == Admitted(command, 7)
    stale = desk.watch.execute(command, RUNNING, FRESH_NS + 1, ("RUNNING", ""))
    assert isinstance(stale, CommandReply)
    assert stale.text.startswith("stale")


def test_only_fresh_commands_of_this_session(desks: Desks) -> None:
    desk = desks.new()
    for count in range(2, 500):
        desk.watch.beat(count, (count - 1) * INTERVAL_NS)
    now_ns = 498 * INTERVAL_NS
    fresh = FRESH_NS // INTERVAL_NS
    assert desk.ask("halt", count=499, session="t", at_ns=now_ns).startswith("-meant for session 't', this is 's'")
    assert desk.ask("halt", count=500, at_ns=now_ns).startswith("-heartbeat_count 500 has not been sent yet")
    assert desk.ask("halt", count=0, at_ns=now_ns).startswith("-heartbeat_count 0 has not been sent yet")
    assert desk.ask("halt", count=1, at_ns=now_ns).startswith("-stale")
    assert desk.ask("halt", count=499 - fresh - 1, at_ns=now_ns).startswith("-stale")
    # The process was stopped for a while and no heartbeat was sent: the last one has grown old all the same.
    assert desk.ask("halt", count=499, at_ns=now_ns + FRESH_NS + 1).startswith("-stale")
    assert desk.ask("halt", count=499 - fresh, at_ns=now_ns).startswith("+halted")


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 40)), min_size=1, max_size=8))
def test_heartbeat_counts_never_come_again(lives: list[tuple[int, int]]) -> None:
    """Over any number of restarts, however quick and however late the beats: (ms until the next life, beats in it)."""
    now_ns, highest = 0, 0
    with contextlib.closing(Desks()) as made:
        for gap_ms, beats in lives:
            first = made.new(now_ns=now_ns).first_beat
            assert first > highest
            highest = first + beats
            now_ns += beats * INTERVAL_NS + gap_ms * NS_PER_MS


def test_a_predecessors_heartbeat_is_as_old_as_it_can_be(desks: Desks) -> None:
    desks.new()
    successor = desks.new(now_ns=400 * INTERVAL_NS)
    assert successor.ask("halt", count=395, at_ns=401 * INTERVAL_NS).startswith("+")
    assert successor.ask("resume", count=100, at_ns=401 * INTERVAL_NS).startswith("-stale")
