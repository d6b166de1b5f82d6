"""Real exports of real exporters, decoded as the exporters' own post-processing decodes them.

    LINESIDE_EXPORTS=DIR python -m pytest tests/conformance/test_real_exports.py

DIR is what ``scripts/make_exports.py`` makes; without it these tests are skipped.  Each compares with what the exporter said of
one image: the tolerances below are what float32 and another order of summing cost.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tests.models import write_package
from tests.real_exports import (
    MISSING,
    Export,
    decoder_of,
    export_names,
    findings_in_frame,
    findings_in_input,
    opened,
    package_of,
    whole,
)
from vision.decoders.base import BadOutput
from vision.package import PackageError, load_package
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

BOX_PX = 0.01
SCORE = 1e-5
FRAME_BOX_PX = 0.02
MASK_IOU = 0.99
PIXEL_SHARE = 0.999  # of pixels with the same label
NEAR = 0.05  # of scores, where the input differs by rounding
INPUT_LEVELS = 1.5 / 255  # OpenCV resizes in fixed point and rounds to whole grey levels

EXTERNAL = [name for name in export_names() if (Export(name).folder / f"{name}.onnx.data").is_file()]
HALF_INPUT = "timm-half"
# Until some version after 8.4.0 Ultralytics cut masks to their boxes at the prototypes' size, before making them larger.
OTHER_MASKS = tuple(name for name in export_names("segment") if name.endswith(("-8.3.40", "-8.4.0")))


def each(*tasks: str, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    names = [name for name in export_names(*tasks) if name not in but]
    marks = () if names else pytest.mark.skip(reason=MISSING)
    return pytest.mark.parametrize("name", names or [pytest.param("none", marks=marks)])


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For a package; emptied at once, as the files are large."""
    yield tmp_path / "package"
    shutil.rmtree(tmp_path / "package", ignore_errors=True)


@pytest.fixture
def differences(record_property: Any) -> Any:
    """Says the largest difference found, in the report and with `-rP`."""

    def tell(name: str, **largest: float) -> None:
        for key, value in largest.items():
            record_property(key, value)
        print(f"{name}: " + ", ".join(f"{key} {value:.2g}" for key, value in largest.items()))

    return tell


@each("detect", "segment")
def test_boxes_classes_and_scores_are_the_exporters(name: str, folder: Path, differences: Any) -> None:
    export = Export(name)
    height, width = export.input.shape[2:]
    found = findings_in_input(export, folder)
    expected = np.clip(export.told["boxes_px"], 0, [width, height, width, height])
    assert len(expected) >= 3, "the image has too few findings to prove anything"
    assert found.class_ids.tolist() == export.told["class_ids"].tolist()
    differences(
        name, box_px=np.abs(found.boxes_px - expected).max(), score=np.abs(found.scores - export.told["scores"]).max()
    )
    np.testing.assert_allclose(found.boxes_px, expected, rtol=0, atol=BOX_PX)
    np.testing.assert_allclose(found.scores, export.told["scores"], rtol=0, atol=SCORE)


@each("detect", "segment")
def test_boxes_in_the_frame_are_the_predictors(name: str, folder: Path, differences: Any) -> None:
    """Through the letterbox, back to an image that is not square.  Of a segmentation its predictor drops empty masks."""
    export = Export(name)
    found = findings_in_frame(export, folder)
    boxes, class_ids = export.told["frame_boxes_px"], export.told["frame_class_ids"]
    assert len(set(export.told["frame_bgr"].shape[:2])) == 2
    assert len(boxes) == len(found.scores) or (export.task == "segment" and len(boxes) < len(found.scores))
    at, places = 0, []
    for box, class_id in zip(boxes, class_ids, strict=True):
        same = (found.class_ids[at:] == class_id) & (np.abs(found.boxes_px[at:] - box).max(axis=1) <= FRAME_BOX_PX)
        assert same.any(), f"not found in its place: class {class_id}, {box}"
        at += int(same.argmax()) + 1
        places.append(at - 1)
    differences(name, frame_box_px=np.abs(found.boxes_px[places] - boxes).max())


@each("segment", but=OTHER_MASKS)
def test_masks_are_the_exporters(name: str, folder: Path, differences: Any) -> None:
    export = Export(name)
    found = findings_in_input(export, folder)
    masks = export.told["masks"]
    assert len(masks) == len(found.outlines_px)
    ious, areas = [], []
    for outline, area_px, mask in zip(found.outlines_px, found.areas_px, masks, strict=True):
        ious.append(_iou(_filled(outline, mask.shape), _largest_piece(mask)))
        areas.append(abs(float(area_px) - int(mask.sum())) / max(1, int(mask.sum())))
    differences(name, least_mask_iou=min(ious), mean_mask_iou=float(np.mean(ious)), area_share=max(areas))
    # The yolov5 package makes probabilities larger and cuts them at one half; Ultralytics and Lineside do so with logits.
    assert min(ious) >= (0.9 if name.startswith("yolov5") else MASK_IOU)
    assert np.mean(ious) >= 0.98


