"""Anomaly scores and hot regions."""

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
from vision.decoders import TensorFormat, WrongOutput
from vision.decoders.anomaly import CLASSES, AnomalyDecoder, AnomalySettings
from vision.decoders.base import BadOutput
from vision.geometry import RowGeometry
from vision.types import Findings

WIDTH_PX, HEIGHT_PX = 12, 8
REGION_PX = (0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX))
EVERYWHERE = geometry_of(REGION_PX, WIDTH_PX, HEIGHT_PX)
RAW = {
    "image_threshold": 4.0,
    "image_min": 1.0,
    "image_max": 9.0,
    "pixel_threshold": 3.0,
    "pixel_min": 0.0,
    "pixel_max": 10.0,
}


def decoded(geometry: RowGeometry = EVERYWHERE, settings: dict[str, Any] | None = None, **row: Any) -> Findings:
    """``row``: tensors by role; numbers and flags as float32 and bool."""
    tensors: dict[str, npt.NDArray[Any]] = {
        role: np.asarray(value, np.float32 if isinstance(value, float) else None) for role, value in row.items()
    }
    formats = {role: TensorFormat(tensor.dtype, tensor.shape) for role, tensor in tensors.items()}
    made = AnomalySettings.model_validate(settings or {})
    return AnomalyDecoder(made, CLASSES, geometry, formats).decode(tensors)


def heat(*spots: tuple[int, int, float], elsewhere: float = 0.1) -> npt.NDArray[np.float32]:
    levels = np.full((HEIGHT_PX, WIDTH_PX), elsewhere, np.float32)
    for x, y, level in spots:
        levels[y, x] = level
    return levels


def test_the_whole_region_comes_first_with_the_score() -> None:
    findings = decoded(anomaly_map=heat((3, 2, 0.9)), pred_score=0.25)
    assert findings.class_ids.tolist() == [0, 1]
    assert findings.scores.tolist() == pytest.approx([0.25, 0.9])
    assert findings.boxes_px.tolist() == [list(REGION_PX), [3, 2, 4, 3]]
    assert findings.areas_px.tolist() == [WIDTH_PX * HEIGHT_PX, 1]
    assert findings.peaks_px is not None
    assert findings.peaks_px.tolist() == [[3.5, 2.5], [3.5, 2.5]]
    assert findings.outlines_px[0].tolist() == [[0, 0], [12, 0], [12, 8], [0, 8]]


@pytest.mark.parametrize(
    ("row", "score"),
    [
        ({"pred_score": 0.25, "pred_label": True}, 0.25),
        ({"anomaly_map": heat((3, 2, 0.75)), "pred_label": False}, 0.75),
        ({"pred_label": True}, 1.0),
        ({"pred_label": np.array([0])}, 0.0),
        ({"pred_label": False, "pred_mask": heat() > 0}, 0.0),
        ({"pred_mask": heat((1, 1, 1.0)) > 0.5}, 1.0),
        ({"pred_mask": heat() > 0.5}, 0.0),
    ],
)
def test_the_score_is_that_of_the_best_tensor_that_there_is(row: dict[str, Any], score: float) -> None:
    findings = decoded(**row)
    assert findings.scores[0] == score
    assert (findings.peaks_px is not None) == ("anomaly_map" in row)
    assert bool(findings.outlines_px) == ("anomaly_map" in row or "pred_mask" in row)


@given(
    levels=hnp.arrays(np.float32, (HEIGHT_PX, WIDTH_PX), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])),
    hot_min=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    axes=st.sampled_from([2, 3]),
)
def test_hot_regions_are_those_of_the_reference(levels: npt.NDArray[np.float32], hot_min: float, axes: int) -> None:
    tensor = levels[None] if axes == 3 else levels
    findings = decoded(settings={"hot_min": hot_min}, anomaly_map=tensor)
    pieces = naive.pieces(levels >= hot_min)
    expected = sorted((max(levels[y, x] for x, y in piece), len(piece)) for piece in pieces)
    found = zip(findings.scores[1:].tolist(), findings.areas_px[1:].tolist(), strict=True)
    assert sorted(found) == expected
    assert findings.scores[0] == levels.max()
    assert findings.peaks_px is not None
    for (x, y), score in zip(findings.peaks_px, findings.scores, strict=True):
        assert levels[int(y), int(x)] == score


def test_the_models_own_mask_hides_nothing_that_the_map_shows() -> None:
    """It is the map at 0.5; a hot region below that is a finding where ``hot_min`` asks for it."""
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    mask[6, 8] = True
    row: dict[str, Any] = {"anomaly_map": heat((3, 2, 0.4), (8, 6, 0.9)), "pred_mask": mask, "pred_score": 0.9}
    for hot_min, expected in ((0.3, [0.9, 0.9, 0.4]), (0.5, [0.9, 0.9]), (0.95, [0.9])):
        assert decoded(settings={"hot_min": hot_min}, **row).scores.tolist() == pytest.approx(expected)


def test_without_a_map_the_mask_says_what_is_hot() -> None:
    mask = np.zeros((HEIGHT_PX, WIDTH_PX), bool)
    mask[2:4, 3:5] = True
    findings = decoded(pred_mask=mask, pred_score=0.9)
    assert findings.scores.tolist() == pytest.approx([0.9, 1.0])
    assert findings.areas_px[1] == 4
    assert findings.peaks_px is None


def test_raw_scores_are_normalised_as_anomalib_does() -> None:
    findings = decoded(
        settings={"normalisation": RAW}, anomaly_map=heat((3, 2, 5.0), (8, 6, 11.0), (1, 6, 2.9)), pred_score=4.5
    )
    assert findings.scores.tolist() == pytest.approx([(4.5 - 4) / 8 + 0.5, 1.0, (5 - 3) / 10 + 0.5])


