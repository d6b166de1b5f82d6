"""A device under the test's control for each kind of camera, for the conformance suite. A new kind adds one to BENCHES."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.camera_config import (
    OPENCV_FORMATS,
    AravisCamera,
    FolderCamera,
    GstreamerCamera,
    PylonCamera,
    RtspCamera,
    SimulatedCamera,
    TriggerNotices,
    V4l2Camera,
    VideoCamera,
)
from pipeline.cameras import make_camera
from pipeline.cameras.aravis_library import AravisMissing, library
from pipeline.cameras.base import Camera, CameraEvent, Triggered
from pipeline.cameras.gstreamer import GstreamerStream
from pipeline.cameras.pylon import Pylon
from pipeline.cameras.rtsp import RtspStream
from pipeline.cameras.v4l2 import V4l2Stream
from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.image_encoder import encode_image
from pipeline.line_config import LineConfig
from pipeline.noticed_camera import NoticedCamera
from pipeline.ring import Slot
from pipeline.simulator.broker import find_mosquitto, start_broker
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from pipeline.trigger_delay import PAIRS
from tests.gige_vision.camera import GigEVisionCamera
from tests.gige_vision.loopback import loopback_address
from tests.moved_clock import MovedClock
from tests.noticed import TriggerTeller
from tests.pylon_emulator import PylonEmulator, expect_pypylon
from tests.stand_in_capture import StandInDevice, delivered
from tests.waiting import wait_until
from vision.raw import fine_pixels
from vision.raw_picture import raw_pixels
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
    def hang_up(self) -> None:
        """The device takes note that the camera was closed."""

    def lose_device(self) -> None: ...
    def restore_device(self) -> None:
        """Switched on again: counters that the device holds begin again."""

    def close(self) -> None: ...


def picture(number: int, pixel_format: PixelFormat) -> Pixels:
    """Different for each number, levels that survive a PNG of the frame; as the camera has to deliver it.

    Noise, but for what no camera sends: bits beside the levels', and colours in YUV that no picture has.
    """
    chance = np.random.default_rng(number)
    if pixel_format.value.startswith("YUV"):
        levels = chance.integers(64, 192, (HEIGHT_PX, WIDTH_PX), np.uint8)
        return raw_pixels(np.repeat(levels[:, :, None], 3, axis=2), pixel_format)
    pixels = chance.integers(0, 256, pixel_format.shape(WIDTH_PX, HEIGHT_PX), np.uint8)
    return raw_pixels(fine_pixels(pixels, pixel_format), pixel_format) if pixel_format.bit_depth > 8 else pixels


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
            image = image[1:] if number in self.wrong_sized else image
            (self._folder / f"{number:03d}.png").write_bytes(encode_image(image, self.pixel_format, "png", 0))

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

    def hang_up(self) -> None:
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

    def device_ns(self) -> int:
        return now_ns()

    def messages(self, **changes: Any) -> tuple[DeviceMessage, DeviceMessage, bytes]:
        """The next trigger, its frame and the frame's pixels."""
        shown = self._number - self._unseen_count
        image = picture(shown, self.pixel_format)
        image = image[1:] if shown in self.wrong_sized else image
        self._number += 1
        trigger = DeviceMessage(
            MessageKind.TRIGGER, self.pixel_format, self._number, 100 + self._number, self.device_ns()
        )
        frame: dict[str, Any] = {
            "kind": MessageKind.FRAME,
            "pixel_format": self.pixel_format,
            "trigger_counter": self._number,
            "encoder_count": trigger.encoder_count,
            "trigger_ns": trigger.trigger_ns,
            "exposure_ns": self.device_ns(),
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


class AravisBench:
    """A GigE Vision camera in this process, whose line the test pulls."""

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        try:
            library()
        except AravisMissing as error:
            pytest.skip(str(error))
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self._number = 0
        self._address = loopback_address()
        self._device = GigEVisionCamera(self._address, width_px=WIDTH_PX, height_px=HEIGHT_PX)
        self._device.__enter__()

    def camera(self) -> Camera:
        return make_camera(
            AravisCamera(
                camera_id="cam0",
                kind="aravis",
                address=self._address,
                width_px=WIDTH_PX,
                height_px=HEIGHT_PX,
                pixel_format=self.pixel_format,
                # What the test's own process is held up by is no loss.
                packet_timeout_us=100_000,
                frame_retention_us=500_000,
            )
        )

    def trigger(self) -> None:
        wait_until(lambda: self._device.waits_for_trigger)
        image = picture(self._number, self.pixel_format)
        self._device.set_height(HEIGHT_PX - (self._number in self.wrong_sized))
        self._number += 1
        self._device.trigger(picture=image.tobytes())

    def hang_up(self) -> None:
        return

    def lose_device(self) -> None:
        self._device.power_off()

    def restore_device(self) -> None:
        self._number = 0
        self._device.power_on()

    def close(self) -> None:
        for thread in threading.enumerate():
            if thread.name.startswith("aravis-"):
                thread.join(PATIENCE_S)
        self._device.__exit__(None, None, None)


class VideoBench:
    """A file without loss; its triggers come by the clock. All frames of a file that OpenCV reads have one size."""

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        if wrong_sized:
            pytest.skip("OpenCV brings all frames of a video to the size of the first one")
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self._file = folder / "video.mkv"
        self._write()

    def _write(self) -> None:
        write_video(self._file, [picture(number, self.pixel_format) for number in range(12)], self.pixel_format)

    def camera(self) -> Camera:
        return make_camera(
            VideoCamera(
                camera_id="cam0",
                kind="video",
                file=self._file,
                parts_per_min=60_000.0,
                width_px=WIDTH_PX,
                height_px=HEIGHT_PX,
                pixel_format=self.pixel_format,
            )
        )

    def trigger(self) -> None:
        return

    def hang_up(self) -> None:
        return

    def lose_device(self) -> None:
        self._file.unlink()

    def restore_device(self) -> None:
        self._write()

    def close(self) -> None:
        return


def write_video(file: Path, pictures: list[Pixels], pixel_format: PixelFormat, rate_hz: float = 25.0) -> None:
    """Without loss."""
    height, width = pictures[0].shape[:2]
    codec, is_colour = cv2.VideoWriter.fourcc(*"FFV1"), pixel_format is not PixelFormat.MONO8
    video = cv2.VideoWriter(str(file), cv2.CAP_FFMPEG, codec, rate_hz, (width, height), is_colour)
    assert video.isOpened()
    for image in pictures:
        video.write(delivered(image, is_rgb=pixel_format is PixelFormat.RGB8) if is_colour else image)
    video.release()


class StreamBench:
    """What the streams that OpenCV reads have in common, with a stand-in for OpenCV and the device: no such device is
    needed, and none is tested.
    """

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self.device = StandInDevice()
        self._number = 0

    def camera(self) -> Camera:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        return {
            "camera_id": "cam0",
            "width_px": WIDTH_PX,
            "height_px": HEIGHT_PX,
            "pixel_format": self.pixel_format,
            "frame_timeout_s": 9.0,
        }

    def trigger(self) -> None:
        image = picture(self._number, self.pixel_format)
        image = image[1:] if self._number in self.wrong_sized else image
        self._number += 1
        self.device.show(delivered(image, is_rgb=self.pixel_format is PixelFormat.RGB8))

    def hang_up(self) -> None:
        self.device.hang_up()

    def lose_device(self) -> None:
        self.device.lose()

    def restore_device(self) -> None:
        self._number = 0
        self.device.restore()

    def close(self) -> None:
        self.device.lose()


class V4l2Bench(StreamBench):
    def camera(self) -> Camera:
        config = V4l2Camera(kind="v4l2", device="/dev/null", **self.options())
        return V4l2Stream(config, self.device.open)


class RtspBench(StreamBench):
    """Against a real server: tests/integration/test_rtsp.py."""

    def camera(self) -> Camera:
        self.device.kept_count = 3
        config = RtspCamera(kind="rtsp", url="rtsp://127.0.0.1/cam", **self.options())
        return RtspStream(config, self.device.open)


class GstreamerBench(StreamBench):
    """With a real GStreamer: tests/integration/test_gstreamer.py."""

    def camera(self) -> Camera:
        config = GstreamerCamera(kind="gstreamer", pipeline="videotestsrc ! appsink", **self.options())
        return GstreamerStream(config, self.device.open, build="GStreamer: YES")


class PylonBench:
    """pylon's own emulated camera, which plays a folder of images from the first one at each start of grabbing."""

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        expect_pypylon()
        self.pixel_format, self.wrong_sized = pixel_format, wrong_sized
        self._folder = folder / "images"
        self._folder.mkdir()
        self._number = 0
        self._made: list[Pylon] = []
        self._emulator = PylonEmulator()
        self._write()

    def _write(self) -> None:
        """From the next frame on."""
        for file in self._folder.iterdir():
            file.unlink()
        for number in range(self._number, 12):
            image = picture(number, self.pixel_format)
            if self.pixel_format is PixelFormat.RGB8:
                image = np.ascontiguousarray(image[:, :, ::-1])  # image files are written from BGR
            image = image[1:] if number in self.wrong_sized else image
            assert cv2.imwrite(str(self._folder / f"{number:03d}.png"), image)

    def camera(self) -> Camera:
        config = PylonCamera(
            camera_id="cam0",
            kind="pylon",
            serial=self._emulator.serial,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            pixel_format=self.pixel_format,
            trigger="software",
            trigger_ready_timeout_us=int(PATIENCE_S * 1e6),
            features=self._emulator.plays(self._folder),
        )
        self._made.append(Pylon(config))
        return self._made[-1]

    def trigger(self) -> None:
        assert self._made[-1].fire(self._number)
        self._number += 1

    def hang_up(self) -> None:
        self._write()

    def lose_device(self) -> None:
        self._emulator.unplug()
        for camera in self._made:
            # pylon's emulator does not tell that it is gone, as pylon does of a camera that is unplugged.
            self._emulator.tell_removed(camera)

    def restore_device(self) -> None:
        self._number = 0
        self._write()
        self._emulator.plug_in()

    def close(self) -> None:
        for camera in self._made:
            camera.close()
        self._emulator.close()


class NoticedBench(SimulatedBench):
    """The same device, whose triggers a controller tells over MQTT, each 50 ms after it.

    The clock of both is the test's.
    """

    PITCH_NS = 400_000_000
    AGE_US = 50_000
    RETOLD_AFTER_S = 0.5

    def __init__(self, folder: Path, pixel_format: PixelFormat, wrong_sized: set[int]) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        super().__init__(folder, pixel_format, wrong_sized)
        self.clock = MovedClock()
        self._stack = contextlib.ExitStack()
        self._port = self._stack.enter_context(start_broker("mosquitto")).port
        self._teller = self._stack.enter_context(TriggerTeller(self._port, "test/line/trigger/cam0"))
        self._camera: _AsTold | None = None

    def config(self) -> SimulatedCamera:
        notices = TriggerNotices(pitch_us=self.PITCH_NS // 1_000, match="window")
        return super().config().model_copy(update={"trigger_notices": notices})

    def camera(self) -> Camera:
        mqtt = {"port": self._port, "client_id": "test"}
        line = LineConfig.model_validate(
            {
                "topic_root": "test/line",
                "recipe": "recipe.yaml",
                "cameras": [self.config()],
                "timing": {"deadline_us": 4_000_000},  # a tenth of it a notice may be late
                "mqtt": mqtt,
                "records": {"path": "records.db"},
            }
        )
        noticed = NoticedCamera(super().camera(), self.config(), line, 0, clock=self.clock)
        self._camera = _AsTold(noticed, self)
        return self._camera

    def device_ns(self) -> int:
        return self.clock.ns

    def trigger(self) -> None:
        assert self._camera is not None
        self.clock.ns += self.PITCH_NS
        super().trigger()
        self.clock.ns += self.AGE_US * 1_000
        self._camera.expect_told(self._tell)

    def _tell(self) -> None:
        self._teller.tell(self._number, age_us=self.AGE_US, encoder_count=100 + self._number)

    def measure(self, camera: NoticedCamera) -> None:
        """With triggers that no test asks for, after a silence."""
        self.clock.ns += 2 * self.PITCH_NS
        for _ in range(PAIRS):
            self.trigger()
            self._unseen_count += 1
        self.clock.ns += NS_PER_S
        assert not camera.poll()
        assert camera.not_ready() == ("", False)

    def restore_device(self) -> None:
        super().restore_device()
        self._unseen_count = 0

    def close(self) -> None:
        super().close()
        self._stack.close()


class _AsTold:
    """Opened it has the triggers behind it that it measured with. Where it would wait, the bench's clock is moved on."""

    def __init__(self, camera: NoticedCamera, bench: NoticedBench) -> None:
        self._camera, self._bench = camera, bench
        self._events: list[CameraEvent] = []
        self._unseen_count = 0
        self.queue, self.fileno = camera.queue, camera.fileno

    def open(self) -> None:
        self._camera.open()
        self._bench.measure(self._camera)
        self._unseen_count += sum(isinstance(event, Triggered) for event in self._events)
        self._events.clear()

    def close(self) -> list[Slot]:
        self._events.clear()
        return self._camera.close()

    def due_ns(self) -> int | None:
        return now_ns() if self._events else self._bench.clock.reach(self._camera.due_ns())

    def poll(self) -> list[CameraEvent]:
        events, self._events = [*self._events, *self._camera.poll()], []
        return [replace(event, trigger_counter=event.trigger_counter - self._unseen_count) for event in events]

    def expect_told(self, tell: Callable[[], None]) -> None:
        """Until the trigger is known; one that came before the camera had subscribed is told again."""
        seen_count, retold_ns = len(self._events), 0
        while not any(isinstance(event, Triggered) for event in self._events[seen_count:]):
            if now_ns() >= retold_ns:
                tell()
                retold_ns = now_ns() + int(NoticedBench.RETOLD_AFTER_S * 1e9)
            descriptor = self._camera.fileno()
            assert descriptor is not None
            select.select([descriptor], [], [], NoticedBench.RETOLD_AFTER_S)
            self._events += self._camera.poll()


BENCHES: dict[str, Callable[[Path, PixelFormat, set[int]], Bench]] = {
    "aravis": AravisBench,
    "folder": FolderBench,
    "gstreamer": GstreamerBench,
    "pylon": PylonBench,
    "noticed": NoticedBench,
    "rtsp": RtspBench,
    "simulated": SimulatedBench,
    "v4l2": V4l2Bench,
    "video": VideoBench,
}


AROUND_OTHERS = {"noticed"}
"""No kinds of their own."""


def formats_of(kind: str) -> list[PixelFormat]:
    """What cameras of this kind can deliver; the one that pylon emulates plays images as those alone."""
    return list(OPENCV_FORMATS if kind in ("gstreamer", "pylon", "rtsp", "v4l2", "video") else PixelFormat)


def empty_slots(pixel_format: PixelFormat, count: int, *, spare_bytes: int = 0) -> list[Slot]:
    slot_bytes = pixel_format.frame_bytes(WIDTH_PX, HEIGHT_PX) + spare_bytes
    return [Slot(index, 1, np.full(slot_bytes, SENTINEL, np.uint8)) for index in range(count)]


def wait(camera: Camera) -> None:
    """As acquisition does: until the descriptor is readable or the clock says so."""
    descriptor, due_ns = camera.fileno(), camera.due_ns()
    assert descriptor is not None or due_ns is not None, "an open camera says how to wait for it"
    timeout_s = PATIENCE_S if due_ns is None else seconds_until(due_ns)
    ready = select.select([] if descriptor is None else [descriptor], [], [], timeout_s)[0]
    assert ready or due_ns is not None, "nothing came from the device"
