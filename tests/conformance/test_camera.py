"""What every kind of camera owes acquisition. A new kind adds a bench for its device to tests.camera_benches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cameras import CAMERAS
from pipeline.cameras.base import Camera, CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.clock import now_ns
from tests.camera_benches import (
    AROUND_OTHERS,
    BENCHES,
    HEIGHT_PX,
    PATIENCE_S,
    SENTINEL,
    WIDTH_PX,
    Bench,
    empty_slots,
    formats_of,
    picture,
    wait,
)
from vision.types import PixelFormat


def be_open(camera: Camera) -> None:
    """Asks until it is open: a camera may take longer than ``open`` may."""
    give_up_ns = now_ns() + int(PATIENCE_S * 1e9)
    while True:
        try:
            camera.open()
        except CameraUnavailable:
            camera.close()  # as acquisition does; slots that a slow device still had come back here
            assert now_ns() < give_up_ns
        else:
            return


def shoot(bench: Bench, camera: Camera, count: int) -> tuple[list[Triggered], list[Grabbed | NotGrabbed]]:
    """``count`` triggers and what became of them."""
    triggers: list[Triggered] = []
    outcomes: list[Grabbed | NotGrabbed] = []
    for number in range(1, count + 1):
        bench.trigger()
        while len(outcomes) < number:
            wait(camera)
            for event in camera.poll():
                if isinstance(event, Triggered):
                    triggers.append(event)
                else:
                    assert event.trigger_counter == triggers[-1].trigger_counter, "a frame came before its trigger"
                    outcomes.append(event)
    return triggers, outcomes


def words(outcomes: list[Grabbed | NotGrabbed]) -> list[str]:
    return ["GRABBED" if isinstance(outcome, Grabbed) else outcome.outcome for outcome in outcomes]


@pytest.fixture(params=sorted(BENCHES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(kind: str, tmp_socket_dir: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """In the test's ``pixel_format``, where it has one."""
    callspec: Any = getattr(request.node, "callspec", None)
    pixel_format = callspec.params.get("pixel_format", PixelFormat.MONO8)
    made = BENCHES[kind](tmp_socket_dir, pixel_format, set())
    yield made
    made.close()


def test_every_kind_is_tested() -> None:
    assert set(BENCHES) - AROUND_OTHERS == set(CAMERAS)


@pytest.mark.parametrize(
    ("kind", "pixel_format"), [(kind, each) for kind in sorted(BENCHES) for each in formats_of(kind)]
)
def test_slots_are_filled_in_order_with_the_source_pixels(bench: Bench, pixel_format: PixelFormat) -> None:
    camera = bench.camera()
    be_open(camera)
    slots = empty_slots(pixel_format, 3, spare_bytes=16)
    for slot in slots:
        camera.queue(slot)
    triggers, outcomes = shoot(bench, camera, 3)
    for number, (trigger, outcome) in enumerate(zip(triggers, outcomes, strict=True)):
        assert isinstance(outcome, Grabbed)
        assert outcome.slot is slots[number]
        expected = picture(number, pixel_format)
        header = outcome.header
        assert (header.width_px, header.height_px, header.pixel_format) == (WIDTH_PX, HEIGHT_PX, pixel_format)
        assert header.stride_bytes == expected.nbytes // HEIGHT_PX
        assert (outcome.slot.pixels[: expected.nbytes] == expected.reshape(-1)).all()
        assert (outcome.slot.pixels[expected.nbytes :] == SENTINEL).all(), "written beyond the frame"
        assert outcome.trigger_ns == trigger.trigger_ns
        assert trigger.trigger_ns <= header.exposure_ns <= header.grabbed_ns <= now_ns()
        assert header.encoder_count == trigger.encoder_count
    counters = [trigger.trigger_counter for trigger in triggers]
    assert counters == list(range(counters[0], counters[0] + 3))
    frame_ids = [outcome.header.frame_id for outcome in outcomes if isinstance(outcome, Grabbed)]
    assert frame_ids == list(range(frame_ids[0], frame_ids[0] + 3))
    assert camera.close() == []


