"""Do the labels fit the model, and which images must be rejected?

What must be rejected is told by the rules themselves: an image is defective where they would reject it, were the model to find
exactly what is labelled. So ``min_area_px``, ``zone``, ``required`` and the like mean the same for the truth as for the verdict.
A folder's name tells a class and nothing more: there the rules ask for classes alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.data import BoxPx, DataSet, Faults, Sample
from vision.judge import Judge
from vision.package import ModelCard
from vision.types import Findings, Verdict

GOOD = "good"
"""The folder of images without a defect, where no class of the model has this name."""


def expect_labels_fit(data_set: DataSet, card: ModelCard) -> None:
    """Raises FaultsError for each class that the model lacks.

    An anomaly model has no classes of defects: all but ``good`` is one, and so is each labelled object. In MVTec's layout the
    names of defects need not be classes of the model either, since ``good`` is told apart there.
    """
    faults = Faults()
    folders: dict[str, Sample] = {}
    for sample in data_set.samples:
        if sample.class_name is not None:
            folders.setdefault(sample.class_name, sample)
    if card.task == "anomaly":
        if folders and GOOD not in folders and data_set.layout != "mvtec":
            got = f"the folders {', '.join(map(repr, sorted(folders)))}"
            faults.add(data_set.folder, "", got, f"one called {GOOD}: an anomaly model knows no other class")
        faults.settle()
        return
    known = f"one of the model's classes: {', '.join(card.classes)}"
    if data_set.layout != "mvtec":
        for name, sample in folders.items():
            if name not in (*card.classes, GOOD):
                faults.add(sample.image.parent, "", f"images of class {name!r}", f"{known}, or {GOOD}")
    strangers: dict[str, tuple[Sample, int]] = {}
    for sample in data_set.samples:
        for box in sample.boxes or ():
            if box.class_name not in card.classes:
                first, count = strangers.get(box.class_name, (sample, 0))
                strangers[box.class_name] = first, count + 1
    for name, (sample, count) in strangers.items():
        faults.add(sample.image, "labels", f"{count} objects of class {name!r}, the first of them here", known)
    faults.settle()


def are_defective(data_set: DataSet, card: ModelCard, judge_of: Callable[[Sample], Judge]) -> npt.NDArray[np.bool_]:
    """For each sample, bool (N,). ``judge_of``: the rules that hold for an image, ``Runner.judge_of``. The labels fit the model."""
    if data_set.layout == "mvtec":
        return np.array([sample.class_name != GOOD for sample in data_set.samples], np.bool_)
    return np.array([_is_defective(sample, card, judge_of) for sample in data_set.samples], np.bool_)


def _is_defective(sample: Sample, card: ModelCard, judge_of: Callable[[Sample], Judge]) -> bool:
    name = sample.class_name
    if name is not None:
        if name == GOOD and GOOD not in card.classes:
            return False
        return card.task == "anomaly" or _would_reject(judge_of(sample), _of_class(sample, card, name))
    if card.task == "anomaly":
        return bool(sample.boxes)
    return _would_reject(judge_of(sample), _of_boxes(sample, card))


def _would_reject(judge: Judge, findings: Findings) -> bool:
    return judge.judge([findings]).verdict is Verdict.REJECT


def _of_class(sample: Sample, card: ModelCard, name: str) -> Findings:
    width_px, height_px = sample.facts.format.width_px, sample.facts.format.height_px
    whole: BoxPx = (0.0, 0.0, float(width_px), float(height_px))
    return _findings([card.classes.index(name)], [whole], [float(width_px * height_px)])


def _of_boxes(sample: Sample, card: ModelCard) -> Findings:
    boxes = sample.boxes or ()
    return _findings(
        [card.classes.index(box.class_name) for box in boxes],
        [box.box_px for box in boxes],
        [box.area_px for box in boxes],
    )


def _findings(class_ids: list[int], boxes_px: list[BoxPx], areas_px: list[float]) -> Findings:
    return Findings(
        class_ids=np.array(class_ids, np.int32),
        scores=np.ones(len(class_ids), np.float32),
        boxes_px=np.array(boxes_px, np.float32).reshape(-1, 4),
        areas_px=np.array(areas_px, np.float32),
    )
