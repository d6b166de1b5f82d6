"""All figures of an evaluation, as the result that ``--json`` writes (its keys: docs/models.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.intervals import Share
from pipeline.evaluation.labels import GOOD
from pipeline.evaluation.metrics.classes import (
    ClassFigures,
    Counts,
    ImageObjects,
    confusion_of_objects,
    of_first_choice,
    of_objects,
)
from pipeline.evaluation.metrics.detection import Found, Objects, PrecisionRecall
from pipeline.evaluation.metrics.pixels import PixelAuroc
from pipeline.evaluation.metrics.times import percentiles_us
from pipeline.evaluation.metrics.verdicts import VerdictFigures, auroc, verdict_figures
from pipeline.evaluation.runner import STAGES, Judged
from pipeline.told_defects import told_score
from vision.package import ModelCard
from vision.recipe import Recipe
from vision.types import Verdict


@dataclass(frozen=True, slots=True)
class KindCounts:
    """Images of one kind by their labels (a folder's name; or good and defective), and what became of them."""

    name: str
    is_defective: bool
    passed: int
    rejected: int
    no_decision: int

    @property
    def total(self) -> int:
        return self.passed + self.rejected + self.no_decision


@dataclass(frozen=True, slots=True)
class Classified:
    """Of a classifier whose classes are the folders. ``confusion``: int64 (classes, classes), labels by first choices."""

    names: Sequence[str]
    right_count: int
    total: int
    classes: list[ClassFigures]
    confusion: Counts


@dataclass(frozen=True, slots=True)
class Detected:
    """Of a detector on labelled objects. ``confusion``: int64 (classes + 1, classes + 1), the background last."""

    iou_min: float
    names: Sequence[str]
    mean_average_precision: float | None
    classes: list[ClassFigures]
    curves: dict[int, PrecisionRecall]
    confusion: Counts
    wrong_counts: npt.NDArray[np.int64]
    """For each image, how many objects were missed or taken for another class, and findings that are none: int64 (images,)."""
    unread_count: int
    """Images whose findings below the card's ``score_min`` cannot be read, and so do not count for average precision."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured."""

    judged: Sequence[Judged]
    is_defective: npt.NDArray[np.bool_]
    is_passed: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64]
    """NaN where there was no decision."""
    verdicts: VerdictFigures
    auroc: float | None
    pixels: PixelAuroc | None
    kinds: list[KindCounts]
    classified: Classified | None
    detected: Detected | None
    stages_us: Mapping[str, Mapping[str, float]]
    no_decision: int


def figures_of(
    judged: Sequence[Judged],
    is_defective: npt.NDArray[np.bool_],
    card: ModelCard,
    recipe: Recipe,
    *,
    iou_min: float,
    pixels: PixelAuroc | None,
) -> Figures:
    """From the outcomes, in the order of the samples. ``recipe``: any of those used, for the thresholds."""
    inspections = [each.inspection for each in judged]
    is_passed = np.array([each.verdict is Verdict.PASS for each in inspections], np.bool_)
    scores = np.array([each.score for each in inspections], np.float64)
    known = np.isfinite(scores)
    times = {stage: [each.stages_ns[at] for each in judged] for at, stage in enumerate(STAGES)}
    times["total"] = [sum(each.stages_ns) for each in judged]
    return Figures(
        judged=judged,
        is_defective=is_defective,
        is_passed=is_passed,
        scores=scores,
        verdicts=verdict_figures(is_defective, is_passed),
        auroc=auroc(is_defective[known], scores[known]) if known.any() else None,
        pixels=pixels,
        kinds=_kinds(judged, is_defective),
        classified=_classified(judged, card),
        detected=_detected(judged, card, recipe, iou_min),
        stages_us=percentiles_us(times),
        no_decision=int(sum(each.verdict is Verdict.NO_DECISION for each in inspections)),
    )


