"""Classifier head: one probability per class, for the whole region."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.decoders.bad_output import BadOutput
from vision.types import Findings

# Softmax in float32 may overshoot by a few units in the last place; anything more is not a probability.
_ROUNDING = 1e-4


class ClassificationDecoder:
    """All classes of a row with their scores; the box is the whole region."""

    def __init__(self, class_count: int, box_px: tuple[float, float, float, float]) -> None:
        self._class_ids = np.arange(class_count, dtype=np.int32)
        self._boxes_px = np.tile(np.asarray(box_px, dtype=np.float32), (class_count, 1))
        self._class_ids.flags.writeable = False
        self._boxes_px.flags.writeable = False

    def decode(self, row: npt.NDArray[np.float32]) -> Findings:
        """``row``: float32 (classes,), probabilities 0..1. Raises BadOutput."""
        if row.shape != self._class_ids.shape:
            raise BadOutput(f"output row: got shape {row.shape}, expected {self._class_ids.shape}: one score per class")
        # Written so that NaN fails the comparison too.
        if not (row.min() >= -_ROUNDING and row.max() <= 1.0 + _ROUNDING):
            raise BadOutput(f"output row: got {row.tolist()}, expected probabilities between 0 and 1")
        scores = np.minimum(np.maximum(row, np.float32(0.0)), np.float32(1.0))
        return Findings(class_ids=self._class_ids, scores=scores, boxes_px=self._boxes_px)
