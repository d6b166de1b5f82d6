"""The line's two rules about time and place, as configured: when a part is due, and which views belong to it."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.clock import NS_PER_US
from pipeline.encoder import distance_pulses, wrap
from pipeline.line_config import LineConfig


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
    where there is no encoder and ``times_tell``. Times of triggers that somebody tells of do not: a message may be held up by
    more than a part takes, and its part_key has to say whose it is.

    ``offsets_pulses``: by camera in the line's order, how far down the belt it triggers; empty where all are at one place. Only
    where they differ the rest counts: ``assembly_ns``, how long a part waits from its first trigger for the last camera's, and
    ``pulses_per_s_max``, the highest speed of the belt.
    """

    encoder_bits: int
    pulses: int
    window_ns: int
    offsets_pulses: tuple[int, ...] = ()
    assembly_ns: int = 0
    pulses_per_s_max: float = 0.0
    has_encoder: bool = True
    times_tell: bool = True

    @classmethod
    def of(cls, config: LineConfig) -> Matching:
        encoder = config.encoder
        along_the_belt = config.is_along_the_belt
        return cls(
            encoder_bits=encoder.bits if encoder is not None else 32,
            pulses=encoder.match_pulses if encoder is not None else 0,
            window_ns=config.view_wait_us * NS_PER_US,
            offsets_pulses=tuple(camera.belt_offset_pulses for camera in config.cameras),
            assembly_ns=(config.assembly_limit_us or 0) * NS_PER_US if along_the_belt else 0,
            pulses_per_s_max=(encoder.speed_max_pulses_per_s or 0.0) if encoder is not None else 0.0,
            has_encoder=encoder is not None,
            times_tell=not config.has_told_triggers,
        )

    @property
    def is_along_the_belt(self) -> bool:
        """Whether the cameras are at several places."""
        return len(set(self.offsets_pulses)) > 1

    @property
    def last_cameras(self) -> frozenset[int]:
        """Those furthest down the belt, by their position in the line; empty where all are at one place."""
        if not self.is_along_the_belt:
            return frozenset()
        last_pulses = max(self.offsets_pulses)
        return frozenset(index for index, offset in enumerate(self.offsets_pulses) if offset == last_pulses)

    def part_count(self, camera: int, encoder_count: int | None) -> int | None:
        """A camera's count in the domain of the line's zero, where every camera counts the same for a part."""
        if encoder_count is None or not self.offsets_pulses:
            return encoder_count
        return wrap(encoder_count - self.offsets_pulses[camera], self.encoder_bits)

    def counts_tell(self, a_count: int | None, b_count: int | None) -> bool:
        """Whether counts say if two triggers at one place are of one part."""
        return self.has_encoder and a_count is not None and b_count is not None

    def counts_agree(self, a_count: int | None, b_count: int | None) -> bool:
        """Where they tell."""
        assert a_count is not None
        assert b_count is not None
        return distance_pulses(a_count, b_count, self.encoder_bits) <= self.pulses

    def same_part(self, a_count: int | None, a_ns: int, b_count: int | None, b_ns: int) -> bool:
        """Of two cameras at one place, by counts or, where they do not tell, by times."""
        if not self.counts_tell(a_count, b_count):
            return abs(a_ns - b_ns) <= self.window_ns
        return self.counts_agree(a_count, b_count)
