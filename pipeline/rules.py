"""The line's two rules about time and place, as configured: when a part is due, and which views belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.clock import NS_PER_US
from pipeline.config import LineConfig
from pipeline.encoder import distance_pulses


@dataclass(frozen=True, slots=True)
class Timing:
    """deadline_ns counts from the trigger; the choice falls guard_ns before it."""

    deadline_ns: int
    guard_ns: int

    @classmethod
    def of(cls, config: LineConfig) -> Timing:
        return cls(config.timing.deadline_us * NS_PER_US, config.timing.guard_us * NS_PER_US)

    def choice_ns(self, trigger_ns: int) -> int:
        return trigger_ns + self.deadline_ns - self.guard_ns


@dataclass(frozen=True, slots=True)
class Matching:
    """When two cameras' triggers belong to one part: encoder counts within ``pulses``, or times within ``window_ns``
    where there is no encoder.
    """

    encoder_bits: int
    pulses: int
    window_ns: int

    @classmethod
    def of(cls, config: LineConfig) -> Matching:
        encoder = config.encoder
        return cls(
            encoder_bits=encoder.bits if encoder is not None else 32,
            pulses=encoder.match_pulses if encoder is not None else 0,
            window_ns=config.view_wait_us * NS_PER_US,
        )

    def same_part(self, a_count: int | None, a_ns: int, b_count: int | None, b_ns: int) -> bool:
        if a_count is None or b_count is None:
            return abs(a_ns - b_ns) <= self.window_ns
        return distance_pulses(a_count, b_count, self.encoder_bits) <= self.pulses
