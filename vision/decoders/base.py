"""What every decoder is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vision.geometry import RowGeometry
from vision.types import Findings

RowTensors = Mapping[str, npt.NDArray[Any]]
"""One row of the batch: the model's tensors by the roles that they have for the decoder, the batch axis taken off."""


ROUNDING = 1e-4
"""How far beyond 0 and 1 a number may lie and be a probability still: sums in float32 overshoot by a little."""


@dataclass(frozen=True, slots=True)
class TensorFormat:
    """A tensor of the model, always alike. ``row_shape`` is without the batch axis."""

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]


class BadOutput(Exception):
    """The model's output cannot be read: not finite, not a probability. The part must not pass."""


class WrongOutput(ValueError):
    """A tensor of the model is not what the decoder reads; ``key`` is the key of the card that says otherwise."""

    def __init__(self, key: str, got: str, expected: str) -> None:
        self.key, self.got, self.expected = key, got, expected
        super().__init__(f"{key}: got {got}, expected {expected}")


def expect_rivals(activation: str, class_count: int) -> None:
    """Raises WrongOutput for softmax over a single class, which is 1 whatever the model puts out."""
    if activation == "softmax" and class_count == 1:
        raise WrongOutput("decoder.activation", "softmax over one class, which is always 1", "sigmoid or none")


class Decoder(Protocol):
    """Turns one row of the model's output into findings."""

    def decode(self, row: RowTensors) -> Findings:
        """Findings that own their memory. Raises BadOutput for a row that no decision may rest on."""


class DecoderKind(Protocol):
    """A decoder's class."""

    TASK: str
    """The task of a model card that it serves."""
    ROLES: frozenset[str]
    OPTIONAL_ROLES: frozenset[str]

    def __call__(
        self, settings: Any, class_names: Sequence[str], geometry: RowGeometry, outputs: Mapping[str, TensorFormat]
    ) -> Decoder:
        """For one row of the batch. Raises WrongOutput where the tensors do not fit the card."""
