"""What every decoder owes the judge and the package. A new kind adds a sample of its model's output to SAMPLES."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import TypeAdapter

from vision.decoders import DECODERS, Decoder, DecoderSettings, TensorFormat, WrongOutput
from vision.decoders.base import BadOutput
from vision.geometry import RowGeometry, row_geometry
from vision.model_input import ModelInput
from vision.recipe import Region
from vision.types import Findings

Row = dict[str, npt.NDArray[Any]]
WIDTH_PX, HEIGHT_PX = 64, 48
CLASSES = ("scratch", "blob", "stain")
REGION = Region(name="all", x_px=30, y_px=20, width_px=120, height_px=150)
REGION_PX = (30.0, 20.0, 150.0, 170.0)


@dataclass(frozen=True)
class Sample:
    """A model's output and what would be wrong with it.

    ``probabilities``: places of numbers that must be 0..1. ``wrong_class_counts``: numbers of classes that the tensors show to be
    wrong. ``in_order``: from which finding on scores descend; None where findings have an order of their own.
    """

    kind: str
    row: Row
    settings: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = CLASSES
    probabilities: tuple[tuple[str, tuple[int, ...]], ...] = ()
    wrong_class_counts: tuple[int, ...] = (2, 4)
    in_order: int | None = 0
    least: int = 2
    """Findings that the sample has at least."""


def boxes(count: int, seed: int) -> npt.NDArray[np.float32]:
    """Centre x, centre y, width, height, some of them beyond the input's edges."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform((0.0, 0.0), (WIDTH_PX, HEIGHT_PX), (count, 2))
    return np.hstack([centres, generator.uniform(2.0, 40.0, (count, 2))]).astype(np.float32)


def random(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, np.float32)


def columns(mask_count: int = 0) -> npt.NDArray[np.float32]:
    weights = random(mask_count, 100) - np.float32(0.5)
    return np.ascontiguousarray(np.vstack([boxes(100, 0).T, random(len(CLASSES), 100), weights]))


def rows(mask_count: int = 0) -> npt.NDArray[np.float32]:
    count = 3 * (8 * 6 + 4 * 3 + 2 * 1)  # at strides of 8, 16 and 32
    weights = random(count, mask_count) - np.float32(0.5)
    return np.ascontiguousarray(np.hstack([boxes(count, 0), random(count, 1 + len(CLASSES)), weights]))


def finished(mask_count: int = 0) -> npt.NDArray[np.float32]:
    centres = boxes(20, 0)
    out = np.zeros((30, 6 + mask_count), np.float32)
    out[:20, :2], out[:20, 2:4] = centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2
    out[:20, 4] = np.sort(random(20))[::-1]
    out[:20, 5] = np.arange(20) % len(CLASSES)
    out[:20, 6:] = random(20, mask_count) - np.float32(0.5)
    return out


