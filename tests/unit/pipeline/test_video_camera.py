"""What the kind `video` owes beyond the conformance suite: bad files, the end of one, pace, and where its pixels go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.camera_config import VideoCamera
from pipeline.cameras.base import CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.video import VideoPlayer
from pipeline.clock import NS_PER_S, now_ns
from tests.camera_benches import HEIGHT_PX, WIDTH_PX, empty_slots, picture, wait, write_video
from vision.types import PixelFormat

MONO8 = PixelFormat.MONO8


def video_of(folder: Path, greys: list[int], rate_hz: float = 1_000.0) -> Path:
    file = folder / "parts.mkv"
    write_video(file, [np.full((HEIGHT_PX, WIDTH_PX), grey, np.uint8) for grey in greys], MONO8, rate_hz)
    return file


def player(file: Path, **changes: Any) -> VideoPlayer:
    options = {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": MONO8, **changes}
    return VideoPlayer(VideoCamera(camera_id="cam0", kind="video", file=file, **options))


def play(camera: VideoPlayer, count: int) -> list[int | str]:
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


def test_a_loop_begins_again_and_other_videos_end(tmp_path: Path) -> None:
    file = video_of(tmp_path, [30, 10, 20])
    looped = player(file)
    looped.open()
    assert play(looped, 7) == [30, 10, 20, 30, 10, 20, 30]
    looped.close()
    once = player(file, loop=False)
    once.open()
    assert play(once, 7) == [30, 10, 20]
    once.close()
    once.open()
    assert play(once, 7) == [], "opened again, what was played is not played again"
    once.close()


def test_a_video_goes_on_where_it_was_closed(tmp_path: Path) -> None:
    camera = player(video_of(tmp_path, [10, 20, 30, 40]))
    for expected in ([10, 20, 30], [40, 10], [20, 30, 40]):
        camera.open()
        assert play(camera, len(expected)) == expected
        camera.close()


def test_it_plays_at_its_own_rate_or_at_the_configured_one(tmp_path: Path) -> None:
    file = video_of(tmp_path, [1] * 4, rate_hz=50.0)
    for parts_per_min, period_ns in ((None, NS_PER_S // 50), (600.0, NS_PER_S // 10)):
        camera = player(file, parts_per_min=parts_per_min)
        before = now_ns()
        camera.open()
        first = camera.due_ns()
        assert first is not None
        assert first - now_ns() <= period_ns <= first - before
        wait(camera)
        trigger = camera.poll()[0]
        assert isinstance(trigger, Triggered)
        second = camera.due_ns()
        assert second is not None
        assert second >= first + period_ns
        camera.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "parts.mkv is not there"),
        (b"", "parts.mkv is no video that OpenCV's FFmpeg can read"),
        (b"\x1aE\xdf\xa3 and then nothing of a video" * 100, "parts.mkv is no video that OpenCV's FFmpeg can read"),
    ],
)
def test_what_is_no_video_is_said(
    tmp_path: Path, content: bytes | None, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "parts.mkv"
    if content is not None:
        file.write_bytes(content)
    camera = player(file)
    with pytest.raises(CameraUnavailable, match=f"camera cam0: {tmp_path}/{said}"):
        camera.open()
    assert camera.close() == []
    assert "WARN" not in capfd.readouterr().err


def test_a_file_that_was_cut_off_plays_as_far_as_it_goes(tmp_path: Path) -> None:
    file = video_of(tmp_path, list(range(10, 210)))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    camera = player(file, loop=False)
    camera.open()
    played = play(camera, 200)
    assert 0 < len(played) < 200
    assert played == list(range(10, 10 + len(played)))
    camera.close()


def test_a_folder_and_a_pipe_are_no_video(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(CameraUnavailable, match=f"camera cam0: {tmp_path}/{name} is no file"):
            player(tmp_path / name).open()


def test_frames_of_another_size_are_bad(tmp_path: Path) -> None:
    camera = player(video_of(tmp_path, [1, 2]), height_px=HEIGHT_PX - 1)
    camera.open()
    said = "BAD parts.mkv: got a frame of 12x8 pixels, expected 12x7"
    assert play(camera, 2) == [said, said]
    assert len(camera.close()) == 2, "bad frames cost no slot"


def test_a_file_that_is_gone_at_its_end_is_a_lost_camera(tmp_path: Path) -> None:
    file = video_of(tmp_path, [1, 2])
    camera = player(file)
    camera.open()
    file.unlink()
    assert play(camera, 2) == [1, 2], "it was open"
    wait(camera)
    with pytest.raises(CameraUnavailable, match=r"parts\.mkv is not there"):
        camera.poll()
    camera.close()
    video_of(tmp_path, [5, 6])
    camera.open()
    assert play(camera, 2) == [5, 6]
    camera.close()


def test_two_cameras_may_play_one_file(tmp_path: Path) -> None:
    file = video_of(tmp_path, [1, 2, 3])
    cameras = [player(file), player(file)]
    for camera in cameras:
        camera.open()
    for count in (2, 1):
        assert play(cameras[0], count) == play(cameras[1], count)
    for camera in cameras:
        camera.close()


def test_colour_is_decoded_into_the_slot_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of BGR8 there is no copy between OpenCV's frame and the slot."""
    file = tmp_path / "parts.mkv"
    write_video(file, [picture(number, PixelFormat.BGR8) for number in range(2)], PixelFormat.BGR8, 1_000.0)
    camera = player(file, pixel_format=PixelFormat.BGR8)
    monkeypatch.setattr(camera._writer, "_convert", lambda *_: pytest.fail("converted"))
    camera.open()
    (slot,) = empty_slots(PixelFormat.BGR8, 1)
    address = slot.pixels.ctypes.data
    camera.queue(slot)
    wait(camera)
    grabbed = camera.poll()[1]
    assert isinstance(grabbed, Grabbed)
    assert grabbed.slot.pixels.ctypes.data == address
    assert (grabbed.slot.pixels == picture(0, PixelFormat.BGR8).reshape(-1)).all()
    camera.close()