def thresholds_of(card: ModelCard, recipe: Recipe) -> dict[int, float]:
    """By class: the lowest score at which any rule counts a finding."""
    least: dict[int, float] = {}
    told = [
        *((rule.class_name, rule.reject_at_score) for rule in recipe.rules),
        *((one.class_name, one.found_at_score) for one in recipe.required),
    ]
    for name, score in told:
        class_id = card.classes.index(name)
        least[class_id] = min(score, least.get(class_id, score))
    return least


def result_of(figures: Figures) -> dict[str, Any]:
    """What was measured, by the keys of ``--json``."""
    verdicts = figures.verdicts
    pixels, classified, detected = figures.pixels, figures.classified, figures.detected
    passed, total = int(figures.is_passed.sum()), len(figures.judged)
    return {
        "images": {
            "total": total,
            "good": int((~figures.is_defective).sum()),
            "defective": int(figures.is_defective.sum()),
            "passed": passed,
            "rejected": total - passed - figures.no_decision,
            "no_decision": figures.no_decision,
        },
        "verdicts": {
            "correct": _share(verdicts.correct),
            "false_accept": _share(verdicts.false_accept),
            "false_reject": _share(verdicts.false_reject),
            "precision": verdicts.precision,
            "recall": verdicts.recall,
            "f1": verdicts.f1,
        },
        "auroc": {
            "image": figures.auroc,
            "pixel": None if pixels is None else pixels.value,
            "pixel_error_max": None if pixels is None else pixels.error_max,
        },
        "kinds": [
            {
                "name": kind.name,
                "is_defective": kind.is_defective,
                "passed": kind.passed,
                "rejected": kind.rejected,
                "no_decision": kind.no_decision,
            }
            for kind in figures.kinds
        ],
        "classification": None if classified is None else _told_classified(classified),
        "detection": None if detected is None else _told_detected(detected),
        "stages_us": figures.stages_us,
        "per_image": [
            _told_image(judged, bool(is_defective))
            for judged, is_defective in zip(figures.judged, figures.is_defective, strict=True)
        ],
    }


def _told_image(judged: Judged, is_defective: bool) -> dict[str, Any]:
    inspection = judged.inspection
    return {
        "image": judged.sample.name,
        "class": judged.sample.class_name,
        "is_defective": is_defective,
        "verdict": inspection.verdict.value,
        "reason": inspection.reason.value,
        "score": told_score(inspection.score),
        "defects": [
            {
                "class": defect.class_name,
                "score": defect.score,
                "box_px": list(defect.box_px),
                "box_mm": None if defect.box_mm is None else list(defect.box_mm),
                "area_mm2": defect.area_mm2,
            }
            for defect in sorted(inspection.defects, key=lambda defect: -defect.score)
        ],
        **({"fault": judged.fault} if judged.fault else {}),
    }


def _told_classified(classified: Classified) -> dict[str, Any]:
    return {
        "right": classified.right_count,
        "total": classified.total,
        "classes": [
            {
                "class": each.name,
                "images": each.count,
                "precision": each.precision,
                "recall": each.recall,
                "f1": each.f1,
            }
            for each in classified.classes
        ],
        "confusion": {"classes": list(classified.names), "counts": classified.confusion.tolist()},
    }


def _told_detected(detected: Detected) -> dict[str, Any]:
    return {
        "iou_min": detected.iou_min,
        "mean_average_precision": detected.mean_average_precision,
        "images_without_low_scores": detected.unread_count,
        "classes": [
            {
                "class": each.name,
                "objects": each.count,
                "average_precision": each.average_precision,
                "threshold": each.threshold,
                "found": each.found_count,
                "precision": each.precision,
                "recall": each.recall,
                "f1": each.f1,
            }
            for each in detected.classes
        ],
        "confusion": {"classes": [*detected.names, None], "counts": detected.confusion.tolist()},
    }


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    return {"count": share.count, "total": share.total, "rate": share.value, "interval_95": [share.low, share.high]}


