"""Class maps to pieces, against readable references."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import naive_decoders as naive
from tests.models import geometry_of
from vision.decoders import TensorFormat, WrongOutput
from vision.decoders.base import BadOutput
from vision.decoders.semantic_segmentation import SemanticSegmentationDecoder, SemanticSegmentationSettings
from vision.geometry import RowGeometry, row_geometry
from vision.model_input import ModelInput
from vision.recipe import Region
from vision.types import Findings

WIDTH_PX, HEIGHT_PX = 12, 8
EVERYWHERE = geometry_of((0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX)), WIDTH_PX, HEIGHT_PX)
Told = tuple[int, float, int, tuple[int, ...]]
"""Class, score, area and box of a piece."""
Activation = Literal["none", "softmax", "sigmoid"]


def decoded(
    tensor: npt.NDArray[Any],
    class_count: int,
    *,
    role: str = "scores",
    geometry: RowGeometry = EVERYWHERE,
    **settings: Any,
) -> Findings:
    names = [f"class {number}" for number in range(class_count)]
    made = SemanticSegmentationSettings.model_validate(settings)
    outputs = {role: TensorFormat(tensor.dtype, tensor.shape)}
    return SemanticSegmentationDecoder(made, names, geometry, outputs).decode({role: tensor})


def expected(probabilities: npt.NDArray[np.float64], above: float) -> list[Told]:
    labels = probabilities.argmax(axis=0)
    found: list[Told] = []
    for class_id, plane in enumerate(probabilities):
        for piece in naive.pieces((labels == class_id) & (plane > above)):
            xs, ys = [x for x, _ in piece], [y for _, y in piece]
            score = float(np.mean([plane[y, x] for x, y in piece]))
            found.append((class_id, score, len(piece), (min(xs), min(ys), max(xs) + 1, max(ys) + 1)))
    return found


def told(findings: Findings) -> list[Told]:
    arrays = (findings.class_ids, findings.scores, findings.areas_px, findings.boxes_px)
    return [
        (class_id, score, int(area), tuple(int(edge) for edge in box))
        for class_id, score, area, box in zip(*(array.tolist() for array in arrays), strict=True)
    ]


def expect_same(one: list[Told], other: list[Told]) -> None:
    one, other = sorted(one, key=lambda each: each[::3]), sorted(other, key=lambda each: each[::3])
    assert [(*each[:1], *each[2:]) for each in one] == [(*each[:1], *each[2:]) for each in other]
    assert [each[1] for each in one] == pytest.approx([each[1] for each in other], abs=1e-5)


LEVELS = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])


@given(
    scores=hnp.arrays(np.float32, (3, HEIGHT_PX, WIDTH_PX), elements=LEVELS),
    activation=st.sampled_from(["none", "softmax", "sigmoid"]),
    score_min=st.sampled_from([None, 0.3, 0.6]),
)
def test_pieces_are_those_of_the_reference(
    scores: npt.NDArray[np.float32], activation: Activation, score_min: float | None
) -> None:
    logits = scores if activation == "none" else scores * np.float32(8) - np.float32(3)
    findings = decoded(logits, 3, activation=activation, score_min=score_min)
    above = -1.0 if score_min is None else score_min
    expect_same(told(findings), expected(naive.probabilities(logits, activation), above))


@given(scores=hnp.arrays(np.float32, (1, HEIGHT_PX, WIDTH_PX), elements=LEVELS))
def test_a_single_class_is_where_its_score_is_above_one_half(scores: npt.NDArray[np.float32]) -> None:
    expect_same(told(decoded(scores, 1)), expected(scores.astype(np.float64), 0.5))
    expect_same(
        told(decoded(scores * np.float32(8) - np.float32(4), 1, activation="sigmoid")),
        expected(1 / (1 + np.exp(4 - 8 * scores.astype(np.float64))), 0.5),
    )


@given(
    labels=hnp.arrays(np.uint8, (HEIGHT_PX, WIDTH_PX), elements=st.integers(0, 2)),
    dtype=st.sampled_from([np.uint8, np.int32, np.int64]),
)
def test_labels_are_probabilities_of_one(labels: npt.NDArray[np.uint8], dtype: type[np.integer[Any]]) -> None:
    one_hot = (labels == np.arange(3)[:, None, None]).astype(np.float64)
    expect_same(told(decoded(labels.astype(dtype), 3, role="labels")), expected(one_hot, 0.0))


@given(labels=hnp.arrays(np.uint8, (HEIGHT_PX, WIDTH_PX), elements=st.integers(0, 1)))
def test_a_single_class_is_labelled_one(labels: npt.NDArray[np.uint8]) -> None:
    expect_same(told(decoded(labels, 1, role="labels")), expected((labels == 1)[None].astype(np.float64), 0.0))


def square_of(class_id: int, side: int = 4) -> npt.NDArray[np.uint8]:
    labels = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    labels[2 : 2 + side, 3 : 3 + side] = class_id
    return labels


def test_the_background_is_no_finding() -> None:
    findings = decoded(square_of(1), 2, role="labels", background="class 0")
    assert told(findings) == [(1, 1.0, 16, (3, 2, 7, 6))]
    assert findings.outlines_px[0].tolist() == [[3.5, 2.5], [3.5, 5.5], [6.5, 5.5], [6.5, 2.5]]


def test_a_hole_and_what_lies_in_it_are_pieces_of_their_own() -> None:
    labels = square_of(1, 5)
    labels[3:6, 4:7] = 0
    labels[4, 5] = 1
    findings = decoded(labels, 2, role="labels", background="class 0")
    assert told(findings) == [(1, 1.0, 16, (3, 2, 8, 7)), (1, 1.0, 1, (5, 4, 6, 5))]
    assert [len(outline) for outline in findings.outlines_px] == [4, 1]


def test_boxes_areas_and_outlines_are_of_the_frame() -> None:
    """A map of half the input's size, and four pixels of the frame to one of the input."""
    geometry = geometry_of((100.0, 50.0, 100.0 + 8 * WIDTH_PX, 50.0 + 8 * HEIGHT_PX), 2 * WIDTH_PX, 2 * HEIGHT_PX)
    findings = decoded(square_of(1), 2, role="labels", background="class 0", geometry=geometry)
    assert findings.boxes_px.tolist() == [[124, 66, 156, 98]]
    assert findings.areas_px.tolist() == [32 * 32]
    assert findings.outlines_px[0].tolist() == [[128, 70], [128, 94], [152, 94], [152, 70]]


