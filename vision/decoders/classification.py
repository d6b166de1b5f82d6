"""Classifier head: one score per class, for the whole region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from vision.decoders.base import ROUNDING, BadOutput, RowTensors, TensorFormat, WrongOutput, expect_rivals
from vision.geometry import RowGeometry
from vision.recipe import Strict
from vision.types import Findings


class ClassificationSettings(Strict):
    """``activation`` makes probabilities of what the model puts out: ``none`` where they are probabilities already.

    It has no default: probabilities and logits look alike, and a wrong word gives wrong scores without a sound.
    """

    kind: Literal["classification"] = "classification"
    activation: Literal["none", "softmax", "sigmoid"]


class ClassificationDecoder:
    """All classes of a row with their scores; the box is the whole region."""

    TASK: ClassVar[str] = "classification"
    ROLES: ClassVar[frozenset[str]] = frozenset({"scores"})
    OPTIONAL_ROLES: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        settings: ClassificationSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
    ) -> None:
        """``scores``: float32 (classes,). Raises WrongOutput."""
        count = len(class_names)
        scores = outputs["scores"]
        if scores.dtype != np.float32:
            raise WrongOutput("outputs.scores", f"a tensor of {scores.dtype}", "float32")
        if scores.row_shape != (count,):
            shape = list(scores.row_shape)
            raise WrongOutput("classes", f"{count} classes", f"one for each score: a row of the output is {shape}")
        expect_rivals(settings.activation, count)
        x1, y1, x2, y2 = geometry.region_px
        self._activation = settings.activation
        self._class_ids = np.arange(count, dtype=np.int32)
        self._boxes_px = np.tile(np.asarray(geometry.region_px, dtype=np.float32), (count, 1))
        self._areas_px = np.full(count, (x2 - x1) * (y2 - y1), np.float32)
        for array in (self._class_ids, self._boxes_px, self._areas_px):
            array.flags.writeable = False

    def decode(self, row: RowTensors) -> Findings:
        """``scores``: probabilities 0..1 after the activation. Raises BadOutput."""
        scores: npt.NDArray[np.float32] = row["scores"]
        if self._activation != "none":
            if not np.isfinite(scores).all():
                raise BadOutput(f"scores: got {scores.tolist()}, expected finite numbers")
            scores = _softmax(scores) if self._activation == "softmax" else _sigmoid(scores)
        # Written so that NaN fails the comparison too.
        if not (scores.min() >= -ROUNDING and scores.max() <= 1.0 + ROUNDING):
            raise BadOutput(f"scores: got {scores.tolist()}, expected probabilities between 0 and 1")
        scores = np.minimum(np.maximum(scores, np.float32(0.0)), np.float32(1.0))
        return Findings(self._class_ids, scores, self._boxes_px, self._areas_px)


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers: npt.NDArray[np.float32] = np.exp(logits - logits.max())
    powers /= powers.sum()
    return powers


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # exp of a large number would overflow.
    powers: npt.NDArray[np.float32] = np.exp(-np.abs(logits))
    scores: npt.NDArray[np.float32] = np.where(logits >= 0, np.float32(1.0), powers) / (np.float32(1.0) + powers)
    return scores
