"""A line with a camera and a controller that both see the same edges, and everything that can go wrong on the way to the box."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pipeline.frame_matching import FrameMatcher, Matched, Missed, Outcome, TakenFrame, ToldTrigger, Unclaimed

Match: TypeAlias = Literal["counter", "window"]
US = 1_000
MS = 1_000_000


@dataclass
class Faults:
    """Shares of triggers with each; those that come in pieces are independent."""

    notice_lost: float = 0.0
    notice_doubled: float = 0.0
    notice_late: float = 0.0
    """By up to four pitches."""
    frame_lost: float = 0.0
    """Exposed and numbered, and never there."""
    trigger_skipped: float = 0.0
    """Seen by a camera that is not ready for it. By window, where a notice is late there or just after it, nothing is wrong with
    the next: see docs/triggers.md.
    """
    noise: float = 0.0
    """An edge that only the camera sees, between two parts."""
    edge_unseen: float = 0.0
    """By the camera, which neither counts it nor takes a frame. Not at a late notice either."""
    teller_restarts: float = 0.0
    stall: float = 0.0
    """The transport stands still for up to four pitches, and then brings all that it held at once, in order."""
    gap: float = 0.02
    """Some parts are missing on the belt."""


@dataclass
class World:
    """Part ``i`` has the encoder count ``i``; a frame's truth is the part in its picture."""

    match: Match
    pitch_ns: int
    seed: int
    faults: Faults = field(default_factory=Faults)
    delay_ns: int = 300 * US
    jitter_ns: int = 0
    """Of messages, over a transport of 1 ms."""
    lag_ns: int = 0
    """Of every message, beside that."""
    readout_ns: int = 12 * MS
    age_us: int = 200

    def events(self, count: int) -> Iterator[tuple[int, ToldTrigger | TakenFrame, int]]:
        """Arrival, what arrives, and its part (-1: none), in order of arrival."""
        dice = random.Random(self.seed)
        faults = self.faults
        queue: list[tuple[int, int, ToldTrigger | TakenFrame, int]] = []
        now_ns, counter, number, last_frame_ns = 10 * self.pitch_ns, dice.randrange(2**32), 7, 0
        order, skipped, is_spared, stalled_until_ns = 0, False, False, 0
        for part in range(count):
            now_ns += int(self.pitch_ns * (1 + 0.5 * dice.random()))
            if part == 25 or dice.random() < faults.gap:
                now_ns += self.pitch_ns * dice.randrange(1, 6)
            if dice.random() < faults.noise:
                number += 1
                edge_ns = now_ns - int(self.pitch_ns * dice.uniform(0.2, 0.7))
                last_frame_ns = max(edge_ns + self.delay_ns + self.readout_ns, last_frame_ns)
                noise = TakenFrame(number, edge_ns + self.delay_ns)
                queue.append((last_frame_ns, order := order + 1, noise, -1))
            if dice.random() < faults.teller_restarts:
                counter = dice.randrange(2**32)
            counter = (counter + 1) % 2**32
            lateness_ns = int(self.jitter_ns * dice.random())
            just_skipped, skipped = skipped, dice.random() < faults.trigger_skipped
            unseen = dice.random() < faults.edge_unseen
            was_spared, is_spared = is_spared, False
            if dice.random() < faults.notice_late and not (unseen or was_spared):
                lateness_ns += int(4 * self.pitch_ns * dice.random())
                is_spared = self.match == "window" and (skipped or just_skipped)
            if dice.random() < faults.stall and not was_spared:
                stalled_until_ns = now_ns + int(4 * self.pitch_ns * dice.random())
                is_spared = self.match == "window" and (skipped or just_skipped)
            arrival_ns = now_ns + MS + self.lag_ns + self.age_us * US + lateness_ns
            if arrival_ns < stalled_until_ns:
                arrival_ns = stalled_until_ns = stalled_until_ns + dice.randrange(200 * US)
            for copy in range(1 + (dice.random() < faults.notice_doubled)):
                if dice.random() >= faults.notice_lost or was_spared:
                    at_ns = arrival_ns + copy * dice.randrange(5 * MS)
                    told_ns = at_ns - self.age_us * US
                    told = ToldTrigger(counter, part, None, self.age_us, told_ns, told_ns)
                    queue.append((at_ns, order := order + 1, told, part))
            if not unseen and (self.match == "counter" or not skipped):
                number += 1
            if not unseen and not skipped and dice.random() >= faults.frame_lost:
                last_frame_ns = max(now_ns + self.delay_ns + self.readout_ns + dice.randrange(MS), last_frame_ns)
                queue.append((last_frame_ns, order := order + 1, TakenFrame(number, now_ns + self.delay_ns), part))
        queue.sort()
        for arrival_ns, _, event, part in queue:
            yield arrival_ns, event, part


@dataclass
class Books:
    """What became of it all; whatever must never be is an assertion."""

    matched: int = 0
    missed: int = 0
    unclaimed: int = 0
    doubled: int = 0


def play(world: World, count: int) -> tuple[Books, FrameMatcher]:
    """Run the matcher through it, with the clock called as it asks for."""
    matcher = FrameMatcher(
        world.pitch_ns, world.match, age_max_ns=2 * world.pitch_ns, frames_max=8, lag_max_ns=world.pitch_ns
    )
    matcher.start(0)
    books = Books()
    part_in: dict[int, int] = {}
    """By the identity of the frame."""
    awaiting: dict[int, ToldTrigger] = {}
    frames: dict[int, TakenFrame] = {}
    told_parts: set[int] = set()

    def book(outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if not isinstance(outcome, Unclaimed):
                assert awaiting.pop(id(outcome.trigger), None) is outcome.trigger, "a trigger with two outcomes"
            if not isinstance(outcome, Missed):
                assert frames.pop(id(outcome.frame), None) is outcome.frame, "a frame used twice"
            if isinstance(outcome, Matched):
                assert part_in[id(outcome.frame)] == outcome.trigger.encoder_count, "another trigger's frame"
                books.matched += 1
            books.missed += isinstance(outcome, Missed)
            books.unclaimed += isinstance(outcome, Unclaimed)

    arrival_ns = 0
    keep = []
    for arrival_ns, event, part in world.events(count):
        while (due_ns := matcher.next_due_ns()) is not None and due_ns < arrival_ns:
            book(matcher.tick(due_ns + 1))
        keep.append(event)  # so that no identity is given to another one
        if isinstance(event, TakenFrame):
            frames[id(event)] = event
            part_in[id(event)] = part
            book(matcher.frame(event, arrival_ns))
        elif matcher.is_told_again(event):
            books.doubled += 1
            assert part in told_parts, "a trigger that was told once"
        else:
            assert part not in told_parts, "a trigger that was told twice"
            told_parts.add(part)
            awaiting[id(event)] = event
            book(matcher.trigger(event, arrival_ns))
    book(matcher.tick(arrival_ns + 10_000 * MS))
    assert not awaiting, "a trigger without an outcome"
    assert not frames, "a frame that is held for ever"
    assert matcher.next_due_ns() is None or not matcher.is_measured
    return books, matcher
