"""What the line's configuration says of each kind of camera."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from pipeline.clock import NS_PER_US
from pipeline.frame_matching import settling_ns
from vision.faults import disagreement
from vision.recipe import Strict
from vision.types import PixelFormat

CAMERA_ID_PATTERN = r"^[A-Za-z0-9_.-]{1,32}$"
OPENCV_FORMATS = (PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8)
CAMERA_ID_CHARS = "1 to 32 letters without accents, digits, dots, dashes and underscores"


_CHUNKS_BYTES = 1_024
"""A chunk is a number and eight bytes more; cameras that have several switched on send some hundred bytes."""


class CameraBase(Strict):
    """What every kind has."""

    camera_id: str = Field(pattern=CAMERA_ID_PATTERN)
    width_px: int = Field(gt=0, le=65_536)
    height_px: int = Field(gt=0, le=65_536)
    pixel_format: PixelFormat = Field(strict=False)
    ring_slots: int = Field(default=16, ge=2, le=1024, description="frame slots in shared memory")
    belt_offset_pulses: int = Field(
        default=0, ge=0, description="how far down the belt from the line's zero its trigger fires; needs encoder"
    )

    @property
    def tells_encoder_count(self) -> bool:
        """Whether an encoder count comes with its triggers, as it is configured."""
        return False

    @property
    def spare_bytes(self) -> int:
        """In each slot behind the pixels, for what the device appends."""
        return 0

    @model_validator(mode="after")
    def _format_has_that_size(self) -> Self:
        steps = (("width_px", self.pixel_format.width_step_px), ("height_px", self.pixel_format.height_step_px))
        for key, step_px in steps:
            size_px: int = getattr(self, key)
            if size_px % step_px:
                expected = f"a multiple of {step_px}, as {self.pixel_format.value} has it"
                raise disagreement(key, str(size_px), expected)
        return self

    def with_absolute_paths(self, folder: Path) -> Self:
        """Its paths, which are relative to ``folder``, absolute and free of links."""
        return self


class TriggerNotices(Strict):
    """Triggers that the line controller tells over MQTT, and how a frame is known to be a trigger's. See docs/triggers.md."""

    topic: str | None = Field(
        default=None,
        max_length=128,
        pattern=r"^trigger(/[^/#+\x00-\x1f\x7f-\x9f]+)+$",
        description="below topic_root; null: trigger/<camera_id>",
    )
    pitch_us: int = Field(
        ge=100, le=60_000_000, description="the shortest time between two parts, at the highest belt speed"
    )
    match: Literal["counter", "window"] = Field(
        default="window",
        description="counter: the camera tells with each frame how many triggers it has seen; window: by time alone",
    )
    age_max_us: int = Field(
        default=100_000, ge=1_000, le=10_000_000, description="a notice sent later after its trigger is refused"
    )

    def topic_of(self, topic_root: str, camera_id: str) -> str:
        """In full."""
        return f"{topic_root}/{self.topic or f'trigger/{camera_id}'}"


class DeviceCamera(CameraBase):
    """What a real device has: something outside of the service triggers it, or it exposes at a pace of its own."""

    trigger: Literal["hardware", "software", "free_running"] = Field(
        default="hardware", description="software: each notice of a trigger fires the camera"
    )
    trigger_notices: TriggerNotices | None = Field(
        default=None, description="triggers as the line controller tells them; null: each frame is its own trigger"
    )

    @property
    def tells_encoder_count(self) -> bool:
        return self.trigger_notices is not None

    @property
    def settling_us(self) -> int:
        """How long a frame that comes with its trigger's message waits for others that may be held up: ``frame_matching``."""
        if self.trigger_notices is None:
            return 0
        pitch_ns = self.trigger_notices.pitch_us * NS_PER_US
        return settling_ns(pitch_ns, is_fired=self.trigger == "software") // NS_PER_US

    @model_validator(mode="after")
    def _notices_fit_the_trigger(self) -> Self:
        if self.trigger == "free_running" and self.trigger_notices is not None:
            expected = "none for a camera that is free_running: none of its frames is of a trigger"
            raise disagreement("trigger_notices", "trigger_notices", expected)
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


class SimulatedCamera(DeviceCamera):
    """A camera of the line simulator."""

    kind: Literal["simulated"]
    trigger: Literal["hardware"] = "hardware"
    address: Path = Field(strict=False, description="the simulator's socket, relative to this file")

    @property
    def tells_encoder_count(self) -> bool:
        return True

    def with_absolute_paths(self, folder: Path) -> Self:
        return self.model_copy(update={"address": resolved(folder / self.address)})


