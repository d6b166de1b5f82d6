"""Acquisition between its two readers: whatever they do, whenever they die, no slot is lost, doubled, or used while lent."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pipeline.acquisition import Acquisition
from pipeline.cameras.base import CameraEvent, Grabbed, NotGrabbed, Triggered
from pipeline.channel import Link, link_pair
from pipeline.clock import now_ns
from pipeline.config import load_line
from pipeline.journal import Journal, journal_bytes
from pipeline.messages import (
    Configure,
    Connect,
    FrameTicket,
    Halt,
    HandOn,
    ImageTicket,
    Reaped,
    Release,
    RingOffer,
    Role,
)
from pipeline.ring import Ring, RingReader, Slot, SlotHeader
from pipeline.worker import Supervised
from tests.service import write_line
from vision.types import PixelFormat

SIDE_PX = 8
OWN_SLOTS, CREDIT = 3, 2


class ByHand:
    """A camera that grabs when it is told to; the pixels of frame n are n."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.events: list[CameraEvent] = []
        self.count = 0

    def open(self) -> None:
        pass

    def close(self) -> list[Slot]:
        slots, self.slots = self.slots, []
        return slots

    def queue(self, slot: Slot) -> None:
        self.slots.append(slot)

    def fileno(self) -> int | None:
        return None

    def due_ns(self) -> int | None:
        return None

    def poll(self) -> list[CameraEvent]:
        events, self.events = self.events, []
        return events

    def grab(self) -> None:
        self.count += 1
        now = now_ns()
        self.events.append(Triggered(self.count, None, now))
        if not self.slots:
            self.events.append(NotGrabbed(self.count, "REFUSED", "no slot"))
            return
        slot = self.slots.pop(0)
        slot.pixels[:] = self.count % 251
        header = SlotHeader(self.count, None, 0, now, SIDE_PX, SIDE_PX, SIDE_PX, PixelFormat.MONO8)
        self.events.append(Grabbed(self.count, now, slot, header))


@dataclass
class Reader:
    """One incarnation of a reader, and what it holds: slot -> (generation, frame)."""

    role: Role
    incarnation: int
    link: Link
    ring: RingReader | None = None
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    lives: bool = True


