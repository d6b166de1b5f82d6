"""What every kind of camera owes acquisition. A new kind adds a bench for its device to BENCHES."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.camera_config import FolderCamera, SimulatedCamera, TriggerNotices
from pipeline.cameras import CAMERAS, make_camera
from pipeline.cameras.base import Camera, CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.clock import now_ns, seconds_until
from pipeline.config import LineConfig
from pipeline.noticed_camera import NoticedCamera
from pipeline.ring import Slot
from pipeline.simulator.broker import find_mosquitto, start_broker
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from tests.noticed import TriggerTeller
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 12, 8
SENTINEL = 0xEE
PATIENCE_S = 60.0


class Bench(Protocol):
    """A device under the test's control: frame k shows ``picture(k)``, those in ``wrong_sized`` have another size."""

    pixel_format: PixelFormat
    wrong_sized: set[int]

    def camera(self) -> Camera: ...
    def trigger(self) -> None: ...
    def lose_device(self) -> None: ...
    def restore_device(self) -> None:
        """Switched on again: counters that the device holds begin again."""

    def close(self) -> None: ...


def picture(number: int, pixel_format: PixelFormat) -> Pixels:
    """Different for each number, whole numbers that survive a PNG; as the camera has to deliver it."""
    shape = (HEIGHT_PX, WIDTH_PX) if pixel_format is PixelFormat.MONO8 else (HEIGHT_PX, WIDTH_PX, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


class FolderBench:
    """Its triggers come by the clock, as fast as they are asked for."""

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self._folder = folder / "images"
        self._write()

    def _write(self) -> None:
        self._folder.mkdir()
        for number in range(12):
            image = picture(number, self.pixel_format)
            if self.pixel_format is PixelFormat.RGB8:
                image = np.ascontiguousarray(image[:, :, ::-1])  # image files are written from BGR
            image = image[1:] if number in self.wrong_sized else image
            assert cv2.imwrite(str(self._folder / f"{number:03d}.png"), image)

    def camera(self) -> Camera:
        return make_camera(
            FolderCamera(
                camera_id="cam0",
                kind="folder",
                folder=self._folder,
                parts_per_min=60_000.0,
                width_px=WIDTH_PX,
                height_px=HEIGHT_PX,
                pixel_format=self.pixel_format,
            )
        )

    def trigger(self) -> None:
        return

    def lose_device(self) -> None:
        shutil.rmtree(self._folder)

    def restore_device(self) -> None:
        self._write()

    def close(self) -> None:
        return


class SimulatedBench:
    """A device that speaks the line simulator's protocol from this very thread."""

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self._address = folder / "cam.sock"
        self._number = 0
        self._unseen_count = 0
        """Triggers that no test asked for."""
        self._driver: socket.socket | None = None
        self.restore_device()

    def config(self) -> SimulatedCamera:
        return SimulatedCamera(
            camera_id="cam0",
            kind="simulated",
            address=self._address,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            pixel_format=self.pixel_format,
        )

    def camera(self) -> Camera:
        return make_camera(self.config())

    def messages(self, **changes: Any) -> tuple[DeviceMessage, DeviceMessage, bytes]:
        """The next trigger, its frame and the frame's pixels."""
        shown = self._number - self._unseen_count
        image = picture(shown, self.pixel_format)
        image = image[1:] if shown in self.wrong_sized else image
        self._number += 1
        trigger = DeviceMessage(MessageKind.TRIGGER, self.pixel_format, self._number, 100 + self._number, now_ns())
        frame: dict[str, Any] = {
            "kind": MessageKind.FRAME,
            "pixel_format": self.pixel_format,
            "trigger_counter": self._number,
            "encoder_count": trigger.encoder_count,
            "trigger_ns": trigger.trigger_ns,
            "exposure_ns": now_ns(),
            "frame_id": self._number,
            "width": WIDTH_PX,
            "height": len(image),
            "stride": image.nbytes // len(image),
            "payload_bytes": image.nbytes,
        }
        return trigger, DeviceMessage(**{**frame, **changes}), image.tobytes()

    def send(self, packet: bytes) -> None:
        if self._driver is None:
            self._driver, _ = self._listener.accept()
        self._driver.sendall(packet)

    def trigger(self) -> None:
        trigger, frame, pixels = self.messages()
        self.send(encode_header(trigger) + encode_header(frame) + pixels + encode_frame_end(frame.trigger_counter))

    def hang_up(self) -> None:
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def lose_device(self) -> None:
        self.hang_up()
        self._listener.close()
        self._address.unlink()

    def restore_device(self) -> None:
        self._number = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._address))
        self._listener.listen()

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


class NoticedBench(SimulatedBench):
    """The same device, whose triggers a controller tells over MQTT, each 50 ms after it."""

    PITCH_US = 400_000

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        super().__init__(folder, pixel_format, wrong_sized)
        self._stack = contextlib.ExitStack()
        self._port = self._stack.enter_context(start_broker("mosquitto")).port
        self._teller = self._stack.enter_context(TriggerTeller(self._port, "test/line/trigger/cam0"))

    def config(self) -> SimulatedCamera:
        notices = TriggerNotices(pitch_us=self.PITCH_US, match="window")
        return super().config().model_copy(update={"trigger_notices": notices})

    def camera(self) -> Camera:
        mqtt = {"port": self._port, "client_id": "test"}
        line = LineConfig.model_validate(
            {
                "topic_root": "test/line",
                "recipe": "recipe.yaml",
                "cameras": [self.config()],
                "timing": {"deadline_us": 200_000},
                "mqtt": mqtt,
                "records": {"path": "records.db"},
            }
        )
        return _Measured(NoticedCamera(super().camera(), self.config(), line, 0), self)

    def tell(self) -> None:
        self._teller.tell(self._number + 1, age_us=50_000, encoder_count=101 + self._number)

    def trigger(self) -> None:
        self.tell()
        super().trigger()

    def measure(self, camera: NoticedCamera) -> int:
        """Returns how many triggers that took."""
        count = 0
        begun_ns = now_ns() + 2 * self.PITCH_US * 1_000
        while camera.not_ready()[0]:
            wait(camera)
            told = [event for event in camera.poll() if isinstance(event, Triggered)]
            if told:
                super().trigger()
                self._unseen_count += 1
            count += len(told)
            is_ready_for_more = bool(told) or (count == 0 and now_ns() >= begun_ns)
            if is_ready_for_more and count < 20:
                self.tell()
                # One that comes before the camera has subscribed is told again.
                begun_ns = now_ns() + self.PITCH_US * 1_000
        return count

    def restore_device(self) -> None:
        super().restore_device()
        self._unseen_count = 0

    def close(self) -> None:
        super().close()
        self._stack.close()


