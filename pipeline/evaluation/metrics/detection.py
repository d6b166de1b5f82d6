"""Findings against labelled objects: which finds which, and the average precision that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Objects:
    """One image's labelled objects of one class. ``boxes_px``: float64 (N, 4), x1 y1 x2 y2; ``difficult``, ``crowd``: bool (N,)."""

    boxes_px: Floats
    difficult: npt.NDArray[np.bool_]
    crowd: npt.NDArray[np.bool_]

    @property
    def ignored(self) -> npt.NDArray[np.bool_]:
        """Those that are neither missed nor wrongly found."""
        return self.difficult | self.crowd

    def only(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Objects:
        """Some of them."""
        return Objects(self.boxes_px[which], self.difficult[which], self.crowd[which])


@dataclass(frozen=True, slots=True)
class Found:
    """One image's findings of one class. ``boxes_px``: float64 (M, 4); ``scores``: float64 (M,)."""

    boxes_px: Floats
    scores: Floats

    def only(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Found:
        """Some of them."""
        return Found(self.boxes_px[which], self.scores[which])


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """At each distinct score, the highest first: what all findings of at least that score come to.

    ``scores``: float64 (K,); ``found_counts``: how many they are, ``right_counts``: how many of them find an object, int64 (K,).
    """

    scores: Floats
    found_counts: npt.NDArray[np.int64]
    right_counts: npt.NDArray[np.int64]
    object_count: int

    @property
    def precisions(self) -> Floats:
        """float64 (K,), 0..1."""
        return np.asarray(self.right_counts / self.found_counts)

    @property
    def recalls(self) -> Floats:
        """float64 (K,), 0..1. There must be an object."""
        return np.asarray(self.right_counts / self.object_count)

    def at(self, threshold: float) -> tuple[int, int]:
        """How many findings score at least ``threshold``, and how many of them are right."""
        chosen = int((self.scores >= threshold).sum())
        return (int(self.found_counts[chosen - 1]), int(self.right_counts[chosen - 1])) if chosen else (0, 0)


def overlaps(boxes_px: Floats, others_px: Floats, *, of_crowd: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Intersection over union, float64 (len(boxes), len(others)), 0..1; over the first box's area where the other is a crowd."""
    x1 = np.maximum(boxes_px[:, None, 0], others_px[None, :, 0])
    y1 = np.maximum(boxes_px[:, None, 1], others_px[None, :, 1])
    x2 = np.minimum(boxes_px[:, None, 2], others_px[None, :, 2])
    y2 = np.minimum(boxes_px[:, None, 3], others_px[None, :, 3])
    shared = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    areas, other_areas = _areas(boxes_px), _areas(others_px)
    union = areas[:, None] + other_areas[None, :] - shared
    if of_crowd is not None:
        union = np.where(of_crowd[None, :], areas[:, None], union)
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def match(found: Found, objects: Objects, iou_min: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each finding the index of the object that it finds, -1 without one, int64 (M,); and whether it counts at all, bool (M,).

    As COCO's evaluation does it (pycocotools, COCOeval.evaluateImg): the findings, best score first, each take the object that is
    still free and overlaps most, by at least ``iou_min``; only where there is none, a difficult one or a crowd, and do not count
    then. Equal scores are taken by place, so that the order in which findings come changes nothing.
    """
    finds = np.full(len(found.scores), -1, np.int64)
    counts = np.ones(len(found.scores), np.bool_)
    if not len(objects.boxes_px) or not len(found.scores):
        return finds, counts
    overlap = overlaps(found.boxes_px, objects.boxes_px, of_crowd=objects.crowd)
    ignored = objects.ignored
    is_free = np.ones(len(ignored), np.bool_)
    for index in np.lexsort((*found.boxes_px.T[::-1], -found.scores)):
        for candidates in (is_free & ~ignored, is_free & ignored):
            fitting = np.where(candidates, overlap[index], -1.0)
            best = int(fitting.argmax())
            if fitting[best] >= iou_min:
                finds[index] = best
                counts[index] = not ignored[best]
                is_free[best] = bool(objects.crowd[best])
                break
    return finds, counts


def precision_recall(scores: Floats, is_right: npt.NDArray[np.bool_], object_count: int) -> PrecisionRecall:
    """Over the findings of all images that count: float64 (M,), and whether each finds an object.

    A threshold cannot part equal scores, so they enter together: the order of the images changes nothing.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    return PrecisionRecall(
        scores[order][ends], ends + 1, np.cumsum(is_right[order], dtype=np.int64)[ends], object_count
    )


def average_precision(curve: PrecisionRecall) -> float:
    """The area under precision over recall with all-point interpolation: at each recall the best precision there or beyond.

    Pascal VOC from 2010 on (development kit, section 3.4.1). NaN where there was nothing to find.
    """
    if curve.object_count == 0:
        return float("nan")
    best = np.maximum.accumulate(curve.precisions[::-1])[::-1]
    return float((np.diff(curve.recalls, prepend=0.0) * best).sum())


def class_curve(found: Sequence[Found], objects: Sequence[Objects], iou_min: float) -> PrecisionRecall:
    """The curve of one class over all images, which come in the same order in both."""
    right, scores = [], []
    for of_image, there in zip(found, objects, strict=True):
        finds, counts = match(of_image, there, iou_min)
        right.append(finds[counts] >= 0)
        scores.append(of_image.scores[counts])
    return precision_recall(
        np.concatenate(scores) if scores else np.empty(0),
        np.concatenate(right) if right else np.empty(0, np.bool_),
        sum(int((~there.ignored).sum()) for there in objects),
    )


def _areas(boxes_px: Floats) -> Floats:
    return np.asarray((boxes_px[:, 2] - boxes_px[:, 0]) * (boxes_px[:, 3] - boxes_px[:, 1]))
