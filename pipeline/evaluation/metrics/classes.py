"""Figures by class: of a classifier's first choice, and of objects found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from pipeline.evaluation.metrics.detection import (
    Found,
    Objects,
    PrecisionRecall,
    average_precision,
    class_curve,
    match,
)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """``count``: images or objects of the class by their labels. ``precision``, ``recall``, ``f1`` None where their divisor is 0.

    Of objects: at ``threshold``, None where no rule names the class; ``average_precision`` over all scores, None without any.
    """

    name: str
    count: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None = None
    threshold: float | None = None
    found_count: int | None = None


def of_first_choice(
    true_ids: npt.NDArray[np.int64], chosen_ids: npt.NDArray[np.int64], names: Sequence[str]
) -> tuple[list[ClassFigures], Counts]:
    """Each class of a classifier, and how often each class (row) was taken for each (column). int64 (N,) each, N > 0."""
    labels = np.arange(len(names))
    precision, recall, f1, count = precision_recall_fscore_support(
        true_ids, chosen_ids, labels=labels, zero_division=np.nan
    )
    figures = [
        ClassFigures(name, int(count[at]), _known(precision[at]), _known(recall[at]), _known(f1[at]))
        for at, name in enumerate(names)
    ]
    return figures, np.asarray(confusion_matrix(true_ids, chosen_ids, labels=labels), np.int64)


@dataclass(frozen=True, slots=True)
class ImageObjects:
    """One image's labels and findings; ids are places in the list of names: int64."""

    object_ids: npt.NDArray[np.int64]
    objects: Objects
    found_ids: npt.NDArray[np.int64]
    found: Found

    def of_class(self, class_id: int) -> tuple[Found, Objects]:
        """Those of one class."""
        found, there = self.found_ids == class_id, self.object_ids == class_id
        return self.found.only(found), self.objects.only(there)


def of_objects(
    images: Sequence[ImageObjects], names: Sequence[str], thresholds: Mapping[int, float], iou_min: float
) -> tuple[list[ClassFigures], dict[int, PrecisionRecall]]:
    """Each class that is labelled or has a threshold, and the curves of those that are labelled."""
    figures, curves = [], {}
    for class_id, name in enumerate(names):
        threshold = thresholds.get(class_id)
        pairs = [image.of_class(class_id) for image in images]
        curve = class_curve([found for found, _ in pairs], [there for _, there in pairs], iou_min)
        count = curve.object_count
        if count:
            curves[class_id] = curve
        elif threshold is None:
            continue
        found_count, right = (None, 0) if threshold is None else curve.at(threshold)
        figures.append(
            ClassFigures(
                name=name,
                count=count,
                precision=right / found_count if found_count else None,
                recall=right / count if count and found_count is not None else None,
                f1=2 * right / (found_count + count) if found_count is not None and found_count + count else None,
                average_precision=average_precision(curve) if count else None,
                threshold=threshold,
                found_count=found_count,
            )
        )
    return figures, curves


def confusion_of_objects(
    image: ImageObjects, class_count: int, thresholds: Mapping[int, float], iou_min: float
) -> Counts:
    """How often one image's objects of each class (row) were found as each class (column), int64 (classes + 1, classes + 1).

    The last row counts findings where no object is, the last column objects that nothing found. Findings of a class without a
    threshold are left out. First each finding takes an object of its own class, as in ``detection.match``; what is left over takes
    what is left over, of whatever class.
    """
    counts = np.zeros((class_count + 1, class_count + 1), np.int64)
    least = np.array([thresholds.get(class_id, np.inf) for class_id in range(class_count)])
    is_open = image.found.scores >= least[image.found_ids]
    is_missed = ~image.objects.ignored
    for class_id in np.unique(image.found_ids[is_open]):
        mine = np.flatnonzero(is_open & (image.found_ids == class_id))
        there = np.flatnonzero(image.object_ids == class_id)
        finds, is_counted = match(image.found.only(mine), image.objects.only(there), iou_min)
        counts[class_id, class_id] = int((finds[is_counted] >= 0).sum())
        is_missed[there[finds[finds >= 0]]] = False
        is_open[mine[finds >= 0]] = False
    left, missed = np.flatnonzero(is_open), np.flatnonzero(is_missed)
    finds, _ = match(image.found.only(left), image.objects.only(missed), iou_min)
    for found_id, find in zip(image.found_ids[left], finds, strict=True):
        counts[image.object_ids[missed[find]] if find >= 0 else class_count, found_id] += 1
    for at in np.setdiff1d(np.arange(len(missed)), finds):
        counts[image.object_ids[missed[at]], class_count] += 1
    return counts


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