@each("segment", but=("yolov5n-seg", *OTHER_MASKS))
def test_masks_in_the_frame_are_the_predictors(name: str, folder: Path, differences: Any) -> None:
    """Ultralytics' masks at the frame's size (`retina_masks`): random weights make ragged masks, of which an outline shows the
    largest piece, through the centres of the input's pixels.
    """
    export = Export(name)
    found = findings_in_frame(export, folder)
    shared = either = area = all_areas = 0.0
    for box, mask in zip(export.told["native_boxes_px"], export.told["frame_masks"], strict=True):
        index = int(np.abs(found.boxes_px - box).max(axis=1).argmin())
        ours, theirs = _filled(found.outlines_px[index] - 0.5, mask.shape), _largest_piece(mask)
        shared, either = shared + int((ours & theirs).sum()), either + int((ours | theirs).sum())
        area, all_areas = area + abs(float(found.areas_px[index]) - int(mask.sum())), all_areas + int(mask.sum())
    differences(name, iou_of_all=shared / either, area_share=area / all_areas)
    assert shared / either >= 0.85
    assert area / all_areas <= 0.05


@each("classify", but=(HALF_INPUT,))
def test_probabilities_are_the_exporters(name: str, folder: Path, differences: Any) -> None:
    export = Export(name)
    found = findings_in_input(export, folder)
    expected = export.told["probabilities"]
    differences(name, score=np.abs(found.scores - expected).max())
    np.testing.assert_allclose(found.scores, expected, rtol=0, atol=1e-5)


@each("semantic")
def test_pieces_of_a_class_map_are_the_exporters_labels(name: str, folder: Path, differences: Any) -> None:
    """The area of each class, and the boxes of its pieces, from the exporter's label of each pixel."""
    export = Export(name)
    found = findings_in_input(export, folder)
    labels = export.told["labels"] if "labels" in export.told else next(iter(export.outputs.values()))[0]
    classes = export.story["settings"]["names"]
    only_one = len(classes) == 1
    worst = 0.0
    for class_id in range(len(classes)):
        mask = (labels == (1 if only_one else class_id)).astype(np.uint8)
        own = found.class_ids == class_id
        worst = max(worst, abs(float(found.areas_px[own].sum()) - int(mask.sum())) / labels.size)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if "labels" in export.outputs or "output0" in export.outputs:
            assert own.sum() == count - 1
        large = {tuple(row[:4]) for row in stats[1:].tolist() if row[4] > 200}
        boxes = found.boxes_px[own & (found.areas_px > 200)]
        got = {(int(x1), int(y1), int(x2 - x1), int(y2 - y1)) for x1, y1, x2, y2 in boxes.tolist()}
        assert got == large
    differences(name, share_of_pixels=worst)
    assert worst <= 1 - PIXEL_SHARE


@each("anomaly")
def test_anomaly_scores_and_regions_are_the_exporters(name: str, folder: Path, differences: Any) -> None:
    export = Export(name)
    told = export.told
    if _is_raw_without_numbers(export):
        pytest.skip("raw scores, and no numbers to normalise them by: see the test of that")
    found = findings_in_input(export, folder)
    score = abs(float(found.scores[0]) - float(told["pred_score"].reshape(-1)[0]))
    worst = {"score": score}
    assert score <= 1e-4
    if "anomaly_map" in told:
        levels = np.squeeze(told["anomaly_map"])
        mask = np.squeeze(told["pred_mask"]) > 0 if "pred_mask" in told else levels > 0.5
        pieces = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[0] - 1
        height, width = export.input.shape[2:]
        area_px = float(found.areas_px[1:].sum()) * mask.size / (height * width)
        worst["area_share"] = abs(area_px - int(mask.sum())) / mask.size
        assert worst["area_share"] <= 1e-4
        assert len(found.scores) - 1 == pieces
        assert found.peaks_px is not None
        y, x = np.unravel_index(int(levels.argmax()), levels.shape)
        assert levels.max() == 1.0 or found.peaks_px[0].tolist() == pytest.approx(
            [(x + 0.5) * width / levels.shape[1], (y + 0.5) * height / levels.shape[0]], abs=1e-3
        )
    differences(name, **worst)


@each("anomaly")
def test_raw_anomaly_scores_without_numbers_are_refused(name: str, folder: Path) -> None:
    export = Export(name)
    if not _is_raw_without_numbers(export):
        pytest.skip("its scores are normalised")
    with pytest.raises(BadOutput, match=r"decoder\.normalisation"):
        findings_in_input(export, folder)


