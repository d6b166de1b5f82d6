"""Masks from prototypes against their readable reference."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests import naive_decoders as naive
from tests.models import geometry_of
from vision.decoders import TensorFormat, WrongOutput
from vision.decoders.base import BadOutput
from vision.decoders.instance_segmentation import InstanceSegmentationDecoder, InstanceSegmentationSettings
from vision.geometry import RowGeometry
from vision.types import Findings

Floats = npt.NDArray[np.float32]
WIDTH_PX, HEIGHT_PX, MASKS = 32, 24, 3
EVERYWHERE = geometry_of((0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX)), WIDTH_PX, HEIGHT_PX)


def decoded(
    predictions: Floats, prototypes: Floats, *, geometry: RowGeometry = EVERYWHERE, **settings: Any
) -> Findings:
    """``predictions``: rows x1, y1, x2, y2, score, class, mask weights."""
    row = {"predictions": predictions, "prototypes": prototypes}
    formats = {role: TensorFormat(tensor.dtype, tensor.shape) for role, tensor in row.items()}
    made = InstanceSegmentationSettings.model_validate({"boxes": "end_to_end", **settings})
    return InstanceSegmentationDecoder(made, ["a", "b"], geometry, formats).decode(row)


def filled(outline: Floats, scale: float = 1.0) -> npt.NDArray[np.bool_]:
    """The pixels of a mask of one piece without holes, from its outline through their centres."""
    out = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    cv2.fillPoly(out, [np.rint(outline / scale - 0.5).astype(np.int32)], 1)
    return out.astype(bool)


@given(
    seed=st.integers(0, 10_000),
    corners=st.tuples(*[st.one_of(st.integers(-4, 36).map(float), st.floats(-4.0, 36.0, width=32))] * 4),
    reduction=st.sampled_from([1, 2, 4, 8]),
    mask_min=st.sampled_from([0.1, 0.5, 0.8]),
)
def test_a_mask_is_its_reference(
    seed: int, corners: tuple[float, float, float, float], reduction: int, mask_min: float
) -> None:
    generator = np.random.default_rng(seed)
    shape = (MASKS, HEIGHT_PX // reduction, WIDTH_PX // reduction)
    prototypes = generator.normal(size=shape).astype(np.float32)
    weights = generator.normal(size=MASKS).astype(np.float32)
    x1, x2 = sorted((corners[0], corners[2]))
    y1, y2 = sorted((corners[1], corners[3]))
    row = np.array([[x1, y1, x2, y2, 0.9, 1, *weights]], np.float32)
    findings = decoded(row, prototypes, mask_min=mask_min)
    margin = naive.mask(prototypes, weights, (x1, y1, x2, y2), WIDTH_PX, HEIGHT_PX, mask_min)
    # Sums in float32 may decide otherwise than in float64 where a pixel lies on the mask's very edge.
    surely, perhaps = (margin > 1e-4).sum(), (margin > -1e-4).sum()
    assert surely <= findings.areas_px[0] <= perhaps
    assert (len(findings.outlines_px[0]) == 0) == (findings.areas_px[0] == 0)
    assert (margin > -1e-4)[tuple(np.floor(findings.outlines_px[0][:, ::-1]).astype(int).T)].all()


def one_blob(radius_px: float = 6.0) -> Floats:
    """A disc of logits above 0 around (16, 12), in the input's own size."""
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX] + 0.5
    disc = radius_px - np.hypot(x - 16.0, y - 12.0)
    return np.stack([disc, np.zeros_like(disc), np.zeros_like(disc)]).astype(np.float32)


WHOLE = np.array([[0, 0, WIDTH_PX, HEIGHT_PX, 0.9, 0, 1, 0, 0]], np.float32)


def test_the_outline_surrounds_the_mask() -> None:
    findings = decoded(WHOLE, one_blob())
    expected = one_blob()[0] > 0
    np.testing.assert_array_equal(filled(findings.outlines_px[0]), expected)
    assert findings.areas_px.tolist() == [expected.sum()]


def test_area_and_outline_are_of_the_frame() -> None:
    geometry = geometry_of((100.0, 50.0, 100.0 + 4 * WIDTH_PX, 50.0 + 4 * HEIGHT_PX), WIDTH_PX, HEIGHT_PX)
    findings, unscaled = decoded(WHOLE, one_blob(), geometry=geometry), decoded(WHOLE, one_blob())
    np.testing.assert_allclose(findings.outlines_px[0], unscaled.outlines_px[0] * 4 + (100, 50))
    np.testing.assert_allclose(findings.areas_px, unscaled.areas_px * 16)


