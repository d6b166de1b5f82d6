"""What the line's configuration says of each kind of camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from typing_extensions import Self

from vision.faults import disagreement
from vision.recipe import Strict
from vision.types import PixelFormat

CAMERA_ID_PATTERN = r"^[A-Za-z0-9_.-]{1,32}$"
OPENCV_FORMATS = (PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8)
CAMERA_ID_CHARS = "1 to 32 letters without accents, digits, dots, dashes and underscores"


class CameraBase(Strict):
    """What every kind has."""

    camera_id: str = Field(pattern=CAMERA_ID_PATTERN)
    width_px: int = Field(gt=0, le=65_536)
    height_px: int = Field(gt=0, le=65_536)
    pixel_format: PixelFormat = Field(strict=False)
    ring_slots: int = Field(default=16, ge=2, le=1024, description="frame slots in shared memory")

    def with_absolute_paths(self, folder: Path) -> Self:
        """Its paths, which are relative to ``folder``, absolute and free of links."""
        return self


class FolderCamera(CameraBase):
    """Plays the images of a folder, each at a trigger of its own."""

    kind: Literal["folder"]
    folder: Path = Field(strict=False, description="relative to this file")
    order: Literal["sorted", "shuffled"] = "sorted"
    seed: int = 0
    loop: bool = True
    parts_per_min: float = Field(ge=0.01, le=1_000_000)

    def with_absolute_paths(self, folder: Path) -> Self:
        return self.model_copy(update={"folder": resolved(folder / self.folder)})


class SimulatedCamera(CameraBase):
    """A camera of the line simulator."""

    kind: Literal["simulated"]
    address: Path = Field(strict=False, description="the simulator's socket, relative to this file")

    def with_absolute_paths(self, folder: Path) -> Self:
        return self.model_copy(update={"address": resolved(folder / self.address)})


class _OpenCvCamera(CameraBase):
    """What OpenCV reads: it delivers 8 bit, grey or colour."""

    @model_validator(mode="after")
    def _opencv_has_the_format(self) -> Self:
        if self.pixel_format not in OPENCV_FORMATS:
            expected = f"one of {', '.join(each.value for each in OPENCV_FORMATS)} for a camera of this kind"
            raise disagreement("pixel_format", self.pixel_format.value, expected)
        return self


class VideoCamera(_OpenCvCamera):
    """Plays a video file, each frame at a trigger of its own."""

    kind: Literal["video"]
    file: Path = Field(strict=False, description="relative to this file")
    loop: bool = True
    parts_per_min: float | None = Field(
        default=None, ge=0.01, le=1_000_000, description="null: the video's own frame rate"
    )

    def with_absolute_paths(self, folder: Path) -> Self:
        return self.model_copy(update={"file": resolved(folder / self.file)})


class StreamBase(_OpenCvCamera):
    """What every free-running stream has."""

    frame_timeout_s: float | None = Field(
        default=5.0, ge=0.1, le=3600, description="no frame for so long: the camera is lost; null: frames may stay away"
    )


class V4l2Camera(StreamBase):
    """A camera of the kernel's: USB video, capture cards. Free running."""

    kind: Literal["v4l2"]
    device: str = Field(pattern=r"^/dev/\S+$", description="better under /dev/v4l/by-id: the number may change")
    fourcc: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9 ]{4}$",
        description="pixel format on the wire (YUYV, MJPG); null: the driver's",
    )
    frame_rate_hz: float | None = Field(default=None, gt=0, le=10_000)
    exposure_time_us: float | None = Field(
        default=None, ge=100, le=10_000_000, description="in steps of 100; null: as the device is set"
    )
    gain: int | None = Field(default=None, ge=0, description="in the device's own steps; null: as the device is set")


class RtspCamera(StreamBase):
    """A camera in the network that speaks RTSP (over TCP). Free running."""

    kind: Literal["rtsp"]
    url: str = Field(description="rtsp://USER@HOST:PORT/PATH; the password goes into password_env")
    password_env: str | None = Field(default=None, description="environment variable that holds the password")
    open_timeout_s: float = Field(default=5.0, ge=0.1, le=60, description="an address that does not answer is given up")

    @model_validator(mode="after")
    def _url_leads_somewhere(self) -> Self:
        try:
            parts = urlsplit(self.url)
            is_url = parts.scheme in ("rtsp", "rtsps") and bool(parts.hostname) and parts.port != 0
            is_url = is_url and self.url.isprintable() and " " not in self.url
        except ValueError:
            is_url = False
        # What was got is not repeated: there may be a password in it.
        if not is_url:
            raise disagreement("url", "no such URL", "rtsp://HOST/PATH")
        if parts.password is not None:
            raise disagreement("url", "a URL with a password", "rtsp://USER@HOST/PATH, and password_env")
        if self.password_env is not None and not parts.username:
            raise disagreement("password_env", "a password without a name", "rtsp://USER@HOST/PATH as url")
        return self


class GstreamerCamera(StreamBase):
    """A GStreamer pipeline that ends in an appsink. Free running."""

    kind: Literal["gstreamer"]
    pipeline: str = Field(max_length=8_192, description="as for gst-launch-1.0; ends in appsink")

    @model_validator(mode="after")
    def _ends_in_appsink(self) -> Self:
        if "appsink" not in self.pipeline.rpartition("!")[2]:
            expected = "a pipeline that ends in `! videoconvert ! video/x-raw,format=BGR ! appsink`"
            raise disagreement("pipeline", "no appsink at its end", expected)
        return self


AnyCamera = FolderCamera | SimulatedCamera | V4l2Camera | VideoCamera | RtspCamera | GstreamerCamera
Camera = Annotated[AnyCamera, Field(discriminator="kind")]
KINDS: tuple[str, ...] = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(AnyCamera))


def resolved(path: Path) -> Path:
    """Absolute and free of links; in a loop of links as it is, and whoever opens it is told."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return path.absolute()
