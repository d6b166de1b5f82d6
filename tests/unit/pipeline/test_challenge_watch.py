"""Whether production may run by the last challenge: how old it is by clocks that are set, and what a command may begin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.challenge import BEGAN, Moment
from pipeline.challenge_watch import ChallengeWatch
from pipeline.channel import Link, link_pair
from pipeline.clock import NS_PER_S
from pipeline.config import Line
from pipeline.config_sections import ChallengeKind
from pipeline.deadline import Decision
from pipeline.line_watch import LineWatch
from pipeline.messages import Alarm, ChallengeOutcome, Command, CommandReply, Configure, Halt, Permission, ServiceState
from pipeline.worker import Supervised
from tests.unit.pipeline.small_line import LINE
from vision.types import Reason, Verdict

NS_PER_HOUR = 3_600 * NS_PER_S
VALID_HOURS = 8
CHALLENGED = replace(
    LINE,
    config=LINE.config.model_copy(
        update={
            "challenge": [ChallengeKind(kind="scratched", expected="REJECT", count=2)],
            "challenge_valid_hours": float(VALID_HOURS),
        }
    ),
)
BEGINNING = Moment(1_000_000 * NS_PER_HOUR, "first", 100 * NS_PER_HOUR)
"""When the box has run for a hundred hours."""


class Clock:
    """All clocks of the box; ``sleep`` moves them all, ``set_wall`` the one that may be set."""

    def __init__(self) -> None:
        self.now = BEGINNING

    def __call__(self) -> Moment:
        return self.now

    def sleep(self, hours: float) -> None:
        self.now = replace(
            self.now,
            utc_ns=self.now.utc_ns + int(hours * NS_PER_HOUR),
            boot_ns=self.now.boot_ns + int(hours * NS_PER_HOUR),
        )

    def set_wall(self, by_hours: float) -> None:
        self.now = replace(self.now, utc_ns=self.now.utc_ns + int(by_hours * NS_PER_HOUR))

    def start_box(self) -> None:
        self.now = replace(self.now, boot_id=f"after {self.now.boot_id}", boot_ns=NS_PER_S)


@dataclass
class Desk:
    """A watch, and what it says to the supervisor."""

    watch: ChallengeWatch
    supervisor: Link
    alarms: dict[str, str]

    def is_under_way(self) -> bool:
        return self.watch.is_under_way

    def has_begun(self) -> bool:
        return self.watch.has_begun

    def heard(self) -> list[ChallengeOutcome]:
        outcomes = []
        for message in self.supervisor.drain():
            if isinstance(message, ChallengeOutcome):
                outcomes.append(message)
            elif isinstance(message, Alarm):
                self.alarms[message.code] = message.text if message.raised else ""
        return outcomes


class Desks:
    """Makes watches that know of the last challenge what the supervisor kept."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def supervised(self, kept: ChallengeOutcome | None = None, line: Line = CHALLENGED) -> tuple[Supervised, Link]:
        one, other = link_pair()
        control, supervisor = Link(one), Link(other)
        self._links += [control, supervisor]
        configure = Configure("signalling", 1, "s", "", None, 0, Halt(), True, kept)
        return Supervised(control, configure, line), supervisor

    def new(self, clock: Clock, kept: ChallengeOutcome | None = None, line: Line = CHALLENGED) -> Desk:
        supervised, supervisor = self.supervised(kept, line)
        watch = ChallengeWatch(supervised, clock)
        watch.model_in_use("m")
        return Desk(watch, supervisor, {})

    def close(self) -> None:
        for link in self._links:
            link.close()


@pytest.fixture
def desks() -> Iterator[Desks]:
    with contextlib.closing(Desks()) as made:
        yield made


def challenge_part(part_id: int, judged: Verdict) -> Decision:
    return Decision(part_id, part_id, Verdict.REJECT, Reason.CHALLENGE, None, 0, 1, (), (), judged)