class _Measured:
    """Opened it has the triggers behind it that it measured with."""

    def __init__(self, camera: NoticedCamera, bench: NoticedBench) -> None:
        self._camera, self._bench = camera, bench
        self._unseen_count = 0
        self.close, self.queue, self.fileno, self.due_ns = camera.close, camera.queue, camera.fileno, camera.due_ns

    def open(self) -> None:
        self._camera.open()
        self._unseen_count += self._bench.measure(self._camera)

    def poll(self) -> list[CameraEvent]:
        return [
            replace(event, trigger_counter=event.trigger_counter - self._unseen_count) for event in self._camera.poll()
        ]


BENCHES: dict[str, type[FolderBench] | type[SimulatedBench]] = {
    "folder": FolderBench,
    "simulated": SimulatedBench,
    "noticed": NoticedBench,
}
AROUND_OTHERS = {"noticed"}
"""No kinds of their own."""


def empty_slots(pixel_format: PixelFormat, count: int, *, spare_bytes: int = 0) -> list[Slot]:
    slot_bytes = WIDTH_PX * HEIGHT_PX * pixel_format.bytes_per_pixel + spare_bytes
    return [Slot(index, 1, np.full(slot_bytes, SENTINEL, np.uint8)) for index in range(count)]


def wait(camera: Camera) -> None:
    """As acquisition does: until the descriptor is readable or the clock says so."""
    descriptor, due_ns = camera.fileno(), camera.due_ns()
    assert descriptor is not None or due_ns is not None, "an open camera says how to wait for it"
    timeout_s = PATIENCE_S if due_ns is None else seconds_until(due_ns)
    ready = select.select([] if descriptor is None else [descriptor], [], [], timeout_s)[0]
    assert ready or due_ns is not None, "nothing came from the device"


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


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_slots_are_filled_in_order_with_the_source_pixels(bench: Bench, pixel_format: PixelFormat) -> None:
    camera = bench.camera()
    camera.open()
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
    camera.open()
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
    camera.open()
    slots = empty_slots(PixelFormat.MONO8, 2)
    for slot in slots:
        camera.queue(slot)
    _, outcomes = shoot(bench, camera, 4)
    assert words(outcomes) == ["BAD", "GRABBED", "BAD", "GRABBED"]
    bad = outcomes[0]
    assert isinstance(bad, NotGrabbed)
    assert "12x7" in bad.text
    assert "12x8" in bad.text
    for slot, number in zip(slots, (1, 3), strict=True):
        assert (slot.pixels == picture(number, PixelFormat.MONO8).reshape(-1)).all()
    camera.close()
    bench.close()


def test_closing_gives_back_what_was_not_filled_and_may_be_done_twice(bench: Bench) -> None:
    camera = bench.camera()
    assert camera.close() == []
    camera.open()
    slots = empty_slots(PixelFormat.MONO8, 3)
    for slot in slots:
        camera.queue(slot)
    shoot(bench, camera, 1)
    assert [slot.index for slot in camera.close()] == [1, 2]
    assert camera.close() == []
    assert camera.fileno() is None
    assert camera.due_ns() is None


def test_a_closed_camera_opens_again_and_counts_on(bench: Bench) -> None:
    camera = bench.camera()
    camera.open()
    first, _ = shoot(bench, camera, 2)
    camera.close()
    if isinstance(bench, SimulatedBench):
        bench.hang_up()
    camera.open()
    (slot,) = empty_slots(PixelFormat.MONO8, 1)
    camera.queue(slot)
    second, outcomes = shoot(bench, camera, 1)
    assert words(outcomes) == ["GRABBED"]
    assert second[0].trigger_counter == first[-1].trigger_counter + 1
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
    camera.open()
    assert words(shoot(bench, camera, 1)[1]) == ["REFUSED"]
    camera.close()


def test_a_device_that_is_lost_in_use_and_switched_on_again_goes_on(bench: Bench) -> None:
    """Its trigger counters are its own from ``open`` to ``close``: they may come again."""
    camera = bench.camera()
    camera.open()
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
    camera.open()
    for slot in slots[-2:]:
        camera.queue(slot)
    triggers, outcomes = shoot(bench, camera, 2)
    assert words(outcomes) == ["GRABBED", "GRABBED"]
    assert triggers[1].trigger_counter == triggers[0].trigger_counter + 1
    camera.close()


def test_nothing_to_tell_is_no_event(bench: Bench) -> None:
    camera = bench.camera()
    camera.open()
    due_ns = camera.due_ns()
    events: list[CameraEvent] = list(camera.poll())
    assert not events or (due_ns is not None and due_ns <= now_ns())
    camera.close()
