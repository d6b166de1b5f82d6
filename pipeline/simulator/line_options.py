"""What a line is: cameras, pictures, belt, encoder, and what is to go wrong."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from pipeline.simulator.camera import CameraOptions
from pipeline.simulator.images import ImageSource, SyntheticImages
from pipeline.simulator.line_faults import FaultOptions
from pipeline.simulator.process import Options


class SpeedChange(Options):
    """The belt's speed changes when a part is at the trigger station; 0 stops it, less runs it back."""

    at_part: int = Field(ge=1)
    speed_mm_s: float
    for_ms: float | None = Field(default=None, gt=0.0, description="then back to the speed before; null: for good")

    @model_validator(mode="after")
    def _comes_back(self) -> SpeedChange:
        if self.speed_mm_s < 0 and self.for_ms is None:
            raise ValueError(
                f"for_ms: got none with speed_mm_s {self.speed_mm_s}, expected how long the belt runs back"
            )
        return self


class LineOptions(Options):
    """The line. Pitch is speed over rate, so that the rate holds at ``speed_mm_s``."""

    cameras: list[CameraOptions] = Field(min_length=1)
    book_path: Path
    controller_path: Path | None = Field(default=None, description="the controller's AF_UNIX SOCK_SEQPACKET")
    images: ImageSource = SyntheticImages()
    parts: int | None = Field(default=None, ge=1, description="null: until finish or stop")
    parts_per_min: float = Field(default=1200.0, gt=0.0)
    speed_mm_s: float = Field(default=1000.0, gt=0.0)
    pulses_per_mm: float = Field(default=10.0, gt=0.0)
    pitch_jitter: float = Field(default=0.05, ge=0.0, le=0.2, description="fraction of the pitch, either way")
    gate_offset_pulses: int = Field(default=800, gt=0)
    trigger_jitter_us: float = Field(
        default=0.0, ge=0.0, description="the sensor is so late at most, by seeded chance; the count is latched then"
    )
    encoder_jitter_pulses: int = Field(default=0, ge=0, description="each latched count is wrong by so many at most")
    slip_pulses: float = Field(
        default=0.0, ge=0.0, description="a part slips by so many at most from one place with cameras to the next"
    )
    encoder_bits: int = Field(default=32, ge=8, le=62)
    encoder_start_count: int = Field(default=0, ge=0)
    speed_changes: list[SpeedChange] = Field(default_factory=list)
    faults: list[FaultOptions] = Field(default_factory=list)
    seed: int = 0

    @property
    def pitch_pulses(self) -> float:
        """From part to part, without jitter."""
        return self.speed_mm_s * 60.0 / self.parts_per_min * self.pulses_per_mm

    @property
    def camera_places_pulses(self) -> list[int]:
        """Where on the belt cameras are, from the trigger station on."""
        return sorted({camera.belt_offset_pulses for camera in self.cameras})

    @property
    def window_pulses(self) -> int:
        """Half width of a part's window in the encoder's counts: a quarter of the pitch."""
        return int(self.pitch_pulses // 4)

    @model_validator(mode="after")
    def _fits(self) -> LineOptions:
        camera_ids = [camera.camera_id for camera in self.cameras]
        if len(set(camera_ids)) != len(camera_ids):
            raise ValueError(f"cameras: got two of one camera_id: {sorted(camera_ids)}")
        if self.window_pulses < 1:
            raise ValueError(f"got a pitch of {self.pitch_pulses:.1f} pulses, expected at least 4; lower parts_per_min")
        if self.gate_offset_pulses <= self.camera_places_pulses[-1]:
            raise ValueError(
                f"gate_offset_pulses: got {self.gate_offset_pulses}, expected a gate behind the last camera"
            )
        if 2 * self.gate_offset_pulses >= 1 << self.encoder_bits:
            raise ValueError(f"encoder_bits: got {self.encoder_bits}, expected room for twice gate_offset_pulses")
        return self
