"""Frame slots: nobody holds what another holds, nothing is copied, nothing comes back from the dead too early."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pipeline.channel import Link, PeerGone, link_pair
from pipeline.messages import FrameTicket, Release, RingOffer
from pipeline.ring import PAGE_BYTES, Ring, RingReader, Slot, SlotHeader, StaleGeneration
from vision.types import PixelFormat

ROOT = Path(__file__).resolve().parents[3]
WIDTH_PX, HEIGHT_PX = 8, 4
SLOT_BYTES = WIDTH_PX * HEIGHT_PX


def header(
    frame_id: int = 1, *, width: int = WIDTH_PX, height: int = HEIGHT_PX, stride: int | None = None
) -> SlotHeader:
    return SlotHeader(frame_id, 5, 10, 20, width, height, width if stride is None else stride, PixelFormat.MONO8)


@pytest.fixture
def make_ring() -> Iterator[Callable[[], Ring]]:
    """Closes what it made, and keeps no ring alive: its memory is the test's alone."""
    with contextlib.ExitStack() as descriptors:

        def make() -> Ring:
            ring = Ring("test", 2, SLOT_BYTES)
            descriptors.callback(os.close, ring.descriptor)
            return ring

        yield make


def reader_of(ring: Ring) -> RingReader:
    return RingReader("cam0", os.dup(ring.descriptor), ring.slot_count, ring.slot_bytes)


# --- any interleaving ----------------------------------------------------------------------------------------------


class RingRules(RuleBasedStateMachine):
    """Owner and three reader incarnations against a model that knows who holds which slot."""

    SLOTS = 3

    def __init__(self) -> None:
        super().__init__()
        self.ring = Ring("rules", self.SLOTS, SLOT_BYTES)
        self.readers = [reader_of(self.ring) for _ in range(3)]
        self.loans: dict[int, Slot] = {}
        self.lent: dict[int, tuple[int, int, int]] = {}  # slot -> generation, reader, what its pixels hold
        self.free = set(range(self.SLOTS))
        self.past: list[tuple[int, int]] = []  # tickets whose slot was given back
        self.frames = 0

    def teardown(self) -> None:
        self.ring.close()

    @rule()
    def loan(self) -> None:
        slot = self.ring.loan()
        if slot is None:
            assert not self.free
            return
        assert slot.index in self.free, "a slot was lent that somebody holds"
        self.free.remove(slot.index)
        self.loans[slot.index] = slot

    @precondition(lambda self: self.loans)
    @rule(pick=st.integers(0, 2), reader=st.integers(0, 2))
    def publish(self, pick: int, reader: int) -> None:
        slot = self.loans.pop(sorted(self.loans)[pick % len(self.loans)])
        self.frames += 1
        slot.pixels[:] = self.frames % 251
        self.ring.publish(slot, header(self.frames), reader=reader)
        self.lent[slot.index] = (slot.generation, reader, self.frames)

    @precondition(lambda self: self.loans)
    @rule(pick=st.integers(0, 2), retired=st.sampled_from([False, False, False, False, True]))
    def give_up_loan(self, pick: int, retired: bool) -> None:
        slot = self.loans.pop(sorted(self.loans)[pick % len(self.loans)])
        if retired:
            self.ring.retire(slot)
        else:
            self.ring.take_back(slot)
            self.free.add(slot.index)
        self.past.append((slot.index, slot.generation))
        with pytest.raises(ValueError, match="expected LOANED"):
            self.ring.publish(slot, header(), reader=0)

    @precondition(lambda self: self.lent)
    @rule(pick=st.integers(0, 2), reader=st.integers(0, 2))
    def release(self, pick: int, reader: int) -> None:
        index = sorted(self.lent)[pick % len(self.lent)]
        generation, holder, _ = self.lent[index]
        if reader != holder:
            with pytest.raises(StaleGeneration):
                self.ring.release(index, generation, reader=reader)
            return
        self.ring.release(index, generation, reader=reader)
        del self.lent[index]
        self.free.add(index)
        self.past.append((index, generation))

    @precondition(lambda self: self.past)
    @rule(pick=st.integers(0, 50), reader=st.integers(0, 2))
    def release_again(self, pick: int, reader: int) -> None:
        index, generation = self.past[pick % len(self.past)]
        with pytest.raises(StaleGeneration):
            self.ring.release(index, generation, reader=reader)

    @rule(reader=st.integers(0, 2))
    def reclaim(self, reader: int) -> None:
        held = [index for index, (_, holder, _) in self.lent.items() if holder == reader]
        assert self.ring.reclaim(reader) == len(held)
        for index in held:
            self.past.append((index, self.lent.pop(index)[0]))
            self.free.add(index)

    @invariant()
    def what_is_lent_is_what_was_written(self) -> None:
        assert self.ring.free_count == len(self.free)
        for index, (generation, reader, frame_id) in self.lent.items():
            frame = self.readers[reader].borrow(index, generation)
            assert frame.frame_id == frame_id
            assert (frame.pixels == frame_id % 251).all()

    @invariant()
    def a_slot_lent_again_is_noticed(self) -> None:
        again = {index: slot.generation for index, slot in self.loans.items()}
        again |= {index: generation for index, (generation, _, _) in self.lent.items()}
        for index, generation in self.past:
            if again.get(index, generation) != generation:
                with pytest.raises(StaleGeneration):
                    self.readers[0].borrow(index, generation)


