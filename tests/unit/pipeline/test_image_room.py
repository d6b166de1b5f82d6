"""The waiting room: frames meet their names in either order, and it never holds more than it may."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.image_room import PARTS_REMEMBERED, UNNAMED_NS, HeldFrame, NamedFrame, Room
from pipeline.messages import FrameKey, PartMade
from pipeline.payloads import encode
from tests.unit.pipeline.test_payloads import RESULT
from vision.types import PixelFormat

BYTES = 100


def key(number: int, camera_id: str = "cam0") -> FrameKey:
    return FrameKey(camera_id, 1, number)


def frame(
    number: int, *, camera_id: str = "cam0", unless_passed: bool = False, taken_ns: int | None = None
) -> HeldFrame:
    pixels = np.full((10, 10), number % 251, np.uint8)
    taken = number if taken_ns is None else taken_ns
    return HeldFrame(key(number, camera_id), pixels, PixelFormat.MONO8, unless_passed, taken)


def made(number: int, *cameras: str, **changes: Any) -> PartMade:
    values = {"part_id": number, "verdict": "REJECT", "image_ref": f"2026-01-31/s/{number:08d}", **changes}
    result = msgspec.structs.replace(RESULT, **values)
    return PartMade(tuple(key(number, camera_id) for camera_id in cameras or ("cam0",)), encode(result))


def names_in(room: Room) -> list[tuple[int, str]]:
    """What it gives to write, as part and camera, written at once."""
    found = []
    while (named := room.take()) is not None:
        assert named.frame.pixels[0, 0] == named.part.part_id % 251, "a neighbour's picture"
        found.append((named.part.part_id, named.frame.key.camera_id))
        room.written(named)
    return found


def test_a_frame_is_written_when_its_name_has_come() -> None:
    room = Room(1_000)
    room.enter(frame(1))
    assert room.take() is None
    room.name(made(1))
    assert names_in(room) == [(1, "cam0")]
    assert (room.held_bytes, room.dropped_count) == (0, 0)


def test_a_frame_that_comes_after_its_name_is_known() -> None:
    room = Room(1_000)
    room.name(made(1, "cam0", "cam1"))
    room.enter(frame(1))
    room.enter(frame(1, camera_id="cam1"))
    assert names_in(room) == [(1, "cam0"), (1, "cam1")]


def test_names_are_remembered_within_bounds() -> None:
    room = Room(1_000)
    for number in range(PARTS_REMEMBERED + 1):
        room.name(made(number))
    room.enter(frame(0))
    room.enter(frame(1))
    assert names_in(room) == [(1, "cam0")]


def test_what_need_not_be_kept_is_no_loss() -> None:
    room = Room(1_000)
    room.enter(frame(1, unless_passed=True))
    room.name(made(1, verdict="PASS"))
    room.enter(frame(2))
    room.name(made(2, verdict="NO_DECISION", reason="NOT_RUNNING", image_ref=None))
    room.enter(frame(3, unless_passed=True))
    room.name(made(3, verdict="NO_DECISION"))
    assert names_in(room) == [(3, "cam0")]
    assert (room.held_bytes, room.dropped_count) == (0, 0)


def test_what_was_worth_keeping_and_has_no_place_is_a_loss() -> None:
    """A view that came too late for a part whose row says already that it has no pictures."""
    room = Room(1_000)
    room.name(made(1, verdict="NO_DECISION", reason="MISSED_FRAME", image_ref=None))
    room.enter(frame(1))
    room.enter(frame(2, unless_passed=True))
    room.name(made(2, verdict="NO_DECISION", reason="MISSED_FRAME", image_ref=None))
    assert room.take() is None
    assert (room.held_bytes, room.dropped_count) == (0, 2)


def test_the_oldest_goes_first_whether_it_has_a_name_or_not() -> None:
    room = Room(3 * BYTES)
    for number in (1, 2, 3):
        room.enter(frame(number))
    room.name(made(2))
    room.enter(frame(4))  # for 1, which nobody has named
    assert (room.dropped_count, room.named_count) == (1, 1)
    room.enter(frame(5))  # for 2, which waits for the disk
    assert (room.dropped_count, room.named_count) == (2, 0)
    for number in (3, 4, 5):
        room.name(made(number))
    assert names_in(room) == [(3, "cam0"), (4, "cam0"), (5, "cam0")]


def test_what_is_being_written_takes_room() -> None:
    room = Room(2 * BYTES)
    room.enter(frame(1))
    room.name(made(1))
    named = room.take()
    assert named is not None
    for number in (2, 3):
        room.enter(frame(number))
    assert room.dropped_count == 1
    room.put_back(named)
    room.enter(frame(4))
    assert room.dropped_count == 2, "the one that was put back is the oldest"
    assert room.take() is None


def test_what_nobody_names_in_time_is_dropped() -> None:
    room = Room(1_000)
    room.enter(frame(1, taken_ns=10))
    room.enter(frame(2, taken_ns=20))
    room.expire(UNNAMED_NS + 15)
    assert (room.dropped_count, room.held_bytes) == (1, BYTES)


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "name", "take", "written", "put_back", "expire"]), st.integers(1, 12)),
    max_size=80,
)


@given(steps=STEPS, room_for=st.integers(1, 6))
def test_every_frame_is_written_dropped_or_held(steps: list[tuple[str, int]], room_for: int) -> None:
    room = Room(room_for * BYTES)
    entered = written = 0
    in_hand: list[NamedFrame] = []
    for moment, (step, number) in enumerate(steps):
        if step == "enter":
            room.enter(frame(number, taken_ns=moment))
            entered += 1
        elif step == "name":
            room.name(made(number))
        elif step == "take":
            if not in_hand and (named := room.take()) is not None:
                in_hand.append(named)
        elif step == "written" and in_hand:
            room.written(in_hand.pop())
            written += 1
        elif step == "put_back" and in_hand:
            room.put_back(in_hand.pop())
        elif step == "expire":
            room.expire(UNNAMED_NS + moment - 5)
        assert entered == written + room.dropped_count + room.frame_count + len(in_hand)
        assert room.held_bytes == BYTES * (room.frame_count + len(in_hand))
        assert room.held_bytes <= max(room_for, len(in_hand)) * BYTES or step == "put_back"
    room.drop_all()
    assert room.held_bytes == BYTES * len(in_hand)
