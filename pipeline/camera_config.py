"""What the line's configuration says of each kind of camera."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from vision.faults import disagreement
from vision.recipe import Strict
from vision.types import PixelFormat

CAMERA_ID_PATTERN = r"^[A-Za-z0-9_.-]{1,32}$"
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


class GenicamCamera(CameraBase):
    """A camera that names its features as GenICam's SFNC does. What is not written here stays as the camera has it."""

    address: str | None = Field(default=None, description="IPv4 address; nothing is broadcast to find the camera then")
    serial: str | None = Field(default=None, min_length=1, description="with an address: which camera it has to be")
    trigger: Literal["hardware", "software", "free_running"] = "hardware"
    trigger_source: str = Field(default="Line1", min_length=1, description="hardware: where the trigger comes in")
    exposure_time_us: float | None = Field(default=None, gt=0, le=60_000_000)
    gain_db: float | None = Field(default=None, ge=-100, le=100)
    frame_rate_hz: float | None = Field(default=None, gt=0, le=100_000, description="free_running: so many a second")
    features: dict[str, bool | int | float | str] = Field(
        default={}, description="further features by name, written in this order and read back"
    )

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
    encoder_chunk: str | None = Field(
        default=None, min_length=1, description="the chunk feature with the encoder's count, e.g. ChunkEncoderValue"
    )


class PylonCamera(GenicamCamera):
    """A Basler camera, through pypylon."""

    kind: Literal["pylon"]
    trigger_ready_timeout_us: int = Field(
        default=20_000, ge=0, le=60_000_000, description="software: not ready for so long, a trigger is given up"
    )
    encoder_chunk: str | None = Field(
        default=None, min_length=1, description="the chunk feature with the encoder's count, e.g. ChunkEncoderValue"
    )


AnyCamera = FolderCamera | SimulatedCamera | AravisCamera | PylonCamera
Camera = Annotated[AnyCamera, Field(discriminator="kind")]
KINDS: tuple[str, ...] = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(AnyCamera))


def resolved(path: Path) -> Path:
    """Absolute and free of links; in a loop of links as it is, and whoever opens it is told."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return path.absolute()
