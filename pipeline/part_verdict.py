"""From what was said of a part's views to the part's verdict: one rule for the line and for the replay."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol, TypeVar

from vision.types import Reason, Verdict

Camera = TypeVar("Camera", bound=Hashable)


class Said(Protocol):
    """What inspection says of one view, in the words of the wire."""

    @property
    def verdict(self) -> str: ...
    @property
    def reason(self) -> str: ...


def part_verdict(
    cameras: Sequence[Camera], said: Mapping[Camera, Said], missing: Callable[[Camera], Reason]
) -> tuple[Verdict, Reason]:
    """A defect seen rejects; else all views must have passed; else the first one that did not gives the reason.

    ``cameras`` are those whose views every part needs, in the line's order; ``missing`` says why a view is not there.
    """
    for view in said.values():
        if view.verdict == Verdict.REJECT.value:
            return Verdict.REJECT, Reason(view.reason)
    for camera in cameras:
        if camera not in said:
            return Verdict.NO_DECISION, missing(camera)
        if said[camera].verdict != Verdict.PASS.value:
            return Verdict.NO_DECISION, Reason(said[camera].reason)
    return Verdict.PASS, Reason.OK