def test_without_a_slot_the_frame_is_refused_and_the_stream_goes_on(bench: Bench) -> None:
    camera = bench.camera()
    be_open(camera)
    slots = empty_slots(PixelFormat.MONO8, 2)
    camera.queue(slots[0])
    _, first = shoot(bench, camera, 3)
    camera.queue(slots[1])
    _, then = shoot(bench, camera, 1)
    assert words(first + then) == ["GRABBED", "REFUSED", "REFUSED", "GRABBED"]
    assert (slots[1].pixels == picture(3, PixelFormat.MONO8).reshape(-1)).all()
    camera.close()


def test_a_frame_of_another_size_is_bad_and_costs_no_slot(kind: str, tmp_socket_dir: Path) -> None:
    bench = BENCHES[kind](tmp_socket_dir, PixelFormat.MONO8, {0, 2})
    camera = bench.camera()
    be_open(camera)
    slots = empty_slots(PixelFormat.MONO8, 2)
    for slot in slots:
        camera.queue(slot)
    _, outcomes = shoot(bench, camera, 4)
    assert words(outcomes) == ["BAD", "GRABBED", "BAD", "GRABBED"]
    bad = outcomes[0]
    assert isinstance(bad, NotGrabbed)
    assert "12x7" in bad.text
    assert "12x8" in bad.text
    filled = [outcome.slot for outcome in outcomes if isinstance(outcome, Grabbed)]
    assert sorted(slot.index for slot in filled) == [0, 1]
    for slot, number in zip(filled, (1, 3), strict=True):
        assert (slot.pixels == picture(number, PixelFormat.MONO8).reshape(-1)).all()
    camera.close()
    bench.close()


def test_closing_gives_back_what_was_not_filled_and_may_be_done_twice(bench: Bench) -> None:
    camera = bench.camera()
    assert camera.close() == []
    be_open(camera)
    slots = empty_slots(PixelFormat.MONO8, 3)
    for slot in slots:
        camera.queue(slot)
    shoot(bench, camera, 1)
    assert sorted(slot.index for slot in camera.close()) == [1, 2]
    assert camera.close() == []
    assert camera.fileno() is None
    assert camera.due_ns() is None


def test_a_closed_camera_opens_again(bench: Bench) -> None:
    camera = bench.camera()
    be_open(camera)
    first, _ = shoot(bench, camera, 2)
    camera.close()
    bench.hang_up()
    be_open(camera)
    (slot,) = empty_slots(PixelFormat.MONO8, 1)
    camera.queue(slot)
    second, outcomes = shoot(bench, camera, 1)
    assert words(outcomes) == ["GRABBED"]
    assert [each.trigger_ns > first[-1].trigger_ns for each in second] == [True]
    assert (slot.pixels == picture(2, PixelFormat.MONO8).reshape(-1)).all()
    camera.close()


def test_a_lost_device_is_told_and_may_come_back(bench: Bench) -> None:
    camera = bench.camera()
    bench.lose_device()
    for _ in range(2):
        with pytest.raises(CameraUnavailable, match="camera cam0: "):
            camera.open()
    assert camera.close() == []
    bench.restore_device()
    be_open(camera)
    assert words(shoot(bench, camera, 1)[1]) == ["REFUSED"]
    camera.close()


def test_a_device_that_is_lost_in_use_and_switched_on_again_goes_on(bench: Bench) -> None:
    """Its trigger counters are its own from ``open`` to ``close``: they may come again."""
    camera = bench.camera()
    be_open(camera)
    slots = empty_slots(PixelFormat.MONO8, 3)
    for slot in slots:
        camera.queue(slot)
    shoot(bench, camera, 1)
    bench.lose_device()
    with contextlib.suppress(CameraUnavailable):
        # A folder's files are read one by one: it is not lost before the next is wanted.
        camera.poll()
    unfilled = camera.close()
    assert all(slot in slots for slot in unfilled)
    with pytest.raises(CameraUnavailable):
        camera.open()
    bench.restore_device()
    be_open(camera)
    for slot in slots[-2:]:
        camera.queue(slot)
    triggers, outcomes = shoot(bench, camera, 2)
    assert words(outcomes) == ["GRABBED", "GRABBED"]
    assert triggers[1].trigger_counter == triggers[0].trigger_counter + 1
    camera.close()


def test_nothing_to_tell_is_no_event(bench: Bench) -> None:
    camera = bench.camera()
    be_open(camera)
    due_ns = camera.due_ns()
    events: list[CameraEvent] = list(camera.poll())
    assert not events or (due_ns is not None and due_ns <= now_ns())
    camera.close()
