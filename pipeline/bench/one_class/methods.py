"""What every one-class method does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.bench.one_class.data import Pixels

Map = npt.NDArray[np.float32]


class Method(Protocol):
    """``fit`` begins anew each time."""

    name: str

    def fit(self, good: Sequence[Pixels]) -> None:
        """Pictures (h, w) grey or (h, w, 3) BGR, of one size and kind."""

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        """How strange a picture is, without bounds, and where: a map of any size over the whole picture, None without one."""
