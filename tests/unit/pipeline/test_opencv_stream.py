"""What the streams that OpenCV reads owe beyond the conformance suite. OpenCV's capture is a stand-in here, no device is
tested: what is, is what happens while it blocks, and which settings it is given.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.camera_config import GstreamerCamera, RtspCamera, V4l2Camera
from pipeline.cameras.base import CameraUnavailable, Grabbed, NotGrabbed, StillConnecting, Triggered
from pipeline.cameras.gstreamer import GstreamerStream
from pipeline.cameras.opencv_stream import StreamCamera
from pipeline.cameras.rtsp import RtspStream
from pipeline.cameras.v4l2 import V4l2Stream, kernel_ns
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from tests.camera_benches import HEIGHT_PX, WIDTH_PX, empty_slots, wait
from tests.stand_in_capture import StandInDevice
from vision.types import PixelFormat

MONO8 = PixelFormat.MONO8
GREY = np.full((HEIGHT_PX, WIDTH_PX, 3), 7, np.uint8)


@pytest.fixture
def device() -> Iterator[StandInDevice]:
    made = StandInDevice()
    yield made
    made.answer()
    made.lose()


def v4l2(device: StandInDevice, path: str = "/dev/null", **changes: Any) -> V4l2Stream:
    options = {"device": path, "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": MONO8, **changes}
    return V4l2Stream(V4l2Camera(camera_id="cam0", kind="v4l2", **options), device.open)


def rtsp(device: StandInDevice, url: str, **changes: Any) -> RtspStream:
    options = {"url": url, "width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": MONO8, **changes}
    return RtspStream(RtspCamera(camera_id="cam0", kind="rtsp", **options), device.open)


def next_events(camera: StreamCamera, count: int) -> list[Any]:
    events: list[Any] = []
    while len(events) < count:
        wait(camera)
        events += camera.poll()
    return events


# --- blocking ------------------------------------------------------------------------------------------------------


def test_opening_does_not_wait_for_a_device_that_does_not_answer(device: StandInDevice) -> None:
    device.is_answering = False
    camera = v4l2(device)
    for _ in range(2):
        with pytest.raises(StillConnecting, match="camera cam0: connecting, no answer yet"):
            camera.open()
        assert camera.close() == [], "acquisition closes what it could not open"
        assert camera.fileno() is None
    device.answer()
    camera.open()
    assert len(device.asked) == 1, "the same attempt was waited for all the time"
    device.show(GREY)
    assert [type(event) for event in next_events(camera, 2)] == [Triggered, NotGrabbed]
    camera.close()


def test_a_stuck_driver_never_writes_into_a_slot_that_was_given_back(device: StandInDevice) -> None:
    camera = v4l2(device)
    camera.open()
    slots = empty_slots(MONO8, 3)
    for slot in slots:
        camera.queue(slot)
    with device.changed:
        device.changed.wait_for(lambda: device.waiting_count == 1)
    assert camera.close() == slots
    with pytest.raises(CameraUnavailable, match="its driver has not come back"):
        camera.open()
    stuck = device.capture
    assert stuck is not None
    device.show(GREY)  # what it gets at last
    camera._left._thread.join()  # type: ignore[union-attr]
    assert stuck.is_released
    assert all((slot.pixels == 0xEE).all() for slot in slots)
    camera.open()
    assert len(device.asked) == 2
    camera.close()


def test_closing_waits_for_a_frame_that_is_being_written(device: StandInDevice) -> None:
    device.retrieving = threading.Event()
    camera = v4l2(device)
    camera.open()
    (slot,) = empty_slots(MONO8, 1)
    camera.queue(slot)
    device.show(GREY)
    assert isinstance(next_events(camera, 1)[0], Triggered)
    given_back: list[Any] = []
    closing = threading.Thread(target=lambda: given_back.extend(camera.close()))
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    device.retrieving.set()
    closing.join()
    assert given_back == [slot], "filled, but nobody was told"


def test_frames_before_the_opening_and_after_the_closing_are_no_triggers(device: StandInDevice) -> None:
    camera = v4l2(device)
    camera.open()
    device.show(GREY)
    device.show(GREY)
    assert len(next_events(camera, 4)) == 4
    camera.close()
    device.show(GREY)
    device.hang_up()
    camera.open()
    device.show(GREY)
    first = next_events(camera, 2)[0]
    assert first.trigger_counter == 2
    camera.close()


def test_a_device_that_falls_silent_is_lost(device: StandInDevice) -> None:
    camera = v4l2(device, frame_timeout_s=0.1)
    camera.open()
    device.show(GREY)
    next_events(camera, 2)
    due_ns = camera.due_ns()
    assert due_ns is not None
    assert due_ns <= now_ns() + NS_PER_S // 10
    with pytest.raises(CameraUnavailable, match=r"camera cam0: no frame for 0\.1 s"):  # noqa: PT012
        while True:
            wait(camera)
            assert not camera.poll()
    camera.close()


def test_a_loss_is_told_after_what_came_before_it(device: StandInDevice) -> None:
    camera = v4l2(device, frame_timeout_s=9.0)
    camera.open()
    device.show(GREY)
    with device.changed:
        device.changed.wait_for(lambda: device.waiting_count == 1 and not device.capture.frames)  # type: ignore[union-attr]
    device.lose()
    camera._connection._thread.join()  # type: ignore[union-attr]
    assert len(camera.poll()) == 2
    wait(camera)
    for _ in range(2):
        with pytest.raises(CameraUnavailable, match="camera cam0: the stream ended or was cut off"):
            camera.poll()
    camera.close()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (np.zeros((HEIGHT_PX, WIDTH_PX), np.uint16), "expected 8 bit grey or BGR"),
        (np.zeros((HEIGHT_PX, WIDTH_PX, 2), np.uint8), "expected 8 bit grey or BGR"),
        (np.zeros((4, 5, 3), np.uint8), "got a frame of 5x4 pixels, expected 12x8"),
    ],
)
def test_frames_that_are_none_are_bad(device: StandInDevice, frame: Any, said: str) -> None:
    camera = v4l2(device)
    camera.open()
    slots = empty_slots(MONO8, 1)
    camera.queue(slots[0])
    device.show(frame)
    bad = next_events(camera, 2)[1]
    assert isinstance(bad, NotGrabbed)
    assert bad.outcome == "BAD"
    assert said in bad.text
    assert camera.close() == slots


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8])
def test_grey_and_colour_frames_may_take_turns(device: StandInDevice, pixel_format: PixelFormat) -> None:
    camera = v4l2(device, pixel_format=pixel_format)
    camera.open()
    greys = [np.full((HEIGHT_PX, WIDTH_PX), 10 + number, np.uint8) for number in range(6)]
    for number, grey in enumerate(greys):
        (slot,) = empty_slots(pixel_format, 1)
        camera.queue(slot)
        device.show(grey if number in (1, 2, 4) else np.dstack([grey] * 3))
        grabbed = next_events(camera, 2)[1]
        assert isinstance(grabbed, Grabbed)
        assert (grabbed.slot.pixels == 10 + number).all()
    camera.close()


# --- v4l2 ----------------------------------------------------------------------------------------------------------


def test_settings_are_applied_in_the_devices_units(device: StandInDevice) -> None:
    camera = v4l2(device, fourcc="MJPG", frame_rate_hz=30.0, exposure_time_us=2_500.0, gain=4)
    device.allowed = lambda setting, value: 29.97 if setting == cv2.CAP_PROP_FPS else value
    camera.open()
    expected = {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: WIDTH_PX,
        cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT_PX,
        cv2.CAP_PROP_FPS: 29.97,
        cv2.CAP_PROP_AUTO_EXPOSURE: 1,
        cv2.CAP_PROP_EXPOSURE: 25,
        cv2.CAP_PROP_GAIN: 4,
    }
    assert device.settings == expected
    assert device.asked[0][:2] == ("/dev/null", cv2.CAP_V4L2)
    camera.close()


@pytest.mark.parametrize(
    ("asked", "setting", "has", "said"),
    [
        ({}, cv2.CAP_PROP_FRAME_WIDTH, 640, "width_px and height_px: set to 12x8, the device has 640x8"),
        ({"fourcc": "MJPG"}, cv2.CAP_PROP_FOURCC, 0x56595559, "fourcc: set to MJPG, the device has YUYV"),
        ({"frame_rate_hz": 60.0}, cv2.CAP_PROP_FPS, 30, "frame_rate_hz: set to 60, the device has 30"),
        ({"exposure_time_us": 500.0}, cv2.CAP_PROP_EXPOSURE, 3, "exposure_time_us: set to 500, the device has 300"),
        ({"gain": 9}, cv2.CAP_PROP_GAIN, 8, "gain: set to 9, the device has 8"),
    ],
)
def test_a_setting_that_the_device_does_not_take_is_said(
    device: StandInDevice, asked: dict[str, Any], setting: int, has: float, said: str
) -> None:
    camera = v4l2(device, **asked)
    device.allowed = lambda changed, value: has if changed == setting else value
    with pytest.raises(CameraUnavailable, match=f"camera cam0: {said}"):
        camera.open()
    assert device.capture is not None
    assert device.capture.is_released


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/dev/lineside-none", "/dev/lineside-none is not there: is the camera plugged in"),
        ("/dev/shm", "/dev/shm is no device"),
    ],
)
def test_a_device_that_is_none_is_said(device: StandInDevice, path: str, said: str) -> None:
    with pytest.raises(CameraUnavailable, match=f"camera cam0: {said}"):
        v4l2(device, path).open()
    assert not device.asked


def test_a_device_in_use_is_said(device: StandInDevice) -> None:
    device.is_present = False
    with pytest.raises(CameraUnavailable, match="/dev/null is in use by another program, or takes no pictures"):
        v4l2(device).open()


def test_the_kernels_time_counts_where_it_is_of_the_same_clock(device: StandInDevice) -> None:
    capture = device.open("", 0, {})
    now = now_ns()
    for stamped_ns, expected in (
        (now - 3 * NS_PER_MS, now - 3 * NS_PER_MS),
        (0, now),
        (now + NS_PER_MS, now),
        (now - 2 * NS_PER_S, now),
        (now + 1_700_000_000 * NS_PER_S, now),
    ):
        device.settings[cv2.CAP_PROP_POS_MSEC] = stamped_ns / NS_PER_MS
        assert abs(kernel_ns(capture, now) - expected) < 1_000


# --- rtsp ----------------------------------------------------------------------------------------------------------


def test_a_password_comes_from_the_environment_and_is_never_told(
    device: StandInDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_CAMERA_PASSWORD", "p@ss/word")
    device.is_present = False
    camera = rtsp(device, "rtsp://viewer@10.0.0.9:554/live?token=abc", password_env="LINE_CAMERA_PASSWORD")
    with pytest.raises(CameraUnavailable) as caught:
        camera.open()
    assert device.asked[0][0] == "rtsp://viewer:p%40ss%2Fword@10.0.0.9:554/live?token=abc"
    told = str(caught.value)
    assert "rtsp://10.0.0.9:554/live" in told
    for secret in ("p@ss", "p%40ss", "viewer", "abc"):
        assert secret not in told


def test_a_password_that_is_gone_from_the_environment_is_said(device: StandInDevice) -> None:
    camera = rtsp(device, "rtsp://viewer@10.0.0.9/live", password_env="LINESIDE_NO_SUCH_SECRET")
    with pytest.raises(CameraUnavailable, match="password_env: LINESIDE_NO_SUCH_SECRET is not set"):
        camera.open()


def test_opening_and_reading_have_time_limits_and_one_decoder(device: StandInDevice) -> None:
    device.kept_count = 5
    camera = rtsp(device, "rtsp://10.0.0.9/live", open_timeout_s=3.0, frame_timeout_s=2.0)
    camera.open()
    assert device.asked[0][2] == {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: 3_000,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: 2_000,
        cv2.CAP_PROP_N_THREADS: 1,
    }
    assert not camera.poll(), "what was kept while it was opened is old"
    camera.close()


# --- gstreamer -----------------------------------------------------------------------------------------------------


def test_opencv_without_gstreamer_is_said_with_what_to_do(device: StandInDevice) -> None:
    config = GstreamerCamera(
        camera_id="cam0",
        kind="gstreamer",
        pipeline="videotestsrc ! videoconvert ! appsink",
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
        pixel_format=MONO8,
    )
    camera = GstreamerStream(config, device.open, build="  GStreamer:                   NO\n")
    with pytest.raises(CameraUnavailable, match=r"camera cam0: OpenCV .* is built without GStreamer.*python3-opencv"):
        camera.open()
    assert not device.asked
