"""What a line's file may say of the cameras that OpenCV reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.camera_config import GstreamerCamera, RtspCamera, V4l2Camera, VideoCamera
from pipeline.config import load_line
from tests.unit.pipeline.test_config import LINE, RECIPE
from vision.faults import FaultsError

COMMON = {"camera_id": "cam0", "width_px": 32, "height_px": 32, "pixel_format": "Mono8"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "parts.mkv").write_bytes(b"looked into when it is played")
    return tmp_path


def write_line(folder: Path, camera: dict[str, Any], **changes: Any) -> Path:
    file = folder / "line.yaml"
    file.write_text(yaml.safe_dump({**LINE, "cameras": [{**COMMON, **camera}], **changes}))
    return file


def faults_of(folder: Path, camera: dict[str, Any], **changes: Any) -> list[str]:
    with pytest.raises(FaultsError) as caught:
        load_line(write_line(folder, camera, **changes))
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_a_video_counts_from_the_file_that_names_it(folder: Path) -> None:
    (camera,) = load_line(write_line(folder, {"kind": "video", "file": "parts.mkv"})).config.cameras
    assert isinstance(camera, VideoCamera)
    assert (camera.file, camera.loop, camera.parts_per_min) == (folder / "parts.mkv", True, None)


def test_a_device_keeps_its_lasting_name(folder: Path) -> None:
    """A link in /dev/v4l/by-id leads to a number that changes when the camera is plugged in again."""
    assert Path("/dev/stdin").is_symlink()
    (camera,) = load_line(write_line(folder, {"kind": "v4l2", "device": "/dev/stdin"})).config.cameras
    assert isinstance(camera, V4l2Camera)
    assert camera.device == "/dev/stdin"


@pytest.mark.parametrize(
    "url", ["rtsp://10.0.0.9/live", "rtsps://viewer@cam.plant.example:8554/a/b?channel=1", "rtsp://[2001:db8::1]:554/"]
)
def test_where_a_stream_may_come_from(folder: Path, url: str) -> None:
    (camera,) = load_line(write_line(folder, {"kind": "rtsp", "url": url})).config.cameras
    assert isinstance(camera, RtspCamera)
    assert camera.url == url


def test_a_pipeline_is_left_as_it_is_written(folder: Path) -> None:
    pipeline = "nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! appsink drop=true"
    (camera,) = load_line(write_line(folder, {"kind": "gstreamer", "pipeline": pipeline})).config.cameras
    assert isinstance(camera, GstreamerCamera)
    assert camera.pipeline == pipeline


@pytest.mark.parametrize(
    ("camera", "fault"),
    [
        ({"kind": "video", "file": "none.mkv"}, "file: got none.mkv: No such file or directory, expected a video file"),
        ({"kind": "video", "file": "."}, "no file, expected a video file"),
        ({"kind": "video"}, "file: got nothing, expected a value"),
        ({"kind": "video", "file": "parts.mkv", "parts_per_min": 0.0}, "parts_per_min: got 0.0, expected greater than"),
        ({"kind": "v4l2", "device": "video0"}, "device: got 'video0', expected"),
        ({"kind": "v4l2", "device": "/dev/video0", "fourcc": "MJPEG"}, "fourcc: got 'MJPEG', expected"),
        ({"kind": "v4l2", "device": "/dev/video0", "exposure_time_us": 1.0}, "exposure_time_us: got 1.0, expected"),
        ({"kind": "rtsp", "url": "http://10.0.0.9/live"}, "url: got no such URL, expected rtsp://HOST/PATH"),
        ({"kind": "rtsp", "url": "rtsp:///live"}, "url: got no such URL, expected rtsp://HOST/PATH"),
        ({"kind": "rtsp", "url": "rtsp://cam:port/live"}, "url: got no such URL, expected rtsp://HOST/PATH"),
        ({"kind": "rtsp", "url": "rtsp://cam/a b"}, "url: got no such URL, expected rtsp://HOST/PATH"),
        (
            {"kind": "rtsp", "url": "rtsp://u@cam/", "password_env": "LINESIDE_NO_SUCH_SECRET"},
            "password_env: got LINESIDE_NO_SUCH_SECRET, which is not set, expected the name of a set environment variable",
        ),
        (
            {"kind": "rtsp", "url": "rtsp://cam/", "password_env": "X"},
            "password_env: got a password without a name, expected rtsp://USER@HOST/PATH as url",
        ),
        ({"kind": "gstreamer", "pipeline": "v4l2src ! fakesink"}, "pipeline: got no appsink at its end, expected"),
        ({"kind": "gstreamer", "pipeline": "appsink ! fakesink"}, "pipeline: got no appsink at its end, expected"),
    ],
)
def test_a_fault_is_named(folder: Path, camera: dict[str, Any], fault: str) -> None:
    found = faults_of(folder, camera)
    assert any(line.startswith("line.yaml: cameras.0.") and fault in line for line in found), found


def test_a_password_in_the_address_is_refused_and_not_repeated(folder: Path) -> None:
    (fault,) = faults_of(folder, {"kind": "rtsp", "url": "rtsp://viewer:s3cret@10.0.0.9/live"})
    assert fault == (
        "line.yaml: cameras.0.url: got a URL with a password, expected rtsp://USER@HOST/PATH, and password_env"
    )
    for broken in ("rtsp://viewer:s3cret@:554/live", "rtp://viewer:s3cret@10.0.0.9/live"):
        assert "s3cret" not in "".join(faults_of(folder, {"kind": "rtsp", "url": broken}))


def test_nothing_takes_the_place_of_a_video(folder: Path) -> None:
    video = {"kind": "video", "file": "parts.mkv"}
    assert any(
        "expected a file of its own, not cameras.0.file" in fault
        for fault in faults_of(folder, video, records={"path": "parts.mkv"})
    )
    assert faults_of(folder, video, images={"path": "parts.mkv"})