def test_a_raw_map_alone_gives_the_score_on_the_images_scale() -> None:
    findings = decoded(settings={"normalisation": RAW}, anomaly_map=heat((3, 2, 5.0)))
    assert findings.scores.tolist() == pytest.approx([(5 - 4) / 8 + 0.5, (5 - 3) / 10 + 0.5])


@given(raw=st.floats(-20, 20, width=32), level=st.floats(0, 20, width=32))
def test_normalised_is_between_zero_and_one_and_half_at_the_threshold(raw: float, level: float) -> None:
    findings = decoded(settings={"normalisation": RAW}, anomaly_map=heat((3, 2, level)), pred_score=raw)
    assert findings.scores[0] == pytest.approx(min(max((raw - 4) / 8 + 0.5, 0), 1), abs=1e-6)
    assert (len(findings.scores) > 1) == (level >= 3.0)


@pytest.mark.parametrize("row", [{"pred_score": 13.25}, {"anomaly_map": heat((3, 2, 13.25))}, {"pred_score": -2.0}])
def test_raw_scores_without_normalisation_are_bad_output_that_says_what_to_set(row: dict[str, Any]) -> None:
    with pytest.raises(BadOutput, match=r"set decoder\.normalisation"):
        decoded(**row)


def test_small_hot_regions_are_left_out_and_the_hottest_stay() -> None:
    levels = heat((0, 0, 0.9), (4, 4, 0.6), (5, 4, 0.7), (9, 7, 0.8))
    assert decoded(anomaly_map=levels).scores[1:].tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert decoded(settings={"area_min_px": 2.0}, anomaly_map=levels).scores[1:].tolist() == pytest.approx([0.7])
    cut = decoded(settings={"max_findings": 1}, anomaly_map=levels)
    assert cut.scores[1:].tolist() == pytest.approx([0.9])
    assert cut.dropped_score == pytest.approx(0.8)


def test_what_was_dropped_is_told_on_the_scale_of_the_scores() -> None:
    settings = {"normalisation": RAW, "max_findings": 1}
    raw = heat((3, 2, 5.0), (8, 6, 4.0))
    assert decoded(settings=settings, anomaly_map=raw).dropped_score == pytest.approx((4 - 3) / 10 + 0.5)
    assert decoded(settings={"max_findings": 1}, pred_mask=raw >= 4.0).dropped_score == 1.0


def test_a_mask_alone_says_anomaly_however_small_the_region() -> None:
    findings = decoded(settings={"area_min_px": 5.0}, pred_mask=heat((1, 1, 1.0)) > 0.5)
    assert findings.scores.tolist() == [1.0]


def test_a_map_of_another_size_than_the_input_is_placed_in_the_frame() -> None:
    geometry = geometry_of((100.0, 50.0, 100.0 + 8 * WIDTH_PX, 50.0 + 8 * HEIGHT_PX), 4 * WIDTH_PX, 4 * HEIGHT_PX)
    findings = decoded(geometry, anomaly_map=heat((3, 2, 0.9)))
    assert findings.boxes_px[1].tolist() == [124, 66, 132, 74]
    assert findings.areas_px[1] == 64
    assert findings.peaks_px is not None
    assert findings.peaks_px[1].tolist() == [128, 70]


def test_a_letterboxs_border_is_never_hot() -> None:
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
    levels = heat((3, 2, 0.9), (8, 2, 0.9), (5, 3, 0.7))
    findings = decoded(bordered, anomaly_map=levels)
    assert findings.scores.tolist() == pytest.approx([0.7, 0.7])
    assert findings.boxes_px[1].tolist() == [1, 3, 2, 4]


@pytest.mark.parametrize(
    ("shapes", "settings", "key"),
    [
        ({"anomaly_map": (2, 8, 12)}, {}, "outputs.anomaly_map"),
        ({"pred_score": (2,)}, {}, "outputs.pred_score"),
        ({"anomaly_map": (8, 12), "pred_mask": (1, 4, 6)}, {}, "outputs.pred_mask"),
        (
            {"anomaly_map": (8, 12)},
            {"normalisation": {"image_threshold": 4.0, "image_min": 1.0, "image_max": 9.0}},
            "decoder.normalisation.pixel_threshold",
        ),
    ],
)
def test_what_does_not_fit_is_a_wrong_output(
    shapes: dict[str, tuple[int, ...]], settings: dict[str, Any], key: str
) -> None:
    tensors = {
        role: TensorFormat(np.dtype(bool if role == "pred_mask" else np.float32), shape)
        for role, shape in shapes.items()
    }
    with pytest.raises(WrongOutput) as caught:
        AnomalyDecoder(AnomalySettings.model_validate(settings), CLASSES, EVERYWHERE, tensors)
    assert caught.value.key == key


def test_an_anomaly_model_has_its_own_classes() -> None:
    with pytest.raises(WrongOutput, match=r"\['anomaly', 'hot_region'\]"):
        AnomalyDecoder(
            AnomalySettings(), ["good", "bad"], EVERYWHERE, {"pred_score": TensorFormat(np.dtype(np.float32), ())}
        )


@pytest.mark.parametrize(
    "changes", [{"image_max": 1.0}, {"pixel_max": -1.0}, {"pixel_min": None}, {"image_min": float("nan")}]
)
def test_a_normalisation_without_a_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AnomalySettings.model_validate({"normalisation": RAW | changes})
