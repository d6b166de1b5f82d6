"""What the kinds of camera owe beyond the conformance suite: bad files, bad streams, order and pace."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.camera_config import FolderCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.folder import FolderPlayer
from pipeline.clock import NS_PER_S, now_ns
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from tests.camera_benches import HEIGHT_PX, WIDTH_PX, SimulatedBench, empty_slots, picture, wait
from vision.types import PixelFormat

MONO8 = PixelFormat.MONO8


# --- folder --------------------------------------------------------------------------------------------------------


def folder_of(tmp_path: Path, greys: list[int]) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, grey in enumerate(greys):
        cv2.imwrite(str(folder / f"{index:02d}.png"), np.full((HEIGHT_PX, WIDTH_PX), grey, np.uint8))
    return folder


def player(folder: Path, **changes: Any) -> FolderPlayer:
    options = {"parts_per_min": 1_000_000.0, "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": MONO8}
    return FolderPlayer(FolderCamera(camera_id="cam0", kind="folder", folder=folder, **{**options, **changes}))


def play(camera: FolderPlayer, count: int) -> list[int | str]:
    """The grey of each frame, or what went wrong with it; ends early where the camera has no more to say."""
    told: list[int | str] = []
    while len(told) < count and camera.due_ns() is not None:
        (slot,) = empty_slots(MONO8, 1)
        camera.queue(slot)
        wait(camera)
        for event in camera.poll():
            if isinstance(event, Grabbed):
                told.append(int(event.slot.pixels[0]))
            elif isinstance(event, NotGrabbed):
                told.append(f"{event.outcome} {event.text}")
    return told


def test_images_come_in_order_again_and_again(tmp_path: Path) -> None:
    camera = player(folder_of(tmp_path, [30, 10, 20]))
    camera.open()
    assert play(camera, 7) == [30, 10, 20, 30, 10, 20, 30]


def test_a_seed_shuffles_the_same_way_every_time(tmp_path: Path) -> None:
    greys = list(range(0, 200, 10))
    folder = folder_of(tmp_path, greys)
    orders = []
    for seed in (1, 1, 2):
        camera = player(folder, order="shuffled", seed=seed)
        camera.open()
        orders.append(play(camera, len(greys)))
    assert orders[0] == orders[1] != orders[2]
    assert [sorted(map(int, order)) for order in orders] == [greys] * 3


def test_played_once_it_is_over_even_when_opened_again(tmp_path: Path) -> None:
    camera = player(folder_of(tmp_path, [1, 2, 3]), loop=False)
    camera.open()
    assert play(camera, 10) == [1, 2, 3]
    camera.close()
    camera.open()
    assert camera.due_ns() is None
    assert list(camera.poll()) == []


def test_a_player_that_was_held_up_fires_no_burst(tmp_path: Path) -> None:
    camera = player(folder_of(tmp_path, [1, 2]), parts_per_min=60.0 * 1_000)
    camera.open()
    held_until_ns = now_ns() + NS_PER_S // 50
    while now_ns() < held_until_ns:
        pass
    before_ns = now_ns()
    (event, _) = camera.poll()
    assert isinstance(event, Triggered)
    assert event.trigger_ns >= before_ns
    due_ns = camera.due_ns()
    assert due_ns is not None
    assert due_ns >= before_ns  # the twenty triggers of the meantime are not made up for


def huge_header() -> bytes:
    """A PNG that says that it has ten thousand million pixels."""
    small = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    header = struct.pack(">II", 100_000, 100_000) + small[24:29]
    return small[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + small[33:]


@pytest.mark.parametrize("content", [b"", b"no image", huge_header()], ids=["empty", "text", "huge"])
def test_a_file_that_is_no_image_is_a_bad_frame(tmp_path: Path, content: bytes) -> None:
    folder = folder_of(tmp_path, [1, 2])
    (folder / "01.png").write_bytes(content)
    camera = player(folder)
    camera.open()
    assert play(camera, 3) == [1, "BAD 01.png is no whole image of 8 bit a channel", 1]


def test_a_file_that_went_away_is_a_bad_frame(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [1, 2])
    camera = player(folder)
    camera.open()
    (folder / "00.png").unlink()
    assert play(camera, 2) == ["BAD 00.png is no whole image of 8 bit a channel", 2]


def test_a_folder_without_images_is_unavailable(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [])
    (folder / "notes.txt").write_text("")
    with pytest.raises(CameraUnavailable, match=r"camera cam0: .* holds no image"):
        player(folder).open()


# --- simulated -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_socket_dir: Path) -> Iterator[SimulatedBench]:
    made = SimulatedBench(tmp_socket_dir, MONO8, set())
    yield made
    made.close()


def test_a_frame_may_come_in_pieces(bench: SimulatedBench) -> None:
    camera = bench.camera()
    camera.open()
    trigger, frame, pixels = bench.messages()
    stream = encode_header(trigger) + encode_header(frame) + pixels + encode_frame_end(frame.trigger_counter)
    for size in (1, 63, 64, 65, len(stream) - 1):
        slots = empty_slots(MONO8, 1)
        camera.queue(slots[0])
        events: list[CameraEvent] = []
        for start in range(0, len(stream), size):
            bench.send(stream[start : start + size])
            events += camera.poll()
        assert [type(event) for event in events] == [Triggered, Grabbed]
        assert (slots[0].pixels == np.frombuffer(pixels, np.uint8)).all()
    camera.close()


def test_a_device_that_dies_within_a_frame_gives_the_slot_back(bench: SimulatedBench) -> None:
    camera = bench.camera()
    camera.open()
    slots = empty_slots(MONO8, 2)
    for slot in slots:
        camera.queue(slot)
    trigger, frame, pixels = bench.messages()
    bench.send(encode_header(trigger) + encode_header(frame) + pixels[:40])
    bench.hang_up()
    assert [type(event) for event in camera.poll()] == [Triggered]  # what came before the loss stays true
    with pytest.raises(CameraUnavailable, match="camera cam0: the simulator hung up"):
        camera.poll()
    assert camera.close() == slots
    camera.open()
    camera.queue(slots[0])
    bench.trigger()
    events = camera.poll()
    assert [type(event) for event in events] == [Triggered, Grabbed]
    assert (slots[0].pixels == picture(1, MONO8).reshape(-1)).all()
    camera.close()


def test_a_missed_frame_is_said_and_costs_no_slot(bench: SimulatedBench) -> None:
    camera = bench.camera()
    camera.open()
    slots = empty_slots(MONO8, 1)
    camera.queue(slots[0])
    trigger, _, _ = bench.messages()
    missed = DeviceMessage(
        MessageKind.MISSED, MONO8, trigger.trigger_counter, trigger.encoder_count, trigger.trigger_ns
    )
    bench.send(encode_header(trigger) + encode_header(missed))
    _, outcome = camera.poll()
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "MISSED"
    assert camera.close() == slots


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pixel_format": PixelFormat.RGB8}, "got a frame of 12x8 RGB8, expected 12x8 Mono8"),
        ({"width": 11}, "got a frame of 11x8 Mono8, expected 12x8 Mono8"),
        ({"stride": 11, "payload_bytes": 88}, "88 bytes in rows of 11 are no frame of 8 rows"),
        ({"stride": 0, "payload_bytes": 0}, "0 bytes in rows of 0 are no frame of 8 rows"),
        ({"payload_bytes": 95}, "95 bytes in rows of 12 are no frame of 8 rows"),
        ({"stride": 20_000, "payload_bytes": 160_000}, "a frame of 160000 bytes does not fit the slot of 96"),
    ],
)
def test_a_frame_that_makes_no_sense_is_bad_and_passed_over(
    bench: SimulatedBench, changes: dict[str, Any], text: str
) -> None:
    camera = bench.camera()
    camera.open()
    slots = empty_slots(MONO8, 1)
    camera.queue(slots[0])
    trigger, frame, _ = bench.messages(**changes)
    bench.send(encode_header(trigger) + encode_header(frame) + bytes(frame.payload_bytes))
    bench.send(encode_frame_end(frame.trigger_counter))
    bench.trigger()
    events = camera.poll()
    assert [type(event) for event in events] == [Triggered, NotGrabbed, Triggered, Grabbed]
    bad = events[1]
    assert isinstance(bad, NotGrabbed)
    assert (bad.outcome, bad.text) == ("BAD", text)
    assert (slots[0].pixels == picture(1, MONO8).reshape(-1)).all()
    camera.close()


@pytest.mark.parametrize("packet", [b"x" * 64, b"LSC2\x09\x00" + bytes(58)], ids=["magic", "kind"])
def test_a_stream_out_of_step_is_a_lost_device(bench: SimulatedBench, packet: bytes) -> None:
    camera = bench.camera()
    camera.open()
    bench.send(packet)
    for _ in range(2):
        with pytest.raises(CameraUnavailable, match="camera header: got"):
            camera.poll()
    camera.close()
    bench.hang_up()
    camera.open()
    bench.trigger()
    assert len(camera.poll()) == 2
    camera.close()


@pytest.mark.parametrize("cut", [0, 40, 96], ids=["at once", "midway", "behind the last pixel"])
def test_a_torn_frame_is_a_lost_device_and_no_frame(bench: SimulatedBench, cut: int) -> None:
    """The garbage fills up the frame: only the end that does not come tells that its pixels are none."""
    camera = bench.camera()
    camera.open()
    slots = empty_slots(MONO8, 2)
    for slot in slots:
        camera.queue(slot)
    bench.trigger()
    trigger, frame, pixels = bench.messages()
    bench.send(encode_header(trigger) + encode_header(frame) + pixels[:cut] + b"x" * 4_096)
    assert [type(event) for event in camera.poll()] == [Triggered, Grabbed, Triggered]
    for _ in range(2):
        with pytest.raises(CameraUnavailable, match=r"camera cam0: camera frame of trigger 2: .* is torn"):
            camera.poll()
    assert camera.close() == slots[1:]
    bench.hang_up()
    camera.open()
    camera.queue(slots[1])
    bench.trigger()
    assert [type(event) for event in camera.poll()] == [Triggered, Grabbed]
    assert (slots[1].pixels == picture(2, MONO8).reshape(-1)).all()
    camera.close()


def test_a_frame_that_was_refused_is_no_frame_either_when_it_is_torn(bench: SimulatedBench) -> None:
    camera = bench.camera()
    camera.open()
    trigger, frame, pixels = bench.messages()
    bench.send(encode_header(trigger) + encode_header(frame) + pixels[:40] + b"x" * 4_096)
    assert [type(event) for event in camera.poll()] == [Triggered]
    with pytest.raises(CameraUnavailable, match="is torn"):
        camera.poll()
    camera.close()


def test_a_frame_that_is_sent_twice_is_grabbed_twice(bench: SimulatedBench) -> None:
    """What becomes of the second one is acquisition's to say: its trigger has had its frame."""
    camera = bench.camera()
    camera.open()
    slots = empty_slots(MONO8, 2)
    for slot in slots:
        camera.queue(slot)
    trigger, frame, pixels = bench.messages()
    packet = encode_header(frame) + pixels + encode_frame_end(frame.trigger_counter)
    bench.send(encode_header(trigger) + packet + packet)
    _, first, second = camera.poll()
    assert isinstance(first, Grabbed)
    assert isinstance(second, Grabbed)
    assert first.trigger_counter == second.trigger_counter == trigger.trigger_counter
    assert [first.slot, second.slot] == slots
    camera.close()


def test_polling_a_camera_that_was_never_opened_is_a_loss(bench: SimulatedBench) -> None:
    with pytest.raises(CameraUnavailable, match="not connected"):
        bench.camera().poll()
