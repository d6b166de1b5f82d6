"""The decoders of boxes against their readable references."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from tests import naive_decoders as naive
from tests.models import geometry_of
from vision.decoders import DECODERS, Decoder, TensorFormat, WrongOutput
from vision.decoders.base import BadOutput
from vision.decoders.end_to_end import EndToEndSettings
from vision.decoders.yolov5 import Yolov5Settings
from vision.decoders.yolov8 import Yolov8Settings
from vision.geometry import RowGeometry, row_geometry
from vision.model_input import ModelInput
from vision.recipe import Region
from vision.types import Findings

Floats = npt.NDArray[np.float32]
SIDE_PX = 64
EVERYWHERE = geometry_of((0.0, 0.0, float(SIDE_PX), float(SIDE_PX)), SIDE_PX, SIDE_PX)
SETTINGS = {"yolov5": Yolov5Settings, "yolov8": Yolov8Settings, "end_to_end": EndToEndSettings}

# Few values, so that scores tie, boxes coincide and overlaps lie exactly at a limit.
PLACES = st.sampled_from([8.0, 12.0, 16.0, 20.0, 31.5, 70.0])
SIZES = st.sampled_from([0.0, 4.0, 8.0, 12.0, 16.0, 24.0])
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.9, 1.0])
IOU_LIMITS = st.sampled_from([0.0, 0.2, 1 / 3, 0.45, 0.5, 0.6, 0.7, 0.99])


def decoder(
    kind: str, tensor: Floats, class_count: int, geometry: RowGeometry = EVERYWHERE, **settings: Any
) -> Decoder:
    names = [f"class {number}" for number in range(class_count)]
    made = SETTINGS[kind](**settings)
    return DECODERS[kind](made, names, geometry, {"predictions": TensorFormat(tensor.dtype, tensor.shape)})


def decoded(kind: str, tensor: Floats, class_count: int, **settings: Any) -> Findings:
    return decoder(kind, tensor, class_count, **settings).decode({"predictions": tensor})


def expect(findings: Findings, boxes: list[naive.Box]) -> None:
    """The same, bit by bit; boxes cut to the input."""
    assert findings.class_ids.tolist() == [box.class_id for box in boxes]
    assert findings.scores.tolist() == [box.score for box in boxes]
    corners = np.array([box.corners for box in boxes], np.float32).reshape(-1, 4).clip(0, SIDE_PX)
    np.testing.assert_array_equal(findings.boxes_px, corners)
    np.testing.assert_array_equal(findings.areas_px, (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]))


@st.composite
def candidates(draw: st.DrawFn, probability_count: int) -> Floats:
    """Rows of centre x, centre y, width, height and probabilities."""
    count = draw(st.integers(12, 30))
    return np.hstack(
        [
            draw(hnp.arrays(np.float32, (count, 2), elements=PLACES)),
            draw(hnp.arrays(np.float32, (count, 2), elements=SIZES)),
            draw(hnp.arrays(np.float32, (count, probability_count), elements=SCORES)),
        ]
    )


@given(rows=candidates(3), iou_max=IOU_LIMITS, class_agnostic=st.booleans(), most=st.sampled_from([1, 5, 300]))
def test_yolov8_is_its_reference(rows: Floats, iou_max: float, class_agnostic: bool, most: int) -> None:
    tensor = np.ascontiguousarray(rows.T)
    findings = decoded("yolov8", tensor, 3, iou_max=iou_max, class_agnostic=class_agnostic, max_findings=most)
    boxes = naive.yolov8(tensor, 3, 0.25)
    expect(findings, naive.suppressed(boxes, iou_max, class_agnostic=class_agnostic, most=most))


@given(rows=candidates(4), iou_max=IOU_LIMITS, class_agnostic=st.booleans(), most=st.sampled_from([1, 5, 300]))
def test_yolov5_is_its_reference(rows: Floats, iou_max: float, class_agnostic: bool, most: int) -> None:
    rows = np.vstack([rows, np.zeros((60 - len(rows), rows.shape[1]), np.float32)])
    findings = decoded("yolov5", rows, 3, iou_max=iou_max, class_agnostic=class_agnostic, max_findings=most)
    boxes = naive.yolov5(rows, 3, 0.25)
    expect(findings, naive.suppressed(boxes, iou_max, class_agnostic=class_agnostic, most=most))


@given(rows=candidates(1), class_ids=st.lists(st.integers(0, 2), min_size=30, max_size=30), most=st.integers(1, 40))
def test_end_to_end_is_its_reference(rows: Floats, class_ids: list[int], most: int) -> None:
    corners = np.array([naive.from_centre(*row[:4]) for row in rows], np.float32)
    tensor = np.hstack([corners, rows[:, 4:], np.array(class_ids[: len(rows)], np.float32)[:, None]])
    findings = decoded("end_to_end", tensor, 3, max_findings=most)
    expect(findings, naive.by_score(naive.end_to_end(tensor, 0.25))[:most])


@pytest.mark.parametrize("class_count", [1, 4, 5, 10])
@pytest.mark.parametrize("count", [100, 1024, 1500])
def test_every_candidate_and_class_is_read(class_count: int, count: int) -> None:
    generator = np.random.default_rng(class_count * count)
    rows = generator.random((count, 5 + class_count), np.float32)
    rows[:, :4] *= SIDE_PX
    columns = np.ascontiguousarray(np.delete(rows, 4, axis=1).T)
    rows = rows[: {100: 60, 1024: 252, 1500: 1023}[count]]  # numbers that YOLOv5 can have for 64 x 64
    for kind, tensor, boxes in (
        ("yolov8", columns, naive.yolov8(columns, class_count, 0.25)),
        ("yolov5", rows, naive.yolov5(rows, class_count, 0.25)),
    ):
        kept = naive.suppressed(boxes, 0.5, class_agnostic=False, most=count)
        expect(decoded(kind, tensor, class_count, iou_max=0.5, max_findings=count), kept)
        assert len(kept) > 3


def columns_of(*candidates: tuple[float, ...], least: int = 10) -> Floats:
    """Candidates, and more without a score."""
    rows = [*candidates, *[(0.0,) * len(candidates[0])] * (least - len(candidates))]
    return np.ascontiguousarray(np.array(rows, np.float32).T)


def test_a_score_at_the_threshold_is_none() -> None:
    tensor = columns_of((10, 10, 4, 4, 0.25), (30, 30, 4, 4, np.nextafter(np.float32(0.25), np.float32(1))))
    assert decoded("yolov8", tensor, 1).boxes_px.tolist() == [[28, 28, 32, 32]]


def test_an_overlap_at_the_limit_is_none() -> None:
    tensor = columns_of((10, 10, 4, 4, 0.9), (10, 11, 4, 2, 0.8))  # half of the other's area, all inside
    assert len(decoded("yolov8", tensor, 1, iou_max=0.5).scores) == 2
    assert len(decoded("yolov8", tensor, 1, iou_max=0.4999).scores) == 1


def test_classes_do_not_suppress_each_other_unless_they_shall() -> None:
    tensor = columns_of((10, 10, 4, 4, 0.9, 0.1), (10, 10, 4, 4, 0.3, 0.8))
    assert decoded("yolov8", tensor, 2).class_ids.tolist() == [0, 1]
    assert decoded("yolov8", tensor, 2, class_agnostic=True).class_ids.tolist() == [0]


def test_ties_go_to_the_first_class_and_the_first_candidate() -> None:
    tensor = columns_of((30, 10, 4, 4, 0.5, 0.5), (10, 10, 4, 4, 0.5, 0.25), (50, 50, 4, 4, 0.1, 0.5))
    findings = decoded("yolov8", tensor, 2)
    assert findings.class_ids.tolist() == [0, 0, 1]
    assert findings.boxes_px[:, 0].tolist() == [28, 8, 48]


def test_yolov5_counts_objectness_alone_and_with_the_class() -> None:
    rows = np.zeros((60, 6), np.float32)
    rows[:10, :4] = [[5 + 6 * number, 10, 4, 4] for number in range(10)]
    rows[:4, 4:] = [[0.9, 0.9], [0.2, 1.0], [0.9, 0.2], [0.5, 0.5]]
    assert decoded("yolov5", rows, 1).scores.tolist() == pytest.approx([0.81])
    assert decoded("yolov5", rows, 1, score_min=0.17).scores.tolist() == pytest.approx([0.81, 0.25, 0.2, 0.18])


def test_yolov5_gives_a_product_that_rounds_to_a_tie_to_the_first_class() -> None:
    objectness = np.float32(0.3)
    greater = np.float32(0.9)
    while objectness * (lesser := np.nextafter(greater, np.float32(0.0))) != objectness * greater:
        greater = lesser
    rows = np.zeros((60, 7), np.float32)
    rows[0] = [10, 10, 4, 4, objectness, lesser, greater]
    findings = decoded("yolov5", rows, 2)
    assert findings.class_ids.tolist() == [0]
    expect(findings, naive.yolov5(rows, 2, 0.25))


def test_boxes_come_in_pixels_of_the_frame_cut_to_the_region() -> None:
    """A region of 200 x 100 px at 50, 70 in an input of 64 x 64: 0.32 to 1, with a border of 16 px above and below."""
    model_input = ModelInput.model_validate(
        {
            "name": "images",
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "colour_order": "GRAY",
            "scale": 1.0,
            "mean": [0.0],
            "std": [1.0],
            "fit": "letterbox",
        }
    )
    geometry = row_geometry(Region(name="all", x_px=50, y_px=70, width_px=200, height_px=100), model_input)
    tensor = columns_of((32, 32, 16, 8, 0.9), (2, 16, 16, 16, 0.8), (32, 4, 8, 6, 0.7))
    findings = decoded("yolov8", tensor, 1, geometry=geometry)
    np.testing.assert_allclose(
        findings.boxes_px, [[125, 107.5, 175, 132.5], [50, 70, 81.25, 95], [137.5, 70, 162.5, 70]]
    )
    np.testing.assert_allclose(findings.areas_px, [50 * 25, 31.25 * 25, 0])


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("yolov8", columns_of((10, 10, -4, 4, 0.9))),
        ("end_to_end", np.array([[10, 10, 20, 8, 0.9, 0]], np.float32)),
    ],
)
def test_a_box_turned_inside_out_is_bad_output(kind: str, tensor: Floats) -> None:
    with pytest.raises(BadOutput, match="x1 <= x2"):
        decoded(kind, tensor, 1)


def test_an_end_to_end_export_without_a_free_row_may_have_dropped_boxes() -> None:
    tensor = np.array([[10, 10, 20, 20, 0.9, 1], [30, 30, 40, 40, 0.5, 1]], np.float32)
    assert decoded("end_to_end", tensor, 2).dropped_score == 0.5
    assert decoded("end_to_end", tensor, 2, max_findings=1).dropped_score == 0.5
    tensor[1, 4] = 0.25
    assert decoded("end_to_end", tensor, 2).dropped_score == 0.0


def test_a_crowd_does_not_hide_that_something_was_dropped() -> None:
    screws = [(10.0 + index % 30, 10.0 + index // 30, 0.5, 0.5, 0.9, 0.0) for index in range(320)]
    findings = decoded("yolov8", columns_of(*screws, (50, 50, 4, 4, 0.0, 0.8)), 2)
    assert len(findings.scores) == 300
    assert findings.dropped_score == pytest.approx(0.9)


@pytest.mark.parametrize("class_id", [-1.0, 2.0, 0.5, 1e9, -0.001])
def test_a_finished_box_of_no_class_is_bad_output(class_id: float) -> None:
    tensor = np.array([[10, 10, 20, 20, 0.9, 1], [10, 10, 20, 20, 0.5, class_id]], np.float32)
    with pytest.raises(BadOutput, match="expected 0 to 1"):
        decoded("end_to_end", tensor, 2)
    tensor[1, 4] = 0.25  # none
    assert decoded("end_to_end", tensor, 2).class_ids.tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "shape", "key", "text"),
    [
        ("yolov8", (8400, 84), "outputs.predictions", "another decoder.kind"),
        ("yolov8", (300, 6), "outputs.predictions", "another decoder.kind"),
        ("yolov8", (85, 8400), "classes", "got 80 classes, expected 81"),
        ("yolov8", (116, 8400), "classes", "got 80 classes, expected 112"),
        ("yolov5", (84, 8400), "outputs.predictions", "another decoder.kind"),
        ("yolov5", (25200, 84), "classes", "got 80 classes, expected 79"),
        (
            "yolov5",
            (300, 85),
            "outputs.predictions",
            "got a row of .300, 85. for yolov5, expected 3 candidates a cell of 64 x 64 px",
        ),
        ("end_to_end", (300, 7), "outputs.predictions", "x1, y1, x2, y2, score, class"),
        ("end_to_end", (84, 8400), "outputs.predictions", "another decoder.kind"),
    ],
)
def test_a_tensor_laid_out_otherwise_is_a_wrong_output(kind: str, shape: tuple[int, ...], key: str, text: str) -> None:
    with pytest.raises(WrongOutput, match=text) as caught:
        decoder(kind, np.zeros(shape, np.float32), 80)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"),
    [("score_min", 1.0), ("score_min", -0.1), ("iou_max", 1.0), ("max_findings", 0), ("max_findings", 10_001)],
)
def test_settings_beyond_their_limits_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        Yolov8Settings.model_validate({key: value})


def test_finished_boxes_of_one_class_are_not_taken_for_candidates_of_yolov5() -> None:
    for count in (252, 255, 1020):
        decoder("yolov5", np.zeros((count, 6), np.float32), 1)
    with pytest.raises(WrongOutput, match=r"one of .*252"):
        decoder("yolov5", np.zeros((300, 6), np.float32), 1)


def test_no_candidate_is_no_finding() -> None:
    findings = decoded("yolov8", np.zeros((5, 10), np.float32), 1)
    assert findings.boxes_px.shape == (0, 4)
    assert len(findings.scores) == len(findings.class_ids) == len(findings.areas_px) == 0