class GenicamCamera(DeviceCamera):
    """A camera that names its features as GenICam's SFNC does. What is not written here stays as the camera has it."""

    address: str | None = Field(default=None, description="IPv4 address; nothing is broadcast to find the camera then")
    serial: str | None = Field(default=None, min_length=1, description="with an address: which camera it has to be")
    trigger_source: str = Field(default="Line1", min_length=1, description="hardware: where the trigger comes in")
    exposure_time_us: float | None = Field(default=None, gt=0, le=60_000_000)
    gain_db: float | None = Field(default=None, ge=-100, le=100)
    frame_rate_hz: float | None = Field(default=None, gt=0, le=100_000, description="free_running: so many a second")
    features: dict[str, bool | int | float | str] = Field(
        default={}, description="further features by name, written in this order and read back"
    )
    frame_timeout_s: float = Field(
        default=5.0, gt=0, le=3600, description="free_running: after so long without a frame it is opened anew"
    )
    trigger_ready_timeout_us: int = Field(
        default=20_000, ge=0, le=60_000_000, description="software: not ready for so long, a trigger is given up"
    )
    encoder_chunk: str | None = Field(
        default=None, min_length=1, description="the chunk feature with the encoder's count, e.g. ChunkEncoderValue"
    )

    @property
    def tells_encoder_count(self) -> bool:
        return self.encoder_chunk is not None or super().tells_encoder_count

    @field_validator("address")
    @classmethod
    def _is_ipv4(cls, address: str | None) -> str | None:
        if address is not None:
            try:
                ipaddress.IPv4Address(address)
            except ValueError as error:
                raise ValueError(f"expected an IPv4 address such as 192.168.10.11, got {address!r}") from error
        return address

    @model_validator(mode="after")
    def _names_a_camera(self) -> Self:
        if self.address is None and self.serial is None:
            raise disagreement("address", "neither address nor serial", "one of them, or both")
        if self.frame_rate_hz is not None and self.trigger != "free_running":
            raise disagreement("frame_rate_hz", f"a rate with trigger: {self.trigger}", "trigger: free_running")
        return self


class AravisCamera(GenicamCamera):
    """A GigE Vision or USB3 Vision camera, through libaravis."""

    kind: Literal["aravis"]
    packet_size_bytes: int | None = Field(
        default=None, ge=576, le=16_000, description="of the stream, headers included; null: the largest that arrives"
    )
    packet_resend: bool = Field(default=True, description="ask the camera again for packets that did not arrive")
    packet_timeout_us: int = Field(default=2_000, ge=100, le=1_000_000, description="after so long ask again")
    frame_retention_us: int = Field(
        default=20_000, ge=1_000, le=10_000_000, description="after so long without a packet a frame is given up"
    )
    trigger_counter_chunk: str | None = Field(
        default=None,
        min_length=1,
        description="the chunk feature with the count of triggers seen, e.g. ChunkCounterValue: tells those without a frame",
    )

    @model_validator(mode="after")
    def _counter_is_told(self) -> Self:
        if (
            self.trigger_notices is not None
            and self.trigger_notices.match == "counter"
            and not self.trigger_counter_chunk
        ):
            raise disagreement("trigger_notices.match", "counter", "trigger_counter_chunk as well; or window")
        return self

    @property
    def chunks(self) -> list[str]:
        """Those that frames have to carry."""
        return [chunk for chunk in (self.encoder_chunk, self.trigger_counter_chunk) if chunk is not None]

    @property
    def spare_bytes(self) -> int:
        return _CHUNKS_BYTES if self.chunks else 0


class PylonCamera(GenicamCamera):
    """A Basler camera, through pypylon."""

    kind: Literal["pylon"]

    @model_validator(mode="after")
    def _counts_frames_alone(self) -> Self:
        if self.trigger_notices is not None and self.trigger_notices.match == "counter":
            raise disagreement(
                "trigger_notices.match", "counter", "window: this kind tells frames by their number alone"
            )
        return self

    @property
    def spare_bytes(self) -> int:
        return _CHUNKS_BYTES if self.encoder_chunk is not None else 0


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

    # OpenCV gives a stream up after 30 s by itself.
    frame_timeout_s: float = Field(default=5.0, ge=0.1, le=25, description="no frame for so long: the camera is lost")


class V4l2Camera(StreamBase):
    """A camera of the kernel's: USB video, capture cards. Free running."""

    kind: Literal["v4l2"]
    # OpenCV gives a device up after 10 s by itself.
    frame_timeout_s: float = Field(default=5.0, ge=0.1, le=9, description="no frame for so long: the camera is lost")
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


AnyCamera = (
    FolderCamera
    | SimulatedCamera
    | AravisCamera
    | PylonCamera
    | V4l2Camera
    | VideoCamera
    | RtspCamera
    | GstreamerCamera
)
Camera = Annotated[AnyCamera, Field(discriminator="kind")]
KINDS: tuple[str, ...] = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(AnyCamera))


def resolved(path: Path) -> Path:
    """Absolute and free of links; in a loop of links as it is, and whoever opens it is told."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return path.absolute()