@each("detect", "segment", but=tuple(EXTERNAL))
def test_the_letterboxed_input_is_the_exporters(name: str, folder: Path, differences: Any) -> None:
    export = Export(name)
    package = package_of(export, folder)
    frame = export.told["frame_bgr"]
    height_px, width_px = frame.shape[:2]
    region = Region(name="whole", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
    row = np.full(export.input.shape[1:], np.nan, np.float32)
    frame_format = FrameFormat(width_px=width_px, height_px=height_px, pixel_format=PixelFormat.BGR8)
    RegionPlan("camera", region, frame_format, package.card.input).fill(frame, row)
    largest = float(np.abs(row - export.input[0]).max())
    differences(name, input_levels=largest * 255)
    assert largest <= INPUT_LEVELS


@pytest.mark.skipif("rendered-detector" not in export_names("detect"), reason=MISSING)
def test_a_trained_detector_finds_in_images_what_its_own_predictor_finds(folder: Path, differences: Any) -> None:
    """From the image on: the inputs differ by rounding, so findings near the threshold may be on either side of it."""
    export = Export("rendered-detector")
    told = json.loads((export.folder / "rendered/predictions.json").read_text(encoding="utf-8"))
    package = package_of(export, folder)
    session = opened(package, 1)
    apart_px, apart, matched = 0.0, 0.0, 0
    for name, theirs in told.items():
        frame = cv2.imread(str(export.folder / "rendered/images/val" / name))
        assert frame is not None
        height_px, width_px = frame.shape[:2]
        region = Region(name="whole", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
        frame_format = FrameFormat(width_px=width_px, height_px=height_px, pixel_format=PixelFormat.BGR8)
        RegionPlan("camera", region, frame_format, package.card.input).fill(
            np.asarray(frame, np.uint8), session.input[0]
        )
        session.run()
        geometry = whole(width_px, height_px, package.card.input)
        ours = decoder_of(package, session, geometry).decode(session.rows[0])
        boxes = np.array(theirs["boxes_px"], np.float32).reshape(-1, 4)
        sure = [at for at, score in enumerate(theirs["scores"]) if score > 0.25 + NEAR]
        assert (ours.scores > 0.25 + NEAR).sum() <= len(boxes)
        assert len(sure) <= len(ours.scores)
        for at in sure:
            same = np.nonzero(ours.class_ids == theirs["class_ids"][at])[0]
            assert same.size, f"{name}: no finding of class {theirs['class_ids'][at]}"
            distances = np.abs(ours.boxes_px[same] - boxes[at]).max(axis=1)
            apart_px = max(apart_px, float(distances.min()))
            apart = max(apart, abs(float(ours.scores[same[distances.argmin()]]) - theirs["scores"][at]))
            matched += 1
    differences("rendered-detector", images=len(told), findings=matched, box_px=apart_px, score=apart)
    assert matched >= 30
    assert apart_px <= 2.0
    assert apart <= NEAR


@each("pose", "obb")
def test_heads_without_a_decoder_are_refused_whatever_the_card_says(name: str, folder: Path) -> None:
    export = Export(name)
    decoder = {"kind": "yolov8"}
    card = export.card() | {
        "task": "detection",
        "decoder": decoder,
        "outputs": {"predictions": next(iter(export.outputs))},
    }
    with pytest.raises(PackageError, match="no decoder reads other heads"):
        load_package(write_package(folder, export.model(), card))


@pytest.mark.skipif(not EXTERNAL, reason=MISSING)
def test_weights_in_a_file_of_their_own_are_refused(folder: Path) -> None:
    export = Export(EXTERNAL[0])
    package = package_of(export, folder)
    content = (export.folder / f"{export.name}.onnx").read_bytes()
    shutil.copyfile(export.folder / f"{export.name}.onnx.data", folder / f"{export.name}.onnx.data")
    package.model_path.write_bytes(content)
    with pytest.raises(PackageError, match="self-contained"):
        opened(replace(package, sha256=hashlib.sha256(content).hexdigest()), 1)


@pytest.mark.skipif(not export_names("classify"), reason=MISSING)
def test_half_precision_inputs_are_refused(folder: Path) -> None:
    with pytest.raises(PackageError, match="float16"):
        opened(package_of(Export(HALF_INPUT), folder), 1)


def _is_raw_without_numbers(export: Export) -> bool:
    return export.name in ("anomalib2-padim-raw", "anomalib2-padim-no-post")


def _filled(outline: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Outlines run through pixels' centres."""
    mask = np.zeros(shape, np.uint8)
    if len(outline):
        cv2.fillPoly(mask, [np.floor(outline).astype(np.int32)], 1)
    return mask > 0


def _largest_piece(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(mask.shape, np.uint8)
    if contours:
        cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return filled > 0


def _iou(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return 1.0 if union == 0 else int((one & other).sum()) / union
