"""What a part scores by the rules that are to be calibrated, through the inspector of the line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf, nan

import numpy as np
import numpy.typing as npt

from vision.decoders.base import BadOutput
from vision.faults import Fault, FaultsError
from vision.inspector import Inspector
from vision.judge import Judge
from vision.package import ModelCard
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Recipe, Rule
from vision.types import Defect, Findings, Frame, Verdict


class Outcome(str, Enum):
    """Which way a part goes, as far as thresholds have a say in it."""

    SCORED = "scored"
    REJECTED = "rejected"
    """Whatever the thresholds are: by a rule that is not calibrated, or as something required is missing."""
    UNJUDGED = "unjudged"
    """NO_DECISION, whatever they are."""


@dataclass(frozen=True, slots=True)
class PartScores:
    """``scores``: by class, where scored: the part passes where each class's threshold is above them; ``told``: why it was not
    scored; ``defects``: the findings of these classes, the best first.
    """

    outcome: Outcome
    scores: dict[str, float] = field(default_factory=dict)
    told: str = ""
    defects: tuple[Defect, ...] = ()

    def score(self, class_name: str) -> float:
        """NaN where it was not scored."""
        return self.scores.get(class_name, nan)

    @property
    def highest(self) -> float:
        """Of all classes; infinite where no threshold would let the part pass."""
        return max(self.scores.values(), default=inf)


class PartScorer:
    """The rules of one camera, each class by itself.

    A class's score is the highest ``reject_at_score`` at which one of its calibrated rules would keep the part from passing, as
    the judge applies them: zones, sizes, counts and areas as they are. Rules of one class share one threshold
    (``vision.recipe.with_thresholds``), and so they share one score, the highest of theirs. Where the decoder had no room for
    findings the judge does not pass a part whose dropped ones may score as high: their score counts like a found one's.
    """

    def __init__(
        self,
        recipe: Recipe,
        card: ModelCard,
        inspector: Inspector,
        camera_id: str,
        frames: FrameFormat,
        *,
        recipe_file: str,
    ) -> None:
        """Raises FaultsError where no rule of this camera is to be calibrated."""
        of_camera = [rule for rule in recipe.rules if rule.camera_id in (None, camera_id)]
        self.rules = [rule for rule in of_camera if rule.is_calibrated]
        if not self.rules:
            names = ", ".join(rule.class_name for rule in of_camera) or "none at all"
            expected = (
                "is_calibrated: true in each rule whose score is to be found, e.g. "
                "{class: scratch, reject_at_score: 0.5, is_calibrated: true}"
            )
            raise FaultsError(
                [Fault(recipe_file, "rules", f"no such rule for camera {camera_id} (rules for: {names})", expected)]
            )
        self.classes = tuple(dict.fromkeys(rule.class_name for rule in self.rules))
        self.score_floors = {
            name: 0.0 if (floor := card.score_floor(name)) is None else floor[1] for name in self.classes
        }
        self._inspector, self._camera_id, self._frames = inspector, camera_id, frames
        whole = (0.0, 0.0, float(frames.width_px), float(frames.height_px))

        def judge_of(rules: list[Rule], *, has_required: bool) -> Judge:
            required = recipe.required if has_required else []
            chosen = recipe.model_copy(update={"rules": rules, "required": required})
            return Judge(chosen, camera_id, card.classes, whole)

        # A rule that is never met leaves what it comes to.
        self._of_class = {
            name: judge_of(
                [rule.model_copy(update={"reject_at_score": inf}) for rule in self.rules if rule.class_name == name],
                has_required=False,
            )
            for name in self.classes
        }
        self._all_else = judge_of([rule for rule in of_camera if not rule.is_calibrated], has_required=True)
        self._card_classes = card.classes

    def score(self, pixels: npt.NDArray[np.uint8]) -> PartScores:
        """Of a frame of this camera, in its pixel format. Raises InferenceError."""
        inspector, camera_id = self._inspector, self._camera_id
        inspector.begin()
        try:
            inspector.load(Frame(camera_id, 0, self._frames.pixel_format, pixels))
        except WrongFrame as error:
            return PartScores(Outcome.UNJUDGED, told=f"BAD_FRAME: {error}")
        inspector.infer()
        try:
            found = inspector.nominal_findings(camera_id)
        except BadOutput as error:
            return PartScores(Outcome.UNJUDGED, told=f"FAULT: {error}")
        all_else = self._all_else.judge(found)
        if all_else.verdict is Verdict.NO_DECISION:
            return PartScores(Outcome.UNJUDGED, told="FAULT: what the model found cannot be judged")
        if all_else.verdict is Verdict.REJECT:
            names = ", ".join(dict.fromkeys(defect.class_name for defect in all_else.defects))
            return PartScores(Outcome.REJECTED, told=f"rejected by what is not calibrated: {names}")
        dropped = max(float(findings.dropped_score) for findings in found)
        scores = {name: max(judge.judge(found).score, dropped) for name, judge in self._of_class.items()}
        return PartScores(Outcome.SCORED, scores, defects=tuple(self._defects(inspector.findings(camera_id))))

    def _defects(self, found: list[Findings]) -> list[Defect]:
        ids = {self._card_classes.index(name): name for name in self.classes}
        defects = [
            Defect(ids[class_id], score, (box[0], box[1], box[2], box[3]), area_px)
            for findings in found
            for class_id, score, box, area_px in zip(
                findings.class_ids.tolist(),
                findings.scores.tolist(),
                findings.boxes_px.tolist(),
                findings.areas_px.tolist(),
                strict=True,
            )
            if class_id in ids
        ]
        return sorted(defects, key=lambda defect: -defect.score)[:_DEFECTS_MAX]


_DEFECTS_MAX = 4