def test_a_letterboxs_border_is_not_looked_at() -> None:
    bordered = RowGeometry(
        region_px=(0.0, 0.0, 4.0, 8.0),
        input_width_px=WIDTH_PX,
        input_height_px=HEIGHT_PX,
        left_px=4,
        top_px=0,
        shown_width_px=4,
        shown_height_px=8,
        origin_x_px=0.0,
        origin_y_px=0.0,
        step_x_px=1.0,
        step_y_px=1.0,
    )
    everywhere = np.ones((HEIGHT_PX, WIDTH_PX), np.uint8)
    assert told(decoded(everywhere, 2, role="labels", geometry=bordered)) == [(1, 1.0, 32, (0, 0, 4, 8))]
    outside = square_of(1, 1)
    assert told(decoded(outside, 2, role="labels", background="class 0", geometry=bordered)) == []


@pytest.mark.parametrize(("height_px", "is_seen"), [(2, False), (20, False), (28, False), (40, True), (2000, True)])
def test_a_region_too_thin_for_the_map_is_a_wrong_output(height_px: int, is_seen: bool) -> None:
    """2,000 px wide in a letterbox of 512: at 40 px it is 10 high, two pixels of the map; at 20 the map has no pixel for it."""
    given = {"name": "images", "width_px": 512, "height_px": 512, "colour_order": "GRAY", "fit": "letterbox"}
    model_input = ModelInput.model_validate({**given, "scale": 1.0, "mean": [0.0], "std": [1.0]})
    region = Region(name="strip", x_px=0, y_px=0, width_px=2000, height_px=height_px)
    everywhere = np.ones((64, 64), np.uint8)
    for fit in ("letterbox", "stretch"):
        geometry = row_geometry(region, model_input.model_copy(update={"fit": fit}))
        if is_seen or fit == "stretch":
            assert len(decoded(everywhere, 2, role="labels", geometry=geometry).scores) == 1
            continue
        with pytest.raises(WrongOutput, match=f"region of 2000 x {height_px} px") as caught:
            decoded(everywhere, 2, role="labels", geometry=geometry)
        assert caught.value.key == "input.fit"


