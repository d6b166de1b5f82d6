"""What the line's configuration says of each kind of camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator
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

    def with_absolute_paths(self, folder: Path) -> Self:
        return self.model_copy(update={"address": resolved(folder / self.address)})


AnyCamera = FolderCamera | SimulatedCamera
Camera = Annotated[AnyCamera, Field(discriminator="kind")]
KINDS: tuple[str, ...] = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(AnyCamera))


def resolved(path: Path) -> Path:
    """Absolute and free of links; in a loop of links as it is, and whoever opens it is told."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return path.absolute()
