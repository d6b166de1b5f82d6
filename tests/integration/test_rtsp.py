"""The kind `rtsp` against GStreamer's RTSP server: real bytes over the loopback. What is sent is rounded or compressed on its
way: pixels are compared within 4 of 255.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.camera_config import OPENCV_FORMATS, RtspCamera
from pipeline.cameras.base import CameraUnavailable, Grabbed, StillConnecting, Triggered
from pipeline.cameras.rtsp import RtspStream
from pipeline.clock import NS_PER_S, now_ns
from pipeline.ring import Slot
from tests.camera_benches import wait
from tests.rtsp_server import USER, RtspServer, free_port, h264_of, why_no_h264, why_no_server
from tests.service import Service, workers_of, write_line
from tests.tap import Tap
from vision.types import PixelFormat

WIDTH_PX, HEIGHT_PX = 32, 32
TOLERANCE = 4
RATE_HZ = 50
PATIENCE_NS = 30 * NS_PER_S
PASSWORD = "s3cret/of@this:line"

pytestmark = pytest.mark.skipif(bool(why_no_server()), reason=why_no_server())


class Source:
    """A camera that runs freely: frame k is of grey 16 + k % 200."""

    def __init__(self, port: int, *, codec: str = "raw", **options: Any) -> None:
        greys = [np.full((HEIGHT_PX, WIDTH_PX), 16 + number, np.uint8) for number in range(200)]
        colours = [np.dstack([grey] * 3) for grey in greys]
        self._pictures = h264_of(greys, RATE_HZ) if codec == "h264" else colours
        self._server = RtspServer((WIDTH_PX, HEIGHT_PX), port, codec=codec, **options)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def _play(self) -> None:
        for picture in itertools.cycle(self._pictures):
            if self._is_over.wait(1 / RATE_HZ):
                return
            self._server.show(picture)

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Source]]:
    sources: list[Source] = []

    def started(port: int, **options: Any) -> Source:
        sources.append(Source(port, **options))
        return sources[-1]

    yield started
    for source in sources:
        with contextlib.suppress(ValueError):
            source.close()


def stream(port: int, *, user: str = "", **changes: Any) -> RtspStream:
    options = {
        "url": f"rtsp://{user}127.0.0.1:{port}/cam",
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
        "pixel_format": PixelFormat.MONO8,
        **changes,
    }
    return RtspStream(RtspCamera(camera_id="cam0", kind="rtsp", **options))


def open_patiently(camera: RtspStream) -> None:
    """As acquisition does: again and again."""
    give_up_ns = now_ns() + PATIENCE_NS
    while True:
        try:
            return camera.open()
        except CameraUnavailable as error:
            camera.close()
            if not isinstance(error, StillConnecting) and now_ns() > give_up_ns:
                raise


def empty_slots(pixel_format: PixelFormat, count: int) -> list[Slot]:
    size = pixel_format.frame_bytes(WIDTH_PX, HEIGHT_PX)
    return [Slot(index, 1, np.full(size, 0xEE, np.uint8)) for index in range(count)]


def grab(camera: RtspStream, pixel_format: PixelFormat, count: int) -> list[Grabbed]:
    for slot in empty_slots(pixel_format, count):
        camera.queue(slot)
    grabbed: list[Grabbed] = []
    triggers: list[Triggered] = []
    while len(grabbed) < count:
        wait(camera)
        for event in camera.poll():
            if isinstance(event, Triggered):
                triggers.append(event)
            elif isinstance(event, Grabbed):
                assert event.trigger_counter == triggers[-1].trigger_counter
                grabbed.append(event)
    return grabbed


def lose(camera: RtspStream) -> str:
    """What is said when the stream is lost."""
    with pytest.raises(CameraUnavailable) as caught:  # noqa: PT012
        while True:
            wait(camera)
            camera.poll()
    return str(caught.value)


@pytest.mark.parametrize(
    "codec", ["raw", "jpeg", pytest.param("h264", marks=pytest.mark.skipif(bool(why_no_h264()), reason=why_no_h264()))]
)
@pytest.mark.parametrize("pixel_format", OPENCV_FORMATS)
def test_frames_come_in_order_and_none_twice(
    start: Callable[..., Source], pixel_format: PixelFormat, codec: str
) -> None:
    port = free_port()
    start(port, codec=codec)
    camera = stream(port, pixel_format=pixel_format)
    open_patiently(camera)
    grabbed = grab(camera, pixel_format, 20)
    greys = [int(frame.slot.pixels[0]) for frame in grabbed]
    for frame, grey in zip(grabbed, greys, strict=True):
        assert np.abs(frame.slot.pixels.astype(int) - grey).max() <= TOLERANCE
        assert frame.trigger_ns <= frame.header.grabbed_ns <= now_ns()
    steps = [(later - earlier) % 200 for earlier, later in itertools.pairwise(greys)]
    assert all(1 - TOLERANCE < step < 1 + TOLERANCE for step in steps), greys
    assert abs(sum(steps) - 19) <= TOLERANCE
    assert [frame.header.frame_id for frame in grabbed] == list(range(20))
    camera.close()


def test_what_was_kept_while_it_was_opened_is_not_played_as_a_burst(start: Callable[..., Source]) -> None:
    """FFmpeg looks at some twenty frames before it says what the stream is, and hands them out then at once."""
    port = free_port()
    start(port)
    camera = stream(port)
    open_patiently(camera)
    frames = grab(camera, PixelFormat.MONO8, 12)
    span_ns = frames[-1].trigger_ns - frames[0].trigger_ns
    assert span_ns > 11 * NS_PER_S / RATE_HZ / 2
    camera.close()


def test_a_server_that_dies_is_lost_and_one_that_comes_back_is_found(start: Callable[..., Source]) -> None:
    port = free_port()
    source = start(port)
    camera = stream(port, frame_timeout_s=2.0)
    open_patiently(camera)
    last = grab(camera, PixelFormat.MONO8, 3)[-1]
    source.close()
    assert lose(camera).startswith("camera cam0: ")
    camera.close()
    with pytest.raises(CameraUnavailable, match=rf"camera cam0: no stream from rtsp://127\.0\.0\.1:{port}/cam"):
        camera.open()
    camera.close()
    start(port)
    open_patiently(camera)
    again = grab(camera, PixelFormat.MONO8, 3)[0]
    assert again.trigger_counter > last.trigger_counter
    camera.close()


def test_two_cameras_may_watch_one_stream(start: Callable[..., Source]) -> None:
    port = free_port()
    start(port)
    cameras = [stream(port), stream(port)]
    for camera in cameras:
        open_patiently(camera)
    for camera in cameras:
        assert len(grab(camera, PixelFormat.MONO8, 3)) == 3
    for camera in cameras:
        camera.close()


def test_a_frame_of_another_size_is_bad(start: Callable[..., Source]) -> None:
    port = free_port()
    start(port)
    camera = stream(port, width_px=WIDTH_PX * 2)
    open_patiently(camera)
    camera.queue(Slot(0, 1, np.zeros(WIDTH_PX * 2 * HEIGHT_PX, np.uint8)))
    events: list[Any] = []
    while len(events) < 2:
        wait(camera)
        events += camera.poll()
    assert (events[1].outcome, events[1].text) == ("BAD", "got a frame of 32x32 pixels, expected 64x32")
    assert len(camera.close()) == 1


def test_a_server_that_takes_the_call_and_says_nothing_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        camera = stream(silent.getsockname()[1], open_timeout_s=1.5)
        told: list[CameraUnavailable] = []
        while not told or isinstance(told[-1], StillConnecting):
            with pytest.raises(CameraUnavailable) as caught:
                camera.open()
            told.append(caught.value)
            assert camera.close() == []
        assert len(told) >= 2, "the first word came while it was still connecting"
        assert "no stream from rtsp://127.0.0.1" in str(told[-1])
        assert "within 1.5 s" in str(told[-1])


@pytest.mark.parametrize("method", ["basic", "digest"])
def test_the_password_opens_the_stream_and_is_not_told(
    method: str, start: Callable[..., Source], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    start(port, password=PASSWORD, method=method)
    monkeypatch.setenv("LINE_CAMERA_PASSWORD", PASSWORD)
    camera = stream(port, user=f"{USER}@", password_env="LINE_CAMERA_PASSWORD")
    open_patiently(camera)
    assert len(grab(camera, PixelFormat.MONO8, 2)) == 2
    camera.close()
    monkeypatch.setenv("LINE_CAMERA_PASSWORD", f"{PASSWORD}-of-yesterday")
    with pytest.raises(CameraUnavailable, match="are path, user name and password right") as caught:  # noqa: PT012
        while True:
            with contextlib.suppress(StillConnecting):
                camera.open()
    printed = capfd.readouterr()
    for text in (str(caught.value), printed.out, printed.err):
        assert "s3cret" not in text


def test_a_process_ends_in_order_while_it_reads(start: Callable[..., Source]) -> None:
    """A thread that comes back from OpenCV while the interpreter is taken down would abort it."""
    port = free_port()
    start(port)
    code = f"from tests.integration.test_rtsp import stream, open_patiently; camera = stream({port}); open_patiently(camera)"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_service_judges_a_stream_and_outlives_its_server(
    tmp_path: Path, broker_port: int, start: Callable[..., Source]
) -> None:
    """No server, a server, none, one that says nothing, a server: no process is started again for it."""
    port = free_port()
    camera = {
        "camera_id": "cam0",
        "kind": "rtsp",
        "url": f"rtsp://127.0.0.1:{port}/cam",
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
        "pixel_format": "Mono8",
        "frame_timeout_s": 1.0,
        "open_timeout_s": 2.0,
    }
    line = write_line(tmp_path, broker_port, cameras=[camera])
    with Service(line) as service, Tap(broker_port, "test/line") as tap:

        def alarm() -> str | None:
            body = tap.bodies("alarm/camera-cam0")[-1]
            return None if body is None else str(body["text"])

        def is_judging() -> bool:
            return tap.bodies("state")[-1]["state"] == "RUNNING" and alarm() is None

        tap.wait_until(lambda: "no stream from rtsp://127.0.0.1" in (alarm() or ""))
        acquisition = workers_of(service.process.pid)["acquisition"].pid
        source = start(port)
        tap.wait_until(is_judging)
        tap.wait_until(lambda: {"PASS", "REJECT"} <= {body["verdict"] for body in tap.bodies("verdict")})
        source.close()
        tap.wait_until(lambda: alarm() is not None)
        tap.wait_until(lambda: tap.bodies("state")[-1]["state"] != "RUNNING")
        with socket.create_server(("127.0.0.1", port)) as silent:
            silent.settimeout(60)
            for _ in range(2):
                caller, _ = silent.accept()
                with caller:
                    while caller.recv(4_096):
                        pass  # until it gives up
            texts = {body["text"] for body in tap.bodies("alarm/camera-cam0") if body is not None}
            assert not any("connecting" in text for text in texts), "why it was lost stands there all the time"
        start(port)
        tap.wait_until(is_judging)
        tap.wait_count("verdict", 20)
        assert tap.bodies("verdict")[-1]["verdict"] in ("PASS", "REJECT")
        assert workers_of(service.process.pid)["acquisition"].pid == acquisition
        assert len({body["session_id"] for body in tap.bodies("verdict")}) == 1
        service.stop()
