"""Ultralytics' instance segmentation: boxes with weights, and prototypes whose weighted sums are the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, log
from typing import ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vision.decoders.base import BadOutput, RowTensors, TensorFormat, WrongOutput
from vision.decoders.boxes import BoxDecoder, BoxSettings, Share
from vision.decoders.end_to_end import EndToEndDecoder, EndToEndSettings
from vision.decoders.placing import map_placing
from vision.decoders.yolov5 import Yolov5Decoder, Yolov5Settings
from vision.decoders.yolov8 import Yolov8Decoder, Yolov8Settings
from vision.faults import disagreement
from vision.geometry import RowGeometry
from vision.kernels import FloatArray
from vision.kernels.candidates import INFINITE, greatest_magnitude
from vision.kernels.masks import assemble
from vision.types import Findings


class InstanceSegmentationSettings(BoxSettings):
    """``boxes``: the layout of the predictions, with its defaults. A pixel is of the mask above probability ``mask_min``."""

    kind: Literal["instance_segmentation"] = "instance_segmentation"
    boxes: Literal["yolov5", "yolov8", "end_to_end"]
    iou_max: Share | None = Field(default=None, description="the default of the kind of boxes where it is not set")
    class_agnostic: bool = False
    mask_min: float = Field(default=0.5, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _finished_boxes_are_not_suppressed(self) -> InstanceSegmentationSettings:
        if self.boxes == "end_to_end" and (self.iou_max is not None or self.class_agnostic):
            key = "iou_max" if self.iou_max is not None else "class_agnostic"
            raise disagreement(key, "a value", "none: the model itself has suppressed its end_to_end boxes")
        return self


class InstanceSegmentationDecoder:
    """``predictions``: as the kind of ``boxes``, with M mask weights a candidate more; ``prototypes``: float32 (M, h, w), as a rule
    of a quarter of the input's size.

    A finding's mask is computed at the size of the model's input and cut to its box and to what shows the region. ``areas_px``
    is of the mask (all pieces), ``outlines_px`` runs through the centres of the outermost pixels of its largest piece. A
    finding whose mask has no pixel stays, with area 0 and an empty outline (Ultralytics drops it). The work of a part is bounded by
    ``max_findings`` times the pixels of the input.

    Rules from Ultralytics 8.4.190, ``models/yolo/segment/predict.py`` and ``utils/ops.py`` (``process_mask`` with
    ``upsample=True``; up to 8.4.0 at least, and in YOLOv5, it is cut to the box before it is made larger, which lets the box's edge
    eat into the mask).
    """

    TASK: ClassVar[str] = "segmentation"
    ROLES: ClassVar[frozenset[str]] = frozenset({"predictions", "prototypes"})
    OPTIONAL_ROLES: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        settings: InstanceSegmentationSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
    ) -> None:
        """Raises WrongOutput."""
        prototypes = outputs["prototypes"]
        shape = prototypes.row_shape
        width, height = geometry.input_width_px, geometry.input_height_px
        if prototypes.dtype != np.float32:
            raise WrongOutput("outputs.prototypes", f"a tensor of {prototypes.dtype}", "float32")
        if len(shape) != 3 or 0 in shape or shape[1] * width != shape[2] * height:
            expected = f"[prototypes, height, width], of the proportions of the input's {width} x {height} px"
            raise WrongOutput("outputs.prototypes", f"a row of {list(shape)}", expected)
        self._boxes = _boxes_decoder(settings, class_names, geometry, outputs, mask_count=shape[0])
        self._logit_min = np.float32(log(settings.mask_min / (1.0 - settings.mask_min)))
        self._placing = map_placing(geometry, width, height)
        self._lefts, self._right_weights = _neighbours(shape[2], width)
        self._tops, self._bottom_weights = _neighbours(shape[1], height)
        self._logits = np.zeros(shape[1:], np.float32)
        self._lines = np.zeros((2, width), np.float32)
        self._mask = np.zeros((height, width), np.uint8)

    def decode(self, row: RowTensors) -> Findings:
        """Findings, the best first. Raises BadOutput."""
        predictions, prototypes = row["predictions"], row["prototypes"]
        if greatest_magnitude(prototypes.reshape(-1).view(np.uint32)) >= INFINITE:
            raise BadOutput("prototypes: got numbers that are not finite")
        places, dropped_score = self._boxes.pick(predictions)
        findings = self._boxes.findings(places, dropped_score)
        outlines = []
        for index, place in enumerate(places.tolist()):
            corners = self._boxes.corners(place)
            area_px, outline_px = self._masked(prototypes, self._boxes.mask_weights(predictions, place), corners)
            findings.areas_px[index] = area_px
            outlines.append(outline_px)
        return replace(findings, outlines_px=tuple(outlines))

    def _masked(
        self, prototypes: FloatArray, weights: FloatArray, corners: tuple[float, float, float, float]
    ) -> tuple[float, npt.NDArray[np.float32]]:
        """The area of a mask and its outline, in the frame."""
        placing = self._placing
        x1, y1, x2, y2 = corners
        # A pixel is in the box where its left and upper edges are.
        x_first = ceil(min(max(x1, placing.x_first), placing.x_end))
        y_first = ceil(min(max(y1, placing.y_first), placing.y_end))
        x_end = ceil(min(max(x2, placing.x_first), placing.x_end))
        y_end = ceil(min(max(y2, placing.y_first), placing.y_end))
        pixels = assemble(
            *(prototypes, weights, self._logit_min, self._lefts, self._right_weights, self._tops, self._bottom_weights),
            *(x_first, y_first, x_end, y_end, self._logits, self._lines, self._mask),
        )
        if pixels < 0:
            raise BadOutput("prototypes: got a weighted sum beyond 1e38, expected logits")
        if pixels == 0:
            return 0.0, np.zeros((0, 2), np.float32)
        contours, _ = cv2.findContours(
            self._mask[y_first:y_end, x_first:x_end], cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        largest = max(contours, key=cv2.contourArea)
        return pixels * placing.pixel_area_px, placing.centres(largest.reshape(-1, 2) + np.array([x_first, y_first]))


def _boxes_decoder(
    settings: InstanceSegmentationSettings,
    class_names: Sequence[str],
    geometry: RowGeometry,
    outputs: Mapping[str, TensorFormat],
    mask_count: int,
) -> BoxDecoder:
    common = {"score_min": settings.score_min, "max_findings": settings.max_findings}
    if settings.boxes == "end_to_end":
        return EndToEndDecoder(EndToEndSettings.model_validate(common), class_names, geometry, outputs, mask_count)
    common |= {"class_agnostic": settings.class_agnostic}
    if settings.iou_max is not None:
        common |= {"iou_max": settings.iou_max}
    if settings.boxes == "yolov5":
        return Yolov5Decoder(Yolov5Settings.model_validate(common), class_names, geometry, outputs, mask_count)
    return Yolov8Decoder(Yolov8Settings.model_validate(common), class_names, geometry, outputs, mask_count)


def _neighbours(source: int, target: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
    """For each pixel of the larger plane its lower neighbour in the smaller one and the weight of the next; half-pixel centres."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = position.clip(0.0, source - 1)
    lower = np.minimum(np.floor(position), max(source - 2, 0))
    return lower.astype(np.uint32), (position - lower).astype(np.float32)
