"""What the decoders of boxes share: candidates above a score, the best of them, and these as findings in the frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

from vision.decoders.base import ROUNDING, BadOutput, RowTensors, TensorFormat, WrongOutput
from vision.decoders.placing import to_frame
from vision.geometry import RowGeometry
from vision.kernels import FloatArray
from vision.kernels.candidates import INFINITE, ONE, Found, in_frame
from vision.kernels.suppression import suppress
from vision.recipe import Strict
from vision.types import Findings

Places = npt.NDArray[np.int32]
"""(K,): where candidates lie in the decoder's scratch memory; valid until it picks again."""

NOTHING = -1
"""No candidate's place."""

Share = Annotated[float, Field(ge=0.0, lt=1.0), AfterValidator(lambda share: share + 0.0)]
"""-0.0 is made 0.0: kernels compare floats by their bits."""


class BoxSettings(Strict):
    """Which boxes are findings: those that score *more* than ``score_min``; of these the best ``max_findings``, and
    ``dropped_score`` tells of the others.
    """

    score_min: Share = 0.25
    max_findings: int = Field(default=300, gt=0, le=10_000)


class SuppressedBoxSettings(BoxSettings):
    """A box that overlaps a better one by *more* than ``iou_max`` is none; one of another class too if ``class_agnostic``."""

    iou_max: Share = 0.7
    class_agnostic: bool = False


class BoxDecoder(ABC):
    """Base of the decoders of boxes. Candidates whose scores are equal are taken in the order of the tensor."""

    TASK: ClassVar[str] = "detection"
    ROLES: ClassVar[frozenset[str]] = frozenset({"predictions"})
    OPTIONAL_ROLES: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        settings: BoxSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
        mask_count: int = 0,
    ) -> None:
        """``predictions`` as the kind of decoder says, with ``mask_count`` more numbers a candidate. Raises WrongOutput."""
        predictions = outputs["predictions"]
        if predictions.dtype != np.float32:
            raise WrongOutput("outputs.predictions", f"a tensor of {predictions.dtype}", "float32")
        self._class_count = len(class_names)
        self._mask_count = mask_count
        capacity = self._candidate_count(predictions.row_shape)
        self._score_min = np.float32(settings.score_min)
        self._to_frame = to_frame(geometry)
        self._corners = np.zeros((4, capacity), np.float32)
        self._scores = np.zeros(capacity, np.float32)
        self._class_ids = np.zeros(capacity, np.int32)
        self._sources = np.zeros(capacity, np.int32)
        self._keys = np.zeros(capacity, np.uint64)
        self._kept = np.zeros(min(settings.max_findings, capacity), np.int32)
        self._found = (self._corners, self._scores, self._class_ids, self._sources, self._keys)

    @abstractmethod
    def _candidate_count(self, row_shape: tuple[int, ...]) -> int:
        """How many candidates a tensor of this shape holds. Raises WrongOutput where it does not fit the classes."""

    @abstractmethod
    def _scan(self, tensor: FloatArray) -> Found:
        """As the kernels of ``vision.kernels.candidates``."""

    @abstractmethod
    def _probabilities(self, tensor: FloatArray) -> FloatArray:
        """The part of the tensor whose numbers are probabilities, as a view."""

    @abstractmethod
    def _select(self, keys: npt.NDArray[np.uint64]) -> tuple[Places, int]:
        """Which of the candidates, sorted by their keys, are findings, and the best one for which there was no room."""

    @abstractmethod
    def mask_weights(self, tensor: FloatArray, place: int) -> FloatArray:
        """The ``mask_count`` numbers of a picked candidate."""

    def decode(self, row: RowTensors) -> Findings:
        """``predictions``: float32, of the shape that was planned for. Raises BadOutput."""
        return self.findings(*self.pick(row["predictions"]))

    def pick(self, tensor: FloatArray) -> tuple[Places, float]:
        """The candidates that are findings, the best first, and the highest score that one without room for it may have.

        Raises BadOutput for a number that is not to be trusted.
        """
        count, worst, greatest = self._scan(tensor)
        if worst > ONE or greatest >= INFINITE:
            count, _, _ = self._scan(self._settled(tensor))
        keys = self._keys[:count]
        keys.sort()
        places, dropped = self._select(keys)
        return places, 0.0 if dropped == NOTHING else min(float(self._scores[dropped]), 1.0)

    def corners(self, place: int) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of a picked candidate in pixels of the model's input, as the model put them out."""
        x1, y1, x2, y2 = self._corners[:, place].tolist()
        return x1, y1, x2, y2

    def findings(self, places: Places, dropped_score: float) -> Findings:
        """The picked candidates as findings. Raises BadOutput where a box is turned inside out."""
        count = len(places)
        class_ids = np.empty(count, np.int32)
        scores = np.empty(count, np.float32)
        boxes_px = np.empty((count, 4), np.float32)
        areas_px = np.empty(count, np.float32)
        if in_frame(
            *(places, self._corners, self._scores, self._class_ids, self._to_frame),
            *(class_ids, scores, boxes_px, areas_px),
        ):
            raise BadOutput(
                "predictions: got a box whose right or lower edge comes before the other, expected x1 <= x2, y1 <= y2"
            )
        return Findings(class_ids, scores, boxes_px, areas_px, dropped_score=dropped_score)

    def _settled(self, tensor: FloatArray) -> FloatArray:
        """A copy whose probabilities are 0..1, where only rounding has led beyond. Raises BadOutput."""
        if not np.isfinite(tensor).all():
            raise BadOutput("predictions: got numbers that are not finite")
        settled = tensor.copy()
        probabilities = self._probabilities(settled)
        low, high = float(probabilities.min()), float(probabilities.max())
        if low < -ROUNDING or high > 1.0 + ROUNDING:
            raise BadOutput(f"predictions: got scores from {low:g} to {high:g}, expected probabilities between 0 and 1")
        np.clip(probabilities, 0.0, 1.0, out=probabilities)
        probabilities += 0.0  # of -0.0 makes 0.0
        return settled