def test_any_interleaving() -> None:
    run_state_machine_as_test(
        RingRules,
        settings=settings(max_examples=60, stateful_step_count=40, derandomize=True, database=None, deadline=None),
    )


# --- in place ------------------------------------------------------------------------------------------------------


def test_pixels_are_the_memory_itself(make_ring: Callable[[], Ring]) -> None:
    ring = make_ring()
    reader = reader_of(ring)
    slot = ring.loan()
    assert slot is not None
    slot.pixels[:] = np.arange(SLOT_BYTES)
    ring.publish(slot, header(), reader=1)
    frame = reader.borrow(slot.index, slot.generation)

    address, owners = _address(frame.pixels), _address(slot.pixels)
    start, end = _mapping_around(address)
    assert address + frame.pixels.nbytes <= end
    assert address % PAGE_BYTES == 0
    assert address - start == owners - _mapping_around(owners)[0]
    assert address != owners
    assert not frame.pixels.flags.writeable
    slot.pixels[9] = 77  # the owner breaks the rule: were there a copy, the reader would not see it
    assert frame.pixels[1, 1] == 77


def _address(pixels: npt.NDArray[np.uint8]) -> int:
    return int(pixels.__array_interface__["data"][0])


def _mapping_around(address: int) -> tuple[int, int]:
    """Start and end of the ring's mapping that the address lies in, as the kernel tells it."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
        if start <= address < end:
            assert "/memfd:lineside-test" in line, line
            return start, end
    raise AssertionError("the address lies in no mapping")


BYTES_OF_4_PX = {
    PixelFormat.MONO8: 4,
    PixelFormat.BGR8: 12,
    PixelFormat.RGB8: 12,
    PixelFormat.MONO10: 8,
    PixelFormat.MONO12: 8,
    PixelFormat.MONO10_PACKED: 6,
    PixelFormat.MONO12_PACKED: 6,
    PixelFormat.MONO10P: 5,
    PixelFormat.MONO12P: 6,
    PixelFormat.BAYER_RG8: 4,
    PixelFormat.BAYER_GR8: 4,
    PixelFormat.BAYER_GB8: 4,
    PixelFormat.BAYER_BG8: 4,
    PixelFormat.YUV422_8: 8,
    PixelFormat.YUV422_8_UYVY: 8,
}


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_rows_with_padding(pixel_format: PixelFormat) -> None:
    expected_bytes = BYTES_OF_4_PX[pixel_format]
    ring = Ring("test", 1, 4 * 16)
    reader = reader_of(ring)
    slot = ring.loan()
    assert slot is not None
    slot.pixels[:] = np.arange(64)
    ring.publish(slot, SlotHeader(1, None, 0, 0, 4, 4, 16, pixel_format), reader=1)
    frame = reader.borrow(slot.index, slot.generation)
    expected = np.arange(64, dtype=np.uint8).reshape(4, 16)[:, :expected_bytes]
    shape = (4, 4, 3) if pixel_format in (PixelFormat.BGR8, PixelFormat.RGB8) else (4, expected_bytes)
    assert frame.pixel_format is pixel_format
    assert frame.pixels.shape == shape
    assert (frame.pixels == expected.reshape(shape)).all()
    assert not frame.pixels.flags.writeable
    ring.close()


# --- a reader dies -------------------------------------------------------------------------------------------------


def test_a_reader_killed_while_reading_gives_back_only_when_reaped(make_ring: Callable[[], Ring]) -> None:
    ring = make_ring()
    ours, theirs = link_pair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.pipeline.ring_child", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            cwd=ROOT,
        )
    link = Link(ours)
    try:
        link.send(RingOffer("cam0", 1, ring.slot_count, ring.slot_bytes), (ring.descriptor,))
        slot = ring.loan()
        assert slot is not None
        slot.pixels[:] = 123
        ring.publish(slot, header(), reader=4)
        link.send(FrameTicket("cam0", 1, slot.index, slot.generation, 1, None, 0, 0))
        select.select([link], [], [], 60)
        received = link.receive()
        assert received is not None
        assert received[0] == Release(123, slot.generation)  # it read our pixels, and holds the slot
    finally:
        child.kill()
    # Dead or dying, but not reaped: even with its link gone the slot stays lent.
    select.select([link], [], [], 60)
    with pytest.raises(PeerGone):
        link.receive()
    other = ring.loan()
    assert other is not None
    assert ring.loan() is None
    assert child.wait(timeout=60) == -9
    assert ring.reclaim(4) == 1
    again = ring.loan()
    assert again is not None
    assert (again.index, again.generation) == (slot.index, slot.generation + 1)
    with pytest.raises(StaleGeneration):
        ring.release(slot.index, slot.generation, reader=4)
    link.close()


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slot_count", "slot_bytes"), [(0, 64), (2, 0), (-1, 64)])
def test_an_empty_ring_is_refused(slot_count: int, slot_bytes: int) -> None:
    with pytest.raises(ValueError, match="ring cam0: got"):
        Ring("cam0", slot_count, slot_bytes)


def test_memory_that_cannot_be_had_leaves_no_descriptor() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE_BYTES, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Ring("cam0", 4, PAGE_BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(("slot_count", "slot_bytes"), [(3, SLOT_BYTES), (2, SLOT_BYTES + PAGE_BYTES), (0, SLOT_BYTES)])
def test_memory_of_another_size_is_refused(make_ring: Callable[[], Ring], slot_count: int, slot_bytes: int) -> None:
    ring = make_ring()
    descriptor = os.dup(ring.descriptor)
    with pytest.raises(ValueError, match="takes"):
        RingReader("cam0", descriptor, slot_count, slot_bytes)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("wrong", [header(height=5), header(width=9), header(stride=7), header(stride=9)])
def test_a_frame_that_does_not_fit_is_refused(make_ring: Callable[[], Ring], wrong: SlotHeader) -> None:
    ring = make_ring()
    slot = ring.loan()
    assert slot is not None
    with pytest.raises(ValueError, match="does not fit a slot of 32 bytes"):
        ring.publish(slot, wrong, reader=1)
    ring.take_back(slot)


def test_no_free_slot_is_said_not_waited_for(make_ring: Callable[[], Ring]) -> None:
    ring = make_ring()
    assert ring.loan() is not None
    assert ring.loan() is not None
    assert ring.loan() is None
    assert ring.free_count == 0


@pytest.mark.parametrize("index", [-1, 2, 99])
def test_a_slot_that_is_none_cannot_be_released(make_ring: Callable[[], Ring], index: int) -> None:
    ring = make_ring()
    with pytest.raises(StaleGeneration):
        ring.release(index, 1, reader=1)
