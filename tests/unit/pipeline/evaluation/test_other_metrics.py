"""Pixels, verdicts, classes and times against plain counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

from pipeline.evaluation.metrics.classes import ImageObjects, confusion_of_objects, of_first_choice, of_objects
from pipeline.evaluation.metrics.detection import Found, Objects
from pipeline.evaluation.metrics.pixels import PixelScores
from pipeline.evaluation.metrics.times import percentiles_us
from pipeline.evaluation.metrics.verdicts import auroc, verdict_figures

floats = st.floats(-(2.0**100), 2.0**100, width=32)


def pair_auroc(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> float:
    """Of all pairs of a defective and a good one, how many are in order; half of those that tie."""
    defective, good = scores[labels].astype(np.float64), scores[~labels].astype(np.float64)
    difference = defective[:, None] - good[None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@given(
    arrays.arrays(np.float32, (5, 6), elements=floats | st.sampled_from([-0.0, 0.0, 0.5, 1.0])),
    arrays.arrays(np.bool_, (5, 6)),
)
@settings(deadline=None)
def test_pixel_auroc_is_as_exact_as_it_says(scores: npt.NDArray[np.float32], labels: npt.NDArray[np.bool_]) -> None:
    pixels = PixelScores()
    for row_scores, row_labels in zip(scores, labels, strict=True):
        pixels.add(row_scores, row_labels)
    found = pixels.auroc()
    if labels.all() or not labels.any():
        assert found is None
        return
    assert found is not None
    assert abs(found.value - pair_auroc(scores, labels)) <= found.error_max + 1e-12
    assert (found.defective_count, found.good_count) == (labels.sum(), (~labels).sum())


def test_pixel_auroc_of_a_million_pixels_is_that_of_all_of_them() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random((1000, 1000)) < 0.02
    scores = (generator.normal(40, 3, labels.shape) + 4 * labels).astype(np.float32)
    pixels = PixelScores()
    for at in range(0, 1000, 100):
        pixels.add(scores[at : at + 100], labels[at : at + 100])
    found = pixels.auroc()
    assert found is not None
    assert found.error_max < 1e-3
    assert found.value == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=found.error_max)


def test_pixel_scores_that_were_not_seen_rank_lowest() -> None:
    pixels = PixelScores()
    pixels.add(np.array([-np.inf, -5, -4], np.float32), np.array([True, False, False]))
    found = pixels.auroc()
    assert found is not None
    assert found.value == 0.0


def test_a_part_without_a_verdict_counts_as_rejected() -> None:
    is_defective = np.array([True, True, True, False, False, False, False])
    is_passed = np.array([True, False, False, True, True, True, False])
    figures = verdict_figures(is_defective, is_passed)
    assert figures.false_accept is not None
    assert figures.false_reject is not None
    assert figures.correct is not None
    assert (figures.false_accept.count, figures.false_accept.total) == (1, 3)
    assert (figures.false_reject.count, figures.false_reject.total) == (1, 4)
    assert (figures.correct.count, figures.correct.total) == (5, 7)
    assert (figures.precision, figures.recall, figures.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


@pytest.mark.parametrize("is_defective", [True, False])
def test_images_of_one_kind_say_nothing_of_the_other(is_defective: bool) -> None:
    labels = np.full(5, is_defective)
    figures = verdict_figures(labels, np.ones(5, np.bool_))
    assert (figures.false_accept is None) == (not is_defective)
    assert (figures.false_reject is None) == is_defective
    assert figures.precision is None
    assert auroc(labels, np.linspace(0, 1, 5)) is None


def test_no_defective_found_is_told_without_a_precision() -> None:
    figures = verdict_figures(np.array([True, False]), np.array([True, True]))
    assert (figures.precision, figures.recall, figures.f1) == (None, 0.0, 0.0)


def test_first_choices() -> None:
    classes, confusion = of_first_choice(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ["good", "bad", "never"])
    assert confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert [(each.name, each.count, each.precision, each.recall) for each in classes] == [
        ("good", 3, 1.0, pytest.approx(2 / 3)),
        ("bad", 1, 0.5, 1.0),
        ("never", 0, None, None),
    ]


def one_image() -> ImageObjects:
    """Two scratches, a hole, a difficult hole; found: one scratch, the other as a hole, the difficult hole, two that are none."""
    return ImageObjects(
        object_ids=np.array([0, 0, 1, 1]),
        objects=Objects(
            np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]),
            np.array([False, False, False, True]),
            np.zeros(4, np.bool_),
        ),
        found_ids=np.array([0, 1, 1, 1, 0]),
        found=Found(
            np.array([[0.0, 0, 10, 9], [20, 0, 30, 10], [60, 0, 70, 10], [80, 0, 90, 10], [40, 0, 50, 10]]),
            np.array([0.9, 0.8, 0.7, 0.6, 0.1]),
        ),
    )


def test_objects_by_class_and_taken_for_others() -> None:
    image = one_image()
    thresholds = {0: 0.5, 1: 0.5}
    figures, curves = of_objects([image], ["scratch", "hole", "dust"], thresholds, 0.5)
    assert [(each.name, each.count, each.found_count, each.precision, each.recall) for each in figures] == [
        ("scratch", 2, 1, 1.0, 0.5),
        ("hole", 1, 2, 0.0, 0.0),
    ]
    assert figures[0].f1 == pytest.approx(2 / 3)
    assert figures[0].average_precision == pytest.approx(0.5)
    assert set(curves) == {0, 1}
    # Rows: scratch, hole, dust, nothing there. The scratch at 0.1 is below its threshold.
    assert confusion_of_objects(image, 3, thresholds, 0.5).tolist() == [
        [1, 1, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_a_difficult_object_that_nothing_found_is_not_missed() -> None:
    image = one_image()
    alone = replace(image, found_ids=image.found_ids[:0], found=image.found.only(np.zeros(5, np.bool_)))
    assert confusion_of_objects(alone, 2, {0: 0.5, 1: 0.5}, 0.5).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]


def test_the_confusion_holds_every_object_and_every_finding_once() -> None:
    generator = np.random.default_rng(5)
    for _ in range(50):
        there, found = (
            np.hstack([corners, corners + generator.integers(3, 12, corners.shape)]).astype(np.float64)
            for corners in (generator.integers(0, 20, (count, 2)) for count in generator.integers(0, 6, 2))
        )
        none = np.zeros(len(there), np.bool_)
        image = ImageObjects(
            generator.integers(0, 2, len(there)),
            Objects(there, none, none),
            generator.integers(0, 2, len(found)),
            Found(found, generator.random(len(found))),
        )
        confusion = confusion_of_objects(image, 2, {0: 0.0, 1: 0.0}, 0.3)
        assert confusion[:2].sum(axis=1).tolist() == [(image.object_ids == at).sum() for at in (0, 1)]
        assert confusion[:, :2].sum(axis=0).tolist() == [(image.found_ids == at).sum() for at in (0, 1)]


def test_times_are_times_that_were_measured() -> None:
    told = percentiles_us({"judge": [4_000, 1_000, 2_000, 3_000], "never": []})
    assert told == {"judge": {"p50": 2.0, "p90": 4.0, "p99": 4.0, "p999": 4.0, "max": 4.0}}
