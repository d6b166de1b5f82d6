"""Average precision against references that share no code with it, and the rules that must always hold."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.metrics.detection import Found, Objects, average_precision, class_curve, match, overlaps

Box = tuple[int, int, int, int]
Scored = tuple[Box, float]

# A coarse grid: boxes that coincide, touch and tie are the rule.
boxes = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 4), st.integers(1, 4)).map(
    lambda told: (told[0], told[1], told[0] + told[2], told[1] + told[3])
)
scored = st.tuples(boxes, st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9, 1.0]))
images = st.lists(st.tuples(st.lists(boxes, max_size=4), st.lists(scored, max_size=6)), min_size=1, max_size=4)
ious = st.sampled_from([0.1, 0.33, 0.5, 0.75])


def iou(one: Box, other: Box) -> float:
    """Counted pixel by pixel."""
    cells = {(x, y) for x in range(one[0], one[2]) for y in range(one[1], one[3])}
    others = {(x, y) for x in range(other[0], other[2]) for y in range(other[1], other[3])}
    return len(cells & others) / len(cells | others)


def naive_average_precision(told: Sequence[tuple[list[Box], list[Scored]]], iou_min: float) -> float:
    """Each threshold by itself, from the start: what is found with it, and the best precision at each recall or beyond."""
    object_count = sum(len(there) for there, _ in told)
    if not object_count:
        return float("nan")
    points = []
    for threshold in {score for _, found in told for _, score in found}:
        right = found_count = 0
        for there, found in told:
            free = list(range(len(there)))
            chosen = [each for each in found if each[1] >= threshold]
            found_count += len(chosen)
            for box, _ in sorted(chosen, key=lambda each: (-each[1], each[0])):
                best = max(free, key=lambda at: iou(box, there[at]), default=None)
                if best is not None and iou(box, there[best]) >= iou_min:
                    free.remove(best)
                    right += 1
        points.append((right / object_count, right / found_count))
    area = 0.0
    for step in range(1, object_count + 1):
        area += max((precision for recall, precision in points if recall >= step / object_count), default=0.0)
    return area / object_count


def to_found(found: Sequence[Scored]) -> Found:
    return Found(
        np.array([box for box, _ in found], np.float64).reshape(-1, 4),
        np.array([score for _, score in found], np.float64),
    )


def to_objects(there: Sequence[Box], *, difficult: Sequence[int] = (), crowd: Sequence[int] = ()) -> Objects:
    flags = np.zeros((2, len(there)), np.bool_)
    flags[0, list(difficult)] = flags[1, list(crowd)] = True
    return Objects(np.array(there, np.float64).reshape(-1, 4), flags[0], flags[1])


def ap(told: Sequence[tuple[list[Box], list[Scored]]], iou_min: float) -> float:
    return average_precision(
        class_curve([to_found(found) for _, found in told], [to_objects(there) for there, _ in told], iou_min)
    )


@given(images, ious)
@settings(max_examples=300, deadline=None)
def test_it_is_what_a_count_at_each_threshold_comes_to(
    told: list[tuple[list[Box], list[Scored]]], iou_min: float
) -> None:
    assert ap(told, iou_min) == pytest.approx(naive_average_precision(told, iou_min), abs=1e-12, nan_ok=True)


@given(images, ious, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_neither_the_order_of_images_nor_of_findings_matters(
    told: list[tuple[list[Box], list[Scored]]], iou_min: float, random: object
) -> None:
    shuffled = [(there, random.sample(found, len(found))) for there, found in random.sample(told, len(told))]  # type: ignore[attr-defined]
    assert ap(shuffled, iou_min) == pytest.approx(ap(told, iou_min), abs=1e-12, nan_ok=True)


@given(images, ious)
@settings(deadline=None)
def test_only_the_order_of_scores_matters(told: list[tuple[list[Box], list[Scored]]], iou_min: float) -> None:
    lower = [(there, [(box, score**3 / 2) for box, score in found]) for there, found in told]
    assert ap(lower, iou_min) == pytest.approx(ap(told, iou_min), abs=1e-12, nan_ok=True)


@given(images, ious)
@settings(deadline=None)
def test_a_wrong_finding_below_all_others_costs_nothing(
    told: list[tuple[list[Box], list[Scored]]], iou_min: float
) -> None:
    far: Scored = ((100, 100, 101, 101), 0.01)
    more = [(there, [*found, far]) for there, found in told]
    assert ap(more, iou_min) == pytest.approx(ap(told, iou_min), abs=1e-12, nan_ok=True)


@given(st.lists(st.lists(boxes, max_size=4, unique=True), min_size=1, max_size=4), ious)
@settings(deadline=None)
def test_the_labels_themselves_are_found_perfectly(there: list[list[Box]], iou_min: float) -> None:
    told = [(each, [(box, 0.5) for box in each]) for each in there]
    expected = 1.0 if any(there) else float("nan")
    assert ap(told, 0.999) == pytest.approx(expected, nan_ok=True)


def test_a_second_finding_of_one_object_is_wrong() -> None:
    box: Box = (0, 0, 4, 4)
    assert ap([([box, (5, 5, 7, 7)], [(box, 0.9), (box, 0.8)])], 0.5) == pytest.approx(0.5)
    finds, _ = match(to_found([(box, 0.8), (box, 0.9)]), to_objects([box]), 0.5)
    assert finds.tolist() == [-1, 0]


def test_a_finding_takes_the_free_object_that_it_overlaps_most() -> None:
    finds, _ = match(
        to_found([((0, 0, 4, 4), 0.9), ((0, 0, 4, 5), 0.8)]), to_objects([(0, 0, 4, 4), (0, 1, 4, 5)]), 0.5
    )
    assert finds.tolist() == [0, 1]


def test_the_overlap_asked_for_is_enough() -> None:
    assert overlaps(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 3, 1]]))[0, 0] == pytest.approx(1 / 3)
    assert match(to_found([((0, 0, 2, 1), 0.9)]), to_objects([(0, 0, 1, 1)]), 0.5)[0].tolist() == [0]
    assert match(to_found([((0, 0, 2, 1), 0.9)]), to_objects([(0, 0, 1, 1)]), 0.51)[0].tolist() == [-1]


def test_difficult_objects_are_neither_missed_nor_wrongly_found() -> None:
    box: Box = (0, 0, 4, 4)
    finds, counts = match(to_found([(box, 0.9), (box, 0.8)]), to_objects([box], difficult=[0]), 0.5)
    assert finds.tolist() == [0, -1]
    assert counts.tolist() == [False, True]
    curve = class_curve([to_found([(box, 0.9)])], [to_objects([box], difficult=[0])], 0.5)
    assert curve.object_count == 0
    assert np.isnan(average_precision(curve))


def test_an_object_that_counts_is_taken_before_a_difficult_one() -> None:
    found, there = to_found([((0, 0, 4, 4), 0.9)]), [(0, 0, 4, 4), (0, 0, 4, 5)]
    finds, counts = match(found, to_objects(there, difficult=[0]), 0.5)
    assert (finds.tolist(), counts.tolist()) == ([1], [True])


def test_any_number_of_findings_may_lie_in_a_crowd() -> None:
    found = to_found([((0, 0, 2, 2), 0.9), ((5, 5, 7, 7), 0.8), ((20, 20, 22, 22), 0.7)])
    finds, counts = match(found, to_objects([(0, 0, 10, 10)], crowd=[0]), 0.5)
    assert finds.tolist() == [0, 0, -1]
    assert counts.tolist() == [False, False, True]


def test_nothing_found_is_zero() -> None:
    assert ap([([(0, 0, 4, 4)], [])], 0.5) == 0.0


def random_images(
    generator: np.random.Generator, count: int
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Objects, which of them are crowds, findings near some of them, and scores that are all different."""
    told = []
    scores = generator.permutation(20 * count) / (20 * count)
    for at in range(count):
        corners = generator.uniform(0, 80, (generator.integers(0, 7), 2))
        there = np.hstack([corners, corners + generator.uniform(5, 40, corners.shape)])
        near = there[generator.integers(0, len(there), 8)] if len(there) else np.zeros((0, 4))
        near = near + generator.normal(0, 2, near.shape)
        corners = generator.uniform(0, 80, (4, 2))
        found = np.vstack([near, np.hstack([corners, corners + generator.uniform(5, 40, corners.shape)])])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        told.append((there, generator.random(len(there)) < 0.15, found, scores[20 * at : 20 * at + len(found)]))
    return told