def prototypes() -> npt.NDArray[np.float32]:
    return random(8, HEIGHT_PX // 4, WIDTH_PX // 4, seed=2) - np.float32(0.5)


SAMPLES = {
    "classification": Sample(
        "classification",
        {"scores": np.array([0.25, 0.5, 0.25], np.float32)},
        {"activation": "none"},
        probabilities=(("scores", (1,)),),
        in_order=None,
    ),
    "classification, softmax": Sample(
        "classification", {"scores": np.array([-3.0, 5.0, 0.0], np.float32)}, {"activation": "softmax"}, in_order=None
    ),
    "yolov5": Sample("yolov5", {"predictions": rows()}, probabilities=(("predictions", (7, 4)),)),
    "yolov8": Sample("yolov8", {"predictions": columns()}, probabilities=(("predictions", (5, 99)),)),
    "end_to_end": Sample(
        "end_to_end", {"predictions": finished()}, probabilities=(("predictions", (3, 4)),), wrong_class_counts=()
    ),
    "instance_segmentation, yolov5": Sample(
        "instance_segmentation",
        {"predictions": rows(8), "prototypes": prototypes()},
        {"boxes": "yolov5"},
        probabilities=(("predictions", (7, 4)),),
    ),
    "instance_segmentation, yolov8": Sample(
        "instance_segmentation",
        {"predictions": columns(8), "prototypes": prototypes()},
        {"boxes": "yolov8", "max_findings": 20},
        probabilities=(("predictions", (6, 0)),),
    ),
    "instance_segmentation, end_to_end": Sample(
        "instance_segmentation",
        {"predictions": finished(8), "prototypes": prototypes()},
        {"boxes": "end_to_end"},
        probabilities=(("predictions", (3, 4)),),
        wrong_class_counts=(),
    ),
    "semantic_segmentation, probabilities": Sample(
        "semantic_segmentation",
        {"scores": random(len(CLASSES), HEIGHT_PX, WIDTH_PX)},
        probabilities=(("scores", (2, 30, 30)), ("scores", (0, 0, 0))),
    ),
    "semantic_segmentation, logits": Sample(
        "semantic_segmentation",
        {"scores": random(len(CLASSES), HEIGHT_PX // 4, WIDTH_PX // 4) * np.float32(20.0) - np.float32(10.0)},
        {"activation": "softmax", "background": "blob"},
    ),
    "semantic_segmentation, one class": Sample(
        "semantic_segmentation",
        {"scores": random(1, HEIGHT_PX, WIDTH_PX) * np.float32(20.0) - np.float32(10.0)},
        {"activation": "sigmoid"},
        class_names=("scratch",),
        wrong_class_counts=(2,),
    ),
    "semantic_segmentation, labels": Sample(
        "semantic_segmentation",
        {"labels": (random(HEIGHT_PX, WIDTH_PX) * 3).astype(np.int64)},
        wrong_class_counts=(),
    ),
    "anomaly": Sample(
        "anomaly",
        {
            "anomaly_map": random(1, HEIGHT_PX, WIDTH_PX) ** 8,
            "pred_score": np.array([0.75], np.float32),
            "pred_label": np.array([True]),
            "pred_mask": random(1, HEIGHT_PX, WIDTH_PX) > 0.97,
        },
        class_names=("anomaly", "hot_region"),
        probabilities=(("anomaly_map", (0, 20, 20)), ("pred_score", (0,))),
        wrong_class_counts=(1, 3),
        in_order=1,
    ),
    "anomaly, a map": Sample(
        "anomaly",
        {"anomaly_map": random(HEIGHT_PX // 2, WIDTH_PX // 2) ** 8},
        class_names=("anomaly", "hot_region"),
        probabilities=(("anomaly_map", (10, 10)),),
        wrong_class_counts=(1,),
        in_order=1,
    ),
    "anomaly, raw": Sample(
        "anomaly",
        {
            "anomaly_map": random(HEIGHT_PX, WIDTH_PX) * np.float32(9.0),
            "pred_score": np.array(8.5, np.float32),
        },
        {
            "normalisation": {
                "image_threshold": 5.0,
                "image_min": 1.0,
                "image_max": 9.0,
                "pixel_threshold": 8.5,
                "pixel_min": 0.0,
                "pixel_max": 9.0,
            }
        },
        class_names=("anomaly", "hot_region"),
        wrong_class_counts=(1,),
        in_order=1,
    ),
    "anomaly, a score": Sample(
        "anomaly",
        {"pred_score": np.array(0.5, np.float32), "pred_label": np.array(True)},
        class_names=("anomaly", "hot_region"),
        probabilities=(("pred_score", ()),),
        wrong_class_counts=(1,),
        in_order=1,
        least=1,
    ),
    "anomaly, a mask": Sample(
        "anomaly",
        {"pred_mask": (random(HEIGHT_PX, WIDTH_PX) > 0.9).astype(np.uint8)},
        class_names=("anomaly", "hot_region"),
        wrong_class_counts=(1,),
        in_order=1,
    ),
}


def geometry(fit: str = "letterbox") -> RowGeometry:
    """The region is higher than wide and the input is not: a letterbox has a wide border."""
    return row_geometry(
        REGION,
        ModelInput.model_validate(
            {
                "name": "images",
                "width_px": WIDTH_PX,
                "height_px": HEIGHT_PX,
                "colour_order": "RGB",
                "fit": fit,
                "scale": 1 / 255,
                "mean": [0.0] * 3,
                "std": [1.0] * 3,
            }
        ),
    )


def formats(row: Mapping[str, npt.NDArray[Any]]) -> dict[str, TensorFormat]:
    return {role: TensorFormat(tensor.dtype, tensor.shape) for role, tensor in row.items()}


def made(
    sample: Sample,
    *,
    class_names: tuple[str, ...] | None = None,
    outputs: dict[str, TensorFormat] | None = None,
    fit: str = "letterbox",
) -> Decoder:
    settings = TypeAdapter(DecoderSettings).validate_python({"kind": sample.kind, **sample.settings})
    names = sample.class_names if class_names is None else class_names
    return DECODERS[sample.kind](settings, names, geometry(fit), formats(sample.row) if outputs is None else outputs)


def changed(row: Row, role: str, place: tuple[int, ...], value: float) -> Row:
    tensor = row[role].copy()
    tensor[place] = value
    return {**row, role: tensor}


def arrays(findings: Findings) -> Iterator[npt.NDArray[Any]]:
    yield from (findings.class_ids, findings.scores, findings.boxes_px, findings.areas_px, *findings.outlines_px)
    if findings.peaks_px is not None:
        yield findings.peaks_px


def expect_same(one: Findings, other: Findings) -> None:
    for mine, theirs in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    """Its tensors are read-only: a decoder that wrote into the model's output would fail."""
    found = SAMPLES[request.param]
    for tensor in found.row.values():
        tensor.flags.writeable = False
    return found


def test_every_kind_is_tested() -> None:
    assert {sample.kind for sample in SAMPLES.values()} == set(DECODERS)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_findings_are_arrays_of_their_types_inside_the_region(sample: Sample, fit: str) -> None:
    findings = made(sample, fit=fit).decode(sample.row)
    count = len(findings.scores)
    assert count >= sample.least
    for array, dtype, shape in (
        (findings.class_ids, np.int32, (count,)),
        (findings.scores, np.float32, (count,)),
        (findings.boxes_px, np.float32, (count, 4)),
        (findings.areas_px, np.float32, (count,)),
    ):
        assert array.dtype == dtype
        assert array.shape == shape
    assert len(findings.outlines_px) in (0, count)
    points = [*findings.outlines_px]
    if findings.peaks_px is not None:
        assert findings.peaks_px.shape == (count, 2)
        points.append(findings.peaks_px)
    left, top, right, bottom = REGION_PX
    for polygon in points:
        assert polygon.dtype == np.float32
        assert polygon.ndim == 2
        assert ((polygon >= (left, top)) & (polygon <= (right, bottom))).all()
    x1, y1, x2, y2 = findings.boxes_px.T
    assert (left <= x1).all()
    assert (x1 <= x2).all()
    assert (x2 <= right).all()
    assert (top <= y1).all()
    assert (y1 <= y2).all()
    assert (y2 <= bottom).all()
    assert (findings.areas_px >= 0.0).all()
    assert (findings.areas_px <= (right - left) * (bottom - top) * 1.001).all()
    assert ((findings.class_ids >= 0) & (findings.class_ids < len(sample.class_names))).all()
    assert ((findings.scores >= 0.0) & (findings.scores <= 1.0)).all()


def test_the_highest_score_comes_first(sample: Sample) -> None:
    if sample.in_order is not None:
        scores = made(sample).decode(sample.row).scores[sample.in_order :]
        assert (np.diff(scores) <= 0.0).all()


def test_what_there_is_no_room_for_is_told(sample: Sample) -> None:
    """At exactly ``max_findings`` nothing is dropped; with one more, the last in the order is, and its score says so."""
    if sample.kind == "classification" or set(sample.row) == {"pred_score", "pred_label"}:
        assert made(sample).decode(sample.row).dropped_score == 0.0
        return
    every = made(replace(sample, settings={**sample.settings, "max_findings": 10_000})).decode(sample.row)
    assert every.dropped_score == 0.0
    always = sample.in_order or 0  # the whole region, for which there is always room
    count = len(every.scores) - always
    exact = made(replace(sample, settings={**sample.settings, "max_findings": count})).decode(sample.row)
    expect_same(exact, every)
    assert exact.dropped_score == 0.0
    one_more = made(replace(sample, settings={**sample.settings, "max_findings": count - 1})).decode(sample.row)
    assert one_more.dropped_score == every.scores[-1]
    for cut, whole in zip(
        arrays(replace(one_more, outlines_px=())), arrays(replace(every, outlines_px=())), strict=True
    ):
        np.testing.assert_array_equal(cut, whole[:-1])


def test_findings_own_their_memory(sample: Sample) -> None:
    decoder = made(sample)
    row = {role: tensor.copy() for role, tensor in sample.row.items()}
    findings, expected = decoder.decode(row), made(sample).decode(sample.row)
    for tensor in row.values():
        tensor[...] = tensor.dtype.type(0)
    decoder.decode(row)
    expect_same(findings, expected)
    for array in arrays(findings):
        for tensor in row.values():
            assert not np.shares_memory(array, tensor)


def test_a_part_leaves_nothing_to_the_next(sample: Sample) -> None:
    decoder = made(sample)
    first = decoder.decode(sample.row)
    decoder.decode({role: np.zeros_like(tensor) for role, tensor in sample.row.items()})
    expect_same(decoder.decode(sample.row), first)


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_number_that_is_not_finite_is_bad_output_wherever_it_is(sample: Sample, number: float) -> None:
    decoder = made(sample)
    generator = np.random.default_rng(0)
    for role, tensor in sample.row.items():
        if tensor.dtype.kind != "f":
            continue
        places = {0, tensor.size - 1, *generator.integers(0, tensor.size, 40).tolist()}
        for place in places:
            with pytest.raises(BadOutput, match=role):
                decoder.decode(changed(sample.row, role, np.unravel_index(place, tensor.shape), number))


@pytest.mark.parametrize("number", [1.5, -0.5, 1e30, -1e30])
def test_what_is_no_probability_is_bad_output(sample: Sample, number: float) -> None:
    for role, place in sample.probabilities:
        with pytest.raises(BadOutput, match=role):
            made(sample).decode(changed(sample.row, role, place, number))


@pytest.mark.parametrize("number", [1.00005, -0.00005, -0.0])
def test_rounding_beyond_a_probability_is_cut(sample: Sample, number: float) -> None:
    for role, place in sample.probabilities:
        near = made(sample).decode(changed(sample.row, role, place, number))
        expect_same(near, made(sample).decode(changed(sample.row, role, place, min(max(number, 0.0), 1.0))))


def test_another_number_of_classes_is_a_wrong_output(sample: Sample) -> None:
    for count in sample.wrong_class_counts:
        with pytest.raises(WrongOutput) as caught:
            made(sample, class_names=tuple(f"class {number}" for number in range(count)))
        assert caught.value.key == "classes"


def test_another_type_is_a_wrong_output(sample: Sample) -> None:
    for role, tensor in sample.row.items():
        for dtype in (np.float64, np.float16, np.complex64):
            outputs = formats(sample.row) | {role: TensorFormat(np.dtype(dtype), tensor.shape)}
            with pytest.raises(WrongOutput) as caught:
                made(sample, outputs=outputs)
            assert caught.value.key == f"outputs.{role}"
            assert np.dtype(dtype).name in caught.value.got


def test_another_number_of_axes_is_a_wrong_output(sample: Sample) -> None:
    for role, tensor in sample.row.items():
        for shape in ((1, 1, *tensor.shape, 1), (2, 2, 2, 2), (0,) * max(tensor.ndim, 1)):
            outputs = formats(sample.row) | {role: TensorFormat(tensor.dtype, shape)}
            with pytest.raises(WrongOutput) as caught:
                made(sample, outputs=outputs)
            assert caught.value.key in (f"outputs.{role}", "classes")
            assert str(list(shape)) in f"{caught.value.got} {caught.value.expected}"
