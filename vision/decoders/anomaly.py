"""Anomalib's exports: an image's anomaly score, and the hot regions of its anomaly map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vision.decoders.base import ROUNDING, BadOutput, RowTensors, TensorFormat, WrongOutput
from vision.decoders.pieces import PieceFinder, Pieces
from vision.decoders.placing import MapPlacing, map_placing
from vision.faults import disagreement
from vision.geometry import RowGeometry
from vision.kernels.candidates import INFINITE, greatest_magnitude
from vision.recipe import Strict
from vision.types import Findings

ANOMALY, HOT_REGION = "anomaly", "hot_region"
CLASSES = (ANOMALY, HOT_REGION)
"""The classes of every anomaly model: the whole region, and a part of it that is hot."""

_ANOMALY, _HOT_REGION = range(2)

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Normalisation(Strict):
    """What makes probabilities of raw scores, as Anomalib does: ``(raw - threshold) / (max - min) + 0.5``, cut to 0..1.

    From the ``metadata.json`` beside an export of Anomalib 1.x: ``image_min`` is its ``pred_scores.min``, ``pixel_min`` its
    ``anomaly_maps.min``, and so on. Exports of Anomalib 2.x hold it in themselves.
    """

    image_threshold: Finite
    image_min: Finite
    image_max: Finite
    pixel_threshold: Finite | None = None
    pixel_min: Finite | None = None
    pixel_max: Finite | None = None

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Normalisation:
        pixel = (self.pixel_threshold, self.pixel_min, self.pixel_max)
        if None in pixel and any(value is not None for value in pixel):
            raise disagreement(
                "pixel_threshold", str(pixel), "pixel_threshold, pixel_min and pixel_max, or none of them"
            )
        for kind, low, high in (("image", self.image_min, self.image_max), ("pixel", self.pixel_min, self.pixel_max)):
            if low is not None and high is not None and not low < high:
                raise disagreement(f"{kind}_max", f"{high:g}", f"more than {kind}_min, {low:g}")
        return self


class AnomalySettings(Strict):
    """A pixel of the anomaly map is hot from ``hot_min`` on; hot regions smaller than ``area_min_px`` are no findings, and of more
    than ``max_findings`` the first in their order are: ``dropped_score`` tells of the others.
    """

    kind: Literal["anomaly"] = "anomaly"
    normalisation: Normalisation | None = None
    hot_min: float = Field(default=0.5, gt=0.0, le=1.0)
    area_min_px: float = Field(default=0.0, ge=0.0)
    max_findings: int = Field(default=100, gt=0, le=10_000)


@dataclass(frozen=True, slots=True)
class _Scale:
    """``normalised = (raw - threshold) / span + 0.5``; None of normalisation is 0.5 and 1."""

    threshold: float = 0.5
    span: float = 1.0

    def normalised(self, raw: npt.NDArray[np.float32] | float) -> npt.NDArray[np.float64]:
        return np.clip((np.asarray(raw, np.float64) - self.threshold) / self.span + 0.5, 0.0, 1.0)

    def raw(self, normalised: float) -> float:
        return (normalised - 0.5) * self.span + self.threshold


class AnomalyDecoder:
    """Any of ``anomaly_map``: float32 (1, h, w) or (h, w); ``pred_score``: float32 () or (1,); ``pred_label``: () or (1,) and
    ``pred_mask``: (1, h, w) or (h, w), both boolean or integers, 0 or not.

    Finding 0 is the whole region as an ``anomaly``: its score is ``pred_score``; without it the highest of the map, as Anomalib
    takes it; without that 1 or 0 as ``pred_label`` says, or as any pixel of ``pred_mask``. The others are the ``hot_region``: all
    pieces of hot pixels that touch, also at corners: by the map, without it by ``pred_mask``. Their score is the highest of the map
    over them, 1 without a map. They come by score from the highest, of equals the largest first.

    Raw scores are told from normalised ones by being below 0 or above 1: raw ones that happen to lie between are taken as they
    are.

    Layouts and rules from Anomalib 2.7.0, ``data/dataclasses/torch/base.py`` (``InferenceBatch``) and
    ``post_processing/post_processor.py``, and from Anomalib 1.2.0, ``models/components/base/export_mixin.py``,
    ``deploy/inferencers/openvino_inferencer.py`` (a map alone: its highest is the score) and ``utils/normalization/min_max.py``.
    """

    TASK: ClassVar[str] = "anomaly"
    ROLES: ClassVar[frozenset[str]] = frozenset()
    OPTIONAL_ROLES: ClassVar[frozenset[str]] = frozenset({"anomaly_map", "pred_score", "pred_label", "pred_mask"})

    def __init__(
        self,
        settings: AnomalySettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
    ) -> None:
        """Raises WrongOutput."""
        if tuple(class_names) != CLASSES:
            raise WrongOutput("classes", str(list(class_names)), f"{list(CLASSES)}, those of every anomaly model")
        self._roles = frozenset(outputs)
        self._settings = settings
        self._geometry = geometry
        self._image_scale, self._pixel_scale = _scales(settings.normalisation, self._roles)
        placing = _checked(outputs, geometry)
        self._maps = None if placing is None else _Maps(placing, settings, self._pixel_scale.raw(settings.hot_min))
        x1, y1, x2, y2 = geometry.region_px
        self._region_area_px = np.array([(x2 - x1) * (y2 - y1)], np.float32)
        self._region_outline_px = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32)

    def decode(self, row: RowTensors) -> Findings:
        """See the class. Raises BadOutput for what is not finite, and for raw scores without ``decoder.normalisation``."""
        region_px, region_area_px = np.array([self._geometry.region_px], np.float32), self._region_area_px
        class_ids = np.array([_ANOMALY], np.int32)
        if self._maps is None:
            score = self._score(row, None)
            return Findings(class_ids, np.array([score], np.float32), region_px, region_area_px.copy())
        levels = row.get("anomaly_map")
        highest = None
        if levels is not None:
            levels = _plane(levels)
            highest, highest_px = self._maps.highest(levels, is_normalised=self._settings.normalisation is None)
        hot = self._maps.hot_regions(levels, row.get("pred_mask"))
        count = len(hot.peaks)
        score = self._score(row, highest)
        scores = np.ones(count) if levels is None else self._pixel_scale.normalised(hot.peaks)
        dropped_score = 0.0
        if hot.dropped_value is not None:
            dropped_score = (
                1.0 if levels is None else float(np.float32(self._pixel_scale.normalised(hot.dropped_value)))
            )
        return Findings(
            class_ids=np.concatenate([class_ids, np.full(count, _HOT_REGION, np.int32)]),
            scores=np.concatenate([[score], scores]).astype(np.float32),
            boxes_px=np.concatenate([region_px, hot.boxes_px]),
            areas_px=np.concatenate([region_area_px, hot.areas_px]),
            outlines_px=(self._region_outline_px.copy(), *hot.outlines_px),
            peaks_px=None if levels is None else np.concatenate([highest_px, hot.peaks_px]),
            dropped_score=dropped_score,
        )

    def _score(self, row: RowTensors, highest: float | None) -> float:
        if "pred_score" in self._roles:
            raw = float(row["pred_score"].item())
            if not isfinite(raw):
                raise BadOutput(f"pred_score: got {raw}, expected a finite number")
            if self._settings.normalisation is None:
                _expect_normalised("pred_score", raw)
            return float(self._image_scale.normalised(raw))
        if highest is not None:
            return float(self._image_scale.normalised(highest))
        if "pred_label" in self._roles:
            return float(row["pred_label"].item() != 0)
        return float(self._maps is not None and self._maps.is_any_hot())


class _Maps:
    """What is found in the anomaly map and the mask of the hot pixels."""

    def __init__(self, placing: MapPlacing, settings: AnomalySettings, hot_min_raw: float) -> None:
        size = (placing.height, placing.width)
        self._placing = placing
        self._inside = (slice(placing.y_first, placing.y_end), slice(placing.x_first, placing.x_end))
        self._hot_min_raw = np.float32(hot_min_raw)
        self._hot = np.zeros(size, np.uint16)
        self._even = np.ones(size, np.float32)
        self._finder = PieceFinder(placing, area_min_px=settings.area_min_px, most=settings.max_findings)

    def highest(self, levels: npt.NDArray[np.float32], *, is_normalised: bool) -> tuple[float, npt.NDArray[np.float32]]:
        """The map's highest level where it shows the region, and the pixel's centre in the frame, (1, 2). Raises BadOutput."""
        if greatest_magnitude(levels.reshape(-1).view(np.uint32)) >= INFINITE:
            raise BadOutput("anomaly_map: got numbers that are not finite")
        shown = levels[self._inside]
        y, x = divmod(int(shown.argmax()), shown.shape[1])
        highest = float(shown[y, x])
        if is_normalised:
            _expect_normalised("anomaly_map", float(shown.min()))
            _expect_normalised("anomaly_map", highest)
        return highest, self._placing.centres(np.array([[x + self._placing.x_first, y + self._placing.y_first]]))

    def hot_regions(self, levels: npt.NDArray[np.float32] | None, mask: npt.NDArray[Any] | None) -> Pieces:
        """Where the map is hot, or without one where the mask is not 0; the hottest first.

        The mask is the map at 0.5 (Anomalib 2.7.0, ``PostProcessor``): it would hide what a lower ``hot_min`` asks for.
        """
        own = self._hot[self._inside]
        if levels is not None:
            np.greater_equal(levels[self._inside], self._hot_min_raw, out=own, casting="unsafe")
        elif mask is not None:
            np.not_equal(_plane(mask)[self._inside], 0, out=own, casting="unsafe")
        return self._finder.pieces(self._hot, self._even if levels is None else levels, by_peak=True)

    def is_any_hot(self) -> bool:
        """Whether any pixel was hot when the hot regions were last asked for, of however small a one."""
        return bool(self._hot.any())


def _checked(outputs: Mapping[str, TensorFormat], geometry: RowGeometry) -> MapPlacing | None:
    """Where map and mask lie; None where there is neither. Raises WrongOutput."""
    placings: set[MapPlacing] = set()
    for role, tensor in outputs.items():
        key, shape = f"outputs.{role}", tensor.row_shape
        if role in ("anomaly_map", "pred_score"):
            if tensor.dtype != np.float32:
                raise WrongOutput(key, f"a tensor of {tensor.dtype}", "float32")
        elif tensor.dtype.kind not in "biu":
            raise WrongOutput(key, f"a tensor of {tensor.dtype}", "booleans or integers")
        if role in ("pred_score", "pred_label"):
            if shape not in ((), (1,)):
                raise WrongOutput(key, f"a row of {list(shape)}", "one number")
            continue
        if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[0] != 1):
            raise WrongOutput(key, f"a row of {list(shape)}", "[1, height, width] or [height, width]")
        placings.add(map_placing(geometry, width=shape[-1], height=shape[-2]))
        if len(placings) > 1:
            raise WrongOutput(key, f"a row of {list(shape)}", "anomaly_map and pred_mask of one size")
    return placings.pop() if placings else None


def _plane(tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return tensor[0] if tensor.ndim == 3 else tensor


def _expect_normalised(role: str, number: float) -> None:
    if not -ROUNDING <= number <= 1.0 + ROUNDING:
        raise BadOutput(
            f"{role}: got {number:g}, expected 0 to 1: set decoder.normalisation for raw scores (of Anomalib 1.x, from the "
            "metadata.json beside the export; of 2.x without its post-processing)"
        )


def _scales(normalisation: Normalisation | None, roles: frozenset[str]) -> tuple[_Scale, _Scale]:
    """Of image scores and of the map."""
    if normalisation is None:
        return _Scale(), _Scale()
    image = _Scale(normalisation.image_threshold, normalisation.image_max - normalisation.image_min)
    threshold, low, high = normalisation.pixel_threshold, normalisation.pixel_min, normalisation.pixel_max
    if threshold is None or low is None or high is None:
        if "anomaly_map" in roles:
            raise WrongOutput(
                "decoder.normalisation.pixel_threshold", "nothing", "a value: the model has an anomaly_map"
            )
        return image, _Scale()
    return image, _Scale(threshold, high - low)