def begun(desks: Desks, clock: Clock, now_ns: int = 0) -> tuple[Desk, int]:
    """A challenge whose beginning is on disk, and the moment that it is known by."""
    at = desks.new(clock)
    assert at.watch.start("Anna", "r1")[0]
    (asked_for,) = at.heard()
    assert (asked_for.passed, asked_for.text) == (False, BEGAN)
    assert not at.has_begun()
    at.watch.written(asked_for.ended_boot_ns, "", now_ns)
    assert at.has_begun()
    return at, asked_for.ended_boot_ns


def passed_at(desks: Desks, clock: Clock) -> ChallengeOutcome:
    """How a challenge ended that has passed just now."""
    at, _ = begun(desks, clock)
    for part_id in (1, 2):
        at.watch.opened(part_id, part_id)
        at.watch.decided(challenge_part(part_id, Verdict.REJECT))
    assert not at.watch.asked()
    outcome = at.heard()[-1]
    assert outcome.passed
    return outcome


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(-1_000, 1_000), st.booleans()), max_size=6))
def test_nobody_makes_a_challenge_younger_or_older_by_setting_the_wall_clock(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Over any sleeps, settings and restarts of the service."""
    clock = Clock()
    with contextlib.closing(Desks()) as desks:
        outcome = passed_at(desks, clock)
        at, hours = desks.new(clock, outcome), 0.0
        for slept, set_by, restarts in steps:
            clock.sleep(slept)
            clock.set_wall(set_by)
            if restarts:
                at = desks.new(clock, outcome)
            hours += slept
            if abs(hours - VALID_HOURS) > 1e-6:
                assert (at.watch.asked() == "") == (hours < VALID_HOURS)


def test_it_expires_and_says_so_before(desks: Desks) -> None:
    clock = Clock()
    at = desks.new(clock, passed_at(desks, clock))
    clock.sleep(7.5)
    assert at.watch.asked() == ""
    at.heard()
    assert not at.alarms.get("challenge-due")
    clock.sleep(0.2)
    assert at.watch.asked() == ""
    at.heard()
    assert "from then on nothing is judged" in at.alarms["challenge-due"]
    clock.sleep(0.4)
    assert "by Anna has expired after 8 h" in at.watch.asked()
    at.heard()
    assert not at.alarms["challenge-due"]
    assert "has expired" in at.alarms["challenge"]


def test_of_before_the_boxs_start_the_wall_clock_tells(desks: Desks) -> None:
    clock = Clock()
    outcome = passed_at(desks, clock)
    clock.start_box()
    clock.sleep(7.9)
    assert desks.new(clock, outcome).watch.asked() == ""
    clock.sleep(0.2)
    assert "has expired" in desks.new(clock, outcome).watch.asked()


def test_a_clock_that_is_wrong_at_first_is_asked_again(desks: Desks) -> None:
    """A box without a battery starts in the past, and hears the time from the network a little later."""
    clock = Clock()
    outcome = passed_at(desks, clock)
    clock.start_box()
    clock.set_wall(-10_000)
    at = desks.new(clock, outcome)
    assert "by Anna is from the future: the clock is wrong, or was; set it" in at.watch.asked()
    clock.set_wall(10_001)
    assert at.watch.asked() == ""


def test_a_second_that_a_clock_went_back_is_no_future(desks: Desks) -> None:
    clock = Clock()
    outcome = passed_at(desks, clock)
    clock.start_box()
    clock.set_wall(-1 / 3_600)
    assert desks.new(clock, outcome).watch.asked() == ""


def test_a_file_with_a_moment_that_this_box_has_not_seen_yet_does_not_count(desks: Desks) -> None:
    clock = Clock()
    outcome = passed_at(desks, clock)
    later = msgspec.structs.replace(outcome, ended_boot_ns=outcome.ended_boot_ns + 100 * NS_PER_HOUR)
    assert "from the future" in desks.new(clock, later).watch.asked()


def test_another_model_needs_another_challenge(desks: Desks) -> None:
    clock = Clock()
    at = desks.new(clock, passed_at(desks, clock))
    at.watch.model_in_use("n")
    assert "was of another product, recipe, model, camera, calibration or plan (r 1, model m)" in at.watch.asked()


def test_another_calibration_needs_another_challenge(desks: Desks) -> None:
    clock = Clock()
    passed = passed_at(desks, clock)
    calibrated = replace(CHALLENGED, calibration_ids={"cam0": "c" * 16}, judging_id="d" * 16)
    assert "was of another product" in desks.new(clock, passed, calibrated).watch.asked()
    only_timed = replace(CHALLENGED, calibration_ids={"cam0": "c" * 16})
    assert desks.new(clock, passed, only_timed).watch.asked() == ""


def test_a_challenge_begins_when_that_is_on_disk(desks: Desks) -> None:
    clock = Clock()
    at = desks.new(clock, passed_at(desks, clock))
    assert at.watch.asked() == ""
    ok, text = at.watch.start("Anna", "r1")
    assert ok
    assert text == at.watch.progress() == "challenge by Anna: about to begin; put nothing on the line yet"
    (asked_for,) = at.heard()
    # What was written before it says nothing of it.
    at.watch.written(asked_for.ended_boot_ns - 1, "", 5)
    at.watch.written(asked_for.ended_boot_ns - 1, "No space left on device", 5)
    assert at.is_under_way()
    assert not at.has_begun()
    assert at.watch.start("Bert", "r2") == (False, f"a challenge is under way: {text}; cmd/abandon_challenge ends it")
    at.watch.written(asked_for.ended_boot_ns, "", 5)
    assert at.has_begun()
    assert at.watch.progress() == "challenge by Anna: part 1 of 2 of kind scratched, which is to be rejected"


def test_a_challenge_that_a_broken_disk_would_forget_does_not_begin(desks: Desks) -> None:
    at = desks.new(Clock())
    assert at.watch.start("Anna", "r1")[0]
    (asked_for,) = at.heard()
    at.watch.written(asked_for.ended_boot_ns, "No space left on device", 5)
    assert not at.is_under_way()
    (outcome,) = at.heard()
    assert outcome.text == "abandoned (before it began, as that cannot be kept: No space left on device)"
    assert outcome.text in at.watch.asked()


def test_trouble_with_what_comes_later_ends_nothing(desks: Desks) -> None:
    at, asked_boot_ns = begun(desks, Clock())
    at.watch.written(asked_boot_ns, "No space left on device", 5)
    assert at.has_begun()


def test_a_part_that_was_triggered_before_it_began_is_none_of_the_known_ones(desks: Desks) -> None:
    at, _ = begun(desks, Clock(), now_ns=100)
    for part_id, trigger_ns in ((1, 99), (2, 100), (3, 101)):
        at.watch.opened(part_id, trigger_ns)
    for part_id in (1, 2):
        at.watch.decided(challenge_part(part_id, Verdict.REJECT))
    assert at.is_under_way(), "the first does not stand for one of them"
    at.watch.decided(challenge_part(3, Verdict.REJECT))
    assert not at.is_under_way()
    assert at.heard()[-1].passed


def test_whoever_ends_it_is_told_whose_it_was(desks: Desks) -> None:
    at, _ = begun(desks, Clock())
    assert at.watch.abandon("by Bert") == (True, "the challenge by Anna is abandoned, which counts as failed")
    assert "by Anna failed: abandoned (by Bert)" in at.watch.asked()


@pytest.mark.parametrize(
    ("state", "reason", "ok"),
    [
        ("RUNNING", "", True),
        ("RUNNING", "verdicts are not recorded: the records process died", False),
        ("READY", "broker: connecting", False),
        ("HALTED", "cmd/halt by Anna; send cmd/resume", False),
    ],
)
def test_a_challenge_begins_where_all_else_is_well(desks: Desks, state: ServiceState, reason: str, ok: bool) -> None:
    """That the line runs is not enough: with a reason it does not record, and so not that the challenge began, either."""
    supervised, _ = desks.supervised()
    watch = LineWatch(supervised, lambda _reason: None)
    watch.beat(1, 0)
    command = Command("start_challenge", "r1", "s", 1, "Anna", "reply", None)
    reply = watch.execute(command, Permission("RUNNING", ""), 0, (state, reason))
    assert isinstance(reply, CommandReply)
    assert reply.ok == ok
    assert watch.challenge.is_under_way == ok
    assert ok or reply.text == f"first of all: the line is {state}, {reason}"