def test_small_pieces_are_left_out_and_the_largest_stay() -> None:
    labels = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    labels[0, 0], labels[2, 2:4], labels[4, 4:7], labels[6, 4:8] = 1, 1, 2, 1
    settings: dict[str, Any] = {"role": "labels", "background": "class 0"}
    assert [area for _, _, area, _ in told(decoded(labels, 3, **settings))] == [4, 3, 2, 1]
    assert [area for _, _, area, _ in told(decoded(labels, 3, area_min_px=2.0, **settings))] == [4, 3, 2]
    cut = decoded(labels, 3, max_findings=2, **settings)
    assert [area for _, _, area, _ in told(cut)] == [4, 3]
    assert cut.dropped_score == 1.0
    assert decoded(labels, 3, max_findings=2, area_min_px=3.0, **settings).dropped_score == 0.0


def test_of_too_many_pieces_the_best_scored_stay() -> None:
    scores = np.zeros((1, HEIGHT_PX, WIDTH_PX), np.float32)
    scores[0, 0, :6], scores[0, 4, 4] = 0.625, 0.875
    cut = decoded(scores, 1, max_findings=1)
    assert told(cut) == [(0, 0.875, 1, (4, 4, 5, 5))]
    assert cut.dropped_score == 0.625


def test_the_most_labels_fit_and_one_more_is_bad_output() -> None:
    labels = np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8)
    assert told(decoded(labels, 256, role="labels"))[0][0] == 255
    with pytest.raises(BadOutput, match="got 255 to 255, expected the classes 0 to 254"):
        decoded(labels, 255, role="labels")
    with pytest.raises(BadOutput, match="got -1"):
        decoded(labels.astype(np.int64) - 256, 3, role="labels")


def test_logits_taken_for_probabilities_are_bad_output_that_says_what_to_set() -> None:
    with pytest.raises(BadOutput, match=r"set decoder\.activation"):
        decoded(np.full((2, HEIGHT_PX, WIDTH_PX), -4.0, np.float32), 2)


@pytest.mark.parametrize(
    ("outputs", "settings", "key"),
    [
        ({}, {}, "outputs"),
        ({"scores": (2, 8, 12), "labels": (8, 12)}, {}, "outputs"),
        ({"scores": (2, 8, 12)}, {"background": "class 2"}, "decoder.background"),
        ({"scores": (3, 8, 12)}, {}, "classes"),
        ({"scores": (1, 8, 12)}, {"activation": "softmax"}, "decoder.activation"),
    ],
)
def test_what_does_not_fit_is_a_wrong_output(
    outputs: dict[str, tuple[int, ...]], settings: dict[str, Any], key: str
) -> None:
    dtypes: dict[str, np.dtype[Any]] = {"scores": np.dtype(np.float32), "labels": np.dtype(np.int64)}
    tensors = {role: TensorFormat(dtypes[role], shape) for role, shape in outputs.items()}
    names = ["class 0", "class 1"][: 1 if key == "decoder.activation" else 2]
    with pytest.raises(WrongOutput) as caught:
        SemanticSegmentationDecoder(SemanticSegmentationSettings.model_validate(settings), names, EVERYWHERE, tensors)
    assert caught.value.key == key
