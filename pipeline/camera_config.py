"""What the line's configuration says of each kind of camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field
from typing_extensions import Self

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
    belt_offset_pulses: int = Field(
        default=0, ge=0, description="how far down the belt from the line's zero its trigger fires; needs encoder"
    )

    @property
    def tells_encoder_count(self) -> bool:
        """Whether an encoder count comes with its triggers, as it is configured."""
        return False

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

    @property
    def tells_encoder_count(self) -> bool:
        return True

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