class HandOverRules(RuleBasedStateMachine):
    """The test plays camera, inspection, images and supervisor."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lineside-hand-over-"))
        line = load_line(write_line(self.folder, 1, images={"path": "images-kept", "ring_slots": CREDIT}))
        theirs, ours = (Link(end) for end in link_pair())
        self.supervisor, self.worker_end = ours, theirs
        self.camera = ByHand()
        self.ring = Ring("cam0", OWN_SLOTS + CREDIT, SIDE_PX * SIDE_PX)
        journal = Journal(memoryview(bytearray(journal_bytes(4_096))))
        supervised = Supervised(theirs, Configure("acquisition", 1, "s", "", "cam0", 0, Halt(), True), line)
        self.acquisition = Acquisition(supervised, self.camera, self.ring, journal, "cam0")
        self.asked = 0
        self.taken = 0
        self.recorded: set[tuple[int, int]] = set()
        """Slot and generation of what inspection handed on for a window."""
        self.window_asked = self.window_taken = self.window_lost_told = 0
        self.readers: dict[Role, Reader] = {}
        self.connect("inspection", 1)
        self.connect("images", 1)

    def teardown(self) -> None:
        for reader in self.readers.values():
            reader.link.close()
        for role in self.readers:
            self.supervisor.send(Reaped(role, self.readers[role].incarnation, None))
        self.acquisition.turn()
        self.supervisor.close()
        self.worker_end.close()
        self.ring.close()
        shutil.rmtree(self.folder)

    def connect(self, role: Role, incarnation: int) -> None:
        one, other = link_pair()
        with one:
            self.supervisor.send(Connect(role, incarnation, None), (one.fileno(),))
        self.readers[role] = Reader(role, incarnation, Link(other))
        self.turn()

    def turn(self) -> None:
        """Acquisition's, and then everybody who lives looks what came."""
        self.acquisition.turn()
        for _ in self.supervisor.drain():
            pass
        for reader in self.readers.values():
            while reader.lives and (received := reader.link.receive()) is not None:
                message, descriptors = received
                if isinstance(message, RingOffer):
                    reader.ring = RingReader("cam0", descriptors[0], message.slot_count, message.slot_bytes)
                    continue
                assert isinstance(message, FrameTicket if reader.role == "inspection" else ImageTicket)
                assert message.slot not in reader.held, "lent twice"
                reader.held[message.slot] = (message.generation, message.trigger_counter)
                if isinstance(message, ImageTicket):
                    self.taken += not message.window_only
                    self.window_taken += (message.slot, message.generation) in self.recorded
                    self.window_lost_told += message.window_frames_lost

    @rule()
    def grab(self) -> None:
        if not self.readers["inspection"].lives and self.camera.slots:
            self.asked += 1  # nobody will judge it: it goes to images
        self.camera.grab()
        self.turn()

    def holds(self, role: Role) -> bool:
        return self.readers[role].lives and bool(self.readers[role].held)

    @precondition(lambda self: self.holds("inspection"))
    @rule(pick=st.integers(0, 9), worth=st.booleans(), unless_passed=st.booleans(), is_recorded=st.booleans())
    def inspection_is_done(self, pick: int, worth: bool, unless_passed: bool, is_recorded: bool) -> None:
        inspection = self.readers["inspection"]
        slot = sorted(inspection.held)[pick % len(inspection.held)]
        generation, _ = inspection.held.pop(slot)
        if worth or is_recorded:
            hand_on = HandOn(slot, generation, unless_passed, window_only=not worth, is_recorded=is_recorded)
            inspection.link.send(hand_on)
        else:
            inspection.link.send(Release(slot, generation))
        self.asked += worth
        self.window_asked += is_recorded
        if is_recorded:
            self.recorded.add((slot, generation))
        self.turn()

    @precondition(lambda self: self.holds("images"))
    @rule(pick=st.integers(0, 9))
    def images_has_a_copy(self, pick: int) -> None:
        images = self.readers["images"]
        slot = sorted(images.held)[pick % len(images.held)]
        images.link.send(Release(slot, images.held.pop(slot)[0]))
        self.turn()

    @rule(role=st.sampled_from(["inspection", "images"]))
    def dies(self, role: Role) -> None:
        if self.readers[role].lives:
            self.readers[role].lives = False
            self.readers[role].link.close()
            self.turn()

    @rule(role=st.sampled_from(["inspection", "images"]))
    def is_reaped_and_comes_again(self, role: Role) -> None:
        reader = self.readers[role]
        if reader.lives:
            return
        self.supervisor.send(Reaped(role, reader.incarnation, None))
        if role == "inspection":
            self.asked += len(reader.held)
        reader.held.clear()
        self.turn()
        self.connect(role, reader.incarnation + 1)

    @rule(role=st.sampled_from(["inspection", "images"]), slot=st.integers(-1, OWN_SLOTS + CREDIT))
    def an_answer_about_a_slot_that_it_does_not_hold(self, role: Role, slot: int) -> None:
        reader = self.readers[role]
        if reader.lives and slot not in reader.held:
            generation = 1
            reader.link.send(HandOn(slot, generation, False) if role == "inspection" else Release(slot, generation))
            self.turn()

    @invariant()
    def every_slot_has_one_holder(self) -> None:
        held = [slot for reader in self.readers.values() for slot in reader.held]
        queued = [slot.index for slot in self.camera.slots]
        out = [*held, *queued]
        assert len(set(out)) == len(out), "two hold one slot"
        assert len(out) + self.ring.free_count == OWN_SLOTS + CREDIT, "a slot is lost"
        assert len(self.readers["images"].held) <= CREDIT, "images has more than its credit"

    @invariant()
    def what_is_lent_is_what_was_grabbed(self) -> None:
        for reader in self.readers.values():
            for slot, (generation, number) in reader.held.items():
                assert reader.ring is not None
                frame = reader.ring.borrow(slot, generation)
                assert frame.frame_id == number
                assert (frame.pixels == number % 251).all()

    @invariant()
    def what_images_did_not_get_is_counted(self) -> None:
        assert self.taken + self.acquisition.counters["images_dropped"] == self.asked
        assert self.window_taken + self.acquisition.counters["window_frames_lost"] == self.window_asked
        assert self.window_lost_told <= self.acquisition.counters["window_frames_lost"]


def test_any_interleaving_of_two_readers() -> None:
    run_state_machine_as_test(
        HandOverRules,
        settings=settings(max_examples=40, stateful_step_count=40, derandomize=True, database=None, deadline=None),
    )
