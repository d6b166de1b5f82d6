"""Which frames are worth keeping as files: the one place that says so, before and after their part is decided."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.config_sections import ImagesConfig
from vision.types import Inspection, Verdict

LAST_WORDS_NS = 2 * NS_PER_S
"""How long, at the end of a run, what waits for the disk is still written."""
_CLOSE_CALL_NS = 5 * NS_PER_MS
"""A view judged so shortly before the choice may reach it too late."""


class Worth(Enum):
    """What inspection knows of the frames of a part."""

    NOTHING = auto()
    UNLESS_PASSED = auto()
    """Its verdict may come out otherwise than its views say."""
    ALWAYS = auto()


class Keeping:
    """Asked once a part and place on the belt. ``images``: None where nothing is kept."""

    def __init__(self, images: ImagesConfig | None) -> None:
        self._images = images
        self._passes = 0

    def of_part(
        self, inspections: Sequence[Inspection], *, is_whole: bool, left_ns: int, is_seen_elsewhere: bool = False
    ) -> Worth:
        """``is_whole``: every view of it at this place is among the inspections. ``left_ns``: from now to the choice, negative
        after it. ``is_seen_elsewhere``: it has views at other places, which may say otherwise.

        Were every frame to be kept for a while, this is where to say so.
        """
        images = self._images
        if images is None:
            return Worth.NOTHING
        if not is_whole or any(inspection.verdict is not Verdict.PASS for inspection in inspections):
            return Worth.ALWAYS
        margin = images.borderline_margin
        if margin is not None and any(inspection.headroom <= margin for inspection in inspections):
            return Worth.ALWAYS
        self._passes += 1
        if images.every_nth_pass is not None and self._passes % images.every_nth_pass == 0:
            return Worth.ALWAYS
        return Worth.UNLESS_PASSED if is_seen_elsewhere or left_ns < _CLOSE_CALL_NS else Worth.NOTHING