def test_a_mask_ends_with_its_box_and_with_the_letterbox() -> None:
    everywhere = np.ones((MASKS, HEIGHT_PX // 4, WIDTH_PX // 4), np.float32)
    row = WHOLE.copy()
    row[0, :4] = [3.0, 4.25, 10.0, 8.0]
    assert decoded(row, everywhere).areas_px.tolist() == [7 * 3]  # the pixels 3..9 and 5..7
    bordered = RowGeometry(
        region_px=(0.0, 0.0, 20.0, 24.0),
        input_width_px=WIDTH_PX,
        input_height_px=HEIGHT_PX,
        left_px=6,
        top_px=0,
        shown_width_px=20,
        shown_height_px=24,
        origin_x_px=0.0,
        origin_y_px=0.0,
        step_x_px=1.0,
        step_y_px=1.0,
    )
    assert decoded(WHOLE, everywhere, geometry=bordered).areas_px.tolist() == [20 * 24]


def test_the_area_is_of_all_pieces_and_the_outline_of_the_largest() -> None:
    prototypes = one_blob(3.0)
    prototypes[0, 2:4, 2:4] = 1.0
    findings = decoded(WHOLE, prototypes)
    assert findings.areas_px.tolist() == [(prototypes[0] > 0).sum()]
    assert filled(findings.outlines_px[0]).sum() == findings.areas_px[0] - 4


def test_a_finding_without_a_mask_stays() -> None:
    findings = decoded(WHOLE, -np.ones((MASKS, 6, 8), np.float32))
    assert findings.scores.tolist() == pytest.approx([0.9])
    assert findings.areas_px.tolist() == [0.0]
    assert findings.outlines_px[0].shape == (0, 2)


@pytest.mark.parametrize("weights", [(1e20, -1e20, 0.0), (1e20, 0.0, 0.0), (-1e20, 0.0, 0.0), (1e19, 0.0, 0.0)])
def test_a_mask_whose_sums_overflow_is_bad_output(weights: tuple[float, ...]) -> None:
    """Not an empty mask, whose area no rule would meet."""
    row = WHOLE.copy()
    row[0, 6:] = weights
    with pytest.raises(BadOutput, match="weighted sum"):
        decoded(row, np.full((MASKS, 6, 8), 2e19, np.float32))
    assert decoded(row, np.full((MASKS, 6, 8), 1e17, np.float32)).areas_px.size == 1


def test_each_finding_has_its_own_weights() -> None:
    """In each of the three layouts, and whatever the order of their scores."""
    prototypes = np.zeros((2, HEIGHT_PX // 4, WIDTH_PX // 4), np.float32)
    prototypes[0], prototypes[1] = 1.0, -1.0
    candidates = [
        (16.0, 12.0, 8.0, 8.0, 0.3, 1.0, 0.0),
        (8.0, 8.0, 8.0, 8.0, 0.9, 0.0, 1.0),
        (24.0, 8.0, 4.0, 4.0, 0.6, 1.0, 0.0),
    ]
    columns = np.zeros((7, 42), np.float32)  # as many as the layout of YOLOv5 can have
    columns[:, [30, 3, 20]] = np.array(candidates).T
    rows = np.insert(columns.T, 4, 1.0, axis=1)
    finished = np.zeros((40, 8), np.float32)
    finished[:3, 4], finished[:3, 6:] = [0.9, 0.6, 0.3], [[0, 1], [1, 0], [1, 0]]
    finished[:3, :4] = [[4, 4, 12, 12], [22, 6, 26, 10], [12, 8, 20, 16]]
    for boxes, predictions in (("yolov8", columns), ("yolov5", rows), ("end_to_end", finished)):
        row = {"predictions": np.ascontiguousarray(predictions), "prototypes": prototypes}
        formats = {role: TensorFormat(tensor.dtype, tensor.shape) for role, tensor in row.items()}
        settings = InstanceSegmentationSettings.model_validate({"boxes": boxes})
        findings = InstanceSegmentationDecoder(settings, ["a"], EVERYWHERE, formats).decode(row)
        assert findings.scores.tolist() == pytest.approx([0.9, 0.6, 0.3]), boxes
        assert findings.areas_px.tolist() == [0.0, 16.0, 64.0], boxes


@pytest.mark.parametrize("shape", [(MASKS, 6, 6), (MASKS, 24), (MASKS, 0, 8), (0, 6, 8)])
def test_prototypes_of_other_proportions_are_a_wrong_output(shape: tuple[int, ...]) -> None:
    with pytest.raises(WrongOutput, match="proportions of the input's 32 x 24 px"):
        decoded(WHOLE, np.zeros(shape, np.float32))


def test_the_kind_of_boxes_brings_its_own_defaults() -> None:
    rows = np.zeros((42, 6 + MASKS), np.float32)
    rows[:2, :6] = [[10, 10, 10, 10, 1, 0.9], [10, 12, 10, 10, 1, 0.8]]  # they overlap by 2/3
    row = {"predictions": rows, "prototypes": np.ones((MASKS, 6, 8), np.float32)}
    formats = {role: TensorFormat(tensor.dtype, tensor.shape) for role, tensor in row.items()}
    for settings, count in (({}, 1), ({"iou_max": 0.7}, 2)):
        made = InstanceSegmentationSettings.model_validate({"boxes": "yolov5", **settings})
        assert len(InstanceSegmentationDecoder(made, ["a"], EVERYWHERE, formats).decode(row).scores) == count


@pytest.mark.parametrize("settings", [{"iou_max": 0.5}, {"class_agnostic": True}])
def test_finished_boxes_are_not_to_be_suppressed(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="the model itself has suppressed"):
        InstanceSegmentationSettings.model_validate({"boxes": "end_to_end", **settings})
