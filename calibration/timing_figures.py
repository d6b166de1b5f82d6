"""What was found of a line's times and places, as it is kept: plain figures, to compare a line's configuration with."""

from __future__ import annotations

from pydantic import Field

from vision.recipe import Strict


class TimingFigures(Strict):
    """Times from the trigger unless said otherwise. Places along the belt, from where a part is triggered.

    ``latency_us``: to the verdict's arrival, and ``deadline_min_us``: the shortest deadline, that at most ``late_share_max`` of
    all parts exceed, with ``confidence``; ``guard_us``: from the choice to the verdict's arrival, the same; ``deadline_max_us``:
    a verdict that arrives later is of no use at ``gate_mm`` and ``speed_max_mm_s``. ``window_pulses``: a part's middle passes the
    gate within +- so many pulses of ``reject_offset_pulses`` behind its trigger; from ``window_max_pulses`` on, half a pitch, a
    neighbour could be meant.
    """

    parts_count: int = Field(ge=1)
    late_share_max: float = Field(gt=0.0, lt=1.0)
    confidence: float = Field(gt=0.0, lt=1.0)
    latency_us: int = Field(ge=0)
    guard_us: int = Field(ge=0)
    deadline_min_us: int = Field(ge=0)
    deadline_max_us: int = Field(gt=0)
    pulses_per_mm: float = Field(gt=0.0)
    pulses_per_mm_error: float = Field(ge=0.0, description="half of an interval of about 95 %")
    gate_mm: float = Field(gt=0.0)
    gate_tolerance_mm: float = Field(ge=0.0)
    gate_min_mm: float = Field(gt=0.0, description="the earliest place where a gate is safe")
    speed_max_mm_s: float = Field(gt=0.0)
    part_length_mm: float = Field(gt=0.0)
    pitch_mm: float = Field(gt=0.0)
    controller_us: float = Field(ge=0.0)
    trigger_jitter_us: float = Field(ge=0.0)
    reject_offset_pulses: int = Field(ge=0)
    window_pulses: int = Field(ge=0)
    window_max_pulses: int = Field(ge=0)
