"""Decoders: one file per model head, raw tensor row -> Findings.

A decoder is built once per row of the batch, ``DECODERS[name](class_count, box_px)``, and decodes that row of every
part. A new head is one new file and one new line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vision.decoders.classification import ClassificationDecoder
from vision.types import Findings

BoxPx = tuple[float, float, float, float]


class Decoder(Protocol):
    """Turns one row of the model's output into findings."""

    def decode(self, row: npt.NDArray[np.float32]) -> Findings:
        """Findings that own their memory. Raises BadOutput for a row that no decision may rest on."""


DECODED_TASKS = ("classification",)
"""The tasks of a model card that some decoder serves."""

DECODERS: dict[str, Callable[[int, BoxPx], Decoder]] = {
    "classification": ClassificationDecoder,
}
