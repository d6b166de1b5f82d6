"""Latency histograms: fixed memory however long the service runs, three significant digits, mergeable and storable.

Log-linear bins as in HdrHistogram: below 1,024 us exact, above it 512 bins an octave, so a percentile is at most 0.2 % off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LINEAR = 1_024
_PER_OCTAVE = _LINEAR // 2
_OCTAVES = 26
_BINS = _LINEAR + _OCTAVES * _PER_OCTAVE
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class LatencyHistogram:
    """Counts of whole microseconds, 0 to about 19 hours."""

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._max_us = 0

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def add(self, value_us: int) -> None:
        """Negative values count as 0."""
        value_us = max(0, value_us)
        self._counts[min(_bin(value_us), _BINS - 1)] += 1
        self._max_us = max(self._max_us, value_us)

    def percentiles_us(self) -> dict[str, int]:
        """``p50``, ``p90``, ``p99``, ``p999`` by nearest rank, and ``max``; all 0 where nothing was counted."""
        total = self.count
        if total == 0:
            return dict.fromkeys([*PERCENTILES, "max"], 0)
        cumulated = np.cumsum(self._counts)
        values = {
            name: min(_upper_us(int(np.searchsorted(cumulated, np.ceil(share * total)))), self._max_us)
            for name, share in PERCENTILES.items()
        }
        return {**values, "max": self._max_us}

    def bins(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The bins that are not empty: their smallest and largest values in us, and their counts."""
        used = np.flatnonzero(self._counts)
        upper_us = np.array([_upper_us(index) for index in used.tolist()], np.float64)
        lower_us = np.array([_upper_us(index - 1) + 1 if index else 0 for index in used.tolist()], np.float64)
        return lower_us, upper_us, self._counts[used]

    def to_json(self) -> dict[str, object]:
        used = np.flatnonzero(self._counts)
        return {"max_us": self._max_us, "bins": used.tolist(), "counts": self._counts[used].tolist()}

    @classmethod
    def from_json(cls, stored: dict[str, object]) -> LatencyHistogram:
        histogram = cls()
        histogram._counts[np.asarray(stored["bins"], np.int64)] = np.asarray(stored["counts"], np.int64)
        histogram._max_us = int(str(stored["max_us"]))
        return histogram


def _bin(value_us: int) -> int:
    if value_us < _LINEAR:
        return value_us
    octave = value_us.bit_length() - _LINEAR.bit_length()
    return _LINEAR + octave * _PER_OCTAVE + (value_us >> (octave + 1)) - _PER_OCTAVE


def _upper_us(index: int) -> int:
    """The largest value that falls into a bin."""
    if index < _LINEAR:
        return index
    octave, step = divmod(index - _LINEAR, _PER_OCTAVE)
    return ((step + _PER_OCTAVE + 1) << (octave + 1)) - 1