@pytest.mark.parametrize("iou_min", [0.33, 0.5, 0.75])
def test_it_is_what_pycocotools_finds_with_all_points(iou_min: float) -> None:
    """Its evaluation samples 101 recalls; asked for each recall that there can be, it interpolates at all points."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    told = random_images(np.random.default_rng(7), 40)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, (there, crowd, found, scores) in enumerate(told, 1):
        for (x1, y1, x2, y2), is_crowd in zip(there.tolist(), crowd.tolist(), strict=True):
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": int(is_crowd)}
            annotations.append({**annotation, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
        for (x1, y1, x2, y2), score in zip(found.tolist(), scores.tolist(), strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": image_id, "category_id": 1, "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image_id} for image_id in range(1, len(told) + 1)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "defect"}],
        }
        truth.createIndex()
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
        object_count = sum(int((~crowd).sum()) for _, crowd, _, _ in told)
        evaluation.params.iouThrs = np.array([iou_min])
        evaluation.params.recThrs = np.arange(1, object_count + 1) / object_count
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    expected = float(evaluation.eval["precision"][0, :, 0, 0, -1].mean())
    curve = class_curve(
        [Found(found, scores) for _, _, found, scores in told],
        [Objects(there, np.zeros(len(there), np.bool_), crowd) for there, crowd, _, _ in told],
        iou_min,
    )
    assert 0.02 < expected < 0.95
    assert average_precision(curve) == pytest.approx(expected, abs=1e-12)
