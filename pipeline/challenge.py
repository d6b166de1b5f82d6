"""The challenge: known parts go through the line, and the service shows that it judges them as it should.

Pure: no files, no clocks. What the rates found say of rarer mistakes is computed in ``calibration.challenge``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import Line
from pipeline.config_sections import ChallengeKind
from pipeline.messages import ChallengeOutcome, KindOutcome
from vision.types import Verdict

BEGAN = "began and did not end"
"""The outcome of a challenge from when it is asked for, and for good where it is cut off."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a challenge is for; see ``ChallengeOutcome``."""

    recipe_id: str
    recipe_version: str
    model_sha256: str
    judged_with: str


@dataclass(frozen=True, slots=True)
class Moment:
    """By the wall clock, which may be set, and by the clock of the box's start, which may not."""

    utc_ns: int
    boot_id: str
    boot_ns: int


def judged_with(line: Line) -> str:
    """What a challenge is worth nothing without: the recipe word for word (not what lot it is), the cameras, what of their
    calibration makes verdicts, and the plan.
    """
    body = {
        "recipe": line.recipe.model_dump(mode="json", by_alias=True, exclude={"traceability"}),
        "calibrations": line.judging_id,
        "cameras": [camera.model_dump(mode="json") for camera in line.config.cameras],
        "challenge": [kind.model_dump(mode="json") for kind in line.config.challenge],
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class ChallengeRun:
    """Parts in the order of their triggers: so many of the first kind, then so many of the next, as the line's configuration has
    them. Parts beyond the last count for nothing.
    """

    def __init__(self, kinds: Sequence[ChallengeKind], who: str, request_id: str) -> None:
        self._kinds = kinds
        self._part_ids: list[int] = []
        self._judged: dict[int, Verdict] = {}
        self._total = sum(kind.count for kind in kinds)
        self._request_id = request_id
        self.who = who

    def opened(self, part_id: int) -> None:
        """A part was triggered."""
        if len(self._part_ids) < self._total:
            self._part_ids.append(part_id)

    def decided(self, part_id: int, judged: Verdict) -> None:
        """``judged``: what the part's verdict would have been in production. A part beyond the last counts for nothing, also
        where it is decided before one of the others.
        """
        if part_id in self._part_ids:
            self._judged[part_id] = judged

    @property
    def is_complete(self) -> bool:
        return len(self._judged) == self._total

    def progress(self) -> str:
        """For the operator: what to put on the line next."""
        done = len(self._judged)
        for kind in self._kinds:
            if done < kind.count:
                next_part = f"part {done + 1} of {kind.count} of kind {kind.kind}"
                if 1 < kind.part_count < kind.count:
                    next_part += f" (number {done % kind.part_count + 1} of your {kind.part_count})"
                return f"challenge by {self.who}: {next_part}, which is to be {_WORDS[kind.expected]}"
            done -= kind.count
        return f"challenge by {self.who}: all {self._total} parts judged"

    def outcome(self, product: Product, moment: Moment) -> ChallengeOutcome:
        """How it ended; of one that was left early, failed."""
        in_order = [self._judged[part_id] for part_id in self._part_ids if part_id in self._judged]
        kinds = []
        for kind in self._kinds:
            its, in_order = in_order[: kind.count], in_order[kind.count :]
            verdicts = tuple(judged.value for judged in its)
            kinds.append(KindOutcome(kind.kind, kind.expected, kind.count, kind.part_count, kind.wrong_max, verdicts))
        failed = [kind for kind in kinds if len(kind.judged) < kind.count or kind.wrong_count > kind.wrong_max]
        return ChallengeOutcome(
            passed=not failed,
            text="; ".join(map(_told, failed))
            if failed
            else f"all {self._total} parts judged as expected or within wrong_max",
            who=self.who,
            request_id=self._request_id,
            ended_utc_ns=moment.utc_ns,
            boot_id=moment.boot_id,
            ended_boot_ns=moment.boot_ns,
            recipe_id=product.recipe_id,
            recipe_version=product.recipe_version,
            model_sha256=product.model_sha256,
            judged_with=product.judged_with,
            kinds=tuple(kinds),
        )


_WORDS = {"PASS": "passed", "REJECT": "rejected"}


def _told(kind: KindOutcome) -> str:
    if len(kind.judged) < kind.count:
        return f"only {len(kind.judged)} of {kind.count} parts of kind {kind.kind} came"
    allowed = f" (at most {kind.wrong_max} may be wrong)" if kind.wrong_max else ""
    return f"{kind.wrong_count} of {kind.count} parts of kind {kind.kind} were not {_WORDS[kind.expected]}{allowed}"
