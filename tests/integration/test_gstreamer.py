"""The kind `gstreamer` with a real GStreamer: in the system's Python, whose OpenCV is built with it (Debian: python3-opencv,
gstreamer1.0-plugins-base); pip's OpenCV is not.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from pipeline.camera_config import GstreamerCamera
from pipeline.cameras import make_camera
from pipeline.cameras.base import CameraUnavailable
from vision.types import PixelFormat

_PYTHON = "/usr/bin/python3"
_SCRIPT = Path(__file__).resolve().parent.parent / "gstreamer_script.py"
SOLID = "videotestsrc is-live=true pattern=solid-color foreground-color=0xff203040"
CAPS = "width=32,height=16,framerate=20/1"


@functools.cache
def why_not() -> str:
    """Empty where the system's Python can do it."""
    words = "import cv2, sys; sys.exit('GStreamer:                   YES' not in cv2.getBuildInformation())"
    version = (
        f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, sysconfig.get_python_version().split('.')))})"
    )
    try:
        for code, reason in (
            (words, f"{_PYTHON} has no OpenCV with GStreamer (apt-get install python3-opencv)"),
            (version, f"{_PYTHON} is another version than this one: it cannot load the packages installed here"),
        ):
            if subprocess.run([_PYTHON, "-I", "-c", code], check=False, timeout=60, capture_output=True).returncode:
                return reason
    except FileNotFoundError:
        return f"no {_PYTHON}"
    return ""


needs_gstreamer = pytest.mark.skipif(bool(why_not()), reason=why_not())


def play(pipeline: str, *, pixel_format: str = "BGR8", size: tuple[int, int] = (32, 16), count: int = 5) -> Any:
    arguments = [sysconfig.get_path("purelib"), pipeline, *map(str, size), pixel_format, str(count)]
    done = subprocess.run(
        [_PYTHON, "-I", str(_SCRIPT), *arguments], check=False, timeout=100, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_gstreamer
@pytest.mark.parametrize(
    ("pixel_format", "caps", "expected"),
    [
        ("BGR8", "BGR", [0x40, 0x30, 0x20]),
        ("RGB8", "BGR", [0x20, 0x30, 0x40]),
        ("Mono8", "BGR", [45, 45, 45]),
        ("Mono8", "GRAY8", None),
    ],
)
def test_pixels_come_as_the_pipeline_makes_them(pixel_format: str, caps: str, expected: list[int] | None) -> None:
    said = play(f"{SOLID} ! video/x-raw,format={caps},{CAPS} ! appsink", pixel_format=pixel_format)
    assert [frame_id for frame_id, _, _ in said["told"]] == list(range(5))
    for _, first, is_even in said["told"]:
        assert is_even
        assert first == expected or expected is None
    assert said["end"] == ""


@needs_gstreamer
def test_the_end_of_a_stream_is_a_lost_camera() -> None:
    said = play(f"{SOLID} num-buffers=5 ! video/x-raw,format=BGR,{CAPS} ! appsink", count=9)
    assert 1 <= len(said["told"]) <= 5
    assert said["end"] == "camera cam0: the stream ended or was cut off"


@needs_gstreamer
def test_frames_of_another_size_are_bad() -> None:
    said = play(f"{SOLID} ! video/x-raw,format=BGR,{CAPS} ! appsink", size=(16, 16))
    assert said["told"][0] == ["BAD", "got a frame of 32x16 pixels, expected 16x16"]


@needs_gstreamer
def test_a_pipeline_that_does_not_start_is_said() -> None:
    said = play("nosuchsource ! appsink")
    assert said["told"] == []
    assert said["end"].startswith("camera cam0: GStreamer does not start the pipeline: try it with `gst-launch-1.0")


def test_pips_opencv_says_that_it_has_no_gstreamer() -> None:
    """The one that this project installs."""
    camera = make_camera(
        GstreamerCamera(
            camera_id="cam0",
            kind="gstreamer",
            pipeline="videotestsrc ! appsink",
            width_px=32,
            height_px=16,
            pixel_format=PixelFormat.MONO8,
        )
    )
    with pytest.raises(CameraUnavailable, match=r"camera cam0: OpenCV [\d.]+ is built without GStreamer"):
        camera.open()
    camera.close()
