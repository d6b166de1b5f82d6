from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.frame_matching import FrameMatcher, Matched, Missed, Outcome, TakenFrame, ToldTrigger, Unclaimed
from pipeline.trigger_delay import PAIRS
from tests.unit.pipeline.trigger_world import MS, US, Faults, Match, World, play

PITCH_NS = 40 * MS
MATCHES: tuple[Match, ...] = ("counter", "window")
FAULTS = Faults(
    notice_lost=0.01,
    notice_doubled=0.01,
    notice_late=0.01,
    frame_lost=0.01,
    trigger_skipped=0.01,
    noise=0.0002,
    teller_restarts=0.0002,
    stall=0.002,
)


@pytest.fixture(params=MATCHES)
def match(request: pytest.FixtureRequest) -> Match:
    found: Match = request.param
    return found


class Hand:
    """A matcher worked by hand. Part ``i`` is at ``i * 100`` ms, its trigger is ``first + i`` and its frame ``7 + i``."""

    def __init__(
        self,
        match: Match,
        *,
        first: int = 500,
        delay_ns: int = 2 * MS,
        frames_max: int = 8,
        lag_max_ns: int = 20 * MS,
    ) -> None:
        self.matcher = FrameMatcher(PITCH_NS, match, age_max_ns=50 * MS, frames_max=frames_max, lag_max_ns=lag_max_ns)
        self.matcher.start(0)
        self.first, self.delay_ns = first, delay_ns

    def at_ns(self, part: float) -> int:
        return int(part * 100 * MS)

    def told(self, part: int, late_ns: int = 0, *, counter: int | None = None) -> ToldTrigger:
        counter = (self.first + part) % 2**32 if counter is None else counter
        at_ns = self.at_ns(part) + late_ns
        return ToldTrigger(counter, part, None, 0, at_ns, at_ns)

    def taken(self, part: float, *, number: int | None = None) -> TakenFrame:
        return TakenFrame(7 + int(part) if number is None else number, self.at_ns(part) + self.delay_ns)

    def trigger(self, part: int, late_ns: int = 0, *, counter: int | None = None) -> list[Outcome]:
        return self.matcher.trigger(self.told(part, late_ns, counter=counter), self.at_ns(part) + late_ns)

    def frame(self, part: float, *, number: int | None = None) -> list[Outcome]:
        return self.matcher.frame(self.taken(part, number=number), self.at_ns(part) + 10 * MS)

    def settle(self, part: int, late_ns: int = 0) -> list[Outcome]:
        """So long after the trigger's message, that others that were held up with it have come."""
        return self.matcher.tick(self.at_ns(part) + late_ns + PITCH_NS // 8)

    def pair(self, part: int, late_ns: int = 0) -> list[Outcome]:
        return [*self.trigger(part, late_ns), *self.frame(part)]

    def measure(self) -> int:
        """Returns the part that comes next."""
        for part in range(1, PAIRS + 1):
            self.pair(part)
        self.matcher.tick(self.at_ns(PAIRS + 9))
        assert self.matcher.is_measured
        return PAIRS + 10


def own(hand: Hand, part: int, late_ns: int = 0) -> list[Outcome]:
    return [Matched(hand.told(part, late_ns), hand.taken(part))]


def test_without_faults_every_trigger_gets_its_frame(match: Match) -> None:
    books, _ = play(World(match, 50 * MS, seed=1, jitter_ns=5 * MS), 500)
    # The first are measured with: 20, and those of the half second until all of them are looked at.
    assert books.matched == 475
    assert (books.missed, books.unclaimed, books.doubled) == (25, 25, 0)


def test_one_old_notice_holds_up_no_other_part(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    old = ToldTrigger(hand.first + part, part, None, 30_000, hand.at_ns(part), hand.at_ns(part))
    hand.frame(part)
    hand.matcher.trigger(old, hand.at_ns(part) + 30 * MS)
    assert hand.matcher.tick(hand.at_ns(part) + 40 * MS) == [Matched(old, hand.taken(part))]
    assert hand.pair(part + 1) == own(hand, part + 1)


def test_notices_may_be_older_than_a_pitch(match: Match) -> None:
    books, _ = play(World(match, 50 * MS, seed=1, jitter_ns=5 * MS, age_us=80_000), 500)
    assert books.matched == 475


@pytest.mark.parametrize("lag", [0.0, 0.25])
@pytest.mark.parametrize("pitch_ns", [5 * MS, 50 * MS, 1000 * MS])
def test_never_another_triggers_frame(match: Match, pitch_ns: int, lag: float) -> None:
    """200,000 triggers in all; the world asserts it, and that each has one outcome and no frame two."""
    matched = 0
    for seed in range(4):
        lag_ns = int(lag * pitch_ns)
        world = World(match, pitch_ns, seed=seed, jitter_ns=pitch_ns // 10, lag_ns=lag_ns, faults=FAULTS)
        books, _ = play(world, 4_200)
        matched += books.matched
        assert books.doubled > 20
    # 4 % have lost something themselves; the rest are lost where numbers have to be found anew.
    assert matched > 0.8 * 4 * 4_200


@pytest.mark.parametrize("lag", [0.0, 0.1, 0.2, 0.3])
def test_late_notices_of_triggers_that_were_skipped_or_come_after_one(lag: float) -> None:
    """Frames of others wait while the messages that claim them are on their way, late as ever."""
    matched = 0
    for seed in range(20):
        faults = Faults(trigger_skipped=0.05, notice_late=0.1)
        world = World("window", 50 * MS, seed=seed, jitter_ns=5 * MS, lag_ns=int(lag * 50 * MS), faults=faults)
        books, _ = play(world, 1_000)
        matched += books.matched
    assert matched > 0.2 * 20 * 1_000


def test_late_notices_after_an_edge_that_the_camera_has_not_seen() -> None:
    """Each frame has the number of the part before it, whose message is late by a part now and then."""
    for seed in range(20):
        faults = Faults(edge_unseen=0.001, notice_late=0.1)
        play(World("counter", 50 * MS, seed=seed, jitter_ns=5 * MS, faults=faults), 2_000)


def test_a_frame_may_come_before_its_triggers_message(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    assert hand.trigger(part, 5 * MS) == []
    due_ns = hand.matcher.next_due_ns()
    assert due_ns is not None
    assert hand.matcher.tick(due_ns - 1) == []
    assert hand.matcher.tick(due_ns) == own(hand, part, 5 * MS)


def test_nothing_is_matched_while_it_is_measured(match: Match) -> None:
    hand = Hand(match)
    assert "0 of 20" in hand.matcher.words()
    for part in range(1, PAIRS + 1):
        assert hand.pair(part) == [Missed(hand.told(part)), Unclaimed(hand.taken(part))]
        assert not hand.matcher.is_measured
    hand.matcher.tick(hand.at_ns(8))
    assert hand.matcher.trouble() == ""
    assert "15 of 20" in hand.matcher.words()


def test_a_doubled_notice_is_known_again(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    hand.trigger(part)
    assert hand.matcher.is_told_again(hand.told(part, 3 * MS))
    assert not hand.matcher.is_told_again(hand.told(part + 1, counter=hand.told(part).trigger_counter))


def test_messages_late_by_more_than_a_part_and_then_a_skipped_trigger_pass_no_neighbours_frame() -> None:
    """By ``window`` both together look as if all were well, and so it would stay."""
    hand = Hand("window")
    # Parts follow each other at the pitch: only a gap would begin a measurement.
    hand.matcher = FrameMatcher(90 * MS, "window", age_max_ns=50 * MS, frames_max=8, lag_max_ns=20 * MS)
    hand.matcher.start(-1_000 * MS)
    part = hand.measure()
    late_ns = 108 * MS
    outcomes: list[Outcome] = []
    for number in range(part, part + 100):
        # The message of the part before comes now; from the 50th part on there is a frame less.
        outcomes += hand.trigger(number - 1, late_ns)
        if number != part + 50:
            skipped = number > part + 50
            outcomes += hand.frame(number, number=7 + number - skipped)
    assert not [each for each in outcomes if isinstance(each, Matched)]
    assert hand.matcher.steps_lost
    assert not hand.matcher.is_measured


@pytest.mark.parametrize(("parts", "pause"), [(4, 40), (12, 0), (12, 40), (25, 0)])
def test_messages_that_were_held_up_for_a_while_stop_no_line(match: Match, parts: int, pause: int) -> None:
    """They come all at once, twice; then no gap follows in which it could be measured anew, or a pause that says nothing."""
    hand = Hand(match)
    hand.matcher = FrameMatcher(90 * MS, match, age_max_ns=50 * MS, frames_max=8, lag_max_ns=20 * MS)
    hand.matcher.start(-1_000 * MS)
    part = hand.measure()
    for begin in (part, part + parts + pause):
        for number in range(begin, begin + parts):
            hand.frame(number)
        now_ns = hand.at_ns(begin + parts - 1) + 20 * MS
        for number in range(begin, begin + parts):
            told = replace(hand.told(number), trigger_ns=now_ns, at_ns=now_ns)
            hand.matcher.trigger(told, now_ns)
    part += parts + pause
    outcomes: list[Outcome] = []
    hand.matcher.tick(now_ns + pause * 100 * MS)
    for number in range(part + parts + pause, part + parts + pause + 20):
        outcomes += [*hand.pair(number), *hand.settle(number, 20 * MS)]
    assert len([each for each in outcomes if isinstance(each, Matched)]) >= 15


def test_a_controller_that_counts_anew_soon_again_is_measured_at_once(match: Match) -> None:
    """The numbers that it had before are still remembered, and the exposures are dated before their triggers."""
    hand = Hand(match, first=0, delay_ns=-2 * MS)
    part = hand.measure()
    for number in range(part, part + PAIRS + 5):
        hand.trigger(number, counter=number - part)
        hand.frame(number)
    hand.matcher.tick(hand.at_ns(part + PAIRS + 14))
    assert hand.matcher.is_measured
    assert not hand.matcher.steps_lost


def test_a_controller_that_counts_anew_tells_nothing_again(match: Match) -> None:
    """With notices of a counter alone, each like the one of an hour before."""
    hand = Hand(match)
    part = hand.measure()
    before = replace(hand.told(part), encoder_count=None, part_key=None)
    hand.matcher.trigger(before, before.at_ns)
    assert hand.matcher.is_told_again(replace(before, at_ns=before.at_ns + 9_000 * MS))
    assert not hand.matcher.is_told_again(replace(before, at_ns=before.at_ns + 3_600_000 * MS))


def test_a_lost_notice_leaves_its_frame_unclaimed(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    assert [*hand.trigger(part + 1), *hand.frame(part + 1)] == [Unclaimed(hand.taken(part)), *own(hand, part + 1)]


def test_a_lost_frame_is_missed_when_a_later_one_comes(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.trigger(part) == []
    assert hand.trigger(part + 1) == []
    assert hand.frame(part + 1) == [*own(hand, part + 1), Missed(hand.told(part))]


def test_a_lost_frame_is_missed_after_a_second_at_the_latest(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.trigger(part) == []
    assert hand.matcher.next_due_ns() == hand.at_ns(part + 10)
    assert hand.matcher.tick(hand.at_ns(part + 10)) == [Missed(hand.told(part))]


def test_a_notice_that_is_late_beyond_the_window_is_missed(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    late_ns = PITCH_NS // 4 + MS
    outcomes = hand.trigger(part, late_ns) + hand.pair(part + 1)
    assert Missed(hand.told(part, late_ns)) in outcomes
    assert own(hand, part + 1)[0] in outcomes


def test_a_notice_late_by_a_whole_part_does_not_get_the_next_parts_frame(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    outcomes = hand.trigger(part, 100 * MS) + hand.frame(part + 1) + hand.trigger(part + 1, 1 * MS)
    outcomes += hand.settle(part + 1, 1 * MS) + hand.pair(part + 2)
    # Nor do the next two: for all that is known by then the numbers may be one off.
    assert not any(isinstance(each, Matched) for each in outcomes)
    assert own(hand, part + 3)[0] in hand.pair(part + 3)


def test_notices_that_were_held_up_together_get_no_frame(match: Match) -> None:
    """The camera skips a part, and the broker stands still over the next two: the first of their notices, late by a whole part,
    finds the other one's frame waiting, with a number that fits.
    """
    hand = Hand(match)
    part = hand.measure()
    hand.pair(part)
    skipped = hand.trigger(part + 1)
    number = 8 + part if match == "window" else None
    outcomes = hand.frame(part + 3, number=number and number + 1)
    now_ns = hand.at_ns(part + 3) + 20 * MS
    for late in (part + 2, part + 3):
        trigger = ToldTrigger(500 + late, late, None, 0, now_ns, now_ns)
        outcomes += hand.matcher.trigger(trigger, now_ns)
        now_ns += MS
    outcomes += hand.matcher.tick(now_ns + PITCH_NS)
    assert not any(isinstance(each, Matched) for each in skipped + outcomes)


def test_notices_out_of_order_get_their_own_frames(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    late, next_one = hand.told(part, 9 * MS), hand.told(part + 1)
    assert hand.matcher.trigger(next_one, hand.at_ns(part) + 8 * MS) == []
    assert hand.matcher.trigger(late, hand.at_ns(part) + 9 * MS) == []
    assert hand.settle(part, 19 * MS) == own(hand, part, 9 * MS)
    assert hand.frame(part + 1) == own(hand, part + 1)


def test_a_camera_that_took_none_of_a_trigger_goes_on_with_the_next(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    assert hand.trigger(part) == []
    assert hand.trigger(part + 1) == []
    # A camera that counts frames has counted none.
    number = 7 + part + (1 if match == "counter" else 0)
    frame = hand.taken(part + 1, number=number)
    assert hand.frame(part + 1, number=number) == [Matched(hand.told(part + 1), frame), Missed(hand.told(part))]


def test_an_edge_that_only_the_camera_saw_is_found_out_and_measured_away(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    hand.frame(part + 0.5, number=7 + part)
    matched = []
    for later in range(part + 1, part + 2 * PAIRS):
        # From now on its numbers are one ahead.
        outcomes = hand.trigger(later) + hand.frame(later, number=8 + later)
        matched += [each for each in outcomes if isinstance(each, Matched)]
        if later == part + 5:
            assert hand.matcher.steps_lost
    assert not hand.matcher.steps_lost
    assert len(matched) > 5
    assert all(each.frame.number == 8 + (each.trigger.encoder_count or 0) for each in matched)


def test_an_edge_that_the_camera_saw_just_before_the_parts_own_gets_nothing(match: Match) -> None:
    """Its frame is there, has the number that the part's would have, and fits in time; the part's is on its way."""
    hand = Hand(match)
    part = hand.measure()
    early = TakenFrame(7 + part, hand.taken(part).exposure_ns - 8 * MS)
    outcomes = hand.trigger(part)
    outcomes += hand.matcher.frame(early, hand.at_ns(part) + 4 * MS)
    outcomes += hand.settle(part) + hand.frame(part, number=8 + part)
    outcomes += hand.matcher.tick(hand.at_ns(part) + 50 * MS)
    assert not any(isinstance(each, Matched) for each in outcomes)


@pytest.mark.parametrize("age_max_ns", [1 * MS, 50 * MS])
def test_a_fired_frame_waits_half_a_pitch_whatever_age_is_taken(age_max_ns: int) -> None:
    hand = Hand("window")
    matcher = FrameMatcher(PITCH_NS, "window", age_max_ns=age_max_ns, frames_max=8, lag_max_ns=4 * MS, is_fired=True)
    hand.matcher = matcher
    matcher.start(0)
    part = hand.measure()
    assert hand.pair(part) == []
    assert matcher.next_due_ns() == hand.at_ns(part) + PITCH_NS // 2
    assert matcher.tick(hand.at_ns(part) + PITCH_NS // 2) == own(hand, part)


def test_a_frame_that_is_odd_alone_is_the_triggers(match: Match) -> None:
    """The message was late. When its own frame would have come and has not, this is it."""
    hand = Hand(match)
    part = hand.measure()
    assert hand.frame(part) == []
    assert hand.trigger(part, 9 * MS) + hand.settle(part, 5 * MS) == []
    assert hand.matcher.tick(hand.at_ns(part) + 9 * MS + 15 * MS) == own(hand, part, 9 * MS)


def test_a_controller_that_counts_from_zero_again_is_found_out_and_measured_away(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    matched = 0
    for later in range(part, part + 2 * PAIRS):
        outcomes = hand.trigger(later, counter=later - part) + hand.frame(later)
        matched += len([each for each in outcomes if isinstance(each, Matched)])
    assert matched > 5


def test_counters_wrap(match: Match) -> None:
    hand = Hand(match, first=2**32 - PAIRS - 12)
    part = hand.measure()
    counters = []
    for later in range(part, part + 6):
        assert hand.pair(later) == own(hand, later)
        counters.append(hand.told(later).trigger_counter)
    assert counters == [2**32 - 2, 2**32 - 1, 0, 1, 2, 3]


def test_an_opened_camera_has_new_numbers(match: Match) -> None:
    hand = Hand(match)
    part = hand.measure()
    hand.trigger(part)
    assert hand.matcher.drop_all() == [Missed(hand.told(part))]
    hand.matcher.start(hand.at_ns(part))
    assert not hand.matcher.is_measured
    assert "0 of 20" in hand.matcher.words()


def test_two_triggers_that_fit_one_frame_get_none_of_it() -> None:
    """Closer together than parts can be: one message was held up, and nobody knows which."""
    hand = Hand("window")
    part = hand.measure()
    hand.pair(part)
    one, other = hand.told(part + 1), hand.told(part + 1, 5 * MS, counter=hand.told(part + 2).trigger_counter)
    assert hand.matcher.trigger(one, one.at_ns) == []
    assert hand.matcher.trigger(other, other.at_ns) == [Missed(one), Missed(other)]
    assert not any(isinstance(each, Matched) for each in hand.frame(part + 1) + hand.settle(part + 1, 50 * MS))


def test_few_frames_wait_for_their_triggers(match: Match) -> None:
    hand = Hand(match, frames_max=2)
    part = hand.measure()
    now_ns = hand.at_ns(part)
    frames = [TakenFrame(7 + part + each, now_ns + each) for each in range(3)]
    outcomes = [hand.matcher.frame(frame, now_ns + 3) for frame in frames]
    assert outcomes == [[], [], [Unclaimed(frames[0])]]


@pytest.mark.parametrize(
    ("jitter_ns", "permitted"), [(4 * MS, {"window", "counter"}), (9 * MS, {"counter"}), (11 * MS, set())]
)
def test_too_much_jitter_is_no_measurement_and_mends_itself(match: Match, jitter_ns: int, permitted: set[str]) -> None:
    hand = Hand(match)
    for part in range(1, PAIRS + 1):
        hand.pair(part, jitter_ns if part % 2 else 0)
    hand.matcher.tick(hand.at_ns(PAIRS + 9))
    assert hand.matcher.is_measured == (match in permitted)
    if match not in permitted:
        limit_us = PITCH_NS // (8 if match == "window" else 4) // US
        assert f"varies by {jitter_ns // US} us, permitted are {limit_us} us" in hand.matcher.trouble()
        for part in range(PAIRS + 10, 2 * PAIRS + 10):
            hand.pair(part)
        hand.matcher.tick(hand.at_ns(2 * PAIRS + 19))
        assert hand.matcher.is_measured


def test_a_delay_of_more_than_half_a_pitch_is_refused(match: Match) -> None:
    hand = Hand(match, delay_ns=21 * MS)
    for part in range(1, PAIRS + 1):
        hand.pair(part)
    hand.matcher.tick(hand.at_ns(PAIRS + 9))
    assert not hand.matcher.is_measured
    assert "21000 us" in hand.matcher.trouble()


@pytest.mark.parametrize(("lag_ms", "is_measured"), [(3, True), (5, False)])
def test_triggers_that_are_told_after_their_exposures_are_refused(match: Match, lag_ms: int, is_measured: bool) -> None:
    """By then nobody knows when they were, and the deadline would begin too late."""
    hand = Hand(match, delay_ns=-lag_ms * MS, lag_max_ns=4 * MS)
    for part in range(1, PAIRS + 1):
        hand.pair(part)
    hand.matcher.tick(hand.at_ns(PAIRS + 9))
    assert hand.matcher.is_measured is is_measured
    text = "" if is_measured else "triggers are told 5000 us after their exposures, permitted are 4000 us"
    assert hand.matcher.trouble().startswith(text)


def test_parts_without_a_gap_are_not_measured(match: Match) -> None:
    """One frame off, evenly spaced parts look as good as the truth."""
    matcher = FrameMatcher(PITCH_NS, match, age_max_ns=50 * MS, frames_max=8, lag_max_ns=4 * MS)
    matcher.start(0)
    for part in range(200):
        at_ns = PITCH_NS // 2 + part * PITCH_NS
        if part:  # The first one's message was lost.
            matcher.trigger(ToldTrigger(part, part, None, 0, at_ns, at_ns), at_ns)
        matcher.frame(TakenFrame(part, at_ns + MS), at_ns + 10 * MS)
    assert not matcher.is_measured
    assert "60000 us without any" in matcher.words()