class SuppressingBoxDecoder(BoxDecoder):
    """Base of the decoders whose candidates overlap: greedy class-aware non-maximum suppression.

    The rules are those of ``torchvision.ops.nms``, which the exporters use. They part the classes by adding 7,680 px a class to
    each float32 coordinate, which rounds the boxes of class 79 to 1/16 px; here boxes are compared as they are, so that an
    overlap within about 0.01 of ``iou_max`` may be judged otherwise. Only each candidate's best class is considered, as the
    exporters' own prediction does (their validation considers all).
    """

    def __init__(
        self,
        settings: SuppressedBoxSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
        mask_count: int = 0,
    ) -> None:
        super().__init__(settings, class_names, geometry, outputs, mask_count)
        # The comparison is of float32 with the setting as a double: greater than it is greater than the next float32 below.
        iou_max = np.float32(settings.iou_max)
        self._iou_max = np.nextafter(iou_max, np.float32(-1.0)) if float(iou_max) > settings.iou_max else iou_max
        self._stretches = np.zeros((2, 1 if settings.class_agnostic else self._class_count), np.int64)
        self._stayed = np.zeros((5, self._keys.size), np.float32)

    def _select(self, keys: npt.NDArray[np.uint64]) -> tuple[Places, int]:
        count, dropped = suppress(
            *(keys, self._corners, self._class_ids, self._iou_max, self._stretches, self._stayed, self._kept)
        )
        return self._kept[:count], dropped


def wrong_layout(kind: str, row_shape: tuple[int, ...], expected: str) -> WrongOutput:
    """The tensor is not laid out as this kind of decoder reads it."""
    advice = "another decoder.kind reads other layouts"
    return WrongOutput("outputs.predictions", f"a row of {list(row_shape)} for {kind}", f"{expected}; {advice}")


def wrong_class_count(class_count: int, tensor_class_count: int, row_shape: tuple[int, ...]) -> WrongOutput:
    """The tensor has another number of classes than the card."""
    return WrongOutput(
        "classes", f"{class_count} classes", f"{tensor_class_count}: a row of the output is {list(row_shape)}"
    )