def _kinds(judged: Sequence[Judged], is_defective: npt.NDArray[np.bool_]) -> list[KindCounts]:
    counts: Counter[tuple[bool, str, Verdict]] = Counter()
    for each, defective in zip(judged, is_defective.tolist(), strict=True):
        name = each.sample.class_name or ("defective" if defective else GOOD)
        counts[defective, name, each.inspection.verdict] += 1
    names = sorted({(defective, name) for defective, name, _ in counts})
    return [
        KindCounts(name, defective, *(counts[defective, name, verdict] for verdict in Verdict))
        for defective, name in names
    ]


def _classified(judged: Sequence[Judged], card: ModelCard) -> Classified | None:
    """None where the folders are not the model's classes, or nothing was judged."""
    if card.task != "classification" or not all(each.sample.class_name in card.classes for each in judged):
        return None
    pairs = [
        (card.classes.index(str(each.sample.class_name)), int(each.class_scores.argmax()))
        for each in judged
        if each.class_scores is not None
    ]
    if not pairs:
        return None
    true_ids, chosen_ids = np.array(pairs, np.int64).T
    classes, confusion = of_first_choice(true_ids, chosen_ids, card.classes)
    return Classified(card.classes, int((true_ids == chosen_ids).sum()), len(pairs), classes, confusion)


def _detected(judged: Sequence[Judged], card: ModelCard, recipe: Recipe, iou_min: float) -> Detected | None:
    """None where there are no labelled objects, or the model finds none."""
    if card.task not in ("detection", "segmentation") or any(each.sample.boxes is None for each in judged):
        return None
    images = [_objects(each, card.classes) for each in judged]
    thresholds = thresholds_of(card, recipe)
    classes, curves = of_objects(images, card.classes, thresholds, iou_min)
    confusions = [confusion_of_objects(image, len(card.classes), thresholds, iou_min) for image in images]
    known = [each.average_precision for each in classes if each.average_precision is not None]
    return Detected(
        iou_min=iou_min,
        names=card.classes,
        mean_average_precision=sum(known) / len(known) if known else None,
        classes=classes,
        curves=curves,
        confusion=np.sum(confusions, axis=0),
        wrong_counts=np.array([int(counts.sum() - counts.trace()) for counts in confusions], np.int64),
        unread_count=sum(bool(each.unread_candidates) for each in judged),
    )


def _objects(judged: Judged, names: Sequence[str]) -> ImageObjects:
    boxes = judged.sample.boxes or ()
    found = judged.candidates
    return ImageObjects(
        object_ids=np.array([names.index(box.class_name) for box in boxes], np.int64),
        objects=Objects(
            boxes_px=np.array([box.box_px for box in boxes], np.float64).reshape(-1, 4),
            difficult=np.array([box.counts == "difficult" for box in boxes], np.bool_),
            crowd=np.array([box.counts == "crowd" for box in boxes], np.bool_),
        ),
        found_ids=np.empty(0, np.int64) if found is None else found.class_ids.astype(np.int64),
        found=Found(
            boxes_px=np.empty((0, 4)) if found is None else found.boxes_px.astype(np.float64),
            scores=np.empty(0) if found is None else found.scores.astype(np.float64),
        ),
    )


def worst_mistakes(figures: Figures, count_max: int) -> tuple[list[int], list[int]]:
    """Places of the defective images that passed, the lowest score first, and of the good ones that did not, the highest first."""
    scores = np.nan_to_num(figures.scores, nan=1.0)
    accepted = np.flatnonzero(figures.is_defective & figures.is_passed)
    refused = np.flatnonzero(~figures.is_defective & ~figures.is_passed)
    by_score = (
        accepted[np.argsort(scores[accepted], kind="stable")],
        refused[np.argsort(-scores[refused], kind="stable")],
    )
    return by_score[0][:count_max].tolist(), by_score[1][:count_max].tolist()
