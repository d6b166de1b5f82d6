"""A labelled data set as plain data, whatever its layout was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vision.faults import Fault, FaultsError
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

BoxPx = tuple[float, float, float, float]

_FAULTS_MAX = 20


class Faults:
    """Collects what is wrong with a data set; a set of a million wrong labels is not read to its end."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, file: Path, key: str, got: str, expected: str) -> None:
        """Raises FaultsError when there are 20 of them."""
        self._faults.append(Fault(str(file), key, got, expected))
        if len(self._faults) >= _FAULTS_MAX:
            self.settle()

    def settle(self) -> None:
        """Raises FaultsError where there is any."""
        if self._faults:
            raise FaultsError(self._faults)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file is, found without decoding it. ``format``: as the line would see it, in the file's own colours."""

    format: FrameFormat
    sha256: str


@dataclass(frozen=True, slots=True)
class TrueBox:
    """A labelled object. ``box_px``: x1, y1, x2, y2 in pixels of the image, half-open, within it; ``area_px``: the object's own.

    ``counts``: a ``difficult`` object (Pascal VOC) or a ``crowd`` of them (COCO) is neither missed nor wrongly found; any number of
    findings may lie in a crowd.
    """

    class_name: str
    box_px: BoxPx
    area_px: float
    counts: Literal["yes", "difficult", "crowd"] = "yes"


@dataclass(frozen=True, slots=True)
class Sample:
    """An image with its labels.

    ``name`` is its path below the data folder, ``class_name`` its class in layouts with a folder per class, ``boxes`` its objects
    in layouts with boxes, ``mask`` a file whose pixels other than 0 are defective. What a layout does not have is None.
    """

    image: Path
    name: str
    facts: ImageFacts
    class_name: str | None = None
    boxes: tuple[TrueBox, ...] | None = None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """``layout`` as in ``layouts.LAYOUTS``; ``split`` None where the set has no parts; ``has_masks``: it says where a defect is."""

    folder: Path
    layout: str
    split: str | None
    samples: tuple[Sample, ...]
    has_masks: bool = False

    @property
    def has_boxes(self) -> bool:
        return any(sample.boxes is not None for sample in self.samples)

    def seen_as(self, pixel_format: PixelFormat) -> DataSet:
        """The same set, as a camera of this pixel format would show it."""
        samples = []
        for sample in self.samples:
            image = replace(sample.facts.format, pixel_format=pixel_format)
            samples.append(replace(sample, facts=replace(sample.facts, format=image)))
        return replace(self, samples=tuple(samples))

    def sha256(self) -> str:
        """Over names, images and labels, in order: the same where a figure is to be compared with this one. Reads the masks."""
        digest = hashlib.sha256()
        for sample in self.samples:
            boxes = None if sample.boxes is None else [_told(box) for box in sample.boxes]
            mask = None if sample.mask is None else hashlib.sha256(sample.mask.read_bytes()).hexdigest()
            digest.update(
                json.dumps([sample.name, sample.facts.sha256, sample.class_name, boxes, mask]).encode() + b"\n"
            )
        return digest.hexdigest()


def clipped(box_px: BoxPx, width_px: int, height_px: int) -> BoxPx | None:
    """The part of a box that lies in the image; None where it has no area or reaches out by more than a pixel.

    A pixel is what rounding and counting from 1 make of a box that touches the edge.
    """
    x1, y1, x2, y2 = box_px
    if not (-1 <= x1 < x2 <= width_px + 1 and -1 <= y1 < y2 <= height_px + 1):
        return None
    x1, x2, y1, y2 = max(x1, 0.0), min(x2, float(width_px)), max(y1, 0.0), min(y2, float(height_px))
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def polygon_area_px(points_px: Sequence[tuple[float, float]]) -> float:
    """The area of a polygon (shoelace formula)."""
    following = [*points_px[1:], *points_px[:1]]
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points_px, following, strict=True))) / 2


def _told(box: TrueBox) -> list[object]:
    return [box.class_name, box.box_px, box.area_px, box.counts]
