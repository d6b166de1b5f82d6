"""What goes wrong on the line and in its cameras: the kinds, and which of them strike a part."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from pipeline.simulator.picture_code import PictureCode
from pipeline.simulator.process import Options

FaultKind = Literal[
    "missing_trigger",
    "doubled_trigger",
    "missed_frame",
    "lost_frame",
    "wrong_size_frame",
    "incomplete_frame",
    "torn_frame",
    "late_frame",
    "doubled_frame",
    "odd_picture",
    "silent_camera",
    "unplugged_camera",
]

_TIME_MS = {"doubled_trigger": 1.0, "late_frame": 50.0, "silent_camera": 500.0, "unplugged_camera": 500.0}


class FaultOptions(Options):
    """Something that goes wrong, at the parts named, at the next so many, and by chance at a rate.

    ``missing_trigger``: the part gives no trigger. ``doubled_trigger``: a second one, ``time_ms`` later (default 1). With a
    ``camera_id`` of that camera alone.

    ``missed_frame``: the camera says that it has no frame. ``lost_frame``: it says nothing. ``wrong_size_frame``: half
    the rows, and the header says so. ``incomplete_frame``: half the rows, of a frame that should have all of them.
    ``torn_frame``: the stream breaks off in the midst of the frame and garbage follows. ``late_frame``: ``time_ms``
    late (default 50). ``doubled_frame``: sent twice. ``odd_picture``: the picture carries ``code``.

    ``silent_camera``: says nothing at all, from this part on for ``time_ms`` (default 500), but counts its triggers.
    ``unplugged_camera``: hangs up at this part and answers no driver for ``time_ms`` (default 500); then it is as a
    device just switched on, whose counters begin again.
    """

    kind: FaultKind
    part_numbers: list[int] = Field(default_factory=list)
    next_parts: int = Field(default=0, ge=0, description="on demand only: this many parts from the next one on")
    rate: float = Field(default=0.0, ge=0.0, le=1.0, description="share of parts, by seeded chance")
    camera_id: str | None = Field(default=None, description="null: every camera")
    time_ms: float | None = Field(default=None, gt=0.0)
    code: PictureCode | None = Field(default=None, description="what odd_picture tells the model")

    @model_validator(mode="after")
    def _code_goes_with_odd_picture(self) -> FaultOptions:
        if (self.code is None) == (self.kind == "odd_picture"):
            raise ValueError(
                f"code: got {self.code} with {self.kind}, expected one with odd_picture and with nothing else"
            )
        return self

    @property
    def time_ns(self) -> int:
        """``time_ms``, or the kind's default, in nanoseconds."""
        return round((self.time_ms or _TIME_MS[self.kind]) * 1e6)


@dataclass(frozen=True, slots=True)
class _Run:
    """The same fault at part after part."""

    last_part: int
    fault: FaultOptions


class FaultPlan:
    """Which faults strike which part. What is spent is forgotten, so that hours of faults cost nothing.

    Ask for each part once, in order.
    """

    def __init__(self, faults: Iterable[FaultOptions], chance: random.Random) -> None:
        self._chance = chance
        self._of_part: defaultdict[int, list[FaultOptions]] = defaultdict(list)
        self._runs: list[_Run] = []
        self._by_chance: list[FaultOptions] = []
        for fault in faults:
            self.add(fault, next_part=1)

    def add(self, fault: FaultOptions, *, next_part: int) -> None:
        """One more fault; ``next_part`` is the first part that it can strike."""
        for part_number in {number for number in fault.part_numbers if number >= next_part}:
            self._of_part[part_number].append(fault)
        if fault.next_parts:
            self._runs.append(_Run(next_part + fault.next_parts - 1, fault))
        if fault.rate > 0:
            self._by_chance.append(fault)

    def striking(self, part_number: int) -> list[FaultOptions]:
        """The faults of this part."""
        struck = self._of_part.pop(part_number, [])
        if self._runs:
            struck += [run.fault for run in self._runs]
            self._runs = [run for run in self._runs if run.last_part > part_number]
        return struck + [fault for fault in self._by_chance if self._chance.random() < fault.rate]
