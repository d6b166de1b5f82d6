"""Semantic segmentation: a class for each pixel -> one finding for each connected piece of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from vision.decoders.base import ROUNDING, BadOutput, RowTensors, TensorFormat, WrongOutput, expect_rivals
from vision.decoders.boxes import Share
from vision.decoders.pieces import PieceFinder
from vision.decoders.placing import map_placing
from vision.geometry import RowGeometry
from vision.kernels import FloatArray
from vision.kernels.candidates import INFINITE, ONE, greatest_bits, greatest_magnitude
from vision.kernels.labels import NONE, SIGMOID, SOFTMAX, most_probable
from vision.recipe import Strict
from vision.types import Findings

_ACTIVATIONS = {"none": NONE, "softmax": SOFTMAX, "sigmoid": SIGMOID}
_MOST_CLASSES = 65_535
_ALWAYS = -1.0
SCORE_MIN_OF_ONE = 0.5
"""A single class has no rival: where nothing is set, its pixels count above this."""


class SemanticSegmentationSettings(Strict):
    """Which pixels make findings.

    ``activation`` makes probabilities of the scores: ``none`` where they are already. ``background``: the class that is no finding.
    A pixel counts where its class's probability is *above* ``score_min``: where it is not set, 0.5 for a single class, and
    otherwise always, as the exporters' own argmax. Pieces smaller than ``area_min_px`` are no findings; of more than
    ``max_findings`` the first in the order of the findings are, and ``dropped_score`` tells of the others.
    """

    kind: Literal["semantic_segmentation"] = "semantic_segmentation"
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    background: str | None = None
    score_min: Share | None = None
    area_min_px: float = Field(default=0.0, ge=0.0)
    max_findings: int = Field(default=300, gt=0, le=10_000)


class SemanticSegmentationDecoder:
    """``scores``: float32 (classes, h, w), or ``labels``: integers (h, w), each pixel's class; of the input's size or smaller.

    A single class has no rival: its pixels are those with a score above ``score_min``, or labelled 1 rather than 0. A finding is a
    piece of pixels of one class that touch, also at corners; its score is their mean probability, 1 for ``labels``. What
    a letterbox's border shows is not looked at. Findings come by score from the highest, of equals the largest first, then
    by place.

    Layouts from torchvision 0.29 (``models/segmentation``: ``out`` is (classes, h, w) of logits of the input's size, class 0
    ``__background__``) and Ultralytics 8.4.190 (``engine/exporter.py``: logits, or ``ClassMapModel``'s labels; a single class is
    above logit 0).
    """

    TASK: ClassVar[str] = "segmentation"
    ROLES: ClassVar[frozenset[str]] = frozenset()
    OPTIONAL_ROLES: ClassVar[frozenset[str]] = frozenset({"scores", "labels"})

    def __init__(
        self,
        settings: SemanticSegmentationSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
    ) -> None:
        """Raises WrongOutput."""
        if len(outputs) != 1:
            raise WrongOutput("outputs", f"the roles {', '.join(sorted(outputs))}", "one of scores, labels")
        ((self._role, tensor),) = outputs.items()
        self._class_count = len(class_names)
        height, width = self._size(tensor)
        if self._role == "scores":
            expect_rivals(settings.activation, self._class_count)
        if settings.background is not None and settings.background not in class_names:
            expected = f"one of the classes: {', '.join(class_names)}"
            raise WrongOutput("decoder.background", repr(settings.background), expected)
        if self._class_count > _MOST_CLASSES:
            raise WrongOutput("classes", f"{self._class_count} classes", f"at most {_MOST_CLASSES}")
        self._settings = settings
        self._background = -1 if settings.background is None else list(class_names).index(settings.background)
        usual = SCORE_MIN_OF_ONE if self._class_count == 1 else _ALWAYS
        self._score_min = np.float32(usual if settings.score_min is None else settings.score_min)
        self._placing = map_placing(geometry, width, height)
        self._line = np.zeros(width, np.int32)
        self._labels = np.zeros((height, width), np.uint16)
        self._probabilities = np.ones((height, width), np.float32)
        self._finder = PieceFinder(self._placing, area_min_px=settings.area_min_px, most=settings.max_findings)

    def decode(self, row: RowTensors) -> Findings:
        """See the class. Raises BadOutput for scores that are no probabilities after the activation, and for unknown labels."""
        tensor = row[self._role]
        if self._role == "scores":
            self._read_scores(tensor)
        else:
            self._read_labels(tensor)
        pieces = self._finder.pieces(self._labels, self._probabilities, by_peak=False)
        scores = np.minimum(pieces.means, np.float32(1.0))
        dropped_score = 0.0 if pieces.dropped_value is None else min(pieces.dropped_value, 1.0)
        return Findings(
            *(pieces.labels - 1, scores, pieces.boxes_px, pieces.areas_px, pieces.outlines_px),
            dropped_score=dropped_score,
        )

    def _read_scores(self, scores: FloatArray) -> None:
        bits = scores.reshape(-1).view(np.uint32)
        if self._settings.activation == "none":
            if greatest_bits(bits) > ONE and not (scores.min() >= -ROUNDING and scores.max() <= 1.0 + ROUNDING):
                raise BadOutput(
                    f"scores: got numbers from {scores.min():g} to {scores.max():g}, expected probabilities between 0 and 1: "
                    "set decoder.activation if these are logits"
                )
        elif greatest_magnitude(bits) >= INFINITE:
            raise BadOutput("scores: got numbers that are not finite")
        placing = self._placing
        most_probable(
            *(scores, _ACTIVATIONS[self._settings.activation], self._background, self._score_min),
            *(placing.x_first, placing.y_first, placing.x_end, placing.y_end),
            *(self._line, self._labels, self._probabilities),
        )

    def _read_labels(self, labels: npt.NDArray[Any]) -> None:
        limit = max(self._class_count, 2)  # a single class is 1, and 0 is not it
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= limit:
            raise BadOutput(f"labels: got {low} to {high}, expected the classes 0 to {limit - 1}")
        placing = self._placing
        inside = (slice(placing.y_first, placing.y_end), slice(placing.x_first, placing.x_end))
        own = self._labels[inside]
        first = 0 if self._class_count == 1 else 1
        np.add(labels[inside], first, out=own, dtype=np.uint16, casting="unsafe")
        if self._background >= 0:
            own[own == self._background + 1] = 0

    def _size(self, tensor: TensorFormat) -> tuple[int, int]:
        """(height, width) of the map."""
        shape = tensor.row_shape
        key = f"outputs.{self._role}"
        if self._role == "labels":
            if tensor.dtype.kind not in "iu":
                raise WrongOutput(key, f"a tensor of {tensor.dtype}", "integers")
            if len(shape) != 2 or 0 in shape:
                raise WrongOutput(key, f"a row of {list(shape)}", "[height, width]")
            return shape[0], shape[1]
        if tensor.dtype != np.float32:
            raise WrongOutput(key, f"a tensor of {tensor.dtype}", "float32")
        if len(shape) != 3 or 0 in shape:
            raise WrongOutput(key, f"a row of {list(shape)}", "[classes, height, width]")
        if shape[0] != self._class_count:
            raise WrongOutput(
                "classes", f"{self._class_count} classes", f"{shape[0]}: a row of the output is {list(shape)}"
            )
        return shape[1], shape[2]
